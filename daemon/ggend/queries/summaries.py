"""Summaries: executions counted, and their known durations as exact averages and percentiles.

Pure, no I/O, no clock. A percentile is the smallest value that is not below that share of all
values (nearest rank): a duration that was measured, never one between two.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec

__all__ = [
    "PERCENTS",
    "Bucket",
    "Group",
    "Groups",
    "Summary",
    "Tally",
    "percentile",
    "percentiles_ms",
    "total_of",
]

#: The percentiles that every report shows.
PERCENTS = (50, 90, 95, 99)


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """Some executions. Without any there is no rate; without a known duration, no duration."""

    executions: int
    passed: int
    failed: int
    partial: int
    cancelled: int
    #: Executions whose duration nobody recorded: the figures below are of the others.
    unknown_durations: int
    success_rate: float | None
    avg_ms: float | None
    p50_ms: int | None
    p90_ms: int | None
    p95_ms: int | None
    p99_ms: int | None
    max_ms: int | None


class Group(Summary, frozen=True, kw_only=True):
    """The executions that have something in common."""

    name: str | None


class Bucket(Summary, frozen=True, kw_only=True):
    """One step of the trend."""

    start: str


class Tally:
    """Counts executions; the durations as a histogram, which many rows do not make larger."""

    __slots__ = ("durations", "statuses")

    def __init__(self) -> None:
        self.statuses: Counter[str] = Counter()
        self.durations: Counter[int] = Counter()

    def add(self, status: str, duration_ms: int | None) -> None:
        """Count one execution; None: nobody knows how long it took."""
        self.statuses[status] += 1
        if duration_ms is not None:
            self.durations[duration_ms] += 1

    def summary(self) -> Summary:
        """Return what was counted."""
        return Summary(**self._values())

    def group(self, name: str | None) -> Group:
        """Return what was counted, under a name."""
        return Group(name=name, **self._values())

    def bucket(self, start: str) -> Bucket:
        """Return what was counted, as a step of a trend."""
        return Bucket(start=start, **self._values())

    def _values(self) -> dict[str, Any]:
        total = self.statuses.total()
        counts = {status: self.statuses[status] for status in _STATUSES}
        known = self.durations.total()
        values = {
            "executions": total,
            **counts,
            "unknown_durations": total - known,
            "success_rate": counts["passed"] / total if total else None,
        }
        if not known:
            return {**values, **_NO_DURATIONS}
        return {
            **values,
            "avg_ms": round(total_of(self.durations) / known, 2),
            **percentiles_ms(self.durations),
            "max_ms": max(self.durations),
        }


class Groups(dict[str | None, Tally]):
    """A tally for each name."""

    def __missing__(self, name: str | None) -> Tally:
        tally = self[name] = Tally()
        return tally

    def ranked(self) -> list[Group]:
        """Return all groups, the most executions first."""
        groups = [tally.group(name) for name, tally in self.items()]
        return sorted(groups, key=lambda group: (-group.executions, group.name or ""))


def total_of(durations: Counter[int]) -> int:
    """Return the sum of all durations."""
    return sum(duration * count for duration, count in durations.items())


def percentile(durations: Counter[int], percent: int) -> int:
    """Return a percentile, by nearest rank, of durations of which there is at least one."""
    rank = -(-durations.total() * percent // 100)
    for duration in sorted(durations):
        rank -= durations[duration]
        if rank <= 0:
            return duration
    raise ValueError("no durations")


def percentiles_ms(durations: Counter[int]) -> dict[str, int | None]:
    """Return each of PERCENTS by its name, such as `p50_ms`; None without durations."""
    return {
        f"p{percent}_ms": percentile(durations, percent) if durations else None
        for percent in PERCENTS
    }


_NO_DURATIONS = dict.fromkeys(("avg_ms", *(f"p{percent}_ms" for percent in PERCENTS), "max_ms"))
_STATUSES = ("passed", "failed", "partial", "cancelled")
