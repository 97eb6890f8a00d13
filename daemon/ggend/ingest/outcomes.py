"""Outcomes: where the fate of each event of a batch is counted, and its consequences noted.

Every event begins as stored; what turns out otherwise is moved. A fresh event counts in the
Outcome of its submission, one that was parked moves a count of the account that it came under.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Hashable
from typing import Any, Literal, TypeAlias

from ggend.ingest.intake import Outcome, Rejection
from ggend.storage.accounts import Account, Sender
from ggend.storage.parking import Parent, Parked
from ggend.storage.writer_state import Books
from ggend_schema.codec import encode_event, encode_event_line
from ggend_schema.codes import EventCode
from ggend_schema.events import Event

__all__ = ["Fresh", "Item", "Released", "Requeued"]

#: Ledger, sequence, event, stamp (ns), row.
Item: TypeAlias = tuple[Any, int, Any, int, Any]


class Fresh:
    """The ledger of one submission: where its events' fates are counted."""

    __slots__ = ("_books", "_position", "_sender", "account", "outcome")

    def __init__(self, books: Books, account: Account, sender: Sender, position: int) -> None:
        self._position = position
        self._books = books
        self._sender = sender
        self.account = account
        self.outcome = Outcome()

    @property
    def order_producer(self) -> bytes:
        """The producer's part of a memory's order key."""
        return self.account.producer or b""

    def key(self, item: Item) -> Hashable:
        """What the event is known by when its batch is tried again."""
        return self._position, item[1]

    def reject(self, item: Item, code: EventCode, message: str) -> None:
        """To quarantine, with the reason."""
        _, sequence, event, stamp_ns, _ = item
        self.outcome.stored -= 1
        self.outcome.rejected += 1
        self.outcome.rejects.append((sequence, code, message))
        encoded, encoding = _encoded(event)
        self._books.quarantine.reject(
            code=code,
            message=message,
            account_id=self.account.id,
            producer=self.account.producer,
            sequence=sequence,
            uid=self._sender.uid,
            client=self._sender.client,
            encoded=encoded,
            encoding=encoding,
            stamp_ns=stamp_ns,
        )

    def count_duplicate(self) -> None:
        """The same content is stored already."""
        self.outcome.stored -= 1
        self.outcome.duplicate += 1

    def count_superseded(self) -> None:
        """An older memory save."""
        self.outcome.stored -= 1
        self.outcome.superseded += 1

    def park(self, item: Item, parent: Parent, parent_id: str) -> None:
        """To wait for its parent; rejected if too many do."""
        _, sequence, event, stamp_ns, _ = item
        if (why := self._books.parking.no_room(parent, parent_id)) is not None:
            self.reject(item, EventCode.PARKED_FULL, why)
            return
        self.outcome.stored -= 1
        self.outcome.parked += 1
        parked = Parked(self.account.id, sequence, stamp_ns, event)
        self._books.parking.park(parent, parent_id, parked)

    def close(self) -> None:
        """Add the outcome to the account."""
        outcome, account = self.outcome, self.account
        account.stored += outcome.stored
        account.duplicate += outcome.duplicate
        account.superseded += outcome.superseded
        account.parked += outcome.parked
        account.rejected += outcome.rejected
        account.replayed += outcome.replayed


class Released:
    """The ledger of one event that was parked: its count moves to what becomes of it."""

    __slots__ = ("_account_id", "_books", "_connection")

    def __init__(self, connection: sqlite3.Connection, books: Books, account_id: int) -> None:
        self._connection = connection
        self._books = books
        self._account_id = account_id
        books.accounts.release(account_id, stored=1)

    def key(self, item: Item) -> Hashable:
        """What the event is known by when its batch is tried again."""
        _, sequence, event, stamp_ns, _ = item
        return self._account_id, sequence, stamp_ns, encode_event(event)

    def reject(self, item: Item, code: EventCode, message: str) -> None:
        """To quarantine, with the reason."""
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
        """The same content is stored already."""
        self._books.accounts.release(self._account_id, stored=-1, duplicate=1)


class Requeued:
    """The ledger of one rejected event that is tried again: its count leaves `rejected`.

    Rejected again, it stays where it is; `code` and `message` then say why.
    """

    __slots__ = ("_account_id", "_books", "_id", "code", "message", "outcome", "producer")

    def __init__(
        self, books: Books, account_id: int, producer: bytes | None, rejected_id: int
    ) -> None:
        self._id = rejected_id
        self._books = books
        self._account_id = account_id
        self.producer = producer
        self.outcome: Literal["stored", "duplicate", "superseded", "parked", "rejected"] = "stored"
        self.code: EventCode | None = None
        self.message: str | None = None

    @property
    def order_producer(self) -> bytes:
        """The producer's part of a memory's order key."""
        return self.producer or b""

    def key(self, _item: Item) -> Hashable:
        """What the event is known by when its batch is tried again."""
        return "rejected", self._id

    def reject(self, _item: Item, code: EventCode, message: str) -> None:
        """It stays in quarantine, with this reason."""
        self.outcome, self.code, self.message = "rejected", code, message

    def count_duplicate(self) -> None:
        """The same content is stored already."""
        self.outcome = "duplicate"

    def count_superseded(self) -> None:
        """An older memory save."""
        self.outcome = "superseded"

    def park(self, item: Item, parent: Parent, parent_id: str) -> None:
        """To wait for its parent; it stays if too many do."""
        if (why := self._books.parking.no_room(parent, parent_id)) is not None:
            self.reject(item, EventCode.PARKED_FULL, why)
            return
        self.outcome = "parked"
        _, sequence, event, stamp_ns, _ = item
        parked = Parked(self._account_id, sequence, stamp_ns, event)
        self._books.parking.park(parent, parent_id, parked)


def _encoded(event: Event | Rejection) -> tuple[bytes, str]:
    """Return the bytes to keep of a rejected event, and what they are."""
    if isinstance(event, Rejection):
        return event.encoded, event.encoding
    try:
        return encode_event(event), "msgpack"
    except (OverflowError, ValueError):
        return encode_event_line(event), "json"  # JSON has integers that msgpack has not
