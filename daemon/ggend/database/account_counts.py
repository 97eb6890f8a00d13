"""Account counts: what each row of `producers` counts, and the sums of many."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

__all__ = ["COUNTS", "sum_up", "totals_of"]

#: What a producer's numbers became, and what stands beside their sum; columns of `producers`.
COUNTS = (
    *("last_sequence", "stored", "duplicate", "superseded", "parked", "rejected", "lost"),
    *("replayed", "purged", "shed"),
)


def sum_up(rows: Iterable[Sequence[int]]) -> tuple[int, dict[str, int]]:
    """Return how many rows of COUNTS there are, and their sums.

    Not by SQLite: the false numbers of many producers could overflow its integers.
    """
    number = 0
    sums = [0] * len(COUNTS)
    for row in rows:
        number += 1
        sums = [total + value for total, value in zip(sums, row, strict=True)]
    return number, dict(zip(COUNTS, sums, strict=True))


def totals_of(connection: sqlite3.Connection) -> tuple[int, dict[str, int]]:
    """Return how many accounts a database has, and the sums of their counts."""
    return sum_up(connection.execute(_ACCOUNTS))


_ACCOUNTS = f"SELECT {', '.join(COUNTS)} FROM producers"  # noqa: S608 - names of columns
