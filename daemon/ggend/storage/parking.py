"""Parking: events that wait in `parked_events` for their parent, durably.

An event is parked as it came, with its stamp, and takes the same way as a fresh one when its
parent arrives, in the transaction of the parent and in order of arrival. What one batch brings
for one parent shares a row: stages of an execution tend to come together, and a row's way into
the B-tree and out again costs more than the events in it.

Where more waits than one transaction may release, the parent is noted in `pending_releases`, in its
own transaction, and the rest is released in slices (`releases`). The note goes with the last event;
it goes as well where the parent was purged meanwhile, and what is left waits on.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Collection
from contextlib import closing
from typing import Literal, TypeAlias

import msgspec
from msgspec import Struct

from ggend.storage.seen_time import SeenTime
from ggend.storage.tables import PARKED, RECEIPTS, SESSIONS, json_list
from ggend_schema.events import Event

__all__ = [
    "PARENT_EVENTS",
    "RELEASED_EVENTS",
    "SLICE_PARENTS",
    "Expired",
    "Note",
    "Parent",
    "Parked",
    "Parking",
    "Place",
    "Room",
    "Slice",
]

#: Events that one transaction releases, about: as many as a full batch brings, at the same cost.
#: The last row is taken whole, and what one batch brought for one parent is in it.
RELEASED_EVENTS = 4_096

#: Bytes of payload that one transaction releases, about. Decoded they take four times as much.
RELEASED_BYTES = 16 * 1024 * 1024

#: Events of one parent that are released with it, however many others the transaction releases.
#: An execution has five stages; a batch of nothing but such receipts takes about a second.
WHOLE_EVENTS = 8

#: Events that may wait for one parent. Real ones have some ten. So many are released within some
#: seconds, and one parent takes a tenth of the room for all (`parked_max_events`).
PARENT_EVENTS = 100_000

#: Events from which on it is remembered how many wait for a parent: to count them takes longer.
_MANY_EVENTS = 1_000

#: Parents that one slice looks at.
SLICE_PARENTS = 256

Parent: TypeAlias = Literal["receipt", "session"]

#: Where a row stands among the parked: parent id, parent, arrival (ns).
Place: TypeAlias = tuple[str, str, int]

#: A parent that is stored while events wait for it still: its id, and what it is.
Note: TypeAlias = tuple[str, Parent]


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


#: Of a row: arrival (ns), how many events, payload.
_Row: TypeAlias = tuple[int, int, bytes]


class Room:
    """How much the transaction may release yet. The last row may go beyond it."""

    __slots__ = ("bytes", "events", "whole")

    def __init__(self, events: int) -> None:
        self.events = events
        self.bytes = RELEASED_BYTES
        #: Events of one parent that are released even when there is no room for events.
        self.whole = min(events, WHOLE_EVENTS)

    @property
    def is_spent(self) -> bool:
        """Whether no further row may be released."""
        return self.events <= 0 or self.bytes <= 0

    def take(self, events: int, size: int) -> None:
        """Count what is released."""
        self.events -= events
        self.bytes -= size


class Slice(Struct, frozen=True):
    """What one slice took out, and whether it came to the end of the notes."""

    released: list[Parked]
    is_last: bool


_encode = msgspec.msgpack.Encoder().encode
_decoder: msgspec.msgpack.Decoder[list[Parked]] = msgspec.msgpack.Decoder(list[Parked])


class Parking:
    """The parked events of one database. Lives on the writer's thread."""

    __slots__ = (
        "_clock",
        "_counts",
        "_is_counting",
        "_last_arrival_ns",
        "_limit_bytes",
        "_limit_each",
        "_pending",
        "_released_events",
        "_schema_version",
        "_seen",
        "bytes",
        "count",
        "limit",
        "noted",
    )

    def __init__(
        self,
        *,
        count: int,
        size: int,
        limit: int,
        limit_bytes: int,
        limit_each: int,
        released_events: int,
        noted: int,
        schema_version: int,
        seen: SeenTime,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self.count = count
        #: Of the rows that are saved: what this batch parks is not in it yet.
        self.bytes = size
        self.limit = limit
        self._limit_bytes = limit_bytes
        self._limit_each = limit_each
        self._released_events = released_events
        #: How often a parent was noted, and at the beginning how many are. It never goes back, also
        #: where the transaction does: who sees it grow looks whether there is something to release.
        self.noted = noted
        self._schema_version = schema_version
        self._seen = seen
        self._clock = clock
        self._last_arrival_ns = 0
        self._pending: dict[Note, list[Parked]] = {}
        #: How many saved events wait for a parent: of all that were counted for this batch, and
        #: of those from earlier batches for which many wait.
        self._counts: dict[Note, int] = {}
        self._is_counting = False

    @property
    def is_full(self) -> bool:
        """Whether no further event may wait."""
        return self.count >= self.limit or self.bytes >= self._limit_bytes

    def room(self, events: int | None = None) -> Room:
        """Return how much a transaction may release: so many events, or as many as usual."""
        return Room(min(events or self._released_events, self._released_events))

    def expect(
        self, connection: sqlite3.Connection, parent: Parent, parent_ids: Collection[str], more: int
    ) -> None:
        """Count what waits for these parents, before so many more events are parked for them.

        Nothing is counted while fewer wait for all parents than may wait for one.
        """
        self._is_counting = self.count + more > self._limit_each
        if not self._is_counting:
            return
        self._counts = {
            key: events for key, events in self._counts.items() if events >= _MANY_EVENTS
        }
        unknown = [one for one in parent_ids if (one, parent) not in self._counts]
        if unknown:
            counted = connection.execute(_HOW_MANY, (parent, json_list(unknown))).fetchall()
            self._counts.update(((parent_id, parent), events) for parent_id, events in counted)

    def no_room(self, parent: Parent, parent_id: str) -> str | None:
        """Return why no further event may wait for this parent; None: one may."""
        if self.is_full:
            why = "too many events are parked already"
        elif self._is_counting and self._waiting(parent, parent_id) >= self._limit_each:
            why = f"{self._limit_each:,} events, the limit for one {parent}, wait for it already"
        else:
            return None
        return f"its {parent} {parent_id!r} is not stored, and {why}"

    def _waiting(self, parent: Parent, parent_id: str) -> int:
        """Return how many events wait for a parent of this batch, while that is counted."""
        key = parent_id, parent
        return self._counts.get(key, 0) + len(self._pending.get(key, ()))

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
        for key in self._counts.keys() & self._pending.keys():
            self._counts[key] += len(self._pending[key])
        self._pending.clear()

    def release(
        self,
        connection: sqlite3.Connection,
        parent: Parent,
        parent_ids: Collection[str],
        room: Room,
    ) -> list[Parked]:
        """Take out what waits for these parents, in order of arrival.

        Where that is more than there is room for, parents are noted: `release_slice` goes on.
        """
        if not self.count or not parent_ids:
            return []
        if self._counts:
            for parent_id in parent_ids:
                self._counts.pop((parent_id, parent), None)
        wanted = json_list(parent_ids)
        rows: list[_Row] = []
        events = size = 0
        with closing(connection.execute(_WAITING, (parent, wanted))) as found:
            for row in found:
                events += row[1]
                size += len(row[2])
                if events > room.events or size > room.bytes:
                    rows.clear()
                    return self._release_some(connection, parent, wanted, room)
                rows.append(row)
        if rows:
            connection.execute(_RELEASE, (parent, wanted))
        room.take(events, size)
        return self._taken(rows)

    def _release_some(
        self, connection: sqlite3.Connection, parent: Parent, wanted: str, room: Room
    ) -> list[Parked]:
        """Take out all that waits for parents with few events, and of others what has room."""
        few: list[str] = []
        many: list[str] = []
        sizes = connection.execute(_FEW, (parent, wanted, room.whole + 1)).fetchall()
        for parent_id, events, size in sizes:
            if events <= room.whole and size <= room.bytes:
                few.append(parent_id)
                room.take(events, size)
            else:
                many.append(parent_id)
        rows: list[_Row] = []
        if few:
            small = json_list(few)
            rows += connection.execute(_WAITING, (parent, small)).fetchall()
            connection.execute(_RELEASE, (parent, small))
        for parent_id in many:
            if not self._take(connection, (parent_id, parent), room, rows):
                connection.execute(_NOTE, (parent_id, parent))
                self.noted += 1
        return self._taken(rows)

    def next_note(self, connection: sqlite3.Connection, after: Note | None) -> Note | None:
        """Return the next parent that is noted, in the order in which slices take them."""
        row: Note | None = connection.execute(_NOTES, (*(after or _NO_NOTE), 1)).fetchone()
        return row

    def release_slice(
        self,
        connection: sqlite3.Connection,
        *,
        after: Note | None,
        room: Room,
        parents: int = SLICE_PARENTS,
    ) -> Slice:
        """Take out what waits for the next noted parents, as far as there is room."""
        notes: list[Note] = connection.execute(_NOTES, (*(after or _NO_NOTE), parents)).fetchall()
        there = {
            *((one, "receipt") for one in RECEIPTS.existing(connection, _of("receipt", notes))),
            *((one, "session") for one in SESSIONS.existing(connection, _of("session", notes))),
        }
        rows: list[_Row] = []
        is_last = len(notes) < parents
        for note in notes:
            if room.is_spent:
                is_last = False
                break
            if note not in there or self._take(connection, note, room, rows):
                connection.execute(_STRIKE, note)
            else:
                is_last = False
        return Slice(self._taken(rows), is_last)

    def _take(
        self,
        connection: sqlite3.Connection,
        note: Note,
        room: Room,
        rows: list[_Row],
    ) -> bool:
        """Take out the first of what waits for one parent; return whether that was all."""
        self._counts.pop(note, None)
        last_ns: int | None = None
        is_all = True
        with closing(connection.execute(_FIRST_ROWS, note)) as found:
            for row in found:
                if room.is_spent:
                    is_all = False
                    break
                last_ns = row[0]
                rows.append(row)
                room.take(row[1], len(row[2]))
        if last_ns is not None:
            connection.execute(_RELEASE_FIRST, (*note, last_ns))
        return is_all

    def _taken(self, rows: list[_Row]) -> list[Parked]:
        """Decode what was taken out. The last step: what is counted here, the database has done."""
        rows.sort(key=_arrival)
        released = [parked for row in rows for parked in _decoder.decode(row[2])]
        if released:
            self._leave(len(released), sum(len(row[2]) for row in rows))
        return released

    def expire(
        self, connection: sqlite3.Connection, *, before_s: int, after: Place | None, limit: int
    ) -> tuple[list[Expired], Place | None]:
        """Take out what arrived before a moment of the seen time, among the next `limit` rows.

        Not what is to be released, and no more than a transaction may release. Returns it, and
        where the next slice begins; None: this was the last.
        """
        found = connection.execute(_NEXT, (*(after or _FIRST), limit)).fetchall()
        expired: list[Expired] = []
        room = self.room()
        place: Place | None = None
        for *columns, seen_s, is_noted in found:
            if room.is_spent:
                return expired, place
            place = (columns[0], columns[1], columns[2])
            if seen_s < before_s and not is_noted:
                (payload,) = connection.execute(_TAKE, place).fetchone()
                parent_id, parent, _ = columns
                together = _decoder.decode(payload)
                expired += [Expired(parent, parent_id, parked) for parked in together]
                self._leave(len(together), len(payload))
                room.take(len(together), len(payload))
                self._counts.clear()
        return expired, found[-1][:3] if len(found) == limit else None

    def _leave(self, events: int, size: int) -> None:
        self.count -= events
        self.bytes -= size

    def rollback(self, count: int, size: int) -> None:
        """Drop what was not saved: the transaction was rolled back to so many parked events."""
        self._pending.clear()
        self._counts.clear()
        self.count, self.bytes = count, size


def _arrival(row: _Row) -> int:
    return row[0]


def _of(parent: Parent, notes: Collection[Note]) -> list[str]:
    return [parent_id for parent_id, kind in notes if kind == parent]


#: Before every place: no parent has an empty id.
_FIRST: Place = ("", "", 0)
_NO_NOTE = "", ""


_WAITING = """
    SELECT arrival_ns, events, payload
    FROM parked_events
    WHERE parent = ?
      AND parent_id IN (SELECT value FROM json_each(?))"""
_RELEASE = """
    DELETE FROM parked_events
    WHERE parent = ?
      AND parent_id IN (SELECT value FROM json_each(?))"""
#: Of each parent that events wait for, how many and how large: exact where they are few, and of so
#: many rows at most.
_FEW = """
    SELECT *
    FROM (
        SELECT
            wanted.value,
            (
                SELECT SUM(events)
                FROM (
                    SELECT events
                    FROM parked_events
                    WHERE parent_id = wanted.value
                      AND parent = ?1
                    LIMIT ?3)) AS events,
            (
                SELECT SUM(size)
                FROM (
                    SELECT length(payload) AS size
                    FROM parked_events
                    WHERE parent_id = wanted.value
                      AND parent = ?1
                    LIMIT ?3))
        FROM json_each(?2) AS wanted)
    WHERE events IS NOT NULL"""
_FIRST_ROWS = """
    SELECT arrival_ns, events, payload
    FROM parked_events
    WHERE parent_id = ?
      AND parent = ?
    ORDER BY arrival_ns"""
_RELEASE_FIRST = """
    DELETE FROM parked_events
    WHERE parent_id = ?
      AND parent = ?
      AND arrival_ns <= ?"""
_HOW_MANY = """
    SELECT parent_id, SUM(events)
    FROM parked_events
    WHERE parent = ?
      AND parent_id IN (SELECT value FROM json_each(?))
    GROUP BY parent_id"""
_NOTE = """
    INSERT OR IGNORE INTO pending_releases (parent_id, parent)
    VALUES (?, ?)"""
_NOTES = """
    SELECT parent_id, parent
    FROM pending_releases
    WHERE (parent_id, parent) > (?, ?)
    ORDER BY parent_id, parent
    LIMIT ?"""
_STRIKE = """
    DELETE FROM pending_releases
    WHERE parent_id = ?
      AND parent = ?"""
_NEXT = """
    SELECT
        parent_id, parent, arrival_ns, seen_s,
        EXISTS (
            SELECT 1
            FROM pending_releases AS noted
            WHERE noted.parent_id = waiting.parent_id
              AND noted.parent = waiting.parent)
    FROM parked_events AS waiting
    WHERE (parent_id, parent, arrival_ns) > (?, ?, ?)
    ORDER BY parent_id, parent, arrival_ns
    LIMIT ?"""
_TAKE = """
    DELETE FROM parked_events
    WHERE parent_id = ?
      AND parent = ?
      AND arrival_ns = ?
    RETURNING payload"""
