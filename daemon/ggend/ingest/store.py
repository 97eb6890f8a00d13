"""Store: the one connection that writes, on the one thread that aiosqlite gives it.

Everything that touches the database goes through `run`, one hop a call; a batch is one call.
Nothing is acknowledged before COMMIT returned with synchronous=FULL. What is done about an error
is never decided here, but in `sqlite_errors`.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import time
from collections.abc import Callable
from typing import TypeAlias, TypeVar

import aiosqlite
import anyio
import anyio.to_thread

from ggend.database.corruption import mark_suspect
from ggend.database.sqlite_errors import TryAgain, judge
from ggend.database.upgrade import Preparation
from ggend.database.wal_keeper import WalKeeper
from ggend.database.wal_readers import Checkpoint
from ggend.errors import (
    DatabaseCorrupt,
    DiskFailed,
    GgendError,
    WriterStopped,
)
from ggend.ingest.intake import Call, Submission
from ggend.ingest.settle import ROW_ERRORS, settle
from ggend.storage.account_totals import AccountTotals
from ggend.storage.writer_state import TakenBack, WriterState
from ggend_schema.timestamps import format_ms

__all__ = ["BUSY_MS", "DURABILITY", "Store", "StoreConnection", "write_a_page"]

log = logging.getLogger("ggend.store")

T = TypeVar("T")

#: Returns what else goes into the transaction that is open.
More: TypeAlias = Callable[[], list[Submission | Call]]

#: What an Ack stands for, as Welcome names it.
DURABILITY = "wal, synchronous=FULL"

#: Milliseconds that SQLite waits for a lock of somebody's plain SQL. Short, since the writer waits
#: and tries again by itself, and says so; a wait in here cannot be told from a disk that hangs.
BUSY_MS = 500

#: Milliseconds that the last checkpoint waits for readers.
_READERS_MS = 2_000


class StoreConnection(aiosqlite.Connection):
    """aiosqlite with its queue of calls open to whole transactions (docs/adr/0004).

    The public methods take one statement a hop, and a hop costs as much as many rows.
    """

    async def run(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """Call a function with the connection, on its thread."""
        result: T = await self._execute(function, self._conn)  # type: ignore[no-untyped-call]
        return result

    def join(self) -> None:
        """Wait for the thread to end."""
        self._thread.join()


class Store:
    """The database as the writer sees it."""

    def __init__(
        self,
        connection: StoreConnection,
        keeper: WalKeeper,
        report: Preparation,
        state: WriterState,
    ) -> None:
        self._connection = connection
        self._keeper = keeper
        self._state = state
        self.path = keeper.path
        self.report = report
        #: How far the last checkpoint came, for whoever watches the WAL.
        self.last_checkpoint: Checkpoint | None = None
        #: When the call began that the writer's thread is in (monotonic seconds), for whoever
        #: wants to know whether it still returns; None between calls.
        self.in_call_since: float | None = None
        #: Whether a row took the transaction of the last batch with it.
        self.was_taken_back = False

    @property
    def parked(self) -> int:
        """Events that wait for their parent."""
        return self._state.parking.count

    @property
    def totals(self) -> AccountTotals:
        """The sums of all accounts, as of the last commit."""
        return self._state.totals

    @property
    def noted_releases(self) -> int:
        """How often a parent was noted for which more waits than went with it. It only grows."""
        return self._state.parking.noted

    async def run(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """Run a function on the writer's thread, in turn, to its end even if cancelled."""

        def timed(connection: sqlite3.Connection) -> T:
            self.in_call_since = time.monotonic()
            try:
                return function(connection)
            finally:
                self.in_call_since = None

        with anyio.CancelScope(shield=True):
            result = await self._connection.run(timed)
        return result  # noqa: RET504 - mypy takes the scope for one that swallows errors

    async def commit(self, batch: list[Submission | Call], more: More = list) -> list[object]:
        """Settle a batch in one transaction; return the results when they are durable.

        `more` is asked on the writer's thread for what else goes into the transaction while it is
        open, until it has nothing; that is appended to the batch. Raises TryAgain when nothing was
        committed and the same batch may succeed later, and else a GgendError with which the process
        must end.
        """
        # The thread keeps its last call until the next one: it must not keep the events with it.
        once = [batch]
        return await self.run(lambda connection: self._commit(connection, once.pop(), more))

    def judge(
        self, error: BaseException, *, committing: bool = False
    ) -> GgendError | TryAgain | None:
        """Return what to raise instead of an error of the database; None for other errors.

        Damage is remembered in a file, so that the next start looks at every page.
        """
        judged = judge(error, committing=committing)
        if isinstance(judged, DatabaseCorrupt):
            mark_suspect(self.path, str(judged))
        return judged

    async def checkpoint(
        self, mode: str = "PASSIVE", *, patience_ms: int = _READERS_MS, is_last: bool = False
    ) -> None:
        """Move committed pages from the WAL into the database file, as far as that goes now.

        Where it had no room or no lock, nothing is lost: the pages stay in the WAL until the next
        one. Raises what `judge` makes of other errors: after a failed sync a second one would say
        that the pages are in the file, and the WAL would be written over.
        `patience_ms` is how long TRUNCATE waits for readers; PASSIVE waits for nobody. The last one
        begins no new WAL.
        """

        def checkpoint(connection: sqlite3.Connection) -> Checkpoint:
            connection.execute(f"PRAGMA busy_timeout = {patience_ms}").fetchall()
            try:
                return self._keeper.checkpoint(connection, mode, is_last=is_last)
            finally:
                connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}").fetchall()

        try:
            self.last_checkpoint = await self.run(checkpoint)
        except (sqlite3.Error, TryAgain) as error:
            judged = error if isinstance(error, TryAgain) else self.judge(error)
            if not isinstance(judged, TryAgain):
                raise (judged or error) from error
            log.warning("checkpoint failed", extra={"error": judged})

    def _commit(
        self, connection: sqlite3.Connection, batch: list[Submission | Call], more: More = list
    ) -> list[object]:
        self._keeper.look()
        try:
            with contextlib.suppress(*ROW_ERRORS, TakenBack):
                return self._transaction(connection, batch, more, isolate=False)
            while True:
                self.in_call_since = time.monotonic()  # each try shows that the disk answers
                with contextlib.suppress(TakenBack):
                    return self._transaction(connection, batch, isolate=True)
        except ROW_ERRORS as error:
            raise WriterStopped(
                f"SQLite rejected one of ggend's own bookkeeping rows: {error}",
                hint="no event of the batch was acknowledged; `ggend check` shows more",
            ) from error
        finally:
            self.was_taken_back = bool(self._state.refusals)
            self._state.refusals.clear()

    def _transaction(
        self,
        connection: sqlite3.Connection,
        batch: list[Submission | Call],
        more: More = list,
        *,
        isolate: bool,
    ) -> list[object]:
        state = self._state
        snapshot = state.snapshot()
        now = format_ms(time.time_ns() // 1_000_000)
        committing = False
        try:
            connection.execute("BEGIN IMMEDIATE")
            begun = len(batch)
            room = state.parking.room()
            results = settle(connection, state, batch, now=now, isolate=isolate, room=room)
            while late := more():
                position = len(batch)
                batch += late  # also for another try, should this one fail
                results += settle(
                    connection,
                    state,
                    late,
                    now=now,
                    isolate=isolate,
                    room=room,
                    position=position,
                )
            if len(batch) > begun:  # what was taken in late may have been sent after the first look
                self._keeper.look(in_transaction=True)
            committing = True
            connection.execute("COMMIT")
        except BaseException as error:
            judged = self.judge(error, committing=committing)
            state.rollback(snapshot)
            if connection.in_transaction:
                _roll_back(connection, judged)
            if judged is not None:
                raise judged from error
            raise
        state.totals.read(connection)
        return results


def _roll_back(connection: sqlite3.Connection, why: GgendError | TryAgain | None) -> None:
    try:
        connection.execute("ROLLBACK")
    except (sqlite3.Error, MemoryError) as error:
        if isinstance(why, GgendError):
            return  # it ends anyway, and the first error says more
        raise DiskFailed(
            f"the transaction cannot be rolled back: {error}",
            hint="no event of the batch was acknowledged; clients send it again",
        ) from error


def write_a_page(connection: sqlite3.Connection, _state: WriterState) -> None:
    """Write `user_version` as it is: equal bytes of a row would not be written, this page is."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    connection.execute(f"PRAGMA user_version = {version}")
