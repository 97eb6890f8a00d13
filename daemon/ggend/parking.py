"""Parking: events that wait in `parked_events` for their parent, durably.

An event is parked as it came, with its stamp, and takes the same way as a fresh one when its
parent arrives, in the transaction of the parent and in order of arrival. What one batch brings
for one parent shares a row: stages of an execution tend to come together, and a row's way into
the B-tree and out again costs more than the events in it.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Collection
from typing import Literal, TypeAlias

import msgspec
from msgspec import Struct

from ggend.tables import PARKED, json_list
from ggend_schema.events import Event

__all__ = ["Parent", "Parked", "Parking"]

Parent: TypeAlias = Literal["receipt", "session"]


class Parked(Struct, frozen=True, array_like=True):
    """A parked event, as the payload of a row holds it."""

    account_id: int
    sequence: int
    stamp_ns: int
    event: Event


_encode = msgspec.msgpack.Encoder().encode
_decoder: msgspec.msgpack.Decoder[list[Parked]] = msgspec.msgpack.Decoder(list[Parked])


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
        self._pending: dict[tuple[str, Parent], list[Parked]] = {}

    @property
    def is_full(self) -> bool:
        """Whether no further event may wait."""
        return self.count >= self.limit

    def park(self, parent: Parent, parent_id: str, parked: Parked) -> None:
        """Take an event in; `save` writes it."""
        self.count += 1
        self._pending.setdefault((parent_id, parent), []).append(parked)

    def save(self, connection: sqlite3.Connection) -> None:
        """Write what was parked in this batch."""
        arrival_ns = max(self._last_arrival_ns + 1, self._clock())
        rows = [
            (parent_id, parent, arrival_ns, self._schema_version, len(together), _encode(together))
            for arrival_ns, ((parent_id, parent), together) in enumerate(
                self._pending.items(), arrival_ns
            )
        ]
        self._last_arrival_ns = arrival_ns + len(rows)
        PARKED.insert(connection, rows)
        self._pending.clear()

    def release(
        self, connection: sqlite3.Connection, parent: Parent, parent_ids: Collection[str]
    ) -> list[Parked]:
        """Take out what waits for these parents, in order of arrival."""
        if not self.count or not parent_ids:
            return []
        wanted = json_list(parent_ids)
        released = [
            parked
            for (payload,) in connection.execute(_WAITING, (parent, wanted)).fetchall()
            for parked in _decoder.decode(payload)
        ]
        if released:
            connection.execute(_RELEASE, (parent, wanted))
            self.count -= len(released)
        return released

    def forget(self, count: int) -> None:
        """Drop what was not saved: the transaction was rolled back to `count` parked events."""
        self._pending.clear()
        self.count = count


_WAITING = """
    SELECT payload
    FROM parked_events
    WHERE parent = ?
      AND parent_id IN (SELECT value FROM json_each(?))
    ORDER BY arrival_ns"""
_RELEASE = """
    DELETE FROM parked_events
    WHERE parent = ?
      AND parent_id IN (SELECT value FROM json_each(?))"""
