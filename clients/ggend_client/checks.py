"""Checks: whether the daemon will store an event, found by the rules that it uses itself."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from ggend_client.pairs import opened
from ggend_schema.codec import decode_event
from ggend_schema.errors import InvalidEvent
from ggend_schema.explained import explained, field_of
from ggend_schema.rows import row_of

__all__ = ["explain_reject", "fault_in"]


def fault_in(pair: bytes) -> tuple[str, str] | None:
    """Return the kind of fault that an encoded pair has, and what it is in words; None: none."""
    try:
        stamp_ns, raw = opened(pair)
        row_of(decode_event(memoryview(raw)), stamp_ns or time.time_ns())
    except InvalidEvent as error:
        return explain_reject(pair, error.code, error.message)
    except msgspec.DecodeError as error:
        return "unreadable", str(error)
    return None


def explain_reject(pair: bytes | None, code: str, message: str) -> tuple[str, str]:
    """Return the kind of what is wrong with an event, and what that is in words.

    `pair` is None where the event is not in memory any more.
    """
    event: dict[str, Any] = {}
    if pair is not None:
        try:
            _, event = msgspec.msgpack.decode(pair, type=tuple[int, dict[str, Any]])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            event = {}
    kind = f"{event.get('type')} {code} {field_of(message) or message}"
    return kind, explained(event, message)
