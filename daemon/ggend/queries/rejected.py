"""Rejected: the events in quarantine, as a list and one by one.

Never writes. Their bytes are read one event at a time: there may be hundreds of MiB of them.
"""

from __future__ import annotations

import sqlite3
from typing import Any

import msgspec
from msgspec import Struct

from ggend.errors import UsageMistake
from ggend.queries.result import Result
from ggend.queries.run import run

__all__ = ["Chosen", "content", "count_by_code", "read_ids", "read_one", "read_rejected"]

#: What decoding bytes that may be anything raises.
_DECODE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError, TypeError)


class Chosen(Struct, frozen=True, kw_only=True):
    """Selects rejected events; None: any. Times are as in `received_at`."""

    code: str | None = None
    since: str | None = None
    until: str | None = None
    #: Ids below this one.
    before: int | None = None


class _Tagged(Struct):
    type: object = None


def read_rejected(connection: sqlite3.Connection, chosen: Chosen, *, limit: int) -> Result:
    """Return the newest rejected events, with the types found in their bytes."""
    found = run(connection, _LIST, limit, _parameters(chosen))
    event_type = found.columns.index("event_type")
    row_id = found.columns.index("id")
    rows = [
        (*row[:event_type], _type_of(connection, row[row_id]), *row[event_type + 1 :])
        for row in found.rows
    ]
    next_page = f"--before {rows[-1][row_id]} shows the next page" if found.has_more else ""
    return msgspec.structs.replace(found, rows=rows, next_page=next_page)


def count_by_code(connection: sqlite3.Connection, chosen: Chosen) -> dict[str, int]:
    """Return how many there are of each code, the most frequent first."""
    return dict(connection.execute(_BY_CODE, _parameters(chosen)).fetchall())


def read_ids(connection: sqlite3.Connection, chosen: Chosen) -> list[int]:
    """Return the ids in order of arrival, in which parents come before what waits for them."""
    return [row_id for (row_id,) in connection.execute(_IDS, _parameters(chosen))]


def read_one(connection: sqlite3.Connection, rejected_id: int) -> dict[str, Any]:
    """Return all columns of one rejected event. Raises UsageMistake."""
    cursor = run(connection, _ONE, 1, {"id": rejected_id})
    if not cursor.rows:
        raise UsageMistake(
            f"there is no rejected event {rejected_id}",
            hint="`ggend rejected list` shows the ids; requeued and purged events are not kept",
        )
    return dict(zip(cursor.columns, cursor.rows[0], strict=True))


def content(event: bytes, encoding: str) -> Any:
    """Decode the bytes of an event as far as they are msgpack or JSON. Raises ValueError."""
    try:
        return _decode(event, encoding, object)
    except _DECODE_ERRORS as error:
        raise ValueError(f"not {encoding}: {error}") from error


def _type_of(connection: sqlite3.Connection, row_id: object) -> str | None:
    encoding, event = connection.execute(_BYTES, (row_id,)).fetchone()
    try:
        found = _decode(event, encoding, _Tagged).type if event is not None else None
    except _DECODE_ERRORS:
        return None
    return found if isinstance(found, str) else None


def _decode(event: bytes, encoding: str, wanted: type[Any]) -> Any:
    decode = msgspec.msgpack.decode if encoding == "msgpack" else msgspec.json.decode
    return decode(event, type=wanted)


def _parameters(chosen: Chosen) -> dict[str, object]:
    return msgspec.structs.asdict(chosen)


# Put together from constants; every value is bound.

_CHOSEN = """
    FROM rejected_events
    WHERE (:code IS NULL OR code = :code)
      AND (:since IS NULL OR received_at >= :since)
      AND (:until IS NULL OR received_at < :until)
      AND (:before IS NULL OR id < :before)"""
_LIST = f"""
    SELECT
        id, received_at, code, message, NULL AS event_type, producer, sequence, client, uid,
        size_bytes, event IS NOT NULL AS kept
    {_CHOSEN}
    ORDER BY id DESC"""
_BY_CODE = f"""
    SELECT code, COUNT(*)
    {_CHOSEN}
    GROUP BY code
    ORDER BY COUNT(*) DESC, code"""
_IDS = f"""
    SELECT id
    {_CHOSEN}
    ORDER BY id"""
_ONE = """
    SELECT *
    FROM rejected_events
    WHERE id = :id"""
_BYTES = """
    SELECT encoding, event
    FROM rejected_events
    WHERE id = ?"""
