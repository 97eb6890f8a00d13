"""Legacy rows: rows that writers before ggend left behind, counted, never changed.

Orphans (foreign keys were off), timestamps in another notation than ggend's or in none, and JSON
columns that hold something else. All may stay; readers cope with them (docs/STORAGE.md).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from msgspec import Struct

__all__ = ["LegacyRows", "count_legacy_rows"]


class LegacyRows(Struct, frozen=True):
    """So many rows of a table that are odd in one way."""

    table: str
    rows: int
    #: What they are, after the number: `stages whose receipt is missing`.
    what: str

    def __str__(self) -> str:
        return f"{self.table}: {self.rows:,} {self.what}"


def count_legacy_rows(
    connection: sqlite3.Connection, tell: Callable[[str], None]
) -> list[LegacyRows]:
    """Look at every row of the seven tables; `tell` is told what is looked at next."""
    tell("foreign keys")
    found = [
        LegacyRows(table, rows, f"without their row in {parent}")
        for table, parent, rows in connection.execute(_ORPHANS).fetchall()
    ]
    for table, sql in _LOOKS.items():
        tell(table)
        cursor = connection.execute(sql, {"ours": _OURS})
        names = [column[0].replace("_", " ") for column in cursor.description]
        (counts,) = cursor.fetchall()
        found += [
            LegacyRows(table, rows, name) for name, rows in zip(names, counts, strict=True) if rows
        ]
    return found


#: A timestamp as ggend writes it, so that text order is time order.
_OURS = (
    "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]T[0-9][0-9]:[0-9][0-9]:[0-9][0-9].[0-9][0-9][0-9]Z"
)

_ORPHANS = """
    SELECT "table", parent, COUNT(*)
    FROM pragma_foreign_key_check
    GROUP BY 1, 2"""
_LOOKS = {
    "receipts": """
        SELECT
            COUNT(*) FILTER (WHERE timestamp NOT GLOB :ours) AS timestamps_in_another_notation,
            COUNT(*) FILTER (WHERE julianday(timestamp) IS NULL) AS timestamps_that_are_no_time,
            COUNT(*) FILTER (WHERE json_valid(ifnull(receipt_json, 0)) = 0) AS receipts_not_JSON
        FROM receipts""",
    "agent_memory": """
        SELECT
            COUNT(*) FILTER (WHERE julianday(updated_at) IS NULL) AS times_of_saving_that_are_none,
            COUNT(*) FILTER (WHERE json_valid(memory_json) = 0) AS memories_not_JSON
        FROM agent_memory""",
    "audit_log": """
        SELECT
            COUNT(*) FILTER (WHERE timestamp NOT GLOB :ours) AS timestamps_in_another_notation,
            COUNT(*) FILTER (WHERE julianday(timestamp) IS NULL) AS timestamps_that_are_no_time,
            COUNT(*) FILTER (WHERE json_valid(ifnull(context_json, 0)) = 0) AS contexts_not_JSON
        FROM audit_log""",
    "workflow_sessions": """
        SELECT
            COUNT(*) FILTER (WHERE start_time NOT GLOB :ours) AS start_times_in_another_notation,
            COUNT(*) FILTER (WHERE julianday(start_time) IS NULL) AS start_times_that_are_no_time,
            COUNT(*) FILTER (WHERE json_valid(ifnull(context_json, 0)) = 0) AS contexts_not_JSON
        FROM workflow_sessions""",
    "collision_detection": """
        SELECT
            COUNT(*) FILTER (WHERE timestamp NOT GLOB :ours) AS timestamps_in_another_notation,
            COUNT(*) FILTER (WHERE julianday(timestamp) IS NULL) AS timestamps_that_are_no_time
        FROM collision_detection""",
    "pipeline_metrics": """
        SELECT
            COUNT(*) FILTER (WHERE timestamp NOT GLOB :ours) AS timestamps_in_another_notation,
            COUNT(*) FILTER (WHERE julianday(timestamp) IS NULL) AS timestamps_that_are_no_time
        FROM pipeline_metrics""",
    "slo_violations": """
        SELECT
            COUNT(*) FILTER (WHERE timestamp NOT GLOB :ours) AS timestamps_in_another_notation,
            COUNT(*) FILTER (WHERE julianday(timestamp) IS NULL) AS timestamps_that_are_no_time
        FROM slo_violations""",
}
