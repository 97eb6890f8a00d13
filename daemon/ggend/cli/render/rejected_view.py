"""Rejected view: rejected events as text and as JSON, even if their bytes are not decodable.

Never reads the database.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from ggend.cli.render.formats import cell, json_text
from ggend.queries.rejected import content
from ggend.queries.result import Result
from ggend_schema.errors import InvalidEvent
from ggend_schema.timestamps import format_ms

__all__ = ["as_json", "rejected_view", "short"]

#: Columns of the longest label, and a gap.
_LABEL = 15

#: Bytes shown of an event that is neither msgpack nor JSON: about one screen.
_DUMPED = 256
_DUMPED_A_LINE = 16

#: Characters of a time up to its seconds; and limits of a message that is not the last column.
_SECONDS = 19
_LEAST_MESSAGE = 20
_MOST_MESSAGE = 36

#: Columns between two cells of a table.
_GAP = 3

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


def short(found: Result) -> Result:
    """Shorten rows for a terminal: no fractions of a second, and messages cut off.

    Output to a pipe is not changed.
    """
    if not sys.stdout.isatty():
        return found
    before = found.columns[: found.columns.index("message")]
    taken = sum(
        _GAP + max(map(len, [name, *(cell(_shown(name, row[at])) for row in found.rows)]))
        for at, name in enumerate(before)
    )
    room = shutil.get_terminal_size().columns - taken
    is_last = found.columns[-1] == "message"
    width = max(_LEAST_MESSAGE, room if is_last else min(_MOST_MESSAGE, room))
    rows: list[tuple[object, ...]] = [
        tuple(
            _cut(value, width) if name == "message" else _shown(name, value)
            for name, value in zip(found.columns, row, strict=True)
        )
        for row in found.rows
    ]
    return msgspec.structs.replace(found, rows=rows)


def _shown(name: str, value: object) -> object:
    is_time = name == "received_at" and isinstance(value, str)
    return str(value)[:_SECONDS].replace("T", " ") if is_time else value


def _cut(value: object, width: int) -> object:
    text = cell(value)
    return value if len(text) <= width else text[: width - 1] + "…"


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
