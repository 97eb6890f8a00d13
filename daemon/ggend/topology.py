"""Topology: the stages of the daemon and how they are joined. This page is the architecture.

    listener ▶ connection ▶ intake ▶ writer ▶ hooks
                   ◀──────── ack ◀─────┘

Shutdown closes the streams in the order of the data: the listener stops, the connections end what
they read, the intake closes, the writer commits what is left, the hooks have their last turns, the
store empties its WAL and closes.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, MutableMapping
from pathlib import Path

import anyio
from anyio.abc import TaskStatus
from msgspec import to_builtins

from ggend import __version__
from ggend.config import Config
from ggend.database.files import wal_size
from ggend.database.lock import hold_lock
from ggend.database.upgrade import Step, Tell
from ggend.database.wal_readers import WalMonitor
from ggend.errors import BadConfig, SocketUnusable
from ggend.hooks.rollups import rollup_hooks
from ggend.hooks.runner import Commits, run_hooks
from ggend.hooks.slo import SloHooks
from ggend.ingest.intake import Intake
from ggend.ingest.open_store import open_store
from ggend.ingest.releases import Releases
from ggend.ingest.store import Store
from ggend.ingest.watchdog import run_watchdog
from ggend.ingest.writer import run_writer
from ggend.maintenance.expiry import run_expiry
from ggend.runtime.descriptors import connection_room
from ggend.runtime.logs import dropped_lines
from ggend.runtime.metrics import Metrics
from ggend.runtime.shutdown import Shutdown
from ggend.runtime.systemd import Notifier, notifying, passed_descriptors, watchdog_seconds
from ggend.server.connection import Services
from ggend.server.listener import run_listener
from ggend.server.socket_claim import SocketClaim, adopt_sockets, claim_socket
from ggend.slo.loader import load_objectives
from ggend.storage.writer_state import Bounds

__all__ = ["run_daemon"]

log = logging.getLogger("ggend")

#: Seconds after which the thread that decodes gives way to the thread that writes. At the
#: interpreter's default of 5 ms the writer waits longer for the lock than for the disk.
SWITCH_SECONDS = 0.0005

#: New containers after which the garbage collector looks for cycles. A batch makes some 20,000
#: that are all freed by reference count; at the default of 700 the collector walks them 30 times.
GC_OBJECTS = 50_000

#: Seconds between two signs of life while the database is upgraded, and how long the service
#: manager may wait for the next one.
UPGRADE_TICK_SECONDS = 1.0
UPGRADE_PATIENCE_SECONDS = 60

#: Seconds between two looks at the size of the WAL, when no checkpoint is due by its events.
WAL_LOOK_SECONDS = 1.0


async def run_daemon(config: Config, environ: MutableMapping[str, str]) -> None:
    """Run until SIGTERM or SIGINT.

    Raises AlreadyRunning, SocketUnusable and DatabaseUnusable before anything is touched, and
    what the writer raises when it cannot go on.
    """
    asyncio.get_running_loop().set_exception_handler(_overlook_cancelled_reads)
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.freeze()
    gc.set_threshold(GC_OBJECTS)
    os.umask(0o077)
    slo = SloHooks(load_objectives(config.objectives))
    with (
        notifying(environ) as notifier,
        hold_lock(config.database, what="database"),
        _claim(config, environ) as claim,
    ):
        async with open_store(
            config.database,
            upgrade=config.upgrade,
            set_aside_corrupt=config.set_aside_corrupt,
            tell=_teller(notifier),
            page_cache_mib=config.page_cache_mib,
            bounds=Bounds(
                parked_events=config.parked_max_events,
                parked_bytes=config.parked_max_mib * 1024 * 1024,
                rejected_events=config.rejected_max_events,
                rejected_bytes=config.rejected_max_mib * 1024 * 1024,
                undecodable_bytes=config.undecodable_max_bytes,
            ),
        ) as store:
            if store.report.backup is not None:
                log.info(
                    "upgraded the database",
                    extra={"backup": store.report.backup, "rows": sum(store.report.rows.values())},
                )
                for oddity in store.report.oddities:
                    log.warning("the upgrade left invalid rows unchanged", extra={"rows": oddity})
            await _run_stages(
                config, claim, store, slo, notifier, watchdog=watchdog_seconds(environ)
            )


async def _run_stages(
    config: Config,
    claim: SocketClaim,
    store: Store,
    slo: SloHooks,
    notifier: Notifier,
    *,
    watchdog: float | None,
) -> None:
    metrics = Metrics()
    metrics.max_connections = connection_room(config.max_connections)
    intake = Intake(config.intake_events)
    commits = Commits()
    releases = Releases(intake, lambda: store.noted_releases)
    wal_monitor = WalMonitor(config.database, config.wal_alarm_mib * 1024 * 1024)
    shutdown = Shutdown(config.drain_timeout_seconds)
    services = Services(
        config=config,
        intake=intake,
        metrics=metrics,
        database_id=store.report.database_id,
        status=lambda: _status(config, claim, store, services, wal_monitor),
        reload=lambda: _reload(config, slo, metrics),
    )

    def committed() -> None:
        commits.announce()
        releases.look()

    async def write() -> None:
        await run_writer(
            intake,
            store,
            metrics,
            committed,
            shutdown,
            batch_events=config.batch_events,
            checkpoint_events=config.checkpoint_events,
        )
        commits.close()

    async def run_all_hooks() -> None:
        await run_hooks(
            [*slo.hooks(), *rollup_hooks()],
            store,
            commits,
            metrics,
            shutdown,
        )

    async with anyio.create_task_group() as signals:
        await signals.start(_watch_signals, shutdown, services.reload, notifier)
        signals.start_soon(_watch_wal, store, wal_monitor)
        async with anyio.create_task_group() as stages:
            stages.start_soon(run_all_hooks)
            stages.start_soon(write)
            commits.announce()  # rows that were committed before a crash, and not evaluated
            log.info(
                "listening",
                extra={
                    "socket": claim.name,
                    "database": config.database,
                    "pid": os.getpid(),
                    "version": __version__,
                },
            )
            notifier.notify("READY=1")
            watchdog_task = functools.partial(run_watchdog, watchdog_seconds=watchdog)
            signals.start_soon(watchdog_task, intake, store, metrics, notifier)
            async with anyio.create_task_group() as background:
                background.start_soon(run_expiry, intake, config)
                background.start_soon(releases.run)
                await run_listener(claim, services, shutdown)
                background.cancel_scope.cancel()
            intake.close()
        signals.cancel_scope.cancel()
    counts = {name: count for name, count in store.totals.since_start.items() if count}
    log.info("stopped", extra={"commits": metrics.commits, **counts})


@contextlib.contextmanager
def _claim(config: Config, environ: MutableMapping[str, str]) -> Iterator[SocketClaim]:
    """Claim the sockets: systemd's, or the configured path with its lock held."""
    passed = passed_descriptors(environ)
    if passed.descriptors:
        with adopt_sockets(passed.descriptors) as claim:
            yield claim
        return
    with contextlib.ExitStack() as held:
        try:
            claim = held.enter_context(claim_socket(config.socket, config.socket_mode_bits))
        except SocketUnusable as error:
            if passed.meant_for is None:
                raise
            raise SocketUnusable(
                f"{error}; systemd passed its sockets to process {passed.meant_for} "
                f"(LISTEN_PID), but this is process {os.getpid()}",
                hint="a script that systemd starts must end in `exec ggend serve`",
            ) from error
        if passed.meant_for is not None:
            log.warning("sockets were passed to another process", extra={"pid": passed.meant_for})
        yield claim


