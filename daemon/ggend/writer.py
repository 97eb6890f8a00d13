"""Writer: takes what waits in the intake, commits it as one transaction, tells who sent it.

Natural batching: there is no timer. Alone, an event commits at once; while a batch is on its way
to the disk, the next one gathers. A batch is never dropped: what the disk refuses for now is tried
again, and the sockets fill up meanwhile.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Sequence

import anyio

from ggend.intake import Call, Intake, Outcome, Submission
from ggend.metrics import Metrics
from ggend.store import Store

__all__ = ["run_writer"]

log = logging.getLogger("ggend.writer")

#: Seconds between tries while the disk is full or the database is locked by somebody else.
RETRY_SECONDS = 0.5

#: While nothing waits, a checkpoint is due after this share of the usual number of events. It is
#: short then, and in nobody's way: the slowest of 300 batches of 100 events took 15 ms instead of
#: 48 (docs/PERFORMANCE.md). Under load, fewer and longer checkpoints write fewer pages.
IDLE_SHARE = 10

#: SQLite result codes after which nothing is committed and the same batch may succeed later.
_RETRIED = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL}


async def run_writer(
    intake: Intake,
    store: Store,
    metrics: Metrics,
    committed: Callable[[], None],
    *,
    batch_events: int,
    checkpoint_events: int,
) -> None:
    """Commit batches until the intake is closed and empty.

    Raises CommitUnknown or sqlite3.Error when it cannot go on; nothing of that batch was acked.
    """
    since_checkpoint = 0
    while batch := await intake.take(batch_events):
        began = time.perf_counter()
        results = await _commit(store, batch, metrics)
        events = _tell(batch, results, metrics)
        seconds = time.perf_counter() - began
        metrics.count_commit(events, seconds)
        log.debug("committed", extra={"events": events, "ms": round(seconds * 1000, 3)})
        committed()
        since_checkpoint += events + sum(
            item.changed_rows for item in batch if isinstance(item, Call)
        )
        due = checkpoint_events if intake.events else checkpoint_events // IDLE_SHARE
        if since_checkpoint > due:
            since_checkpoint = 0
            await store.checkpoint()


async def _commit(
    store: Store, batch: Sequence[Submission | Call], metrics: Metrics
) -> list[object]:
    while True:
        try:
            results = await store.commit(batch)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in _RETRIED:
                raise
            if metrics.trouble is None:
                log.warning("cannot write, trying again", extra={"error": error})
            metrics.trouble = str(error)
            await anyio.sleep(RETRY_SECONDS)
        else:
            if metrics.trouble is not None:
                log.info("writing again")
                metrics.trouble = None
            return results


def _tell(batch: Sequence[Submission | Call], results: list[object], metrics: Metrics) -> int:
    events = 0
    counts = metrics.events
    for item, result in zip(batch, results, strict=True):
        if isinstance(item, Call):
            if isinstance(result, Exception):
                item.failed(item, result)
            else:
                item.done(item, result)
        elif isinstance(result, Outcome):
            counts["stored"] += result.stored
            counts["replayed"] += result.replayed
            counts["duplicate"] += result.duplicate
            counts["superseded"] += result.superseded
            counts["parked"] += result.parked
            counts["rejected"] += result.rejected
            events += len(item.entries)
            item.done(item, result)
    return events
