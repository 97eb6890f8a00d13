"""Settle: one batch of submissions into rows, inside one transaction.

Parents first: sessions, receipts, then what points at them; an event whose parent is not there
is parked, and a parent that arrives releases what waits for it. Every number of the batch ends
as stored, duplicate, superseded, parked, rejected, lost or replayed, and the accounts say so in
the same transaction. Runs on the writer's thread and never commits.

A batch that the database refuses is rolled back by the caller and settled again with
`isolate=True`: then each row stands alone, and the refused ones are rejected. Where the database
takes back the whole transaction instead of one row (`RAISE(ROLLBACK)` in somebody's trigger), the
refusal is noted in the writer state, and TakenBack is raised: the caller begins again, and what is
noted is rejected without another try. So there is one more try for each refused row at most.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from typing import TypeAlias

from ggend.ingest.equal_rows import ContentKey, content_key, content_keys, is_stored
from ggend.ingest.intake import Call, Outcome, Rejection, Submission
from ggend.ingest.outcomes import FreshOutcomes, Item, ReleasedOutcomes
from ggend.storage.accounts import NotYours
from ggend.storage.memories import OrderKey, order_keys, save_memories
from ggend.storage.parking import Parent, Parked, Room
from ggend.storage.sessions import count_late_receipts, end_session
from ggend.storage.tables import AUDITS, COLLISIONS, METRICS, RECEIPTS, SESSIONS, Table
from ggend.storage.writer_state import TakenBack, WriterState
from ggend_schema.codes import EventCode
from ggend_schema.events import (
    Audit,
    Collision,
    Event,
    MemorySaved,
    ReceiptEmitted,
    SessionEnded,
    SessionStarted,
    StageCompleted,
)
from ggend_schema.limits import MESSAGE_CHARS
from ggend_schema.rows import Row, like_json, row_of

__all__ = ["ROW_ERRORS", "settle", "settle_again", "settle_released"]

#: Makes of a stored row what tells whether another has the same content.
Like: TypeAlias = Callable[[Row], Callable[[Row], bool]]

#: What SQLite and its Python binding raise when one row is at fault, not the disk.
ROW_ERRORS = (
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    OverflowError,
)


def settle(
    connection: sqlite3.Connection,
    state: WriterState,
    batch: Sequence[Submission | Call],
    *,
    now: str,
    isolate: bool,
    room: Room,
    position: int = 0,
) -> list[object]:
    """Settle a batch; return for each submission its Outcome, for each call its result or error.

    `room` is what the transaction may release yet, `position` how many items were settled in it
    before.
    """
    state.accounts.now = state.quarantine.now = now
    settlement = _Settlement(connection, state, isolate=isolate, room=room)
    results: list[object] = [
        settlement.admit(item, place) if isinstance(item, Submission) else None
        for place, item in enumerate(batch, position)
    ]
    settlement.write()
    for index, item in enumerate(batch):
        if isinstance(item, Call):
            place = position + index
            if (refusal := state.refusals.get(place)) is not None:
                results[index] = refusal
                continue
            connection.execute("SAVEPOINT call")
            before = connection.total_changes
            snapshot = state.snapshot()
            try:
                results[index] = item.run(connection, state)
            except (NotYours, LookupError, ValueError, RecursionError, *ROW_ERRORS) as error:
                if not connection.in_transaction:
                    state.refusals[place] = error
                    raise TakenBack from error
                connection.execute("ROLLBACK TO call")
                state.rollback(snapshot)
                results[index] = error
            finally:
                _release(connection, "call")
            item.changed_rows = connection.total_changes - before
    return results


def settle_again(connection: sqlite3.Connection, state: WriterState, items: Sequence[Item]) -> None:
    """Settle events that have long had their numbers, each alone; their recorders tell."""
    settlement = _Settlement(connection, state, isolate=True)
    settlement.take(items)
    settlement.write()


def settle_released(
    connection: sqlite3.Connection, state: WriterState, released: Sequence[Parked], *, isolate: bool
) -> None:
    """Settle events that have waited for a parent which is there."""
    settlement = _Settlement(connection, state, isolate=isolate)
    settlement.take_in(released)
    settlement.write()


class _Settlement:
    """One batch, sorted by table."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        state: WriterState,
        *,
        isolate: bool,
        room: Room | None = None,
    ) -> None:
        self._connection = connection
        self._state = state
        self._isolate = isolate
        self._recorders: list[FreshOutcomes] = []
        self._content_keys: set[ContentKey] = set()
        self._looked_at: dict[type[Event], int] = {}
        self._room = room or state.parking.room()
        #: Refused in an earlier try. Told at the end: of many tries only the last comes so far.
        self._known: list[tuple[Item, str, Exception]] = []
        self._items: dict[type[Event | Rejection], list[Item]] = {
            kind: []
            for kind in (
                Rejection,
                SessionStarted,
                ReceiptEmitted,
                StageCompleted,
                Collision,
                SessionEnded,
                MemorySaved,
                Audit,
            )
        }

    def admit(self, submission: Submission, position: int) -> Outcome:
        """Recognise what is settled already, and sort the rest by table.

        `position` is where the submission stands in the batch.
        """
        try:
            account = self._state.accounts.of(self._connection, submission.sender)
        except NotYours:
            outcome = Outcome()
            outcome.failure = EventCode.NOT_YOURS
            return outcome
        recorder = FreshOutcomes(self._state, account, submission.sender, position)
        outcome = recorder.outcome
        expected = account.last_sequence + 1
        first = submission.first_sequence or expected
        outcome.first_sequence = first
        outcome.last_sequence = account.last_sequence
        if first - submission.lost > expected:
            outcome.failure = EventCode.GAP
            return outcome
        entries = submission.entries
        settled = max(0, min(expected - first, len(entries)))
        account.shed = max(account.shed, submission.shed)
        account.lost += max(0, first - expected)
        outcome.replayed = settled
        outcome.stored = len(entries) - settled
        account.last_sequence = max(account.last_sequence, first + len(entries) - 1)
        outcome.last_sequence = account.last_sequence
        items = self._items
        sequence = first + settled
        fresh = islice(entries, settled, None) if settled else entries
        others: set[ContentKey] = set()
        if account.rival is not None:
            outcome.imported_by = account.rival
            others = self._keys_so_far()
        for event, stamp_ns, row in fresh:
            if account.rival is not None and (
                content_key(event, row) in others or is_stored(self._connection, event, row)
            ):
                recorder.count_duplicate()
            else:
                items[type(event)].append(Item(recorder, sequence, event, stamp_ns, row))
            sequence += 1
        self._recorders.append(recorder)
        return outcome

    def _keys_so_far(self) -> set[ContentKey]:
        """Return what others bring in the same batch of what has no identity."""
        for kind in (StageCompleted, Collision, Audit):
            items = self._items[kind]
            for item in items[self._looked_at.get(kind, 0) :]:
                self._content_keys.update(content_keys(item.event, item.row))
            self._looked_at[kind] = len(items)
        return self._content_keys

    def take(self, items: Sequence[Item]) -> None:
        """Sort what needs no recognising by table."""
        for item in items:
            self._items[type(item.event)].append(item)

    def write(self) -> None:
        """Write every table, parents first, then the accounts."""
        items = self._items
        for item in items[Rejection]:
            item.recorder.reject(item, item.event.code, item.event.message)
        sessions = SESSIONS.existing(
            self._connection,
            _ids(items[SessionStarted], items[Collision], items[SessionEnded]),
        )
        self._write_parents(SessionStarted, SESSIONS, sessions, "session", _like_session)
        receipts = RECEIPTS.existing(
            self._connection, _ids(items[ReceiptEmitted], items[StageCompleted])
        )
        self._write_parents(ReceiptEmitted, RECEIPTS, receipts, "receipt", _like_receipt)
        self._park_orphans(StageCompleted, "receipt", receipts)
        self._park_orphans(Collision, "session", sessions)
        self._park_orphans(SessionEnded, "session", sessions)
        self._insert(METRICS, items[StageCompleted])
        self._insert(COLLISIONS, items[Collision])
        for item in items[SessionEnded]:
            self._guarded([item], "workflow_sessions", partial(self._end_session, item))
        for group in self._groups(MemorySaved):
            self._guarded(group, "agent_memory", partial(self._write_memories, group))
        self._insert(AUDITS, items[Audit])
        for refused in self._known:
            _refuse(*refused)
        self._state.parking.save(self._connection)
        self._state.quarantine.save(self._connection)
        for recorder in self._recorders:
            recorder.close()
        self._state.accounts.save(self._connection)

    def _groups(self, kind: type[Event]) -> Sequence[Sequence[Item]]:
        """All events of a type at once; when isolating, each alone."""
        items = self._items[kind]
        if self._isolate:
            return [[item] for item in items]
        return [items] if items else []

    def _guarded(self, items: Sequence[Item], where: str, write: Callable[[], None]) -> bool:
        """Write; when isolating, reject what is refused. Return whether it was written."""
        if not self._isolate:
            write()
            return True
        (item,) = items
        key = item.recorder.key(item)
        known = self._state.refusals.get(key)
        if known is not None:
            self._known.append((item, where, known))
            return False
        self._connection.execute("SAVEPOINT alone")
        try:
            write()
        except ROW_ERRORS as error:
            if not self._connection.in_transaction:
                self._state.refusals[key] = error
                raise TakenBack from error
            self._connection.execute("ROLLBACK TO alone")
            _refuse(item, where, error)
            return False
        finally:
            _release(self._connection, "alone")
        return True

    def _insert(self, table: Table, items: Sequence[Item]) -> None:
        for group in [[item] for item in items] if self._isolate else [items]:
            rows = [item.row for item in group]
            self._guarded(group, table.name, partial(table.insert, self._connection, rows))

    def _write_parents(
        self, kind: type[Event], table: Table, known: set[str], parent: Parent, like: Like
    ) -> None:
        """Store parents, and compare those whose id is there already with what is stored."""
        repeated: list[Item] = []
        for group in self._groups(kind):
            repeated += self._write_fresh(group, table, known, parent)
        # All at once, also when isolating: a stored row may be large, and many name the same.
        if repeated:
            self._compare(table, repeated, like)

    def _write_fresh(
        self, items: Sequence[Item], table: Table, known: set[str], parent: Parent
    ) -> list[Item]:
        """Store fresh parents once each, add them to `known`, and release what waits for them.

        Returns those that are not fresh.
        """
        first: dict[str, Item] = {}
        repeated = [
            item
            for item in items
            if item.row[0] in known or first.setdefault(item.row[0], item) is not item
        ]
        rows = [item.row for item in first.values()]
        released: list[Parked] = []

        def write() -> None:
            """With what it does elsewhere: somebody's trigger may refuse that, too."""
            table.insert(self._connection, rows)
            if table is RECEIPTS:
                count_late_receipts(self._connection, rows)
            released.extend(
                self._state.parking.release(self._connection, parent, first, self._room)
            )

        if rows and self._guarded(list(first.values()), table.name, write):
            known.update(first)
            self.take_in(released)
        return repeated

    def take_in(self, waited: Sequence[Parked]) -> None:
        """Take in what waited for a parent, before what came in this batch."""
        released: dict[type[Event], list[Item]] = {}
        for parked in waited:
            recorder = ReleasedOutcomes(self._connection, self._state, parked.account_id)
            row = row_of(parked.event, parked.stamp_ns)
            released.setdefault(type(parked.event), []).append(
                Item(recorder, parked.sequence, parked.event, parked.stamp_ns, row)
            )
        for kind, items in released.items():
            self._items[kind][:0] = items

    def _compare(self, table: Table, items: Sequence[Item], like: Like) -> None:
        """Tell duplicates from conflicts among events whose id is stored."""
        places: dict[str, list[int]] = {}
        for place, item in enumerate(items):
            places.setdefault(item.row[0], []).append(place)
        duplicates: set[int] = set()
        for row in table.stored(self._connection, places):
            is_like = like(row)
            duplicates.update(place for place in places[row[0]] if is_like(items[place].row))
        for place, item in enumerate(items):
            if place in duplicates:
                item.recorder.count_duplicate()
            else:
                item.recorder.reject(
                    item,
                    EventCode.CONFLICT,
                    f"{item.row[0]!r} is already in {table.name} with different content; "
                    "the stored row is kept",
                )

    def _park_orphans(self, kind: type[Event], parent: Parent, known: set[str]) -> None:
        """Park the events whose parent is not there, and keep the others."""
        items = self._items[kind]
        orphans = [item for item in items if item.row[0] not in known]
        if orphans:
            self._items[kind] = [item for item in items if item.row[0] in known]
            self._state.parking.expect(self._connection, parent, _ids(orphans), len(orphans))
            for item in orphans:
                item.recorder.park(item, parent, item.row[0])

    def _end_session(self, item: Item) -> None:
        end = end_session(self._connection, item.row)
        if end == "duplicate":
            item.recorder.count_duplicate()
        elif end == "conflict":
            item.recorder.reject(
                item,
                EventCode.CONFLICT,
                f"session {item.row[0]!r} already has a different end; the stored end is kept",
            )

    def _write_memories(self, items: Sequence[Item]) -> None:
        keys = order_keys(self._connection, {item.row[0] for item in items})
        winners: dict[str, tuple[OrderKey, Row]] = {}
        for item in items:
            row = item.row
            key = (row[6], item.recorder.order_producer, item.sequence)
            if row[0] in keys and key < keys[row[0]]:
                item.recorder.count_superseded()
            else:
                keys[row[0]] = key
                winners[row[0]] = (key, row)
        save_memories(self._connection, winners.values())


