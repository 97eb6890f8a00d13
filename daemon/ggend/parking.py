"""Parking: events that wait in `parked_events` for their parent, durably.

An event is parked as it came, with its stamp, and takes the same way as a fresh one when its
parent arrives, in the transaction of the parent and in order of arrival.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable
from typing import Literal, TypeAlias

from msgspec import Struct

from ggend.tables import json_list
from ggend_schema.codec import decode_event, encode_event
from ggend_schema.events import Event

__all__ = ["Parent", "Parked", "Parking"]

Parent: TypeAlias = Literal["receipt", "session"]


class Parked(Struct, frozen=True):
    """A parked event on its way out."""

    account_id: int
    sequence: int
    stamp_ns: int
    event: Event


class Parking:
    """The parked events of one database. Lives on the writer's thread."""

    __slots__ = ("_clock", "_last_arrival_ns", "_pending", "_schema_version", "count", "limit")

    def __init__(
        self,
        *,
        count: int,
        limit: int,
        schema_version: int,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self.count = count
        self.limit = limit
        self._schema_version = schema_version
        self._clock = clock
        self._last_arrival_ns = 0
        self._pending: list[tuple[str, Parent, int, int, int, int, int, bytes]] = []

    @property
    def is_full(self) -> bool:
        """Whether no further event may wait."""
        return self.count >= self.limit

    def park(
        self,
        *,
        parent: Parent,
        parent_id: str,
        account_id: int,
        sequence: int,
        stamp_ns: int,
        event: Event,
    ) -> None:
        """Take an event in; `save` writes it."""
        self._last_arrival_ns = max(self._last_arrival_ns + 1, self._clock())
        self.count += 1
        self._pending.append(
            (
                parent_id,
                parent,
                self._last_arrival_ns,
                account_id,
                sequence,
                stamp_ns,
                self._schema_version,
                encode_event(event),
            )
        )

    def save(self, connection: sqlite3.Connection) -> None:
        """Write what was parked in this batch."""
        connection.executemany(_PARK, self._pending)
        self._pending.clear()

    def release(
        self, connection: sqlite3.Connection, parent: Parent, parent_ids: Iterable[str]
    ) -> list[Parked]:
        """Take out what waits for these parents, in order of arrival."""
        wanted = json_list(parent_ids)
        if not self.count or wanted == "[]":
            return []
        released = [
            Parked(account_id, sequence, stamp_ns, decode_event(encoded))
            for account_id, sequence, stamp_ns, encoded in connection.execute(
                _WAITING, (parent, wanted)
            )
        ]
        if released:
            connection.execute(_RELEASE, (parent, wanted))
            self.count -= len(released)
        return released

    def forget(self, count: int) -> None:
        """Drop what was not saved: the transaction was rolled back to `count` parked events."""
        self._pending.clear()
        self.count = count


_PARK = """
    INSERT INTO parked_events (
        parent_id, parent, arrival_ns, account_id, sequence, stamp_ns, schema_version, event)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?)"""
_WAITING = """
    SELECT account_id, sequence, stamp_ns, event
    FROM parked_events
    WHERE parent = ?
      AND parent_id IN (SELECT value FROM json_each(?))
    ORDER BY arrival_ns"""
_RELEASE = """
    DELETE FROM parked_events
    WHERE parent = ?
      AND parent_id IN (SELECT value FROM json_each(?))"""
