"""Percentile function: `percentile(value, percent)` for the SQL of a person, by nearest rank.

The same as in every report: the smallest value that is not below that share of all values.
"""

from __future__ import annotations

import sqlite3

__all__ = ["add_percentile"]

_WHOLE = 100


class _Percentile:
    """The aggregate. NULL counts nowhere; without any value the result is NULL."""

    def __init__(self) -> None:
        self._values: list[float] = []
        self._percent: float = 0

    def step(self, value: object, percent: object) -> None:
        """Take one row."""
        if not isinstance(percent, int | float) or not 0 <= percent <= _WHOLE:
            raise ValueError("the percent is not from 0 to 100")
        self._percent = percent
        if value is None:
            return
        if not isinstance(value, int | float):
            raise TypeError("a value is no number")
        self._values.append(value)

    def finalize(self) -> float | None:
        """Return the percentile."""
        if not self._values:
            return None
        rank = -(-len(self._values) * self._percent // _WHOLE)
        return sorted(self._values)[max(0, int(rank) - 1)]


def add_percentile(connection: sqlite3.Connection) -> None:
    """Add the function to a connection."""
    # typeshed knows aggregates of one integer.
    connection.create_aggregate("percentile", 2, _Percentile)  # type: ignore[arg-type]