def _teller(notifier: Notifier) -> Tell:
    """Report the progress of an upgrade to systemd, which would stop it otherwise, and the log."""
    told: dict[str, float] = {}

    def tell(step: Step) -> None:
        if step.what not in told:
            log.info("upgrading", extra={"step": step.what})
        elif time.monotonic() - told[step.what] < UPGRADE_TICK_SECONDS:
            return
        told[step.what] = time.monotonic()
        share = "" if step.share is None else f", {step.share:.0%}"
        notifier.notify(
            f"EXTEND_TIMEOUT_USEC={UPGRADE_PATIENCE_SECONDS * 1_000_000}",
            f"STATUS=upgrading the database: {step.what}{share}",
        )

    return tell


def _overlook_cancelled_reads(loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    """Log what went wrong in the loop, but for one thing that did not.

    A read that is cancelled in the very turn in which bytes arrive has its result set all the same
    (anyio's unix sockets; agronholm/anyio#1267 is about the same future). No byte is lost.
    """
    if isinstance(context.get("exception"), asyncio.InvalidStateError):
        log.debug("a read was cancelled as bytes arrived")
    else:
        loop.default_exception_handler(context)


def _reload(config: Config, slo: SloHooks, metrics: Metrics) -> dict[str, object]:
    """Read the objectives again; invalid, the old ones stay. Return how many, and what is wrong."""
    try:
        slo.objectives = load_objectives(config.objectives)
    except BadConfig as error:
        metrics.objectives_error = f"{error}; {error.hint}"
        log.error("reload failed, objectives unchanged", extra={"error": metrics.objectives_error})  # noqa: TRY400
    else:
        metrics.objectives_error = None
        log.info("reloaded the objectives", extra={"objectives": len(slo.objectives.thresholds)})
    return {"objectives": len(slo.objectives.thresholds), "error": metrics.objectives_error}


async def _watch_signals(
    shutdown: Shutdown,
    reload: Callable[[], object],
    notifier: Notifier,
    *,
    task_status: TaskStatus[None],
) -> None:
    wanted = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    with anyio.open_signal_receiver(*wanted) as signals:
        task_status.started()
        async for number in signals:
            if number == signal.SIGHUP:
                now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
                notifier.notify("RELOADING=1", f"MONOTONIC_USEC={now}")
                reload()
                notifier.notify("READY=1")
                continue
            log.info("draining", extra={"signal": signal.Signals(number).name})
            notifier.notify("STOPPING=1", "STATUS=draining")
            shutdown.ask()


async def _watch_wal(store: Store, wal_monitor: WalMonitor) -> None:
    """Empty a WAL that is too large for its events, or that a reader has held; name that reader."""
    while True:
        await anyio.sleep(WAL_LOOK_SECONDS)
        if wal_monitor.is_too_large():
            await store.checkpoint("TRUNCATE", patience_ms=0)
        if store.last_checkpoint is not None:
            wal_monitor.look(store.last_checkpoint)


def _status(
    config: Config, claim: SocketClaim, store: Store, services: Services, wal_monitor: WalMonitor
) -> dict[str, object]:
    return {
        **services.metrics.snapshot(),
        **store.totals.now,
        "since_start": store.totals.since_start,
        "queued_events": services.intake.events,
        "queued_bytes": services.budget.held,
        "wal_bytes": wal_size(config.database),
        "wal_pinned_by": to_builtins(wal_monitor.readers()),
        "database": _text(config.database),
        "database_id": store.report.database_id,
        "schema_version": store.report.version,
        "socket": claim.name,
        "pid": os.getpid(),
        "version": __version__,
        "log_lines_dropped": dropped_lines(),
    }


def _text(path: Path) -> str:
    """A path for people: bytes that are no UTF-8 are spelled out."""
    return os.fsencode(path).decode(errors="backslashreplace")
