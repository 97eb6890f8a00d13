"""Known durations: which durations are known, in a database of any version.

`duration_source` is NULL where a duration was measured. Until version 5 there was no such column:
all durations counted as measured. Never writes.
"""

from __future__ import annotations

import sqlite3

__all__ = ["duration_expression", "known_duration", "knows_unknown", "measured"]


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
    tells_unknown = knows_unknown(connection, table)
    return duration_expression(alias or table, tells_unknown=tells_unknown)


def duration_expression(table: str, *, tells_unknown: bool) -> str:
    """Return the same for a table, or an alias of one, that tells unknown durations or does not."""
    if not tells_unknown:
        return f"{table}.duration_ms"
    return f"iif({table}.duration_source IS NULL, {table}.duration_ms, NULL)"


_HAS_SOURCE = """
    SELECT 1
    FROM pragma_table_info(?)
    WHERE name = 'duration_source'"""
