"""Backtest: what proposed objectives would have found in the rows that are there. Only reads."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator

from msgspec import Struct

from ggend.database.known_durations import knows_unknown
from ggend.slo.breaches import Broken
from ggend.slo.evaluate import Thresholds
from ggend.slo.objectives import Objectives
from ggend_schema.errors import InvalidEvent
from ggend_schema.timestamps import parse_us

__all__ = ["Tally", "backtest"]

#: Rows that are judged at once.
_SLICE_ROWS = 50_000


class Tally(Struct):
    """What became of one metric and severity: executions, each counted once."""

    metric: str
    severity: str
    #: By the proposed objectives, and by today's.
    proposed: int = 0
    today: int = 0
    #: The worst of the proposed ones: its value and its execution.
    worst: float | None = None
    execution_id: str | None = None


def backtest(
    connection: sqlite3.Connection,
    proposed: Objectives,
    today: Objectives,
    *,
    since: str | None,
    report: Callable[[int], object] = lambda _: None,
) -> list[Tally]:
    """Judge all rows with a timestamp from `since` on by both; return one tally for each metric.

    A row whose timestamp is none counts only without `since`. `report` is told how many rows were
    judged. Both judge the rows as they are today, whatever was written about them when they came.
    """
    tallies: dict[tuple[str, str], Tally] = {}
    since_us = None if since is None else parse_us(since)
    seen: tuple[set[tuple[str, str, str]], set[tuple[str, str, str]]] = (set(), set())
    for which, broken in _broken(connection, (proposed, today), report):
        breach = broken.breach
        if since_us is not None and not _is_since(broken.timestamp, since_us):
            continue
        key = (breach.metric, breach.severity)
        tally = tallies.setdefault(key, Tally(*key))
        if which == 0 and (
            tally.worst is None or breach.direction * (breach.actual - tally.worst) > 0
        ):
            tally.worst, tally.execution_id = breach.actual, broken.execution_id
        if (*key, broken.subject) in seen[which]:
            continue
        seen[which].add((*key, broken.subject))
        if which == 0:
            tally.proposed += 1
        else:
            tally.today += 1
    return [tallies[key] for key in sorted(tallies)]


def _is_since(timestamp: object, since_us: int) -> bool:
    """Compare moments, not texts: version 1.0.0 wrote them in several notations."""
    try:
        return isinstance(timestamp, str) and parse_us(timestamp) >= since_us
    except InvalidEvent:
        return False


def _broken(
    connection: sqlite3.Connection,
    both: tuple[Objectives, Objectives],
    report: Callable[[int], object],
) -> Iterator[tuple[int, Broken]]:
    done = 0
    tells_unknown = knows_unknown(connection, "receipts")
    judges = [Thresholds(objectives, tells_unknown=tells_unknown) for objectives in both]
    for table, judge in (
        ("receipts", Thresholds.broken_by_executions),
        ("pipeline_metrics", Thresholds.broken_by_stages),
    ):
        (newest,) = connection.execute(_NEWEST.format(table=table)).fetchone()
        for after in range(0, newest, _SLICE_ROWS):
            for which, thresholds in enumerate(judges):
                for broken in judge(thresholds, connection, after, after + _SLICE_ROWS):
                    yield which, broken
            done += min(_SLICE_ROWS, newest - after)
            report(done)


_NEWEST = "SELECT coalesce(max(id), 0) FROM {table}"
