"""Offline: changes a database that no daemon has open, under the lock that a daemon would hold.

Never upgrades one: a file of another version is refused.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from ggend.books import Books, Bounds, open_books
from ggend.database.migrate import State, recognise
from ggend.database.migrations import schema_version
from ggend.errors import DatabaseUnusable
from ggend.lock import hold_lock

__all__ = ["open_offline", "transaction"]

#: Milliseconds to wait for a lock of somebody's plain SQL.
_BUSY_MS = 5_000


@contextlib.contextmanager
def open_offline(path: Path) -> Iterator[tuple[sqlite3.Connection, Books]]:
    """Hold the lock of a current database and open it for writing, with its books.

    Raises AlreadyRunning, DatabaseUnusable, sqlite3.Error.
    """
    with hold_lock(path, what="database"):
        if (state := recognise(path)) is not State.CURRENT:
            raise DatabaseUnusable(
                f"{path} cannot be changed: it is {state.value}", hint="`ggend init` upgrades it"
            )
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}").fetchall()
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            yield connection, open_books(connection, Bounds(), schema_version())


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection, books: Books) -> Iterator[None]:
    """Commit what is done inside, with the time of now, or take it all back."""
    mark = books.mark()
    connection.execute("BEGIN IMMEDIATE")
    try:
        books.accounts.now = books.quarantine.now = connection.execute(_NOW).fetchone()[0]
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        books.forget(mark)
        raise


_NOW = "SELECT strftime('%Y-%m-%dT%H:%M:%fZ')"
