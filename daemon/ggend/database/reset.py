"""Reset: empties a database permanently, as if it had just been created.

Never removes what users added: their tables and views stay, and their indexes and triggers on
ggend's tables are created again.

All of it is one transaction: if the process is killed, the database is the old one or the empty
one. Only then is the file shrunk. It gets a new random id. From it clients learn that acknowledged
events are gone, and they send the events that they still hold.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from msgspec import Struct

from ggend.database.files import is_there
from ggend.database.migrate import State, apply, recognise
from ggend.database.readonly import open_readonly
from ggend.database.schema import promised
from ggend.errors import DatabaseUnusable
from ggend_schema.migrations import migrations, schema_version

__all__ = ["Reset", "reset_file", "rows_of"]

#: Milliseconds to wait for the transaction of another SQLite program to end.
_BUSY_MS = 5_000


class Reset(Struct, frozen=True):
    """The result of a reset."""

    database_id: str
    #: Users' indexes and triggers that could not be created again.
    lost: list[str]
    #: Why the file could not be shrunk, if so. The database is empty in any case.
    kept_its_size: str | None = None


def rows_of(path: Path) -> dict[str, int]:
    """Return how many rows each of ggend's tables has.

    Raises DatabaseUnusable where there is nothing that may be reset.
    """
    if not is_there(path):
        raise DatabaseUnusable(f"there is no database at {path}", hint="`ggend init` creates one")
    state = recognise(path)
    if state not in (State.OLDER, State.CURRENT):
        raise DatabaseUnusable(
            f"{path} cannot be reset: it is {state.value}",
            hint="`ggend init` upgrades it to this version and keeps a backup",
        )
    with closing(open_readonly(path)) as connection:
        try:
            return {
                name: connection.execute(f'SELECT COUNT(*) FROM "{name}"').fetchone()[0]  # noqa: S608 - ours
                for kind, name in _found(connection)
                if kind == "table"
            }
        except sqlite3.DatabaseError as error:
            raise DatabaseUnusable(
                f"{path} cannot be reset: {error}",
                hint="move it away and create a new one with `ggend init`; `ggend check` shows "
                "which part of it is wrong",
            ) from error


def reset_file(path: Path, *, busy_ms: int = _BUSY_MS) -> Reset:
    """Empty a database that `rows_of` let pass, and whose lock is held. Raises sqlite3.Error."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA busy_timeout = {busy_ms}").fetchall()
        # One WAL until the end, so that it can be told whose it is if this is cut short.
        connection.execute("PRAGMA wal_autocheckpoint = 0").fetchall()
        # Tables of others may refer to ggend's, and the order of dropping would matter.
        connection.execute("PRAGMA foreign_keys = OFF")
        # What was in the pages is gone with the pages, when VACUUM writes the file anew.
        connection.execute("PRAGMA secure_delete = FAST").fetchall()
        lost = _make_anew(connection)
        kept_its_size = None
        try:
            connection.execute("VACUUM")
            (is_busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if is_busy:  # what is still in use is made smaller by whoever closes the file last
                kept_its_size = "another program is still reading the old rows"
        except sqlite3.OperationalError as error:  # no room for the copy, or somebody writes
            kept_its_size = str(error)
        (database_id,) = connection.execute("SELECT id FROM database_identity").fetchone()
    return Reset(database_id, lost, kept_its_size)


def _make_anew(connection: sqlite3.Connection) -> list[str]:
    """Do it in one transaction; return the names of what could not be made again."""
    lost: list[str] = []
    connection.execute("BEGIN IMMEDIATE")
    try:
        before = connection.execute(_ADDITIONS).fetchall()
        for kind, name in sorted(_found(connection), reverse=True):  # views, then tables
            connection.execute(f'DROP {kind.upper()} "{name}"')
    except BaseException:
        connection.execute("ROLLBACK")
        raise

    def add_again() -> None:
        there = {name for name, _ in connection.execute(_ADDITIONS)}
        for name, sql in before:
            if name not in there:
                try:
                    connection.execute(sql)
                except sqlite3.Error:  # on a column that somebody had added, say
                    lost.append(name)

    apply(connection, migrations(), last=add_again)
    return lost


def _found(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    """Return kind and name of ggend's tables and views that are there."""
    made = promised(schema_version())
    ours = {("table", name) for name in made.tables} | {("view", name) for name in made.views}
    return [found for found in connection.execute(_OBJECTS) if found in ours]


_OBJECTS = """
    SELECT type, name
    FROM sqlite_schema
    WHERE type IN ('table', 'view')
      AND name NOT LIKE 'sqlite^_%' ESCAPE '^'"""
_ADDITIONS = """
    SELECT name, sql
    FROM sqlite_schema
    WHERE type IN ('index', 'trigger')
      AND sql IS NOT NULL"""