def _refuse(item: Item, where: str, why: Exception) -> None:
    message = f"{where}: {why}"[:MESSAGE_CHARS]  # a trigger may quote the row
    item.recorder.reject(item, EventCode.REFUSED_BY_DATABASE, message)


def _release(connection: sqlite3.Connection, savepoint: str) -> None:
    """End a savepoint, if SQLite has not taken back the whole transaction by itself."""
    if connection.in_transaction:
        connection.execute(f"RELEASE {savepoint}")


def _ids(*kinds: Sequence[Item]) -> set[str]:
    """The ids that the first column of these rows names."""
    return {item.row[0] for items in kinds for item in items}


def _like_receipt(stored: Row) -> Callable[[Row], bool]:
    """Same content, timestamp apart."""
    is_same_json = like_json(stored[10])
    return lambda row: (
        row[:4] == stored[:4]
        and row[5:10] == stored[5:10]
        and row[11:14] == stored[11:14]
        and (row[14] == stored[14] or _is_unmarked(row, stored))
        and is_same_json(row[10])
    )


def _is_unmarked(row: Row, stored: Row) -> bool:
    """Whether only the mark differs: before there was one, an unknown duration was a plain 0."""
    return row[14] is not None and stored[14] is None and bool(stored[9] == 0)


def _like_session(stored: Row) -> Callable[[Row], bool]:
    """Same content, timestamp apart; the end of a session changes other columns."""
    is_same_json = like_json(stored[4])
    return lambda row: bool(row[3] == stored[3]) and is_same_json(row[4])
