"""Settle: one batch of submissions into rows, inside one transaction.

Parents first: sessions, receipts, then what points at them; an event whose parent is not there
is parked, and a parent that arrives releases what waits for it. Every number of the batch ends
as stored, duplicate, superseded, parked, rejected, lost or replayed, and the accounts say so in
the same transaction. Runs on the writer's thread and never commits.

A batch that the database refuses is rolled back by the caller and settled again with
`isolate=True`: then each row stands alone, and the refused ones are rejected.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, TypeAlias

from ggend.accounts import Account, Accounts, NotYours, Sender
from ggend.intake import Call, Outcome, Rejection, Submission
from ggend.memory import OrderKey, order_keys, save_memories
from ggend.parking import Parent, Parking
from ggend.quarantine import Quarantine
from ggend.rows import Row, row_of, same_json
from ggend.sessions import count_late_receipts, end_session
from ggend.tables import AUDITS, COLLISIONS, METRICS, RECEIPTS, SESSIONS, Table
from ggend_schema.codec import encode_event
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

__all__ = ["ROW_ERRORS", "Books", "settle"]

#: What SQLite and its Python binding raise when one row is at fault, not the disk.
ROW_ERRORS = (
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    OverflowError,
)


class Books:
    """What the writer's thread keeps between batches; the database holds it too."""

    __slots__ = ("accounts", "parking", "quarantine")

    def __init__(self, parking: Parking, quarantine: Quarantine) -> None:
        self.accounts = Accounts()
        self.parking = parking
        self.quarantine = quarantine


class _Fresh:
    """The ledger of one submission: where its events' fates are counted."""

    __slots__ = ("_books", "_sender", "account", "outcome")

    def __init__(self, books: Books, account: Account, sender: Sender) -> None:
        self._books = books
        self._sender = sender
        self.account = account
        self.outcome = Outcome()

    @property
    def order_producer(self) -> bytes:
        return self.account.producer or b""

    def reject(self, item: _Item, code: EventCode, message: str) -> None:
        _, sequence, event, stamp_ns, _ = item
        self.outcome.stored -= 1
        self.outcome.rejected += 1
        self.outcome.rejects.append((sequence, code, message))
        self._books.quarantine.reject(
            code=code,
            message=message,
            account_id=self.account.id,
            producer=self.account.producer,
            sequence=sequence,
            uid=self._sender.uid,
            client=self._sender.client,
            encoded=event.encoded if isinstance(event, Rejection) else encode_event(event),
            encoding=event.encoding if isinstance(event, Rejection) else "msgpack",
            stamp_ns=stamp_ns,
        )

    def count_duplicate(self) -> None:
        self.outcome.stored -= 1
        self.outcome.duplicate += 1

    def count_superseded(self) -> None:
        self.outcome.stored -= 1
        self.outcome.superseded += 1

    def park(self, item: _Item, parent: Parent, parent_id: str) -> None:
        _, sequence, event, stamp_ns, _ = item
        if self._books.parking.is_full:
            self.reject(
                item,
                EventCode.PARKED_FULL,
                f"its {parent} {parent_id!r} is not there, and "
                f"{self._books.parking.limit} events wait for theirs already",
            )
            return
        self.outcome.stored -= 1
        self.outcome.parked += 1
        self._books.parking.park(
            parent=parent,
            parent_id=parent_id,
            account_id=self.account.id,
            sequence=sequence,
            stamp_ns=stamp_ns,
            event=event,
        )

    def close(self) -> None:
        """Add the outcome to the account."""
        outcome, account = self.outcome, self.account
        account.stored += outcome.stored
        account.duplicate += outcome.duplicate
        account.superseded += outcome.superseded
        account.parked += outcome.parked
        account.rejected += outcome.rejected
        account.replayed += outcome.replayed


