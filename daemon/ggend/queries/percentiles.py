"""Percentiles: of the durations of stages, agents and operations, from the histograms.

By nearest rank, as in `summaries`, but of buckets: the result is the middle of the bucket that
holds the value, at most 1.25 % away from it, and exact below 100 ms. Of the last bucket it is the
beginning, at most 2.5 % away, so that no percentile is above the longest duration. Histograms merge
by addition, so days can be summed up without reading rows. Never writes.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from enum import StrEnum

from ggend.database.rollups import bucket_width, durations_of
from ggend.queries.result import Result
from ggend.queries.run import run
from ggend.queries.summaries import PERCENTS, percentile

__all__ = ["Dimension", "percentiles_of"]

#: Rows of a histogram that are taken: 1,700 buckets for each of some thousand names and days.
_MOST_ROWS = 10_000_000


class Dimension(StrEnum):
    """What durations are grouped by."""

    STAGE = "stage"
    AGENT = "agent"
    OPERATION = "operation"


def percentiles_of(
    connection: sqlite3.Connection,
    dimension: Dimension,
    *,
    name: str | None = None,
    since: str | None = None,
    until: str | None = None,
    by_day: bool = False,
    limit: int = _MOST_ROWS,
) -> Result:
    """Return the PERCENTS in ms for each name, or for each name and day.

    `since` and `until` are days, `2026-01-29`, both included. Raises UsageMistake.
    """
    durations = durations_of(connection, dimension)
    sql = _DURATIONS.format(durations=durations, day="day" if by_day else "''")
    rows = run(connection, sql, _MOST_ROWS, {"name": name, "since": since, "until": until}).rows
    histograms: dict[tuple[str, str], Counter[int]] = {}
    for whose, day, from_ms, times in rows:
        histograms.setdefault((str(whose), str(day)), Counter())[int(str(from_ms))] += int(
            str(times)
        )
    names = [f"p{percent}_ms" for percent in PERCENTS]
    columns = [dimension.value, *(["day"] if by_day else []), "runs", *names]
    told = [
        (
            *([whose, day] if by_day else [whose]),
            counts.total(),
            *(_value(counts, percent) for percent in PERCENTS),
        )
        for (whose, day), counts in sorted(histograms.items())
    ]
    return Result(columns=columns, rows=told[:limit], has_more=len(told) > limit)


def _value(histogram: Counter[int], percent: int) -> int:
    """Return a percentile of durations that were counted by the beginnings of their buckets."""
    begin = percentile(histogram, percent)
    is_last = begin == max(histogram)
    return begin if is_last else begin + (bucket_width(begin) - 1) // 2


_DURATIONS = """
    SELECT name, {day}, from_ms, SUM(durations)
    FROM ({durations})
    WHERE (:name IS NULL OR name = :name)
      AND (:since IS NULL OR day >= :since)
      AND (:until IS NULL OR day <= :until)
    GROUP BY 1, 2, 3"""
