"""Open store: opens the database for the writer, and closes it with its WAL emptied.

Before SQLite opens anything, the WAL is checked to belong to the file; then the file is brought up
to date, and read into the writer's state.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread

from ggend.database.corruption import is_ours, is_sound, set_aside
from ggend.database.migrate import cannot_open
from ggend.database.upgrade import Preparation, Step, Tell, prepare_database
from ggend.database.wal_keeper import keep_wal
from ggend.errors import DatabaseCorrupt
from ggend.ingest.store import BUSY_MS, Store, StoreConnection
from ggend.storage.writer_state import Bounds, WriterState, open_writer_state

__all__ = ["JOURNAL_SIZE_BYTES", "open_store"]

log = logging.getLogger("ggend.store")

#: Bytes to which a WAL is cut back after it was larger. A reader that pins it can make it grow.
JOURNAL_SIZE_BYTES = 64 * 1024 * 1024

#: Statements kept prepared: five block sizes for six tables, and all the others.
_STATEMENTS = 256


@contextlib.asynccontextmanager
async def open_store(
    path: Path,
    *,
    upgrade: bool = True,
    set_aside_corrupt: bool = False,
    tell: Tell = lambda _: None,
    page_cache_mib: int,
    bounds: Bounds,
) -> AsyncIterator[Store]:
    """Open the database, created if missing, and close it with its WAL emptied.

    One of an older version is brought up to date if `upgrade` allows it, and a damaged one renamed
    if `set_aside_corrupt` does; `tell` is told how far that is. Raises DatabaseUnusable.
    """
    with keep_wal(path) as keeper:

        async def opened() -> tuple[StoreConnection, Preparation, WriterState]:
            report = await _prepare_file(path, upgrade=upgrade, tell=tell)
            keeper.attach(report.database_id)
            return await _connect(path, report, page_cache_mib, bounds)

        try:
            connection, report, state = await opened()
        except DatabaseCorrupt as error:
            if not (set_aside_corrupt and await anyio.to_thread.run_sync(is_ours, path)):
                raise
            if await anyio.to_thread.run_sync(is_sound, path):
                raise  # the next start will see
            aside = await anyio.to_thread.run_sync(set_aside, path)
            log.error("set a damaged database aside", extra={"why": error, "to": aside})  # noqa: TRY400
            keeper.expect_changes()
            connection, report, state = await opened()
        try:
            store = Store(connection, keeper, report, state)
            # What recovery found in the WAL may be in the kernel's memory alone, if a sync has
            # failed: moving it writes it again, before what clients send again is acked as
            # replayed.
            await store.checkpoint()
            yield store
            with contextlib.suppress(sqlite3.Error):  # what waits lives longer then, no shorter
                await store.run(state.seen.save)
            await store.checkpoint("TRUNCATE", is_last=True)
        finally:
            await connection.close()


async def _connect(
    path: Path, report: Preparation, page_cache_mib: int, bounds: Bounds
) -> tuple[StoreConnection, Preparation, WriterState]:
    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(path, isolation_level=None, cached_statements=_STATEMENTS)
        connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
        return connection

    def prepare(connection: sqlite3.Connection) -> WriterState:
        _prepare(connection, page_cache_mib)
        return open_writer_state(connection, bounds, report.version)

    connection = StoreConnection(connect, iter_chunk_size=64)
    try:
        await connection
        return connection, report, await connection.run(prepare)
    except BaseException as error:
        await connection.close()
        # The thread that failed to open it still has a word to say to the event loop.
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(connection.join)
        if isinstance(error, sqlite3.Error):
            raise cannot_open(path, error) from error
        raise


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


def _prepare(connection: sqlite3.Connection, page_cache_mib: int) -> None:
    """Set what belongs to the connection."""
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
