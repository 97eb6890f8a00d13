"""Offline: changes a database that no daemon has open, under the lock that a daemon would hold.

Never upgrades a file: one of another version is refused.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from ggend.database.files import is_there, wal_size
from ggend.database.lock import hold_lock
from ggend.database.migrate import State, recognise
from ggend.database.sqlite_errors import TryAgain
from ggend.database.wal_keeper import WalKeeper, keep_wal
from ggend.errors import DatabaseUnusable
from ggend.storage.writer_state import Bounds, TakenBack, WriterState, open_writer_state
from ggend_schema.migrations import schema_version

__all__ = ["Offline", "open_offline"]

T = TypeVar("T")

#: Milliseconds to wait for a lock of another SQLite program.
_BUSY_MS = 5_000

#: A WAL larger than this many bytes is checkpointed between two transactions.
_WAL_BYTES = 64 * 1024 * 1024


class Offline:
    """A database that only this process has open, with its connection and its writer state."""

    def __init__(
        self, connection: sqlite3.Connection, state: WriterState, keeper: WalKeeper
    ) -> None:
        self.connection = connection
        self.state = state
        self._keeper = keeper

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit the changes made inside, with the current time, or roll them back."""
        connection, state = self.connection, self.state
        snapshot = state.snapshot()
        connection.execute("BEGIN IMMEDIATE")
        try:
            state.accounts.now = state.quarantine.now = connection.execute(_NOW).fetchone()[0]
            yield
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            state.rollback(snapshot)
            raise
        self.empty_wal()

    def run(self, work: Callable[[sqlite3.Connection, WriterState], T]) -> T:
        """Commit the changes of `work`; repeat it without each row that caused a rollback."""
        try:
            while True:
                try:
                    with self.transaction():
                        done = work(self.connection, self.state)
                except TakenBack:
                    continue
                return done
        finally:
            self.state.refusals.clear()

    def empty_wal(self, over_bytes: int = _WAL_BYTES) -> None:
        """Checkpoint the WAL if it has become large, as far as readers allow.

        SQLite then overwrites it from the start, so that later transactions have room.
        """
        if wal_size(self._keeper.path) > over_bytes:
            with contextlib.suppress(TryAgain):
                self._keeper.checkpoint(self.connection)


@contextlib.contextmanager
def open_offline(path: Path) -> Iterator[Offline]:
    """Hold the lock of a current database and open it for writing, with its writer state.

    Raises AlreadyRunning, DatabaseUnusable, sqlite3.Error.
    """
    with hold_lock(path, what="database"):
        if not is_there(path):
            raise DatabaseUnusable(
                f"there is no database at {path}", hint="`ggend init` creates one"
            )
        with keep_wal(path) as keeper:
            if (state := recognise(path)) is not State.CURRENT:
                raise DatabaseUnusable(
                    f"{path} cannot be changed: it is {state.value}",
                    hint="`ggend init` upgrades it",
                )
            keeper.attach()
            with closing(sqlite3.connect(path, isolation_level=None)) as connection:
                connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}").fetchall()
                connection.execute("PRAGMA wal_autocheckpoint = 0").fetchall()
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute("PRAGMA foreign_keys = ON")
                try:
                    keeper.checkpoint(connection)
                except TryAgain as error:
                    raise DatabaseUnusable(
                        f"{path} cannot be written: {error}", hint="free disk space and try again"
                    ) from error
                yield Offline(
                    connection, open_writer_state(connection, Bounds(), schema_version()), keeper
                )


_NOW = "SELECT strftime('%Y-%m-%dT%H:%M:%fZ')"
