"""Watchdog: what systemd is told while the daemon runs, and that an idle one still can write.

`STATUS=` says why it is degraded, or what it has done. `WATCHDOG=1` is sent as long as the writer
returns, be it with an error: a full disk is waited out, and a restart would mend nothing. Only a
call on the writer's thread that does not come back withholds it. When nothing was committed for a
while, a probe is: an idle daemon on a full or dead disk is not healthy. Never waits for the writer
itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import anyio

from ggend.ingest.intake import Call, Intake, Lane
from ggend.ingest.store import Store, write_a_page
from ggend.runtime.metrics import Metrics
from ggend.runtime.systemd import Notifier

__all__ = ["Watchdog", "run_watchdog"]

#: Seconds without a commit after which a probe is committed; sooner where the watchdog is quicker.
PROBE_SECONDS = 60.0

#: Seconds between two looks, and between two `STATUS=` at least.
STATUS_SECONDS = 3.0

#: Seconds after which a call on the writer's thread is said to hang, where no watchdog says it
#: earlier. The longest seen were checkpoints of some seconds.
HANG_SECONDS = 10.0


class Watchdog:
    """What is to be said when. Says nothing itself."""

    def __init__(
        self,
        metrics: Metrics,
        in_call_since: Callable[[], float | None],
        *,
        watchdog_seconds: float | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._metrics = metrics
        self._in_call_since = in_call_since
        self._clock = clock
        self._watchdog_seconds = watchdog_seconds
        interval = watchdog_seconds or PROBE_SECONDS
        self.probe_seconds = min(PROBE_SECONDS, interval)
        self.tick_seconds = min(STATUS_SECONDS, interval / 3)
        self._patience = HANG_SECONDS if watchdog_seconds is None else watchdog_seconds / 2
        self._said = ""
        self._said_at = -STATUS_SECONDS
        self._commits = 0
        self._last_commit = ""

    def due(self) -> list[str]:
        """Return the assignments that systemd is to be sent now."""
        now = self._clock()
        since = self._in_call_since()
        seconds = 0.0 if since is None else now - since
        self._metrics.hang = (
            f"the writer has not returned for {seconds:.0f} s" if seconds > self._patience else None
        )
        assignments = []
        if self._watchdog_seconds is not None and self._metrics.hang is None:
            assignments.append("WATCHDOG=1")
        status = self._status()
        if status != self._said and now - self._said_at >= STATUS_SECONDS:
            self._said, self._said_at = status, now
            assignments.append(f"STATUS={status}")
        return assignments

    def is_probe_due(self) -> bool:
        """Whether nothing was committed for so long that a probe must be."""
        return self._metrics.trouble is None and self._metrics.idle_seconds >= self.probe_seconds

    def _status(self) -> str:
        metrics = self._metrics
        if metrics.degraded is not None:
            return "degraded: " + " ".join(metrics.degraded.split())
        if metrics.commits != self._commits:
            self._commits = metrics.commits
            moment = datetime.now(UTC) - timedelta(seconds=metrics.idle_seconds)
            self._last_commit = f", last commit {moment:%H:%M:%S}Z"
        stored, connections = metrics.stored, metrics.connections
        return f"{stored:,} events stored, {connections:,} connections{self._last_commit}"


async def run_watchdog(
    intake: Intake,
    store: Store,
    metrics: Metrics,
    notifier: Notifier,
    *,
    watchdog_seconds: float | None,
) -> None:
    """Tell systemd how it goes, and probe an idle database. Ends cancelled."""
    watchdog = Watchdog(metrics, lambda: store.in_call_since, watchdog_seconds=watchdog_seconds)
    lane = Lane()
    probing = False

    async def probe() -> None:
        nonlocal probing
        done = anyio.Event()
        call = Call(write_a_page, lambda *_: done.set(), lambda *_: done.set())
        await intake.put(call, lane)
        await done.wait()
        probing = False

    async with anyio.create_task_group() as probes:
        while True:
            assignments = watchdog.due()
            if assignments:
                notifier.notify(*assignments)
            if watchdog.is_probe_due() and not probing:
                probing = True
                probes.start_soon(probe)
            await anyio.sleep(watchdog.tick_seconds)
