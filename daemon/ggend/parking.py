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

from ggend.seen_time import SeenTime
from ggend.tables import PARKED, json_list
from ggend_schema.events import Event

__all__ = ["Expired", "Parent", "Parked", "Parking", "Place"]

Parent: TypeAlias = Literal["receipt", "session"]

#: Where a row stands among the parked: parent id, parent, arrival (ns).
Place: TypeAlias = tuple[str, str, int]


class Parked(Struct, frozen=True, array_like=True):
    """A parked event, as the payload of a row holds it."""

    account_id: int
    sequence: int
    stamp_ns: int
    event: Event


class Expired(Struct, frozen=True):
    """A parked event that has waited too long, and what it waited for."""

    parent: Parent
    parent_id: str
    parked: Parked


_encode = msgspec.msgpack.Encoder().encode
_decoder: msgspec.msgpack.Decoder[list[Parked]] = msgspec.msgpack.Decoder(list[Parked])


class Parking:
    """The parked events of one database. Lives on the writer's thread."""

    __slots__ = (
        "_clock",
        "_last_arrival_ns",
        "_limit_bytes",
        "_pending",
        "_schema_version",
        "_seen",
        "bytes",
        "count",
        "limit",
    )

    def __init__(
        self,
        *,
        count: int,
        size: int,
        limit: int,
        limit_bytes: int,
        schema_version: int,
        seen: SeenTime,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self.count = count
        #: Of the rows that are saved: what this batch parks is not in it yet.
        self.bytes = size
        self.limit = limit
        self._limit_bytes = limit_bytes
        self._schema_version = schema_version
        self._seen = seen
        self._clock = clock
        self._last_arrival_ns = 0
        self._pending: dict[tuple[str, Parent], list[Parked]] = {}

    @property
    def is_full(self) -> bool:
        """Whether no further event may wait."""
        return self.count >= self.limit or self.bytes >= self._limit_bytes

    def park(self, parent: Parent, parent_id: str, parked: Parked) -> None:
        """Take an event in; `save` writes it."""
        self.count += 1
        self._pending.setdefault((parent_id, parent), []).append(parked)

    def save(self, connection: sqlite3.Connection) -> None:
        """Write what was parked in this batch."""
        if not self._pending:
            return
        arrival_ns = max(self._last_arrival_ns + 1, self._clock())
        version, seen_s = self._schema_version, self._seen.now()
        rows = [
            (parent_id, parent, arrival_ns, version, len(together), _encode(together), seen_s)
            for arrival_ns, ((parent_id, parent), together) in enumerate(
                self._pending.items(), arrival_ns
            )
        ]
        self._last_arrival_ns = arrival_ns + len(rows)
        PARKED.insert(connection, rows)
        self.bytes += sum(len(row[5]) for row in rows)
        self._pending.clear()

    def release(
        self, connection: sqlite3.Connection, parent: Parent, parent_ids: Collection[str]
    ) -> list[Parked]:
        """Take out what waits for these parents, in order of arrival."""
        if not self.count or not parent_ids:
            return []
        wanted = json_list(parent_ids)
        payloads = [row[0] for row in connection.execute(_WAITING, (parent, wanted)).fetchall()]
        released = [parked for payload in payloads for parked in _decoder.decode(payload)]
        if released:
            connection.execute(_RELEASE, (parent, wanted))
            self._leave(len(released), sum(map(len, payloads)))
        return released

    def expire(
        self, connection: sqlite3.Connection, *, before_s: int, after: Place | None, limit: int
    ) -> tuple[list[Expired], Place | None]:
        """Take out what arrived before a moment of the seen time, among the next `limit` rows.

        Returns it, and where the next slice begins; None: this was the last.
        """
        found = connection.execute(_NEXT, (*(after or _FIRST), limit)).fetchall()
        expired: list[Expired] = []
        for *columns, seen_s in found:
            place: Place = (columns[0], columns[1], columns[2])
            if seen_s < before_s:
                (payload,) = connection.execute(_TAKE, place).fetchone()
                parent_id, parent, _ = columns
                together = _decoder.decode(payload)
                expired += [Expired(parent, parent_id, parked) for parked in together]
                self._leave(len(together), len(payload))
        return expired, found[-1][:3] if len(found) == limit else None

    def _leave(self, events: int, size: int) -> None:
        self.count -= events
        self.bytes -= size

    def forget(self, count: int, size: int) -> None:
        """Drop what was not saved: the transaction was rolled back to so many parked events."""
        self._pending.clear()
        self.count, self.bytes = count, size


#: Before every place: no parent has an empty id.
_FIRST: Place = ("", "", 0)


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
_NEXT = """
    SELECT parent_id, parent, arrival_ns, seen_s
    FROM parked_events
    WHERE (parent_id, parent, arrival_ns) > (?, ?, ?)
    ORDER BY parent_id, parent, arrival_ns
    LIMIT ?"""
_TAKE = """
    DELETE FROM parked_events
    WHERE parent_id = ?
      AND parent = ?
      AND arrival_ns = ?
    RETURNING payload"""
