"""Outcomes: record what becomes of each event of a batch.

Every event begins as stored; what turns out otherwise is moved. A fresh event counts in the
Outcome of its submission, one that was parked moves a count of the account that it came under.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Hashable
from typing import Any, Literal, Protocol

from msgspec import Struct

from ggend.ingest.intake import Outcome, Rejection
from ggend.storage.accounts import Account, Sender
from ggend.storage.parking import Parent, Parked
from ggend.storage.writer_state import WriterState
from ggend_schema.codec import encode_event, encode_event_line
from ggend_schema.codes import EventCode
from ggend_schema.events import Event

__all__ = ["FreshOutcomes", "Item", "OutcomeRecorder", "ReleasedOutcomes", "RequeuedOutcome"]


class OutcomeRecorder(Protocol):
    """Records what becomes of an event."""

    @property
    def order_producer(self) -> bytes:
        """The producer's part of a memory's order key."""

    def key(self, item: Item) -> Hashable:
        """Return what the event is known by when its batch is tried again."""

    def reject(self, item: Item, code: EventCode, message: str) -> None:
        """Record that the event is kept in quarantine, with the reason."""

    def count_duplicate(self) -> None:
        """Record that the same content is stored already."""

    def count_superseded(self) -> None:
        """Record that a newer memory of the agent is stored."""

    def park(self, item: Item, parent: Parent, parent_id: str) -> None:
        """Let the event wait for its parent; reject it if too many do."""


class Item(Struct, frozen=True, gc=False):
    """One event on its way into a table, and who records what becomes of it."""

    recorder: OutcomeRecorder
    sequence: int
    event: Any
    stamp_ns: int
    #: The values of the columns; the first is the id of its parent, or its own. None: a Rejection.
    row: Any


class FreshOutcomes:
    """Of the events of one submission."""

    __slots__ = ("_position", "_sender", "_state", "account", "outcome")

    def __init__(self, state: WriterState, account: Account, sender: Sender, position: int) -> None:
        self._position = position
        self._state = state
        self._sender = sender
        self.account = account
        self.outcome = Outcome()

    @property
    def order_producer(self) -> bytes:
        """The producer's part of a memory's order key."""
        return self.account.producer or b""

    def key(self, item: Item) -> Hashable:
        """Return what the event is known by when its batch is tried again."""
        return self._position, item.sequence

    def reject(self, item: Item, code: EventCode, message: str) -> None:
        """To quarantine, with the reason."""
        self.outcome.stored -= 1
        self.outcome.rejected += 1
        self.outcome.rejects.append((item.sequence, code, message))
        encoded, encoding = _encoded(item.event)
        self._state.quarantine.reject(
            code=code,
            message=message,
            account_id=self.account.id,
            producer=self.account.producer,
            sequence=item.sequence,
            uid=self._sender.uid,
            client=self._sender.client,
            encoded=encoded,
            encoding=encoding,
            stamp_ns=item.stamp_ns,
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
        if (why := self._state.parking.no_room(parent, parent_id)) is not None:
            self.reject(item, EventCode.PARKED_FULL, why)
            return
        self.outcome.stored -= 1
        self.outcome.parked += 1
        parked = Parked(self.account.id, item.sequence, item.stamp_ns, item.event)
        self._state.parking.park(parent, parent_id, parked)

    def close(self) -> None:
        """Add the outcome to the account."""
        outcome, account = self.outcome, self.account
        account.stored += outcome.stored
        account.duplicate += outcome.duplicate
        account.superseded += outcome.superseded
        account.parked += outcome.parked
        account.rejected += outcome.rejected
        account.replayed += outcome.replayed


class ReleasedOutcomes:
    """Of one event that was parked: its count moves to what becomes of it."""

    __slots__ = ("_account_id", "_connection", "_state")

    def __init__(self, connection: sqlite3.Connection, state: WriterState, account_id: int) -> None:
        self._connection = connection
        self._state = state
        self._account_id = account_id
        state.accounts.release(account_id, stored=1)

    def key(self, item: Item) -> Hashable:
        """Return what the event is known by when its batch is tried again."""
        return self._account_id, item.sequence, item.stamp_ns, encode_event(item.event)

    def reject(self, item: Item, code: EventCode, message: str) -> None:
        """To quarantine, with the reason."""
        self._state.accounts.release(self._account_id, stored=-1, rejected=1)
        producer, uid, client = self._state.accounts.identity(self._connection, self._account_id)
        self._state.quarantine.reject(
            code=code,
            message=message,
            account_id=self._account_id,
            producer=producer,
            sequence=item.sequence,
            uid=uid,
            client=client,
            encoded=encode_event(item.event),
            encoding="msgpack",
            stamp_ns=item.stamp_ns,
        )

    def count_duplicate(self) -> None:
        """The same content is stored already."""
        self._state.accounts.release(self._account_id, stored=-1, duplicate=1)

    @property
    def order_producer(self) -> bytes:
        """Never asked: memories are not parked."""
        raise NotImplementedError

    def count_superseded(self) -> None:
        """Never told: memories are not parked."""
        raise NotImplementedError

    def park(self, item: Item, parent: Parent, parent_id: str) -> None:
        """Never asked: its parent is there."""
        raise NotImplementedError


class RequeuedOutcome:
    """Of one rejected event that is tried again: its count leaves `rejected`.

    Rejected again, it stays where it is; `code` and `message` then say why.
    """

    __slots__ = ("_account_id", "_id", "_state", "code", "message", "outcome", "producer")

    def __init__(
        self, state: WriterState, account_id: int, producer: bytes | None, rejected_id: int
    ) -> None:
        self._id = rejected_id
        self._state = state
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
        """Return what the event is known by when its batch is tried again."""
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
        if (why := self._state.parking.no_room(parent, parent_id)) is not None:
            self.reject(item, EventCode.PARKED_FULL, why)
            return
        self.outcome = "parked"
        parked = Parked(self._account_id, item.sequence, item.stamp_ns, item.event)
        self._state.parking.park(parent, parent_id, parked)


def _encoded(event: Event | Rejection) -> tuple[bytes, str]:
    """Return the bytes to keep of a rejected event, and what they are."""
    if isinstance(event, Rejection):
        return event.encoded, event.encoding
    try:
        return encode_event(event), "msgpack"
    except (OverflowError, ValueError):
        return encode_event_line(event), "json"  # JSON has integers that msgpack has not
