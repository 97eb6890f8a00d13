"""Checks: what the daemon refuses beyond what the decoder refuses, in its own words.

The daemon checks this while it makes rows (daemon/ggend/rows.py), which the light client has not;
tests/unit/test_client_testing.py holds the two together. It knows one event at a time: conflicts
with what is stored are not found here.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from typing import Any

import msgspec

from ggend_schema import limits
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

__all__ = ["check_event", "moment_us"]

#: The names of each event, in which control characters are refused.
_NAMES: dict[type[Event], tuple[str, ...]] = {
    Audit: ("agent_id", "execution_id", "session_id"),
    Collision: ("session_id", "agent_id_1", "agent_id_2"),
    MemorySaved: ("agent_id",),
    ReceiptEmitted: ("execution_id", "agent_id", "environment", "session_id"),
    SessionEnded: ("session_id",),
    SessionStarted: ("session_id",),
    StageCompleted: ("execution_id",),
}
_JSON_FIELDS: dict[type[Event], tuple[str, ...]] = {
    Audit: ("context",),
    MemorySaved: ("memory", "collision_history"),
    ReceiptEmitted: ("receipt",),
    SessionStarted: ("context",),
}
_SCALARS = frozenset({str, int, bool, type(None)})
_CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: 10000-01-01T00:00:00Z: the first moment that needs a fifth digit of the year.
_END_US = 253_402_300_800_000_000


def check_event(event: Event, stamp_ns: int) -> None:
    """Raise InvalidEvent for what the daemon would put in quarantine."""
    kind = type(event)
    for field in _NAMES[kind]:
        if _CONTROL_CHARACTERS.search(getattr(event, field) or ""):
            raise InvalidEvent(EventCode.INVALID, f"control character in a name - at `$.{field}`")
    moment_us(event, stamp_ns)
    for field in _JSON_FIELDS.get(kind, ()):
        _check_json(getattr(event, field), field)


def moment_us(event: Event, stamp_ns: int) -> int:
    """Return when it was, in microseconds since 1970: its timestamp, or else its stamp.

    Raises InvalidEvent for what is no moment between 1970 and 9999.
    """
    if event.timestamp is not None:
        return _parsed_us(event.timestamp)
    microseconds = stamp_ns // 1000
    if isinstance(event, (ReceiptEmitted, StageCompleted)):
        microseconds -= event.duration_ms * 1000
    if not 0 <= microseconds < _END_US:
        raise InvalidEvent(EventCode.INVALID, "the timestamp is outside the years 1970 to 9999")
    return microseconds


def _parsed_us(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidEvent(
            EventCode.INVALID,
            f"timestamp {text!r} is not ISO 8601, such as 2026-01-29T12:34:56.789Z",
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    since = moment - _EPOCH
    microseconds = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
    if not 0 <= microseconds < _END_US:
        raise InvalidEvent(
            EventCode.INVALID, f"timestamp {text!r} is outside the years 1970 to 9999"
        )
    return microseconds


def _check_json(value: Any, field: str) -> None:
    level = [value]
    depth = 0
    while level:
        depth += 1
        inside: list[Any] = []
        for part in level:
            inside += _parts(part, field, depth)
        level = inside
    size = len(msgspec.json.encode(value))
    if size > limits.JSON_BYTES:
        raise InvalidEvent(
            EventCode.TOO_LARGE,
            f"`$.{field}` is {size} bytes as JSON, over the limit of {limits.JSON_BYTES}",
        )


def _parts(value: Any, field: str, depth: int) -> list[Any]:
    """Return what is inside of a JSON value. Raises InvalidEvent for what is none."""
    kind = type(value)
    if kind is dict or kind is list:
        if depth > limits.JSON_DEPTH:
            raise InvalidEvent(
                EventCode.TOO_DEEP,
                f"`$.{field}` is nested deeper than the limit of {limits.JSON_DEPTH}",
            )
        if kind is list:
            return list(value)
        if any(type(key) is not str for key in value):
            raise InvalidEvent(EventCode.INVALID, f"`$.{field}` has a key that is not a string")
        return list(value.values())
    if kind is float and not math.isfinite(value):
        raise InvalidEvent(EventCode.INVALID, f"`$.{field}` has a number that is not finite")
    if kind is not float and kind not in _SCALARS:
        raise InvalidEvent(
            EventCode.INVALID, f"`$.{field}` has a {kind.__name__}, which is not JSON"
        )
    return []
