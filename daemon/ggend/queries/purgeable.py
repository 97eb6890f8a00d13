"""Purgeable: the rows that a purge would delete, found by reading alone.

Never deletes. The rules are those of `purge`; a property test compares the two.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection

from msgspec import Struct

from ggend.errors import DatabaseUnusable, UsageMistake
from ggend.queries.result import Result
from ggend_schema.migrations import schema_version

__all__ = ["Purgeable", "purgeable"]

#: A cut that nothing is beyond: ids are smaller.
_END = 2**63 - 1

#: A cut that nothing is before.
_BEGINNING = -(2**63)

#: Tables whose rows are deleted together with rows of other tables.
_TAKING = {
    "receipts": {"pipeline_metrics", "slo_violations", "slo_breaches"},
    "workflow_sessions": {"session_ends"},
}


class Purgeable(Struct, frozen=True):
    """The rows that a purge would delete."""

    #: For each table the number of rows to delete, and their ages.
    tables: Result
    #: By table the first row that stays because its time is invalid or in the future. All later
    #: rows stay too.
    obstacles: dict[str, int]


def purgeable(
    connection: sqlite3.Connection, cutoff: str, *, kept: Collection[str] = ()
) -> Purgeable:
    """Return the rows that a purge would delete if it keeps these tables.

    Raises DatabaseUnusable for a database without all of ggend's tables, UsageMistake for a table
    that is never purged.
    """
    tables = [table for table, _, _ in _TABLES]
    for table in kept:
        if table not in tables:
            raise UsageMistake(
                f"{table!r} is not a table that is purged", hint=f"give one of {', '.join(tables)}"
            )
    kept = {*kept, *(table for table, with_it in _TAKING.items() if with_it & {*kept})}
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version != schema_version():
        raise DatabaseUnusable(
            f"this database has schema version {version}, not {schema_version()}, and cannot be "
            "purged",
            hint="`ggend init` upgrades an older database",
        )
    parameters: dict[str, object] = {"cutoff": cutoff}
    rows: list[tuple[object, ...]] = []
    obstacles: dict[str, int] = {}
    connection.execute("BEGIN")
    try:
        for table, cut, doomed in _TABLES:
            if table in kept:
                parameters[table] = _BEGINNING
            elif cut:
                found = connection.execute(cut, parameters).fetchone()
                parameters[table] = _END if found is None else found[0]
                if found is not None and not found[1]:
                    obstacles[table] = found[0]
            rows.append((table, *connection.execute(doomed, parameters).fetchone()))
    finally:
        connection.execute("ROLLBACK")
    result = Result(columns=["table", "rows", "oldest", "newest"], rows=rows)
    return Purgeable(result, obstacles)


# What follows is composed of constants of this module alone; every value is bound. The cut of a
# table is the first row that stays because it is not old; it is bound by the table's name.
# ruff: noqa: S608

_CREATED = "t.created_at"
_RECEIVED = "replace(t.received_at, 'T', ' ')"
_SUMMARY = "SELECT COUNT(*), MIN(created_at), MAX(created_at)"


def _cut(table: str, moment: str = _CREATED, *, apart_from: str = "false") -> str:
    """Find that row, and whether its time is one that is over; `~` comes after any fraction."""
    return f"""
    SELECT t.id, {moment} >= '1970-01-01' AND {moment} <= CURRENT_TIMESTAMP || '~'
    FROM {table} AS t
    WHERE NOT ({moment} >= '1970-01-01' AND {moment} < :cutoff)
      AND NOT {apart_from}
    ORDER BY t.id
    LIMIT 1"""


def _children(table: str) -> tuple[str, str, str]:
    """Rows that go with their receipts, and rows that have none."""
    goes_along = """EXISTS (
          SELECT 1 FROM receipts AS r WHERE r.execution_id = t.execution_id AND r.id < :receipts)"""
    return (
        table,
        _cut(table, apart_from=goes_along),
        f"""
    {_SUMMARY}
    FROM (
        SELECT t.created_at
        FROM receipts AS r
        CROSS JOIN {table} AS t ON t.execution_id = r.execution_id
        WHERE r.id < :receipts
        UNION ALL
        SELECT t.created_at
        FROM {table} AS t
        WHERE t.id < :{table}
          AND NOT EXISTS (SELECT 1 FROM receipts AS r WHERE r.execution_id = t.execution_id))""",
    )


_BREACHES_OF_RECEIPTS = """
        SELECT b.id
        FROM receipts AS r
        CROSS JOIN slo_violations AS v ON v.execution_id = r.execution_id
        CROSS JOIN slo_breaches AS b
            ON b.metric = v.metric AND b.subject = v.execution_id AND b.severity = v.severity
        WHERE r.id < :receipts"""
_BREACHES = f"""
    {_SUMMARY}
    FROM slo_breaches AS t
    WHERE t.id IN ({_BREACHES_OF_RECEIPTS})
       OR (t.id < :slo_breaches AND NOT EXISTS (
            SELECT 1 FROM receipts AS r
            WHERE r.execution_id = t.execution_id AND r.id >= :receipts))"""
_SESSIONS = """
    FROM workflow_sessions AS t
    WHERE t.id < :workflow_sessions
      AND t.status <> 'running'
      AND NOT EXISTS (
          SELECT 1 FROM receipts AS r
          WHERE r.session_id = t.session_id AND r.id >= :receipts)
      AND NOT EXISTS (
          SELECT 1 FROM collision_detection AS c
          WHERE c.session_id = t.session_id AND c.id >= :collision_detection)"""


def _all_before_the_cut(table: str) -> tuple[str, str, str]:
    return table, _cut(table), f"{_SUMMARY} FROM {table} WHERE id < :{table}"


_TABLES = (
    _all_before_the_cut("receipts"),
    _children("pipeline_metrics"),
    _children("slo_violations"),
    (
        "slo_breaches",
        _cut("slo_breaches", apart_from=f"t.id IN ({_BREACHES_OF_RECEIPTS})"),
        _BREACHES,
    ),
    _all_before_the_cut("collision_detection"),
    ("workflow_sessions", _cut("workflow_sessions"), f"{_SUMMARY} {_SESSIONS}"),
    (
        "session_ends",
        "",
        f"""
    {_SUMMARY}
    {_SESSIONS}
      AND EXISTS (SELECT 1 FROM session_ends AS e WHERE e.session_id = t.session_id)""",
    ),
    _all_before_the_cut("audit_log"),
    (
        "rejected_events",
        _cut("rejected_events", _RECEIVED),
        "SELECT COUNT(*), MIN(received_at), MAX(received_at) FROM rejected_events "
        "WHERE id < :rejected_events",
    ),
)
