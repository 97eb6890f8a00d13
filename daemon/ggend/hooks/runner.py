"""Runner: what looks at committed rows, after the commit and off the ack path.

A hook reads its sources in slices from a watermark and writes in its own transaction. Its
watermark is saved with what it writes, and otherwise only at the end: a crash makes it look again
at rows that it has seen, and the uniqueness of what it writes makes that harmless. Since it can
all be done again, its commits do not wait for the disk.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Sequence

import anyio

from ggend.database.sqlite_errors import TryAgain
from ggend.errors import WriterStopped
from ggend.ingest.store import Store
from ggend.runtime.backoff import Backoff
from ggend.runtime.metrics import Metrics
from ggend.runtime.shutdown import Shutdown

__all__ = ["Commits", "Hook", "run_hooks"]

log = logging.getLogger("ggend.hooks")

#: Rows that a hook looks at in one turn on the writer's thread; a few milliseconds.
SLICE_ROWS = 4_096

#: Seconds before a hook that failed is tried again, doubled each time up to the limit.
RETRY_SECONDS = 0.5
RETRY_MAX_SECONDS = 60.0


class Commits:
    """Says that something was committed. Many commits before a look count as one."""

    def __init__(self) -> None:
        self._event = anyio.Event()
        self._closed = False

    def announce(self) -> None:
        """Something was committed."""
        self._event.set()

    def close(self) -> None:
        """Nothing more will be committed."""
        self._closed = True
        self._event.set()

    async def wait(self) -> bool:
        """Wait for a commit since the last call; False once closed."""
        await self._event.wait()
        if not self._closed:
            self._event = anyio.Event()
        return not self._closed


class Hook:
    """One post-commit hook over one table, read by `id`."""

    def __init__(
        self,
        name: str,
        source: str,
        look: Callable[[sqlite3.Connection, int, int], bool],
        *,
        at_least: int = 1,
    ) -> None:
        self.name = name
        self.source = source
        #: Rows that are worth a turn: what is done once a turn weighs less, the more there are.
        self._at_least = at_least
        #: Looks at the rows after the first and up to the second id; returns whether it wrote.
        self._look = look
        self._watermark: int | None = None
        self._saved = 0
        self._next = _NEXT.format(source=source)
        self._newest = f"SELECT max(id) FROM {source}"  # noqa: S608 - a constant

    @property
    def seen(self) -> int:
        """The newest id that was looked at."""
        return self._watermark or 0

    def turn(self, connection: sqlite3.Connection) -> int:
        """Look at one slice; return about how many rows are left."""
        _, _, rows = self._slice(connection)
        if rows < self._at_least:
            return 0
        connection.execute("PRAGMA synchronous = NORMAL")
        try:
            connection.execute("BEGIN IMMEDIATE")
            after, upto, rows = self._slice(connection)  # somebody may have written meanwhile
            wrote = rows > 0 and self._look(connection, after, upto)
            if wrote:
                connection.execute(_SAVE, (self.name, self.source, upto))
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        finally:
            connection.execute("PRAGMA synchronous = FULL")
        self._watermark = upto
        if wrote:
            self._saved = upto
        if rows < SLICE_ROWS:
            return 0
        return int(connection.execute(self._newest).fetchone()[0] - upto)

    def _slice(self, connection: sqlite3.Connection) -> tuple[int, int, int]:
        """Return where the next slice begins and ends, and how many rows it has."""
        if self._watermark is None or self._watermark == self._saved:
            # Where nothing is unsaved the table is asked: somebody may have put it back.
            row = connection.execute(_LOAD, (self.name, self.source)).fetchone()
            self._watermark = self._saved = 0 if row is None else row[0]
        # Rows are counted, not ids: plain SQL can leave a gap of millions.
        upto, rows = connection.execute(self._next, (self._watermark, SLICE_ROWS)).fetchone()
        return self._watermark, upto or self._watermark, rows

    def save(self, connection: sqlite3.Connection) -> None:
        """Save the watermark if it has moved since."""
        if self._watermark is not None and self._watermark > self._saved:
            connection.execute(_SAVE, (self.name, self.source, self._watermark))
            self._saved = self._watermark


async def run_hooks(
    hooks: Sequence[Hook],
    store: Store,
    commits: Commits,
    metrics: Metrics,
    shutdown: Shutdown,
) -> None:
    """Give every hook its turns after each commit, until `commits` is closed.

    A hook that fails is counted, logged and tried again; ingestion and the other hooks go on.
    What is left when there is no more time to stop in is done after the next start. Raises a
    GgendError when the disk or the database is at fault in a way that no other try mends.
    """
    backoff = Backoff(RETRY_SECONDS, RETRY_MAX_SECONDS)
    is_open = True
    while is_open:
        with anyio.move_on_after(backoff.next_delay() if metrics.hook_errors else None):
            is_open = await commits.wait()
        with anyio.CancelScope() as patience, shutdown.limit(patience):
            for hook in hooks:
                await _catch_up(hook, store, metrics)
        if not metrics.hook_errors:
            backoff.reset()
    for hook in hooks:
        try:
            await store.run(hook.save)
        except (sqlite3.Error, MemoryError) as error:
            why = _tried_again(store, error)
            log.warning("watermark not saved", extra={"hook": hook.name, "error": why})


async def _catch_up(hook: Hook, store: Store, metrics: Metrics) -> None:
    key = f"{hook.name}:{hook.source}"
    try:
        while left := await store.run(hook.turn):
            metrics.hook_lag[key] = left
            metrics.hook_seen[key] = hook.seen
    except (sqlite3.Error, MemoryError) as error:
        why = _tried_again(store, error)
        if metrics.hook_errors.get(key) != str(why):
            is_known = isinstance(why, TryAgain)
            log.warning("hook failed", extra={"hook": key, "error": why}, exc_info=not is_known)
        metrics.hook_errors[key] = str(why)
    else:
        metrics.hook_lag[key] = 0
        metrics.hook_seen[key] = hook.seen
        metrics.hook_errors.pop(key, None)


def _tried_again(store: Store, error: Exception) -> Exception:
    """Return why a hook has to try again. Raises what the process must end with.

    What a hook does can all be done again, so the outcome of its COMMIT need not be known. A
    mistake of its own (WriterStopped, a refused row) is no reason to end either.
    """
    judged = store.judge(error)
    if judged is None:
        return error
    if isinstance(judged, TryAgain | WriterStopped):
        return judged
    raise judged from error


_NEXT = """
    SELECT max(id), count(*)
    FROM (SELECT id FROM {source} NOT INDEXED WHERE id > ? ORDER BY id LIMIT ?)"""
_LOAD = """
    SELECT row_id
    FROM hook_watermarks
    WHERE hook = ?
      AND source = ?"""
_SAVE = """
    INSERT INTO hook_watermarks (hook, source, row_id)
    VALUES (?, ?, ?)
    ON CONFLICT (hook, source) DO UPDATE
    SET row_id = excluded.row_id"""
