"""Constraints: tests on an empty copy of a schema which values its CHECKs accept and refuse.

The copy is made in memory from the schema's own statements, so that any database can be tested,
even a read-only one. Reads no row, and writes none outside that copy. Objects that users added are
left out, so that their refusals are not mistaken for a CHECK; `refusals` tests those.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing
from typing import Any, TypeAlias, get_args

from ggend_schema import events

__all__ = ["probe", "refusals"]

#: One valid row of each table: parents first.
_ROWS: dict[str, dict[str, Any]] = {
    "workflow_sessions": {
        "session_id": "probe",
        "start_time": "2026-01-29T12:34:56.789Z",
        "status": "running",
        "agent_count": 1,
    },
    "receipts": {
        "execution_id": "probe",
        "agent_id": "probe",
        "operation": "watch",
        "status": "passed",
        "timestamp": "2026-01-29T12:34:56.789Z",
        "duration_ms": 1,
    },
    "agent_memory": {"agent_id": "probe", "memory_json": "{}"},
    "audit_log": {
        "timestamp": "2026-01-29T12:34:56.789Z",
        "agent_id": "probe",
        "operation": "probe",
        "status": "started",
    },
    "collision_detection": {
        "session_id": "probe",
        "agent_id_1": "a",
        "agent_id_2": "b",
        "collision_type": "file_conflict",
        "description": "probe",
        "severity": "info",
        "timestamp": "2026-01-29T12:34:56.789Z",
    },
    "pipeline_metrics": {
        "execution_id": "probe",
        "stage": "μ₁_normalize",
        "duration_ms": 1,
        "status": "passed",
        "timestamp": "2026-01-29T12:34:56.789Z",
    },
    "slo_violations": {
        "execution_id": "probe",
        "metric": "probe",
        "target_value": 1.0,
        "actual_value": 2.0,
        "severity": "warning",
        "timestamp": "2026-01-29T12:34:56.789Z",
    },
}

#: The nine enumerations and their values.
_ENUMERATIONS: dict[tuple[str, str], tuple[str, ...]] = {
    ("receipts", "operation"): get_args(events.Operation),
    ("receipts", "status"): get_args(events.ReceiptStatus),
    ("audit_log", "status"): get_args(events.AuditStatus),
    ("workflow_sessions", "status"): ("running", *get_args(events.SessionEndStatus)),
    ("collision_detection", "collision_type"): get_args(events.CollisionType),
    ("collision_detection", "severity"): get_args(events.Severity),
    ("pipeline_metrics", "stage"): tuple(dict.fromkeys(events.STAGES.values())),
    ("pipeline_metrics", "status"): get_args(events.StageStatus),
    ("slo_violations", "severity"): ("warning", "critical"),
}

#: By table the columns that others added and that may not be left out.
Demanded: TypeAlias = Mapping[str, Collection[str]]

#: What no enumeration holds.
_STRANGE = ("", "nonsense")


def probe(schema: sqlite3.Connection, demanded: Demanded) -> Iterator[str]:
    """Yield what the CHECKs of the seven tables accept or refuse that they should not."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as copy:
        _copy(schema, copy, tables_only=True)
        for table, row in _ROWS.items():
            problem = _refusal(copy, table, row | _given(demanded, table), keep=True)
            if problem is not None:
                yield f"{table} refuses a valid row: {problem}"
        for (table, column), values in _ENUMERATIONS.items():
            for value in values:
                problem = _refusal(
                    copy, table, _variant(table, column, value) | _given(demanded, table)
                )
                if problem is not None:
                    yield f"{table}.{column} refuses {value!r}: {problem}"
            for value in _strangers(copy, table, values):
                row = _variant(table, column, value) | _given(demanded, table)
                if _refusal(copy, table, row) is None:
                    yield f"{table}.{column} accepts {value!r}: its CHECK is missing or too wide"
                    break


def refusals(schema: sqlite3.Connection, demanded: Demanded) -> list[str]:
    """Return the tables that accept no row because of a broken trigger or index of a user.

    SQLite cannot run it. A trigger that works and refuses a row is not a problem.
    """
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as copy:
        _copy(schema, copy, tables_only=False)
        told = []
        for table, row in _ROWS.items():
            try:
                copy.execute("BEGIN")
                _insert(copy, table, row | _given(demanded, table))
            except sqlite3.IntegrityError:
                pass
            except sqlite3.Error as error:
                told.append(f"{table} accepts no row: a trigger or an index fails: {error}")
            if copy.in_transaction:
                copy.execute("COMMIT")
        return told


def _copy(schema: sqlite3.Connection, copy: sqlite3.Connection, *, tables_only: bool) -> None:
    for kind, table, sql in schema.execute(_STATEMENTS).fetchall():
        if tables_only and kind != "table":
            continue
        # A stranger's virtual table makes its own shadow tables, or has no module here.
        is_ours = kind == "table" and table in _ROWS
        with contextlib.nullcontext() if is_ours else contextlib.suppress(sqlite3.Error):
            copy.execute(sql)
    copy.execute("PRAGMA foreign_keys = ON")


def _strangers(copy: sqlite3.Connection, table: str, values: tuple[str, ...]) -> Iterator[str]:
    """What the column should refuse: also words that its table names, and values in disguise."""
    yield from _STRANGE
    for value in values:
        yield from (value.upper(), f"{value} ")
    (sql,) = copy.execute(_TABLE, (table,)).fetchone()
    yield from (word for word in re.findall(r"'([^']*)'", sql) if word not in values)


def _given(demanded: Demanded, table: str) -> dict[str, Any]:
    return dict.fromkeys(demanded.get(table, ()), 0)


def _variant(table: str, column: str, value: str) -> dict[str, Any]:
    """A row that is valid but for one column, and whose own unique id is new."""
    own = {"receipts": "execution_id", "workflow_sessions": "session_id"}.get(table)
    return {**_ROWS[table], column: value, **({own: "another"} if own else {})}


def _refusal(
    copy: sqlite3.Connection, table: str, row: dict[str, Any], *, keep: bool = False
) -> str | None:
    """Insert a row; return why it is refused. It is taken back unless it is to be kept."""
    copy.execute("BEGIN")
    try:
        _insert(copy, table, row)
    except sqlite3.Error as error:
        copy.execute("ROLLBACK")
        return str(error)
    copy.execute("COMMIT" if keep else "ROLLBACK")
    return None


def _insert(copy: sqlite3.Connection, table: str, row: dict[str, Any]) -> None:
    names = ", ".join('"' + name.replace('"', '""') + '"' for name in row)
    marks = ", ".join("?" * len(row))
    copy.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", list(row.values()))  # noqa: S608 - quoted


_TABLE = """
    SELECT sql
    FROM sqlite_schema
    WHERE type = 'table'
      AND name = ?"""
_STATEMENTS = """
    SELECT type, tbl_name, sql
    FROM sqlite_schema
    WHERE sql IS NOT NULL
      AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'
    ORDER BY rowid"""
