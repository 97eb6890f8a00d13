"""Requeue: processes rejected events again, or deletes them, and updates the accounts.

An event is processed like a new one, with its original stamp, producer and sequence. In one
transaction its row leaves `rejected_events` and its count leaves `rejected`; if it is rejected
again, it stays, with the new reason. The outcome of an event that is no longer in quarantine is
`gone`: nothing is stored twice.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec
from msgspec import Struct

from ggend.ingest.outcomes import Item, RequeuedOutcome
from ggend.ingest.releases import release_slice
from ggend.ingest.settle import ROW_ERRORS, settle_again
from ggend.maintenance.offline import open_offline
from ggend.storage.writer_state import WriterState
from ggend_schema.codec import decode_event, decode_line
from ggend_schema.codes import EventCode
from ggend_schema.errors import InvalidEvent
from ggend_schema.rows import row_of

__all__ = [
    "REQUEUED_IDS",
    "Requeued",
    "purge_rejected",
    "purge_rejected_file",
    "requeue",
    "requeue_file",
]

#: Maximum events of one request. Each is settled alone, which takes some 0.1 ms: a batch that
#: arrives meanwhile waits that long.
REQUEUED_IDS = 500


Outcome: TypeAlias = Literal["stored", "duplicate", "superseded", "parked", "rejected"]


class Requeued(Struct, frozen=True):
    """The outcome of one rejected event; `code` and `message` are set if it is rejected again."""

    id: int
    outcome: Outcome | Literal["gone", "not_kept"]
    code: EventCode | None = None
    message: str | None = None


def requeue_file(path: Path, ids: Sequence[int]) -> list[Requeued]:
    """Requeue in a database that no daemon has open.

    Raises AlreadyRunning, DatabaseUnusable, sqlite3.Error.
    """
    done: list[Requeued] = []
    with open_offline(path) as offline:
        for first in range(0, len(ids), REQUEUED_IDS):
            some = ids[first : first + REQUEUED_IDS]
            done += offline.run(partial(requeue, ids=some))
        if offline.state.parking.noted:
            # The next daemon tries events again that could not be released.
            with contextlib.suppress(*ROW_ERRORS):
                while not offline.run(release_slice):
                    pass
    return done


def purge_rejected_file(path: Path, ids: Sequence[int]) -> int:
    """Delete rejected events of a database that no daemon has open; return how many.

    Raises AlreadyRunning, DatabaseUnusable, sqlite3.Error.
    """
    deleted = 0
    with open_offline(path) as offline:
        for first in range(0, len(ids), REQUEUED_IDS):
            with offline.transaction():
                deleted += purge_rejected(
                    offline.connection, offline.state, ids[first : first + REQUEUED_IDS]
                )
    return deleted


def requeue(
    connection: sqlite3.Connection, state: WriterState, ids: Sequence[int]
) -> list[Requeued]:
    """Process rejected events again, in the open transaction and in the order of `ids`."""
    wanted = list(dict.fromkeys(ids))
    items: dict[int, Item] = {}
    recorders: dict[int, RequeuedOutcome] = {}
    kept: dict[int, tuple[int, int, int]] = {}
    done: dict[int, Requeued] = {}
    for rejected_id in wanted:
        row = connection.execute(_REJECTED, (rejected_id,)).fetchone()
        if row is None:
            done[rejected_id] = Requeued(rejected_id, "gone")
            continue
        account_id, came_under, producer, sequence, encoding, stamp_ns, size, encoded = row
        if encoded is None:
            done[rejected_id] = Requeued(rejected_id, "not_kept")
            continue
        recorder = RequeuedOutcome(state, account_id, producer, rejected_id)
        recorders[rejected_id] = recorder
        kept[rejected_id] = account_id, came_under, size
        try:
            event = decode_event(encoded) if encoding == "msgpack" else decode_line(encoded)
            row = row_of(event, stamp_ns)
            items[rejected_id] = Item(recorder, sequence, event, stamp_ns, row)
        except InvalidEvent as error:
            recorder.outcome = "rejected"
            recorder.code, recorder.message = error.code, error.message
    # Until its outcome is known, an event counts as parked: its account is not folded meanwhile,
    # even if it releases the last event that a finished producer had waiting.
    for account_id, _, _ in kept.values():
        state.accounts.requeue(connection, account_id, "parked")
    settle_again(connection, state, list(items.values()))
    for rejected_id, recorder in recorders.items():
        done[rejected_id] = Requeued(rejected_id, recorder.outcome, recorder.code, recorder.message)
        account_id, came_under, size = kept[rejected_id]
        _count(connection, state, account_id, recorder.outcome)
        if recorder.outcome == "rejected":
            connection.execute(_REJECT_AGAIN, (recorder.code, recorder.message, rejected_id))
        else:
            connection.execute(_DELETE, (rejected_id,))
            state.quarantine.leave(1, size)
            state.accounts.accept_requeued(connection, recorder.producer, came_under)
    state.accounts.save(connection)
    return [done[rejected_id] for rejected_id in wanted]


def _count(
    connection: sqlite3.Connection, state: WriterState, account_id: int, outcome: Outcome
) -> None:
    """Move a count from `parked`, where it was during processing, to the event's outcome."""
    release = state.accounts.release
    if outcome == "stored":
        release(account_id, stored=1)
    elif outcome == "duplicate":
        release(account_id, duplicate=1)
    elif outcome == "rejected":
        release(account_id, rejected=1)
    elif outcome == "superseded":
        connection.execute(_SUPERSEDE, (account_id,))
        release(account_id)  # nothing more to count, but it may be done now


def purge_rejected(connection: sqlite3.Connection, state: WriterState, ids: Sequence[int]) -> int:
    """Delete rejected events, in the open transaction; return how many there were."""
    purged: Counter[int | None] = Counter()
    size = 0
    rows = connection.execute(_PURGE, (msgspec.json.encode(ids).decode(),)).fetchall()
    for account_id, kept_bytes in rows:
        purged[account_id] += 1
        size += kept_bytes
    state.accounts.purge(connection, purged)
    state.quarantine.leave(len(rows), size)
    return len(rows)


#: The account of a producer that is done is the folded total.
_REJECTED = """
    SELECT
        coalesce(p.id, (
            SELECT id
            FROM producers
            WHERE kind = 'folded'
              AND kind <> 'producer')), -- lets the partial index serve
        r.account_id, r.producer, r.sequence, r.encoding, r.stamp_ns, r.size_bytes, r.event
    FROM rejected_events AS r
    LEFT JOIN producers AS p ON p.id = r.account_id
    WHERE r.id = ?"""
_REJECT_AGAIN = """
    UPDATE rejected_events
    SET code = ?,
        message = ?
    WHERE id = ?"""
_SUPERSEDE = """
    UPDATE producers
    SET parked = parked - 1,
        superseded = superseded + 1
    WHERE id = ?"""
_DELETE = """
    DELETE FROM rejected_events
    WHERE id = ?"""
_PURGE = """
    DELETE FROM rejected_events
    WHERE id IN (SELECT value FROM json_each(?))
    RETURNING account_id, CASE WHEN event IS NULL THEN 0 ELSE size_bytes END"""
