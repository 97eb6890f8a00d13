"""Migrate: bring a database file to the current schema, or explain why that is refused.

Each migration runs in one transaction with the `user_version` that records it, so that a crash
leaves the file before it or after it. Nothing is written to a file that is not ggend's own; one of
version 1.0.0 is recognised here, and upgraded in `upgrade`.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from enum import Enum
from pathlib import Path

from ggend.database.files import database_uri, wal_size
from ggend.database.readonly import primary_code
from ggend.errors import DatabaseCorrupt, DatabaseUnusable
from ggend_schema.migrations import (
    APPLICATION_ID,
    Migration,
    is_unmarked,
    migrations,
    schema_version,
    statements,
)

__all__ = ["State", "apply", "cannot_open", "create", "recognise"]

#: The tables by which a database of version 1.0.0 is recognised: no other application has both.
_TELLING = {"receipts", "pipeline_metrics"}


#: The beginning of the file (https://www.sqlite.org/fileformat.html), and bytes of its header.
_MAGIC = b"SQLite format 3\0"
_HEAD_BYTES = 100


class State(Enum):
    """The kind of file that was found."""

    EMPTY = "missing or empty"
    VERSION_1 = "version 1.0.0"
    OLDER = "an older version"
    UNMARKED = "a database that has lost its version, as after `.dump`"
    CURRENT = "current"


def recognise(path: Path) -> State:
    """Return the state of a file. Raises DatabaseUnusable for a file that ggend must not write to.

    The connection is read-only: closing a writable one would move another program's WAL into its
    file.
    """
    if not path.exists():
        return State.EMPTY
    if not path.is_file():
        raise DatabaseUnusable(f"{path} is not a file", hint="give the path of a file")
    if path.stat().st_size == 0 and wal_size(path):
        # SQLite would treat it as a new database, and delete the WAL with all its rows.
        raise DatabaseCorrupt.of(path, "it is empty, but its WAL is not")
    _refuse_half(path)
    try:
        version, application, tables = _look(path)
    except sqlite3.DatabaseError as error:
        raise cannot_open(path, error) from error
    if application == version == 0 and not tables:
        return State.EMPTY
    if is_unmarked(version, application, tables):
        return State.UNMARKED
    if application == version == 0 and tables >= _TELLING:
        return State.VERSION_1
    if application != APPLICATION_ID:
        raise DatabaseUnusable(
            f"{path} is the database of another application (application_id {application}, "
            f"tables {', '.join(sorted(tables)[:4]) or 'none'})",
            hint="give another file with --database",
        )
    if version < 1:
        raise DatabaseUnusable(
            f"{path} has schema version {version}, which no version of ggend writes",
            hint="another program changed its user_version; the file was not changed: restore a "
            "backup",
        )
    if version > schema_version():
        raise DatabaseUnusable(
            f"{path} has schema version {version}; this ggend knows versions up to "
            f"{schema_version()}",
            hint="upgrade ggend",
        )
    return State.CURRENT if version == schema_version() else State.OLDER


def _refuse_half(path: Path) -> None:
    """Raise DatabaseCorrupt for a file that is shorter than its first page says."""
    if wal_size(path):
        return  # the missing pages may be in the WAL
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
            size = os.fstat(file.fileno()).st_size
    except OSError:
        return  # SQLite will report the same error
    page_bytes = int.from_bytes(head[16:18], "big")
    page_bytes = 65_536 if page_bytes == 1 else page_bytes
    # The number of pages counts where it was written together with the change counter.
    is_said = head.startswith(_MAGIC) and head[24:28] == head[92:96]
    wanted = int.from_bytes(head[28:32], "big") * page_bytes
    if is_said and size < wanted:
        raise DatabaseCorrupt.of(path, f"it is truncated: {size:,} of {wanted:,} bytes are left")


def create(connection: sqlite3.Connection) -> None:
    """Make everything in an empty database."""
    connection.execute("PRAGMA journal_mode = WAL").fetchall()
    connection.execute("BEGIN IMMEDIATE")
    apply(connection, migrations())


def apply(
    connection: sqlite3.Connection,
    wanted: Sequence[Migration],
    *,
    last: Callable[[], None] = lambda: None,
) -> None:
    """Run migrations in the open transaction, record the last one, call `last`, and commit.

    Without any, the file is of this version and is marked so.
    """
    try:
        for migration in wanted:
            for statement in statements(migration.sql):
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        version = wanted[-1].version if wanted else schema_version()
        connection.execute(f"PRAGMA user_version = {version}")
        last()
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def cannot_open(path: Path, error: sqlite3.Error) -> DatabaseUnusable:
    """Return the error for a file that cannot be opened or written."""
    match primary_code(error):
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return DatabaseUnusable(
                f"{path} is locked by another program: {error}",
                hint="stop the programs that have it open, or wait for them, then try again",
            )
        case sqlite3.SQLITE_NOTADB:
            return DatabaseCorrupt(
                f"{path} cannot be read as an SQLite database: {error}",
                hint="give another file, or move this one away; if it was ggend's own, restore a "
                "backup, or set `set_aside_corrupt = true` to create a new one",
            )
        case sqlite3.SQLITE_CORRUPT:
            return DatabaseCorrupt.of(path, str(error))
        case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM | sqlite3.SQLITE_READONLY:
            return DatabaseUnusable(
                f"cannot open the database {path}: {error}",
                hint="check that its directory exists and that both are writable",
            )
        case sqlite3.SQLITE_FULL:
            return DatabaseUnusable(
                f"{path} cannot be written: {error}", hint="free disk space and try again"
            )
        case sqlite3.SQLITE_IOERR:
            return DatabaseUnusable(
                f"{path} cannot be used: {error} ({error.sqlite_errorname})",
                hint="check the kernel's log, the disk, and its free space",
            )
        case _:
            return DatabaseUnusable(
                f"{path} cannot be used: {error}",
                hint="`ggend check` shows which part of it is wrong",
            )


def _look(path: Path) -> tuple[int, int, set[str]]:
    try:
        return _state(path, "mode=ro")
    except sqlite3.OperationalError as error:
        if primary_code(error) != sqlite3.SQLITE_READONLY:
            raise
        # A program was killed in a transaction. Whoever opens the file next rolls that back: until
        # then nobody can read it.
        return _state(path, "mode=rw")


def _state(path: Path, mode: str) -> tuple[int, int, set[str]]:
    with closing(sqlite3.connect(database_uri(path, mode), uri=True)) as connection:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        names = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
    return version, application, {name for (name,) in names}