class _Released:
    """The ledger of one event that was parked: its count moves to what becomes of it."""

    __slots__ = ("_account_id", "_books", "_connection")

    def __init__(self, connection: sqlite3.Connection, books: Books, account_id: int) -> None:
        self._connection = connection
        self._books = books
        self._account_id = account_id
        books.accounts.release(account_id, stored=1)

    def reject(self, item: _Item, code: EventCode, message: str) -> None:
        _, sequence, event, stamp_ns, _ = item
        self._books.accounts.release(self._account_id, stored=-1, rejected=1)
        producer, uid, client = self._books.accounts.identity(self._connection, self._account_id)
        self._books.quarantine.reject(
            code=code,
            message=message,
            account_id=self._account_id,
            producer=producer,
            sequence=sequence,
            uid=uid,
            client=client,
            encoded=encode_event(event),
            encoding="msgpack",
            stamp_ns=stamp_ns,
        )

    def count_duplicate(self) -> None:
        self._books.accounts.release(self._account_id, stored=-1, duplicate=1)


#: Ledger, sequence, event, stamp (ns), row.
_Item: TypeAlias = tuple[Any, int, Any, int, Any]


def settle(
    connection: sqlite3.Connection,
    books: Books,
    batch: Sequence[Submission | Call],
    *,
    now: str,
    isolate: bool,
) -> list[object]:
    """Settle a batch; return for each submission its Outcome, for each call its result or error."""
    books.accounts.now = books.quarantine.now = now
    settlement = _Settlement(connection, books, isolate=isolate)
    results: list[object] = [
        settlement.admit(item) if isinstance(item, Submission) else None for item in batch
    ]
    settlement.write()
    for position, item in enumerate(batch):
        if isinstance(item, Call):
            try:
                results[position] = item.run(connection, books.accounts)
            except (NotYours, LookupError, ValueError) as error:
                results[position] = error
    return results


