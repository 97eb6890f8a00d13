"""Targets: the contract's operations, timed on a database of a million receipts.

Reads go through a plain read-only connection, as of any program, with other parameters each time;
a first round that does not count leaves the pages in the system's cache (warm). Every row is
fetched. Writes are durable batches over the socket to a daemon that runs on the same file; they
come last, because they add to it.
"""

from __future__ import annotations

import random
import sqlite3
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from msgspec import Struct
from rich.table import Table

from bench.batch import latencies
from bench.filled import AGENTS, DAYS, END_MS, fill, known_execution
from ggend_schema.timestamps import format_ms
from support.daemon_process import Daemon

__all__ = ["HELD_READS", "Measured", "build", "describe", "measure", "table_of"]

#: Reads of one kind; those that are known to read a whole table are repeated less often.
_READS, _LONG_READS = 200, 5

_HOUR_MS = 3_600_000

build = fill


class Measured(Struct, frozen=True):
    """The times of one operation. No target: shown beside those that have one."""

    operation: str
    target_ms: float | None
    milliseconds: list[float]
    #: Rows of the last read, or events of a write.
    rows: int

    @property
    def p50(self) -> float:
        """The median."""
        return statistics.median(self.milliseconds)

    @property
    def verdict(self) -> str:
        """Whether it was always, usually or not within the target."""
        if self.target_ms is None:
            return ""
        if max(self.milliseconds) <= self.target_ms:
            return "held"
        return "held at p50" if self.p50 <= self.target_ms else "missed"


class _Read(Struct, frozen=True):
    operation: str
    target_ms: float | None
    sql: str
    #: The parameters of one read.
    choose: Callable[[random.Random], Sequence[Any]] = lambda _: ()
    repetitions: int = _READS


def measure(database: Path, *, place: Path, divisor: int) -> list[Measured]:
    """Time every operation. `divisor` makes the repetitions fewer."""
    receipts, newest = _extent(database)
    reads = list(_time_reads(database, _reads(receipts), divisor))
    daemon = Daemon(place)
    daemon.database = database
    with daemon:
        # An earlier run on the same file may have sent receipts: other ones are wanted.
        writes = latencies(daemon, divisor=divisor, seed=newest)
    reads += _time_reads(database, [_AFTER_WRITES], divisor)
    inserts = [
        Measured(
            "single insert" if latency.events == 1 else f"{latency.events:,} inserts in one batch",
            _INSERT_TARGETS[latency.events],
            latency.milliseconds,
            latency.events,
        )
        for latency in writes
    ]
    return inserts + reads


def describe(database: Path) -> str:
    """Return the line that says what the database holds."""
    with closing(_open(database)) as connection:
        counts = [
            f"{connection.execute(f'SELECT COUNT(*) FROM {table}').fetchone()[0]:,} {table}"
            for table in _TABLES
        ]
    return f"{database.stat().st_size / 2**30:.1f} GiB: " + ", ".join(counts)


def table_of(results: Sequence[Measured]) -> Table:
    """Return the table that a person reads."""
    table = Table(
        title="Milliseconds, beside the contract's targets",
        caption="held: the slowest too. Writes from sending to ack, reads until the last row is "
        "fetched, warm. A gray line has no target.",
    )
    table.add_column("operation")
    for heading in ("rows", "times", "target", "p50", "max"):
        table.add_column(heading, justify="right")
    table.add_column("verdict")
    colours = {"held": "green", "held at p50": "yellow", "missed": "red", "": "dim"}
    for result in results:
        colour = colours[result.verdict]
        table.add_row(
            result.operation,
            f"{result.rows:,}",
            str(len(result.milliseconds)),
            "" if result.target_ms is None else f"{result.target_ms:g}",
            f"{result.p50:,.2f}",
            f"{max(result.milliseconds):,.2f}",
            f"[{colour}]{result.verdict}",
            style="dim" if result.target_ms is None else "",
        )
    return table


def _extent(database: Path) -> tuple[int, int]:
    """Return how many receipts were built, and the newest id."""
    with closing(_open(database)) as connection:
        built, newest = (
            connection.execute(sql).fetchone()[0]
            for sql in (_BUILT, "SELECT max(id) FROM receipts")
        )
    return built, newest


