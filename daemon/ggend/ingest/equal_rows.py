"""Equal rows: whether the content of an event is stored already, for events without identity.

Only looked for where two users import the same source: nobody's rows are compared otherwise.
"""

from __future__ import annotations

import sqlite3
from typing import TypeAlias

from ggend.ingest.intake import Rejection
from ggend.storage.tables import AUDITS, COLLISIONS, METRICS, Table
from ggend_schema.events import Audit, Collision, Event, StageCompleted
from ggend_schema.rows import Row

__all__ = ["ContentKey", "content_key", "content_keys", "is_stored"]

#: What is the same of two equal events.
ContentKey: TypeAlias = tuple[str, Row | None]

_TIME = "timestamp"

#: Columns in whose indexes a row is looked for: few rows have the same there.
_TELLING = {"timestamp", "agent_id", "execution_id", "session_id"}

_TABLES: dict[type[Event | Rejection], Table] = {
    StageCompleted: METRICS,
    Collision: COLLISIONS,
    Audit: AUDITS,
}


def content_key(event: Event | Rejection, row: Row | None) -> ContentKey:
    """Return what another event must have to be equal: all but the time, where none is said."""
    table = _TABLES.get(type(event))
    if table is None or row is None:
        return type(event).__name__, None
    has_time = getattr(event, "timestamp", None) is not None
    return table.name, row if has_time else _without_time(table, row)


def content_keys(event: Event, row: Row) -> tuple[ContentKey, ContentKey]:
    """Return what equal events may have: the time that this one has, or none."""
    table = _TABLES[type(event)]
    return (table.name, row), (table.name, _without_time(table, row))


def is_stored(connection: sqlite3.Connection, event: Event | Rejection, row: Row | None) -> bool:
    """Whether an equal row is there. Where the event says no time, any time is equal.

    Of others (a receipt, a session, a memory) the answer is no: their ids tell.
    """
    name, wanted = content_key(event, row)
    if wanted is None:
        return False
    table = _TABLES[type(event)]
    has_time = len(wanted) == len(table.columns)
    columns = [column for column in table.columns if has_time or column != _TIME]
    # `+` keeps SQLite from the index of a column that most rows share.
    condition = " AND ".join(
        f"{'' if column in _TELLING else '+'}{column} IS ?" for column in columns
    )
    found = connection.execute(
        f"SELECT 1 FROM {name} WHERE {condition} LIMIT 1",  # noqa: S608 - names of `tables`
        wanted,
    )
    return found.fetchone() is not None


def _without_time(table: Table, row: Row) -> Row:
    at = table.columns.index(_TIME)
    return (*row[:at], *row[at + 1 :])
