"""Soak: full rate for a long time, with everything that must stay flat looked at every second.

Producers emit as in `kills`, parking included; a quiet canary times its acks. So that the disk is
not filled, purges run beside them whenever the tables take more than half a gibibyte. At the end
the accounts must say what was offered, and rows and purged rows together must be as many.
"""

from __future__ import annotations

import random
import re
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

from msgspec import Struct, field
from rich.table import Table

from bench.machine import memory_mib
from ggend.database.files import wal_size
from ggend_schema.messages import Answer, Request
from support.daemon_process import Daemon, free_place
from support.framed_peer import Peer, audit, batch
from torture.kills import Producer, producing
from torture.oracle import look
from torture.work import SESSION_EXECUTIONS

__all__ = ["Sample", "Soak", "soak", "summary"]

#: Bytes that the tables may take before purges begin, and the file at most: SQLite uses the room of
#: what is gone again, but does not give it back.
_KEPT_BYTES = 512 * 1024 * 1024
_FILE_BYTES = 4 * 1024**3

#: Purges at the same time. Each has a slice of 1,000 rows between two batches, so that together
#: they delete faster than rows come.
_PURGES = 8

#: Age at which a row may go. What a late receipt refers to is younger by far.
_AGE = timedelta(seconds=20)

#: Seconds between two events of the canary, and between two samples.
_PAUSE_SECONDS = (0.05, 0.1)
_SAMPLE_SECONDS = 1.0

#: RSS is flat if the median of the last third of the time is over that of the middle third by no
#: more than this share and these MiB. The first third fills caches.
_GROWTH, _GROWTH_MIB = 0.10, 4.0

#: The WAL alarm's default: with nobody who reads for long, the WAL never gets there.
_WAL_MIB = 128.0

_MIB = 1024 * 1024


class Sample(Struct, frozen=True, gc=False):
    """How large everything was at a moment, in MiB."""

    rss_mib: float
    wal_mib: float
    file_mib: float
    used_mib: float


class Soak(Struct, frozen=True):
    """What was seen. `problems` is empty when every promise held."""

    seconds: float
    events: int
    purged: int
    samples: list[Sample]
    canary_ms: list[float]
    problems: list[str]


class _Course(Struct):
    """What the threads beside the producers share."""

    daemon: Daemon
    stop: threading.Event = field(default_factory=threading.Event)
    #: Set while purges shall run.
    is_full: threading.Event = field(default_factory=threading.Event)
    samples: list[Sample] = field(default_factory=list)
    canary_ms: list[float] = field(default_factory=list)


def soak(
    *, minutes: float, producers: int, seed: int, tell: Callable[[float], None] = lambda _: None
) -> Soak:
    """Run one daemon for so long. `tell` is told how many seconds have passed."""
    rng = random.Random(seed)
    canary = rng.randbytes(16)
    with free_place() as name:
        daemon = Daemon(Path(name))
        course = _Course(daemon)
        problems: list[str] = []
        with (
            producing(daemon, producers, rng) as running,
            ThreadPoolExecutor(_PURGES + 1) as beside,
        ):
            daemon.start()
            begin = time.monotonic()
            tasks = [beside.submit(_sing, course, canary)]
            tasks += [beside.submit(_purge, course) for _ in range(_PURGES)]
            try:
                problems += _watch(course, tasks, begin + 60 * minutes, tell)
            finally:
                course.stop.set()
                course.is_full.set()
            problems += [f"{failure!r}" for task in tasks if (failure := task.exception())]
            for producer in running:
                producer.ask_to_end()
            problems += [problem for producer in running if (problem := producer.wait())]
            seconds = time.monotonic() - begin
            daemon.wait_for_hooks()
            if daemon.stop() != 0:
                problems.append("the daemon did not stop in order")
        events, purged = sum(one.events for one in running) + len(course.canary_ms), 0
        if not problems:
            purged, problems = _verify(daemon, running, canary, len(course.canary_ms))
        problems += _unsteady(course.samples) + _complaints(daemon.log)
    return Soak(seconds, events, purged, course.samples, course.canary_ms, problems)


def summary(done: Soak) -> Table:
    """Return the table that a person reads."""
    table = Table(
        title=f"{done.events:,} events in {done.seconds / 60:.1f} minutes, "
        f"{done.events / done.seconds:,.0f} a second; {done.purged:,} rows purged",
    )
    table.add_column("")
    for heading in ("first third", "middle third", "last third", "max"):
        table.add_column(heading, justify="right")
    for name in Sample.__struct_fields__:
        values = [getattr(sample, name) for sample in done.samples]
        row = [f"{statistics.median(part):.0f}" for part in _thirds(values) if part]
        table.add_row(f"{name.replace('_mib', '')} MiB, median", *row, f"{max(values):.0f}")
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        parts = [sorted(part) for part in _thirds(done.canary_ms) if part]
        row = [f"{part[int(len(part) * share)]:.1f}" for part in parts]
        table.add_row(f"canary ms, {name}", *row, f"{max(done.canary_ms):.1f}")
    return table


def _thirds(values: Sequence[float]) -> list[Sequence[float]]:
    third = len(values) // 3
    return [values[:third], values[third : 2 * third], values[2 * third :]]


