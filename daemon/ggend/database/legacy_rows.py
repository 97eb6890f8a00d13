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
    """The number of rows of a table with one kind of problem."""

    table: str
    rows: int
    #: The problem, to be read after the number: `rows without a parent in receipts`.
    what: str

    def __str__(self) -> str:
        return f"{self.table}: {self.rows:,} {self.what}"


def count_legacy_rows(
    connection: sqlite3.Connection, tell: Callable[[str], None]
) -> list[LegacyRows]:
    """Check every row of the seven tables; `tell` receives the name of each check."""
    tell("foreign keys")
    found = [
        LegacyRows(table, rows, f"rows without a parent in {parent}")
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
            COUNT(*) FILTER (WHERE timestamp NOT GLOB :ours) AS timestamps_in_another_format,
            COUNT(*) FILTER (WHERE julianday(timestamp) IS NULL) AS invalid_timestamps,
            COUNT(*) FILTER (WHERE json_valid(ifnull(receipt_json, 0)) = 0)
                AS receipts_with_invalid_JSON
        FROM receipts""",
    "agent_memory": """
        SELECT
            COUNT(*) FILTER (WHERE julianday(updated_at) IS NULL) AS invalid_save_times,
            COUNT(*) FILTER (WHERE json_valid(memory_json) = 0) AS memories_with_invalid_JSON
        FROM agent_memory""",
    "audit_log": """
        SELECT
            COUNT(*) FILTER (WHERE timestamp NOT GLOB :ours) AS timestamps_in_another_format,
            COUNT(*) FILTER (WHERE julianday(timestamp) IS NULL) AS invalid_timestamps,
            COUNT(*) FILTER (WHERE json_valid(ifnull(context_json, 0)) = 0)
                AS contexts_with_invalid_JSON
        FROM audit_log""",
    "workflow_sessions": """
        SELECT
            COUNT(*) FILTER (WHERE start_time NOT GLOB :ours) AS start_times_in_another_format,
            COUNT(*) FILTER (WHERE julianday(start_time) IS NULL) AS invalid_start_times,
            COUNT(*) FILTER (WHERE json_valid(ifnull(context_json, 0)) = 0)
                AS contexts_with_invalid_JSON
        FROM workflow_sessions""",
    "collision_detection": """
        SELECT
            COUNT(*) FILTER (WHERE timestamp NOT GLOB :ours) AS timestamps_in_another_format,
            COUNT(*) FILTER (WHERE julianday(timestamp) IS NULL) AS invalid_timestamps
        FROM collision_detection""",
    "pipeline_metrics": """
        SELECT
            COUNT(*) FILTER (WHERE timestamp NOT GLOB :ours) AS timestamps_in_another_format,
            COUNT(*) FILTER (WHERE julianday(timestamp) IS NULL) AS invalid_timestamps
        FROM pipeline_metrics""",
    "slo_violations": """
        SELECT
            COUNT(*) FILTER (WHERE timestamp NOT GLOB :ours) AS timestamps_in_another_format,
            COUNT(*) FILTER (WHERE julianday(timestamp) IS NULL) AS invalid_timestamps
        FROM slo_violations""",
}