def _time_reads(database: Path, reads: Sequence[_Read], divisor: int) -> Iterator[Measured]:
    with closing(_open(database)) as connection:
        for read in reads:
            # The same parameters twice: the first round brings the pages into the cache.
            for is_warm in (False, True):
                rng = random.Random(read.operation)
                times = []
                for _ in range(max(3, read.repetitions // divisor)):
                    parameters = read.choose(rng)
                    begin = time.perf_counter()
                    rows = connection.execute(read.sql, parameters).fetchall()
                    times.append((time.perf_counter() - begin) * 1000)
                if is_warm:
                    yield Measured(read.operation, read.target_ms, times, len(rows))


def _reads(receipts: int) -> list[_Read]:
    def execution(rng: random.Random) -> Sequence[Any]:
        return (known_execution(rng.randrange(receipts)),)

    def agent(rng: random.Random) -> Sequence[Any]:
        return (rng.choice(AGENTS),)

    def hour(rng: random.Random) -> Sequence[Any]:
        return (rng.choice(AGENTS), *_span(rng, minutes=60))

    def ten_minutes(rng: random.Random) -> Sequence[Any]:
        return _span(rng, minutes=10)

    def day(rng: random.Random) -> Sequence[Any]:
        return (rng.choice(AGENTS), *_span(rng, minutes=24 * 60))

    def somewhere(rng: random.Random) -> Sequence[Any]:
        return (rng.randrange(max(1, receipts - 10_000)),)

    def all_of(view: str) -> str:
        return f"SELECT * FROM {view}"

    few = _LONG_READS
    agents, stages = "agent_performance_summary", "pipeline_stage_performance"
    return [
        _Read("one execution, by execution_id", 1, _EXECUTION, execution),
        _Read("newest 100 of an agent", 10, _AGENT, agent),
        _Read("an agent's hour", 10, _AGENT_RANGE, hour),
        _Read("10 minutes of the audit log", 10, _AUDIT_RANGE, ten_minutes),
        _Read("aggregation: an agent's day by status", 25, _AGENT_DAY, day),
        _Read("scan of 10,000 receipts", 100, _SCAN, somewhere),
        _Read("recent_executions", 50, all_of("recent_executions")),
        _Read(agents, 100, all_of(agents), repetitions=few),
        _Read(stages, 75, all_of(stages), repetitions=few),
        _Read("all receipts counted by status", None, _COUNT_ALL, repetitions=few),
        _Read("all receipts averaged by status", None, _AVERAGE_ALL, repetitions=few),
    ]


def _span(rng: random.Random, *, minutes: int) -> tuple[str, str]:
    length = minutes * 60_000
    start = rng.randrange(END_MS - DAYS * 24 * _HOUR_MS, END_MS - length)
    return format_ms(start), format_ms(start + length)


def _open(database: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{database}?mode=ro", uri=True)


#: The newest executions are now those of a burst: their agents noted thousands of things meanwhile.
_AFTER_WRITES = _Read(
    "recent_executions, after these writes", 50, "SELECT * FROM recent_executions", repetitions=20
)

_INSERT_TARGETS = {1: 1.0, 100: 50.0, 1_000: 300.0}
_TABLES = (
    "receipts",
    "pipeline_metrics",
    "audit_log",
    "workflow_sessions",
    "collision_detection",
    "slo_violations",
    "agent_memory",
)
_BUILT = """
    SELECT max(id)
    FROM receipts
    WHERE timestamp < '2026-07-01'"""
_EXECUTION = """
    SELECT *
    FROM receipts
    WHERE execution_id = ?"""
_AGENT = """
    SELECT *
    FROM receipts
    WHERE agent_id = ?
    ORDER BY timestamp DESC
    LIMIT 100"""
_AGENT_RANGE = """
    SELECT *
    FROM receipts
    WHERE agent_id = ?
      AND timestamp >= ?
      AND timestamp < ?"""
_AUDIT_RANGE = """
    SELECT *
    FROM audit_log
    WHERE timestamp >= ?
      AND timestamp < ?"""
_AGENT_DAY = """
    SELECT status, COUNT(*), AVG(duration_ms), MAX(duration_ms)
    FROM receipts
    WHERE agent_id = ?
      AND timestamp >= ?
      AND timestamp < ?
    GROUP BY status"""
_SCAN = """
    SELECT *
    FROM receipts
    WHERE id > ?
    LIMIT 10000"""
_COUNT_ALL = """
    SELECT status, COUNT(*)
    FROM receipts
    GROUP BY status"""
_AVERAGE_ALL = """
    SELECT status, COUNT(*), AVG(duration_ms)
    FROM receipts
    GROUP BY status"""

#: The reads that the contract promises a time for, but for the views.
HELD_READS = {
    "one execution": _EXECUTION,
    "newest 100 of an agent": _AGENT,
    "an agent's hour": _AGENT_RANGE,
    "10 minutes of the audit log": _AUDIT_RANGE,
    "an agent's day by status": _AGENT_DAY,
    "10,000 receipts": _SCAN,
}
