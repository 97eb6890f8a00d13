"""Writer: takes what waits in the intake, commits it as one transaction, tells who sent it.

Natural batching: there is no timer. Alone, an event commits at once; while a batch is on its way
to the disk, the next one gathers. A batch is never dropped: what the disk refuses for now is tried
again, and the sockets fill up meanwhile.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

import anyio

from ggend.database.sqlite_errors import DiskFull, TryAgain
from ggend.errors import NoRoom
from ggend.ingest.gathering import Gathering, Pace
from ggend.ingest.intake import Call, Intake, Outcome, Submission
from ggend.ingest.store import Store, write_a_page
from ggend.runtime.backoff import Backoff
from ggend.runtime.metrics import Metrics
from ggend.runtime.shutdown import Shutdown

__all__ = ["run_writer"]

log = logging.getLogger("ggend.writer")

#: Seconds before a batch is tried again while the disk is full or somebody else has the database
#: locked, doubled each time up to the limit: as late as that it notices that there is room again.
RETRY_SECONDS = 0.1
RETRY_MAX_SECONDS = 5.0

#: While nothing waits, a checkpoint is due after this share of the usual number of events. It is
#: short then, and in nobody's way: the slowest of 300 batches of 100 events took 15 ms instead of
#: 48 (docs/PERFORMANCE.md). Under load, fewer and longer checkpoints write fewer pages.
IDLE_SHARE = 10

#: Events in one batch after a row took the transaction with it (`RAISE(ROLLBACK)` in a trigger of
#: somebody); twice as many after each batch without. Each such row has the whole batch begun again:
#: 2,000 of them in one batch took 12 s, in batches of 250 they take 1 s.
CAREFUL_EVENTS = 256


async def run_writer(
    intake: Intake,
    store: Store,
    metrics: Metrics,
    committed: Callable[[], None],
    shutdown: Shutdown,
    *,
    batch_events: int,
    checkpoint_events: int,
) -> None:
    """Commit batches until the intake is closed and empty.

    When there is no more time to stop in, a batch that the disk still refuses is left to those who
    sent it: it was not acked. Raises a GgendError when it cannot go on at all.
    """
    since_checkpoint = 0
    most = batch_events
    pace = Pace()
    while (first := await intake.take(pace.slice_events(most))).items:
        began = time.perf_counter()
        batch, gathering = first.items, Gathering(intake, pace, first, most)
        results = await _commit(store, batch, gathering, intake, metrics, shutdown)
        intake.make_room()
        if results is None:
            log.error("stopped without storing waiting events", extra={"error": metrics.trouble})
            return
        most = min(batch_events, CAREFUL_EVENTS if store.was_taken_back else 2 * most)
        events = _deliver(batch, results)
        metrics.stored = store.totals.since_start["stored"]
        seconds = time.perf_counter() - began
        metrics.count_commit(events, seconds)
        log.debug("committed", extra={"events": events, "ms": round(seconds * 1000, 3)})
        committed()
        # One more, since a commit that changes no row writes a page all the same.
        since_checkpoint += (
            1 + events + sum(item.changed_rows for item in batch if isinstance(item, Call))
        )
        # While nothing comes, it would keep the last batch alive.
        del first, batch, gathering, results
        due = checkpoint_events if intake.events else checkpoint_events // IDLE_SHARE
        if since_checkpoint > due:
            since_checkpoint = 0
            await store.checkpoint()


async def _commit(
    store: Store,
    batch: list[Submission | Call],
    gathering: Gathering,
    intake: Intake,
    metrics: Metrics,
    shutdown: Shutdown,
) -> list[object] | None:
    """Commit a batch; try again while there is no room. None: there is no more time to.

    Requests do not wait for room: they are answered, and leave the batch.
    """
    backoff = Backoff(RETRY_SECONDS, RETRY_MAX_SECONDS)
    while True:
        try:
            results = await store.commit(batch, gathering.more)
        except TryAgain as error:
            if metrics.trouble is None:
                log.warning("cannot write to the database, retrying", extra={"error": error})
            metrics.trouble = str(error)
            if isinstance(error, DiskFull):
                requests = [item for item in batch if isinstance(item, Call) and not item.waits]
                batch[:] = [item for item in batch if item not in requests]
                await _answer_without_room(store, [*requests, *intake.take_requests()])
                if not batch:  # whether there is room for anything is to be known all the same
                    batch.append(Call(write_a_page, lambda *_: None, lambda *_: None))
            with anyio.CancelScope() as patience, shutdown.limit(patience):
                await anyio.sleep(backoff.next_delay())
            if patience.cancelled_caught:
                return None
        else:
            if metrics.trouble is not None:
                log.info("writing to the database works again")
                metrics.trouble = None
            return results


async def _answer_without_room(store: Store, requests: Sequence[Call]) -> None:
    """Try each request alone: once its pages are in the file, the WAL is written over.

    So what deletes rows may work where nothing can grow. What has no room is told so.
    """
    for request in requests:
        await store.checkpoint()
        try:
            (result,) = await store.commit([request])
        except TryAgain as error:
            result = NoRoom(f"{error}; nothing was changed")
        _deliver_result(request, result)


def _deliver_result(call: Call, result: object) -> None:
    if isinstance(result, Exception):
        call.failed(call, result)
    else:
        call.done(call, result)


def _deliver(batch: Sequence[Submission | Call], results: list[object]) -> int:
    events = 0
    for item, result in zip(batch, results, strict=True):
        if isinstance(item, Call):
            _deliver_result(item, result)
        elif isinstance(result, Outcome):
            events += len(item.entries)
            item.done(item, result)
    return events
