"""Row to event: a stored row as the event that would write it, and what that event would store.

The reverse of `rows`, for rows that other programs may have written: whatever no event may hold
(control characters in names, texts that are no JSON or no time) raises InvalidEvent.
Never opens a database.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from ggend_schema.codec import DECODE_ERRORS, decode_event, encode_event
from ggend_schema.codes import EventCode
from ggend_schema.errors import InvalidEvent
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
from ggend_schema.portable import portable_line
from ggend_schema.rows import Row, row_of

__all__ = ["COLUMNS", "fingerprint", "raw_fingerprint", "read_back"]

#: The columns that an event of each type writes, in the order of its row.
COLUMNS: dict[type[Event], tuple[str, ...]] = {
    ReceiptEmitted: (
        "execution_id",
        "agent_id",
        "operation",
        "status",
        "timestamp",
        "manifest_hash",
        "ontology_hash",
        "files_generated",
        "files_modified",
        "duration_ms",
        "receipt_json",
        "error_message",
        "environment",
        "session_id",
        "duration_source",
    ),
    StageCompleted: (
        "execution_id",
        "stage",
        "duration_ms",
        "input_size_bytes",
        "output_size_bytes",
        "status",
        "error_message",
        "timestamp",
        "duration_source",
    ),
    Collision: (
        "session_id",
        "agent_id_1",
        "agent_id_2",
        "collision_type",
        "description",
        "resolution",
        "severity",
        "timestamp",
    ),
    Audit: (
        "timestamp",
        "agent_id",
        "operation",
        "status",
        "duration_ms",
        "error_message",
        "context_json",
        "execution_id",
        "session_id",
    ),
    SessionStarted: ("session_id", "start_time", "agent_count", "context_json"),
    SessionEnded: (
        "session_id",
        "end_time",
        "status",
        "total_duration_ms",
        "successful_operations",
        "failed_operations",
    ),
    MemorySaved: (
        "agent_id",
        "memory_json",
        "collision_history",
        "retry_count",
        "last_error",
        "updated_at",
    ),
}

_JSON = frozenset({"receipt_json", "context_json", "memory_json", "collision_history"})

#: Where a column and the field of the event have different names.
_FIELDS = {
    "start_time": "timestamp",
    "end_time": "timestamp",
    "updated_at": "timestamp",
    "receipt_json": "receipt",
    "context_json": "context",
    "memory_json": "memory",
}

_encode = msgspec.msgpack.Encoder().encode
_encode_json = msgspec.json.Encoder(order="deterministic").encode


def read_back(kind: type[Event], stored: Row) -> tuple[Event, Row]:
    """Return the event that would write this row, and the row that it would write.

    Raises InvalidEvent.
    """
    values: dict[str, Any] = {}
    for column, value in zip(COLUMNS[kind], stored, strict=True):
        if value is None:
            continue
        values[_FIELDS.get(column, column)] = _json(column, value) if column in _JSON else value
    if values.get("timestamp") is None:
        raise InvalidEvent(EventCode.INVALID, "the time is missing")
    try:
        event = msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        raise InvalidEvent(EventCode.INVALID, str(error)) from None
    event = decode_event(encode_event(event))  # as it will arrive
    return event, row_of(event, 0)


def fingerprint(kind: type[Event], row: Row) -> str:
    """Return what tells a row that `read_back` made from others, JSON taken by value."""
    values = list(row)
    for position, column in enumerate(COLUMNS[kind]):
        if column in _JSON and values[position] is not None:
            values[position] = _encode_json(msgspec.json.decode(values[position]))
    return _digest(kind, _encode(values))


def raw_fingerprint(kind: type[Event], stored: Row) -> str:
    """Return what tells a row that cannot be read back from others."""
    return _digest(kind, repr(stored).encode(errors="surrogateescape"))


def _digest(kind: type[Event], content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16, key=kind.__name__.encode()).hexdigest()


def _json(column: str, text: object) -> Any:
    if not isinstance(text, str):
        raise InvalidEvent(EventCode.INVALID, f"`{column}` is not text")
    try:
        return msgspec.json.decode(portable_line(text.encode(errors="surrogateescape")))
    except DECODE_ERRORS as error:
        raise InvalidEvent(EventCode.INVALID, f"`{column}` is not JSON: {error}") from None
