"""Store: the one connection that writes, on the one thread that aiosqlite gives it.

Everything that touches the database goes through `run`, one hop a call; a batch is one call.
Nothing is acknowledged before COMMIT returned with synchronous=FULL.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import aiosqlite
import anyio
import anyio.to_thread

from ggend.books import Books
from ggend.database.migrate import cannot_open
from ggend.database.readonly import primary_code
from ggend.database.upgrade import Preparation, Step, Tell, prepare_database
from ggend.intake import Call, Submission
from ggend.parking import Parking
from ggend.quarantine import Quarantine
from ggend.settle import ROW_ERRORS, settle
from ggend.timestamps import format_ms

__all__ = ["DURABILITY", "CommitUnknown", "DatabaseReplaced", "Store", "open_store"]

log = logging.getLogger("ggend.store")

T = TypeVar("T")

#: What an Ack stands for, as Welcome names it.
DURABILITY = "wal, synchronous=FULL"

#: Bytes to which a WAL is cut back after it was larger. A reader that pins it can make it grow.
JOURNAL_SIZE_BYTES = 64 * 1024 * 1024

#: Statements kept prepared: five block sizes for six tables, and all the others.
_STATEMENTS = 256

#: Milliseconds to wait for a lock of somebody's plain SQL before the batch is tried again.
_BUSY_MS = 2_000


class CommitUnknown(Exception):
    """COMMIT failed in a way that leaves open whether it happened: the process must end."""


class DatabaseReplaced(Exception):
    """The path names another file than the open one, or none: what is written would be lost."""

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(f"{path} was removed or replaced while ggend had it open")


class _Connection(aiosqlite.Connection):
    """aiosqlite with its queue of calls open to whole transactions (docs/adr/0004).

    The public methods take one statement a hop, and a hop costs as much as many rows.
    """

    async def run(self, function: Callable[[sqlite3.Connection], T]) -> T:
        result: T = await self._execute(function, self._conn)  # type: ignore[no-untyped-call]
        return result


class Store:
    """The database as the writer sees it."""

    def __init__(
        self, connection: _Connection, path: Path, report: Preparation, books: Books
    ) -> None:
        self._connection = connection
        self._books = books
        self.path = path
        self.report = report
        self._identity = _identity(path)

    @property
    def parked(self) -> int:
        """Events that wait for their parent."""
        return self._books.parking.count

    async def run(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """Run a function on the writer's thread, in turn, to its end even if cancelled."""
        with anyio.CancelScope(shield=True):
            result = await self._connection.run(function)
        return result  # noqa: RET504 - mypy takes the scope for one that swallows errors

    async def commit(self, batch: Sequence[Submission | Call]) -> list[object]:
        """Settle a batch in one transaction; return the results when they are durable.

        Raises sqlite3.OperationalError when nothing was committed and it may be tried again,
        CommitUnknown when nobody can tell; DatabaseReplaced.
        """
        if _identity(self.path) != self._identity:
            raise DatabaseReplaced(self.path)
        return await self.run(lambda connection: self._commit(connection, batch))

    async def checkpoint(self, mode: str = "PASSIVE") -> None:
        """Move committed pages from the WAL into the database file, as far as that goes now.

        A checkpoint that fails loses nothing: the pages stay in the WAL until the next one.
        """

        def checkpoint(connection: sqlite3.Connection) -> None:
            # Read to its end: a statement that is left open makes the next COMMIT fail.
            connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()

        try:
            await self.run(checkpoint)
        except sqlite3.OperationalError as error:
            log.warning("checkpoint failed", extra={"error": error})

    def _commit(
        self, connection: sqlite3.Connection, batch: Sequence[Submission | Call]
    ) -> list[object]:
        try:
            return self._transaction(connection, batch, isolate=False)
        except ROW_ERRORS:
            return self._transaction(connection, batch, isolate=True)

    def _transaction(
        self, connection: sqlite3.Connection, batch: Sequence[Submission | Call], *, isolate: bool
    ) -> list[object]:
        books = self._books
        parked, rejected = books.parking.count, books.quarantine.count
        now = format_ms(time.time_ns() // 1_000_000)
        committing = False
        try:
            connection.execute("BEGIN IMMEDIATE")
            results = settle(connection, books, batch, now=now, isolate=isolate)
            committing = True
            connection.execute("COMMIT")
        except BaseException as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            elif committing and primary_code(error) != sqlite3.SQLITE_FULL:
                # A full disk is the one case in which SQLite has rolled back by itself and the
                # outcome is known: the last frame of a transaction is the one that commits it.
                raise CommitUnknown(f"COMMIT failed: {error}") from error
            books.accounts.forget()
            books.parking.forget(parked)
            books.quarantine.forget(rejected)
            raise
        return results


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and inode of the file, found without opening it."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


@contextlib.asynccontextmanager
async def open_store(
    path: Path,
    *,
    upgrade: bool = True,
    tell: Tell = lambda _: None,
    page_cache_mib: int,
    parked_max_events: int,
    rejected_max_events: int,
) -> AsyncIterator[Store]:
    """Open the database, created if missing, and close it with its WAL emptied.

    One of an older version is brought up to date if `upgrade` allows it; `tell` is told how far
    that is. Raises DatabaseUnusable.
    """

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(path, isolation_level=None, cached_statements=_STATEMENTS)
        connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
        return connection

    report = await _prepare_file(path, upgrade=upgrade, tell=tell)
    connection = _Connection(connect, iter_chunk_size=64)
    try:
        await connection
    except sqlite3.Error as error:
        raise cannot_open(path, error) from error
    try:
        parked, rejected = await connection.run(
            lambda connected: _prepare(connected, page_cache_mib)
        )
        books = Books(
            Parking(count=parked, limit=parked_max_events, schema_version=report.version),
            Quarantine(count=rejected, limit=rejected_max_events, schema_version=report.version),
        )
        store = Store(connection, path, report, books)
        yield store
        await store.checkpoint("TRUNCATE")
    finally:
        await connection.close()


async def _prepare_file(path: Path, *, upgrade: bool, tell: Tell) -> Preparation:
    """Bring the file up to date in a thread; cancelled, it takes back what it has begun."""
    cancelled = threading.Event()

    def tell_or_stop(step: Step) -> None:
        if cancelled.is_set():
            raise KeyboardInterrupt
        tell(step)

    async def notice() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.set()

    failure: Exception | None = None
    async with anyio.create_task_group() as both:
        both.start_soon(notice)
        try:
            report = await anyio.to_thread.run_sync(
                partial(prepare_database, path, upgrade=upgrade, tell=tell_or_stop)
            )
        except Exception as error:
            failure = error
        both.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return report


def _prepare(connection: sqlite3.Connection, page_cache_mib: int) -> tuple[int, int]:
    """Set what belongs to the connection; return the counts of parked and rejected events."""
    for pragma in (
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
        "wal_autocheckpoint = 0",  # the writer checkpoints between batches, off the ack path
        f"journal_size_limit = {JOURNAL_SIZE_BYTES}",
        f"cache_size = -{page_cache_mib * 1024}",
        "temp_store = MEMORY",
    ):
        connection.execute(f"PRAGMA {pragma}").fetchall()
    parked = connection.execute("SELECT coalesce(SUM(parked), 0) FROM producers").fetchone()[0]
    rejected = connection.execute("SELECT COUNT(*) FROM rejected_events").fetchone()[0]
    return parked, rejected
