"""Measured: which durations are known, in a database of any version.

`duration_source` is NULL where a duration was measured. Until version 5 there was no such column:
all durations counted as measured. Never writes.
"""

from __future__ import annotations

import sqlite3

__all__ = ["known_duration", "knows_unknown", "measured"]


def knows_unknown(connection: sqlite3.Connection, table: str) -> bool:
    """Whether a table, `receipts` or `pipeline_metrics`, tells unknown durations."""
    return connection.execute(_HAS_SOURCE, (table,)).fetchone() is not None


def measured(connection: sqlite3.Connection, table: str, *, alias: str = "") -> str:
    """Return a condition that is true for the rows whose duration is known."""
    if not knows_unknown(connection, table):
        return "true"
    return f"{alias or table}.duration_source IS NULL"


def known_duration(connection: sqlite3.Connection, table: str, *, alias: str = "") -> str:
    """Return an expression that is the duration of a row, or NULL where it is unknown."""
    duration = f"{alias or table}.duration_ms"
    if not knows_unknown(connection, table):
        return duration
    return f"iif({measured(connection, table, alias=alias)}, {duration}, NULL)"


_HAS_SOURCE = """
    SELECT 1
    FROM pragma_table_info(?)
    WHERE name = 'duration_source'"""
