"""Rejected view: rejected events as text and as JSON, even if their bytes are not decodable.

Never reads the database.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ggend.cli.render.formats import cell, json_text
from ggend.queries.rejected import content
from ggend_schema.errors import InvalidEvent
from ggend_schema.timestamps import format_ms

__all__ = ["as_json", "rejected_view"]

#: Columns of the longest label, and a gap.
_LABEL = 15

#: Bytes shown of an event that is neither msgpack nor JSON: about one screen.
_DUMPED = 256
_DUMPED_A_LINE = 16

_NOT_PRINTABLE = re.compile(rb"[^\x20-\x7e]")


def rejected_view(found: Mapping[str, Any]) -> str:
    """Return everything about one rejected event as text that is safe to print."""
    lines = [f"{label.ljust(_LABEL)}{cell(value)}" for label, value in _fields(found)]
    event = found["event"]
    if event is None:
        lines += ["", "only the hash and length were kept"]
    elif (text := _readable(event, found["encoding"])) is not None:
        lines += ["", text]
    else:
        lines += ["", *_dump(event)]
    return "\n".join(lines) + "\n"


def as_json(found: Mapping[str, Any]) -> dict[str, object]:
    """Return everything; if the bytes cannot be decoded, `event` is null and `event_hex` is set."""
    event = found["event"]
    is_readable = event is not None and _readable(event, found["encoding"]) is not None
    return {
        **{
            name: value.hex() if isinstance(value, bytes) else value
            for name, value in found.items()
        },
        "event": content(event, found["encoding"]) if is_readable else None,
        "event_hex": event.hex() if event is not None and not is_readable else None,
    }


def _fields(found: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    for label, column in {
        "rejected event": "id",
        "received": "received_at",
        "code": "code",
        "message": "message",
        "producer": "producer",
        "sequence": "sequence",
        "client": "client",
        "uid": "uid",
        "account": "account_id",
    }.items():
        yield label, found[column]
    yield "stamp", _moment(found["stamp_ns"])
    yield "schema version", found["schema_version"]
    yield "size", f"{found['size_bytes']:,} bytes of {found['encoding']}"
    yield "sha256", found["sha256"]


def _moment(stamp_ns: int) -> str:
    try:
        return format_ms(stamp_ns // 1_000_000)
    except InvalidEvent:
        return f"{stamp_ns} ns, which is not a valid time"


def _readable(event: bytes, encoding: str) -> str | None:
    """Return the event as JSON text, or None if JSON cannot represent it."""
    try:
        return json_text(content(event, encoding))
    except (ValueError, TypeError, RecursionError, OverflowError):
        return None


def _dump(event: bytes) -> Iterator[str]:
    for start in range(0, min(len(event), _DUMPED), _DUMPED_A_LINE):
        part = event[start : start + _DUMPED_A_LINE]
        text = _NOT_PRINTABLE.sub(b".", part).decode("ascii")
        yield f"{start:04x}  {part.hex(' '):{3 * _DUMPED_A_LINE}} {text}"
    if len(event) > _DUMPED:
        yield f"and {len(event) - _DUMPED:,} more bytes (--raw prints all of them)"
