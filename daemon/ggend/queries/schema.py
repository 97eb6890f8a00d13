"""Schema: the tables and views of a database, as the file has them. Never writes."""

from __future__ import annotations

import sqlite3

from ggend.errors import UsageMistake
from ggend.queries.result import Result
from ggend_schema.spelling import or_nearest

__all__ = ["PUBLIC_TABLES", "definition_of", "describe_table", "list_tables"]

#: The tables that people and other programs read; the others are ggend's own.
PUBLIC_TABLES = (
    *("receipts", "agent_memory", "audit_log", "workflow_sessions", "collision_detection"),
    *("pipeline_metrics", "slo_violations"),
)

_PUBLIC_VIEWS = ("recent_executions", "agent_performance_summary", "pipeline_stage_performance")


def list_tables(connection: sqlite3.Connection) -> Result:
    """Return each table and view with what it is for and its columns."""
    rows: list[tuple[object, ...]] = [
        (name, _use(name, kind), columns) for name, kind, columns in connection.execute(_TABLES)
    ]
    return Result(columns=["name", "use", "columns"], rows=sorted(rows, key=_by_use))


def describe_table(connection: sqlite3.Connection, table: str) -> Result:
    """Return the columns of a table or view. Raises UsageMistake."""
    _check(connection, table)
    rows = connection.execute(_COLUMNS, {"table": table}).fetchall()
    return Result(
        columns=["column", "type", "required", "default", "references"],
        rows=[
            (column, kind or None, "yes" if is_required else "no", default, target)
            for column, kind, is_required, default, target in rows
        ],
    )


def definition_of(connection: sqlite3.Connection, table: str | None) -> str:
    """Return the SQL of a table or view and its indexes and triggers, or of everything.

    Raises UsageMistake.
    """
    if table is not None:
        _check(connection, table)
    found = connection.execute(_SQL, {"table": table}).fetchall()
    return "".join(f"{sql};\n" for (sql,) in found)


def _use(name: str, kind: str) -> str:
    if name in PUBLIC_TABLES or name in _PUBLIC_VIEWS:
        return f"public {kind}"
    return "of ggend"


def _by_use(row: tuple[object, ...]) -> tuple[int, int]:
    name, use = str(row[0]), str(row[1])
    place = PUBLIC_TABLES.index(name) if name in PUBLIC_TABLES else 0
    return ("public table", "public view", "of ggend").index(use), place


def _check(connection: sqlite3.Connection, table: str) -> None:
    names = [name for name, _, _ in connection.execute(_TABLES)]
    if table not in names:
        raise UsageMistake(
            f"there is no table or view `{table}`{or_nearest(table, names)}",
            hint="`ggend schema` lists them",
        )


_TABLES = """
    SELECT t.name, t.type, group_concat(c.name, ', ')
    FROM sqlite_schema AS t
    JOIN pragma_table_info(t.name) AS c
    WHERE t.type IN ('table', 'view')
      AND t.name NOT LIKE 'sqlite~_%' ESCAPE '~'
    GROUP BY t.rowid
    ORDER BY t.rowid"""
_COLUMNS = """
    SELECT
        c.name, c.type, c."notnull" OR c.pk > 0, c.dflt_value,
        (SELECT f."table" || '.' || f."to"
         FROM pragma_foreign_key_list(:table) AS f
         WHERE f."from" = c.name)
    FROM pragma_table_info(:table) AS c
    ORDER BY c.cid"""
_SQL = """
    SELECT sql
    FROM sqlite_schema
    WHERE sql IS NOT NULL
      AND name NOT LIKE 'sqlite~_%' ESCAPE '~'
      AND (:table IS NULL OR tbl_name = :table)
    ORDER BY rowid"""
