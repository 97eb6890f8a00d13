"""Rows: what one event becomes in its table, and the checks that a decoder cannot express.

Pure functions of the event and its stamp (wall-clock nanoseconds of emit or arrival). A row is a
tuple in the order of the table's INSERT in `tables`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, TypeAlias

import msgspec

from ggend_schema import limits
from ggend_schema.codes import EventCode
from ggend_schema.errors import InvalidEvent
from ggend_schema.events import (
    STAGES,
    Audit,
    Collision,
    Event,
    MemorySaved,
    ReceiptEmitted,
    SessionEnded,
    SessionStarted,
    StageCompleted,
)
from ggend_schema.portable import INTEGER_MAX, INTEGER_MIN, portable
from ggend_schema.timestamps import format_ms, format_sql, parse_us
from ggend_schema.value_words import kind_words

__all__ = ["Row", "check_row", "json_text", "like_json", "row_of", "same_json"]

#: In place of the value of a JSON text that has none; equal to no value.
_UNREADABLE = object()

Row: TypeAlias = tuple[Any, ...]

_encode = msgspec.json.Encoder().encode
_FLAT_VALUES = frozenset({str, int, bool, type(None)})
_KEYS = frozenset({str})
_CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def json_text(value: Any, field: str) -> str:
    """Return a JSON field as compact text.

    Raises InvalidEvent for what is no JSON value (bytes, non-finite floats, other keys than
    strings) and over the limits of nesting and size. An integer of more than 64 bits, which only
    JSON has, becomes text (`portable`).
    """
    # Nearly every JSON field is one flat object; a few set operations settle it.
    if type(value) is dict and _KEYS.issuperset(map(type, value)):
        kinds = set(map(type, value.values()))
        is_flat = kinds <= _FLAT_VALUES
        has_long = is_flat and int in kinds and any(map(_is_long, value.values()))
    else:
        is_flat = has_long = False
    if has_long or (not is_flat and _check_json(value, field)):
        value = portable(value)
    text = _encode(value)
    if len(text) > limits.JSON_BYTES:
        raise InvalidEvent(
            EventCode.TOO_LARGE,
            f"`$.{field}` is {len(text)} bytes as JSON, over the limit of {limits.JSON_BYTES}",
        )
    return text.decode()


def _is_long(value: Any) -> bool:
    return type(value) is int and not INTEGER_MIN <= value <= INTEGER_MAX


def _check_json(value: Any, field: str) -> bool:
    """Raise InvalidEvent for what is no JSON value; return whether an integer is too long."""
    has_long = False
    level = [value]
    depth = 0
    while level:
        depth += 1
        inside: list[Any] = []
        for part in level:
            kind = type(part)
            if kind is dict or kind is list:
                if depth > limits.JSON_DEPTH:
                    raise InvalidEvent(
                        EventCode.TOO_DEEP,
                        f"`$.{field}` is nested deeper than the limit of {limits.JSON_DEPTH}",
                    )
                if kind is list:
                    inside.extend(part)
                    continue
                if not _KEYS.issuperset(map(type, part)):
                    raise InvalidEvent(
                        EventCode.INVALID, f"`$.{field}` has a key that is not a string"
                    )
                inside.extend(part.values())
            elif kind is float:
                if not math.isfinite(part):
                    raise InvalidEvent(
                        EventCode.INVALID, f"`$.{field}` has a number that is not finite"
                    )
            elif kind is int:
                has_long = has_long or _is_long(part)
            elif kind not in _FLAT_VALUES:
                raise InvalidEvent(
                    EventCode.INVALID,
                    f"`$.{field}` has {kind_words(kind.__name__)}, which is not JSON",
                )
        level = inside
    return has_long


def same_json(one: str | None, other: str | None) -> bool:
    """Compare two JSON texts by value: neither key order nor 1 against 1.0 matters."""
    return like_json(other)(one)


def like_json(other: str | None) -> Callable[[str | None], bool]:
    """Return what compares JSON texts with this one, which is decoded once at most."""
    value: list[Any] = []

    def is_same(one: str | None) -> bool:
        if one is None or other is None:
            return one is other
        if one == other:
            return True
        try:
            if not value:
                value.append(_UNREADABLE)
                value[0] = msgspec.json.decode(other)
            return _same_value(msgspec.json.decode(one), value[0])
        except (msgspec.DecodeError, UnicodeError, RecursionError, TypeError):
            return False  # a text that ggend did not write

    return is_same


def _same_value(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same_value(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same_value, one, other))
    # Python holds True == 1; JSON does not.
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _optional_json(value: Any, field: str) -> str | None:
    return None if value is None else json_text(value, field)


def _check_names(event: Event, *fields: str) -> None:
    """Say which name holds a control character; unusual but harmless characters pass."""
    for field in fields:
        if _CONTROL_CHARACTERS.search(getattr(event, field) or ""):
            raise InvalidEvent(EventCode.INVALID, f"control character in a name - at `$.{field}`")


def _moment(timestamp: str | None, stamp_ns: int) -> str:
    if timestamp is None:
        return format_ms(stamp_ns // 1_000_000)
    return format_ms(parse_us(timestamp) // 1000)


def _start(timestamp: str | None, stamp_ns: int, duration_ms: int) -> str:
    """An explicit timestamp is the start; a stamp was taken at the end."""
    if timestamp is None:
        # A clock that was not set yet says that it ended soon after 1970.
        return format_ms(max(0, stamp_ns // 1_000_000 - duration_ms))
    return format_ms(parse_us(timestamp) // 1000)


def _receipt(event: ReceiptEmitted, stamp_ns: int) -> Row:
    if not (event.execution_id + event.agent_id).isprintable() or event.environment:
        _check_names(event, "execution_id", "agent_id", "environment")
    if event.session_id is not None and not event.session_id.isprintable():
        _check_names(event, "session_id")
    source = event.duration_source
    duration_ms = event.duration_ms if source is None else 0
    return (
        event.execution_id,
        event.agent_id,
        event.operation,
        event.status,
        _start(event.timestamp, stamp_ns, duration_ms),
        event.manifest_hash,
        event.ontology_hash,
        event.files_generated or 0,
        event.files_modified or 0,
        duration_ms,
        _optional_json(event.receipt, "receipt"),
        event.error_message,
        event.environment,
        event.session_id,
        source,
    )


def _stage(event: StageCompleted, stamp_ns: int) -> Row:
    if not event.execution_id.isprintable():
        _check_names(event, "execution_id")
    source = event.duration_source
    duration_ms = event.duration_ms if source is None else 0
    return (
        event.execution_id,
        STAGES[event.stage],
        duration_ms,
        event.input_size_bytes,
        event.output_size_bytes,
        event.status,
        event.error_message,
        _start(event.timestamp, stamp_ns, duration_ms),
        source,
    )


def _collision(event: Collision, stamp_ns: int) -> Row:
    if not (event.session_id + event.agent_id_1 + event.agent_id_2).isprintable():
        _check_names(event, "session_id", "agent_id_1", "agent_id_2")
    return (
        event.session_id,
        event.agent_id_1,
        event.agent_id_2,
        event.collision_type,
        event.description,
        event.resolution,
        event.severity,
        _moment(event.timestamp, stamp_ns),
    )


def _audit(event: Audit, stamp_ns: int) -> Row:
    if not (event.agent_id + (event.execution_id or "") + (event.session_id or "")).isprintable():
        _check_names(event, "agent_id", "execution_id", "session_id")
    context = event.context
    return (
        _moment(event.timestamp, stamp_ns),
        event.agent_id,
        event.operation,
        event.status,
        event.duration_ms,
        event.error_message,
        None if context is None else json_text(context, "context"),
        event.execution_id,
        event.session_id,
    )


def _session_started(event: SessionStarted, stamp_ns: int) -> Row:
    _check_names(event, "session_id")
    return (
        event.session_id,
        _moment(event.timestamp, stamp_ns),
        "running",
        event.agent_count,
        _optional_json(event.context, "context"),
    )


def _session_ended(event: SessionEnded, stamp_ns: int) -> Row:
    """Not a row of its own: what `sessions` updates."""
    _check_names(event, "session_id")
    return (
        event.session_id,
        _moment(event.timestamp, stamp_ns),
        event.status,
        event.total_duration_ms,
        event.successful_operations,
        event.failed_operations,
    )


def _memory(event: MemorySaved, stamp_ns: int) -> Row:
    """The row, and behind it the microseconds by which the later save wins."""
    _check_names(event, "agent_id")
    microseconds = stamp_ns // 1000 if event.timestamp is None else parse_us(event.timestamp)
    return (
        event.agent_id,
        json_text(event.memory, "memory"),
        _optional_json(event.collision_history, "collision_history"),
        event.retry_count,
        event.last_error,
        format_sql(microseconds // 1000),
        microseconds,
    )


_ROW_OF: dict[type[Event], Callable[[Any, int], Row]] = {
    Audit: _audit,
    StageCompleted: _stage,
    ReceiptEmitted: _receipt,
    Collision: _collision,
    SessionStarted: _session_started,
    SessionEnded: _session_ended,
    MemorySaved: _memory,
}


#: A stamp at which every event that can have a row has one: 2100-01-01.
_ANY_STAMP_NS = 4_102_444_800_000_000_000


def check_row(event: Event) -> None:
    """Check all that a decoder cannot express. Raises InvalidEvent."""
    row_of(event, _ANY_STAMP_NS)


def row_of(event: Event, stamp_ns: int) -> Row:
    """Return the row of an event. Raises InvalidEvent."""
    return _ROW_OF[type(event)](event, stamp_ns)