class _Settlement:
    """One batch, sorted by table."""

    def __init__(self, connection: sqlite3.Connection, books: Books, *, isolate: bool) -> None:
        self._connection = connection
        self._books = books
        self._isolate = isolate
        self._ledgers: list[_Fresh] = []
        self._items: dict[type[Event | Rejection], list[_Item]] = {
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

    def admit(self, submission: Submission) -> Outcome:
        """Recognise what is settled already, and sort the rest by table."""
        try:
            account = self._books.accounts.of(self._connection, submission.sender)
        except NotYours:
            outcome = Outcome()
            outcome.failure = EventCode.NOT_YOURS
            return outcome
        ledger = _Fresh(self._books, account, submission.sender)
        outcome = ledger.outcome
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
        for event, stamp_ns, row in islice(entries, settled, None) if settled else entries:
            items[type(event)].append((ledger, sequence, event, stamp_ns, row))
            sequence += 1
        self._ledgers.append(ledger)
        return outcome

    def write(self) -> None:
        """Write every table, parents first, then the accounts."""
        for item in self._items[Rejection]:
            item[0].reject(item, item[2].code, item[2].message)
        known_sessions = self._write_parents(
            SESSIONS,
            self._items[SessionStarted],
            children=(*self._items[Collision], *self._items[SessionEnded]),
            parent="session",
            same=_same_session,
        )
        known_receipts = self._write_parents(
            RECEIPTS,
            self._items[ReceiptEmitted],
            children=self._items[StageCompleted],
            parent="receipt",
            same=_same_receipt,
        )
        self._insert(METRICS, self._with_parent(StageCompleted, "receipt", known_receipts))
        self._insert(COLLISIONS, self._with_parent(Collision, "session", known_sessions))
        for item in self._with_parent(SessionEnded, "session", known_sessions):
            self._end_session(item)
        self._write_memories()
        self._insert(AUDITS, self._items[Audit])
        self._books.parking.save(self._connection)
        self._books.quarantine.save(self._connection)
        for ledger in self._ledgers:
            ledger.close()
        self._books.accounts.save(self._connection)

    def _insert(self, table: Table, items: Sequence[_Item]) -> Sequence[_Item]:
        """Insert the rows of these items; return the items that were stored."""
        if not self._isolate:
            table.insert(self._connection, [item[4] for item in items])
            return items
        stored = []
        for item in items:
            try:
                table.insert(self._connection, [item[4]])
            except ROW_ERRORS as error:
                item[0].reject(item, EventCode.REFUSED_BY_DATABASE, f"{table.name}: {error}")
            else:
                stored.append(item)
        return stored

    def _write_parents(
        self,
        table: Table,
        items: Sequence[_Item],
        *,
        children: Sequence[_Item],
        parent: Parent,
        same: Callable[[Row, Row], bool],
    ) -> set[str]:
        """Store fresh parents once each, and return the ids of the children's parents there are."""
        first: dict[str, _Item] = {}
        repeated = [item for item in items if first.setdefault(item[4][0], item) is not item]
        known = table.existing(self._connection, first.keys() | {item[4][0] for item in children})
        fresh = [item for parent_id, item in first.items() if parent_id not in known]
        repeated += [item for parent_id, item in first.items() if parent_id in known]
        fresh_ids = {item[4][0] for item in self._insert(table, fresh)}
        if repeated:
            self._compare(table, repeated, same)
        if table is RECEIPTS:
            rows = (item[4] for item in fresh if item[4][0] in fresh_ids)
            count_late_receipts(self._connection, rows)
        for parked in self._books.parking.release(self._connection, parent, fresh_ids):
            ledger = _Released(self._connection, self._books, parked.account_id)
            row = row_of(parked.event, parked.stamp_ns)
            self._items[type(parked.event)].append(
                (ledger, parked.sequence, parked.event, parked.stamp_ns, row)
            )
        return known | fresh_ids

    def _compare(
        self, table: Table, items: Sequence[_Item], same: Callable[[Row, Row], bool]
    ) -> None:
        """Tell duplicates from conflicts among events whose id is stored."""
        stored = table.stored(self._connection, {item[4][0] for item in items})
        for item in items:
            row = stored.get(item[4][0])
            if row is not None and same(item[4], row):
                item[0].count_duplicate()
            else:
                item[0].reject(
                    item,
                    EventCode.CONFLICT,
                    f"{item[4][0]!r} is in {table.name} already with other content; "
                    "the stored row stays",
                )

    def _with_parent(self, kind: type[Event], parent: Parent, known: set[str]) -> Sequence[_Item]:
        """Return the items whose parent is there; park the others."""
        items = self._items[kind]
        ready = [item for item in items if item[4][0] in known]
        if len(ready) < len(items):
            for item in items:
                if item[4][0] not in known:
                    item[0].park(item, parent, item[4][0])
        return ready

    def _end_session(self, item: _Item) -> None:
        end = end_session(self._connection, item[4])
        if end == "duplicate":
            item[0].count_duplicate()
        elif end == "conflict":
            item[0].reject(
                item,
                EventCode.CONFLICT,
                f"session {item[4][0]!r} has ended already in another way; the stored end stays",
            )

    def _write_memories(self) -> None:
        items = self._items[MemorySaved]
        if not items:
            return
        keys = order_keys(self._connection, {item[4][0] for item in items})
        winners: dict[str, tuple[OrderKey, Row]] = {}
        for ledger, sequence, _, _, row in items:
            key = (row[6], ledger.order_producer, sequence)
            if row[0] in keys and key < keys[row[0]]:
                ledger.count_superseded()
            else:
                keys[row[0]] = key
                winners[row[0]] = (key, row)
        save_memories(self._connection, winners.values())


def _same_receipt(row: Row, stored: Row) -> bool:
    """Same content, timestamp apart."""
    return (
        row[:4] == stored[:4]
        and row[5:10] == stored[5:10]
        and same_json(row[10], stored[10])
        and row[11:] == stored[11:]
    )


def _same_session(row: Row, stored: Row) -> bool:
    """Same content, timestamp apart; the end of a session changes other columns."""
    return bool(row[3] == stored[3]) and same_json(row[4], stored[4])