def _watch(
    course: _Course, tasks: Sequence[Future[None]], end: float, tell: Callable[[float], None]
) -> list[str]:
    """Sample until the end, or until something has failed."""
    daemon = course.daemon
    assert daemon.process is not None
    begin = time.monotonic()
    while (now := time.monotonic()) < end:
        tell(now - begin)
        if daemon.process.poll() is not None:
            return [f"the daemon ended: {daemon.log.read_text()[-2000:]}"]
        if any(task.done() for task in tasks):
            return []  # it has an exception, which is told
        used = int(str(daemon.query(_USED)[0][0]))
        (course.is_full.set if used > _KEPT_BYTES else course.is_full.clear)()
        size = daemon.database.stat().st_size
        course.samples.append(
            Sample(
                rss_mib=memory_mib(daemon.process.pid, "VmRSS"),
                wal_mib=wal_size(daemon.database) / _MIB,
                file_mib=size / _MIB,
                used_mib=used / _MIB,
            )
        )
        if size > _FILE_BYTES:
            return [f"the file has grown to {size / _MIB:,.0f} MiB: purges do not keep up"]
        time.sleep(min(_SAMPLE_SECONDS, max(end - time.monotonic(), 0)))
    return []


def _sing(course: _Course, producer: bytes) -> None:
    """Send an event now and then, and time its ack."""
    rng = random.Random(0)
    with Peer(course.daemon.socket) as peer:
        peer.hello(producer, permanent=True)
        for number in count(1):
            event = audit("canary", operation=f"canary {number}")
            begin = time.perf_counter()
            peer.send(batch(number, event, stamps=[time.time_ns()]))
            peer.read_to_ack(number)
            course.canary_ms.append((time.perf_counter() - begin) * 1000)
            if course.stop.wait(rng.uniform(*_PAUSE_SECONDS)):
                return


def _purge(course: _Course) -> None:
    """Delete what is old, slice by slice, whenever there is too much."""
    with Peer(course.daemon.socket) as peer:
        peer.hello()
        number = 0
        while not course.stop.is_set():
            cutoff = (datetime.now(UTC) - _AGE).strftime("%Y-%m-%d %H:%M:%S")
            position: dict[str, Any] | None = {"table": "receipts"}
            while position is not None:
                course.is_full.wait()
                if course.stop.is_set():
                    return
                number += 1
                arguments = {"cutoff": cutoff, "position": position}
                peer.send(Request(id=number, op="purge", arguments=arguments))
                answer = peer.read()
                assert isinstance(answer, Answer), answer
                assert answer.code is None, answer
                position = answer.result["next"]
            # Nothing of that age is left: it takes a while until something is.
            course.stop.wait(1)


def _verify(
    daemon: Daemon, running: Sequence[Producer], canary: bytes, sung: int
) -> tuple[int, list[str]]:
    """Compare tables and accounts with what was offered; return how many rows were purged too."""
    tags = {producer.id: producer.tag for producer in running} | {canary: "canary"}
    found, problems = look(daemon.database, tags)
    # A memory that is saved again takes the place of the one before.
    saved = sum(-(-producer.executions // SESSION_EXECUTIONS) for producer in running)
    ((purged,),) = daemon.query("SELECT SUM(purged) FROM producers")
    assert isinstance(purged, int)
    rows = sum(int(str(daemon.query(f"SELECT COUNT(*) FROM {table}")[0][0])) for table in _TABLES)
    wanted = {f"accounts {producer.tag}": producer.events for producer in running}
    wanted |= {"accounts canary": sung, "unaccounted": 0, "parked": 0, "rejected": 0, "orphans": 0}
    problems += [
        f"{key}: {found.get(key, 0)} in the tables, {number} offered"
        for key, number in (wanted | {"sound": 1}).items()
        if found.get(key, 0) != number
    ]
    offered = sum(producer.events for producer in running) + sung
    if rows + purged + saved != offered:
        problems.append(f"{rows} rows, {purged} purged, {saved} memories: {offered} were offered")
    return purged, problems


def _unsteady(samples: Sequence[Sample]) -> list[str]:
    """Return what has grown that should not."""
    _, *parts = _thirds([sample.rss_mib for sample in samples])
    if not all(parts):
        return ["it was too short to see anything grow"]
    middle, last = map(statistics.median, parts)
    problems = []
    if last > middle * (1 + _GROWTH) + _GROWTH_MIB:
        problems.append(f"RSS grows: {middle:.0f} MiB in the middle third, {last:.0f} in the last")
    if (wal := max(sample.wal_mib for sample in samples)) > _WAL_MIB:
        problems.append(f"the WAL has grown to {wal:.0f} MiB")
    return problems


def _complaints(log: Path) -> list[str]:
    """Return what the daemon logged that it logs only in trouble."""
    text = log.read_text(errors="replace")
    return [line for line in text.splitlines() if _TROUBLE.search(line)][:5]


_TROUBLE = re.compile(r"level=(warning|error|critical) (?!logger=ggend\.notify )|^Traceback")

#: Where an event becomes a row of its own.
_TABLES = (
    "receipts",
    "pipeline_metrics",
    "collision_detection",
    "workflow_sessions",
    "session_ends",
    "audit_log",
)

#: Bytes of the pages in use.
_USED = """
    SELECT (page_count - freelist_count) * page_size
    FROM pragma_page_count, pragma_freelist_count, pragma_page_size"""
