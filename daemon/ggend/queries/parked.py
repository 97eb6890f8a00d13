"""Parked: the events that wait for each missing parent, and since when.

Never writes. Payloads are read only for the parents that are shown, and only the sender and the
type of each event.
"""

from __future__ import annotations

import sqlite3
from collections import Counter

import msgspec
from msgspec import Struct

from ggend_schema.errors import InvalidEvent
from ggend_schema.timestamps import format_ms

__all__ = ["Parked", "Waiting", "read_parked"]


class Waiting(Struct, frozen=True, kw_only=True):
    """The events that wait for one parent."""

    #: receipt or session.
    waits_for: str
    parent_id: str
    events: int
    #: Event types, the most frequent first.
    types: dict[str, int]
    #: When the first of them arrived; None: the recorded time is invalid.
    since: str | None
    age_seconds: int
    clients: list[str]
    #: Those that are still known, as hexadecimal digits; anonymous lines have none.
    producers: list[str]


class Parked(Struct, frozen=True, kw_only=True):
    """The parents that have been missing longest, and the total counts."""

    waiting: list[Waiting]
    parents: int
    events: int


class _Tagged(Struct, gc=False):
    type: str


class _Entry(Struct, array_like=True, gc=False):
    account_id: int
    sequence: int
    stamp_ns: int
    event: _Tagged


_entries: msgspec.msgpack.Decoder[list[_Entry]] = msgspec.msgpack.Decoder(list[_Entry])


def read_parked(
    connection: sqlite3.Connection,
    *,
    now_ns: int,
    limit: int,
    parent: str | None = None,
    before_ns: int | None = None,
) -> Parked:
    """Return what waits, for a kind of parent or since before a moment. Raises sqlite3.Error."""
    parameters = {"parent": parent, "before_ns": before_ns, "limit": limit}
    parents, events = connection.execute(_TOTAL, parameters).fetchone()
    found = connection.execute(_OLDEST, parameters).fetchall()
    return Parked(
        waiting=[_waiting(connection, *row, now_ns=now_ns) for row in found],
        parents=parents,
        events=events,
    )


def _waiting(
    connection: sqlite3.Connection,
    parent: str,
    parent_id: str,
    events: int,
    arrival_ns: int,
    *,
    now_ns: int,
) -> Waiting:
    types: Counter[str] = Counter()
    accounts: set[int] = set()
    for (payload,) in connection.execute(_PAYLOADS, (parent_id, parent)):
        try:
            entries = _entries.decode(payload)
        except (msgspec.DecodeError, TypeError):
            continue  # `ggend accounts` and `ggend check` report it
        types.update(entry.event.type for entry in entries)
        accounts.update(entry.account_id for entry in entries)
    senders = connection.execute(_SENDERS, (msgspec.json.encode(sorted(accounts)).decode(),))
    known = senders.fetchall()
    return Waiting(
        waits_for=parent,
        parent_id=parent_id,
        events=events,
        types=dict(types.most_common()),
        since=_moment(arrival_ns),
        age_seconds=(now_ns - arrival_ns) // 1_000_000_000,
        clients=sorted({client for _, client in known if client}),
        producers=[producer.hex() for producer, _ in known if producer],
    )


def _moment(arrival_ns: int) -> str | None:
    try:
        return format_ms(arrival_ns // 1_000_000)
    except InvalidEvent:
        return None


_GROUPED = """
    SELECT parent, parent_id, SUM(events) AS events, MIN(arrival_ns) AS arrival_ns
    FROM parked_events
    WHERE :parent IS NULL OR parent = :parent
    GROUP BY parent_id, parent
    HAVING :before_ns IS NULL OR MIN(arrival_ns) < :before_ns"""
_OLDEST = f"{_GROUPED} ORDER BY MIN(arrival_ns), parent_id, parent LIMIT :limit"
_TOTAL = f"SELECT COUNT(*), coalesce(SUM(events), 0) FROM ({_GROUPED})"  # noqa: S608 - constants
_PAYLOADS = """
    SELECT payload
    FROM parked_events
    WHERE parent_id = ?
      AND parent = ?
    ORDER BY arrival_ns"""
_SENDERS = """
    SELECT producer, client
    FROM producers
    WHERE id IN (SELECT value FROM json_each(?))
    ORDER BY id"""
