"""Emitting: sends the events of `ggend emit`, given as words or as lines.

Without click, so that an event of a script does not wait for its import.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from ggend.cli.common.delivery import Delivery, quiet_client, require_daemon
from ggend.cli.render.output import complain
from ggend.cli.render.sizes import counted
from ggend.encodings import WrongEncoding, checked_chunks
from ggend.errors import UsageMistake
from ggend.importers.event_args import BadEvent, check_line, event_of, unread_json
from ggend_client import Client
from ggend_schema.codec import encode_event
from ggend_schema.codes import EventCode
from ggend_schema.errors import InvalidEvent
from ggend_schema.events import Event
from ggend_schema.framing import LineSplitter, OverlongLine
from ggend_schema.limits import EVENT_BYTES

__all__ = ["TIMEOUT_SECONDS", "emit_and_go_on", "emit_lines", "emit_one"]

#: How long to wait for the daemon where --timeout does not say it.
TIMEOUT_SECONDS = 5.0

#: Maximum bytes per read from standard input.
_CHUNK_BYTES = 64 * 1024

_CLIENT_NAME = "ggend emit"

#: Characters of a value that a warning repeats.
_SHOWN_CHARS = 60

#: Events in memory before waiting for some to be stored: half of what the client may hold.
_QUEUED_EVENTS = 32_768


def emit_and_go_on(
    kind: str | None, fields: Sequence[str], socket: Path | None, seconds: float
) -> None:
    """Send the valid events, spool them on disk if no daemon answers, and never fail."""
    client = quiet_client(socket, service=_CLIENT_NAME)
    try:
        if kind is None:
            for number, line in enumerate(_lines(sys.stdin.fileno()), start=1):
                _emit_line(client, number, line, seconds)
        else:
            client.emit(_event(kind, fields))
    except (BadEvent, UsageMistake, WrongEncoding) as error:
        complain(str(error), hint=error.hint)
    client.close(seconds)
    _report(client, socket)


def _event(kind: str, fields: Sequence[str]) -> Event:
    """Build the event; warn of JSON that is given as text."""
    event = event_of(kind, fields, os.environ)
    for key, text in unread_json(kind, fields).items():
        value = shlex.quote(text) if len(text) <= _SHOWN_CHARS else "…"
        complain(f"`{key}` is stored as text", hint=f"{key}:={value} stores JSON")
    return event


def _emit_line(client: Client, number: int, line: bytes | OverlongLine, seconds: float) -> None:
    try:
        events, _ = _checked(line)
    except InvalidEvent as error:
        complain(f"line {number}: {error}")
        return
    for event in events:
        if client.stats().queued >= _QUEUED_EVENTS:
            client.flush(seconds)  # makes room
        client.emit(event)


def _report(client: Client, socket: Path | None) -> None:
    """Report on standard error the events that are not stored."""
    stats = client.stats()
    for reject in client.recent_rejects():
        complain(
            f"event {reject.sequence} was rejected: {reject.code}: {reject.message}",
            hint="it is kept in quarantine; `ggend rejected list` shows it",
        )
    if stats.spooled:
        command = "ggend spool replay" + (f" --socket {shlex.quote(str(socket))}" if socket else "")
        complain(
            f"{stats.spooled} of {stats.offered} events spooled on disk: "
            f"{stats.last_error or 'the daemon has not answered yet'}",
            hint=f"the next client of the same socket, or `{command}`, sends what is spooled",
        )
    if stats.queued or stats.dropped.total:
        complain(
            f"{stats.queued + stats.dropped.total} of {stats.offered} events lost: "
            f"{stats.last_drop or stats.last_error}"
        )


def emit_one(kind: str, fields: Sequence[str], socket: Path | None, seconds: float) -> None:
    """Send one event. Raises BadEvent, UsageMistake, DaemonUnreachable if it is not stored."""
    event = _event(kind, fields)
    require_daemon(socket)
    with Delivery(socket, name=_CLIENT_NAME, timeout_seconds=seconds) as delivery:
        delivery.send([event], size=len(encode_event(event)))
        delivery.flush()
        for reject in delivery.rejects():
            raise BadEvent(
                f"the daemon rejected the event: {reject.code}: {reject.message}",
                hint="it is kept in quarantine; `ggend rejected list` shows it",
            )


def emit_lines(socket: Path | None, seconds: float) -> bool:
    """Send the valid events of standard input; return whether all lines are stored.

    Raises UsageMistake, WrongEncoding, DaemonUnreachable.
    """
    require_daemon(socket)
    invalid = 0
    with Delivery(socket, name=_CLIENT_NAME, timeout_seconds=seconds) as delivery:
        for number, line in enumerate(_lines(sys.stdin.fileno()), start=1):
            try:
                events, size = _checked(line)
            except InvalidEvent as error:
                invalid += 1
                complain(f"line {number}: {error}")
            else:
                delivery.send(events, size=size)
        delivery.flush()
        for reject in delivery.rejects():
            complain(f"event {reject.sequence} was rejected: {reject.code}: {reject.message}")
        rejected = delivery.rejected
    if rejected or invalid:
        complain(
            f"{counted(delivery.sent - rejected, 'event')} stored, {rejected:,} rejected by the "
            f"daemon, {counted(invalid, 'line')} invalid"
        )
    return not (rejected or invalid)


def _checked(line: bytes | OverlongLine) -> tuple[list[Event], int]:
    if isinstance(line, OverlongLine):
        raise InvalidEvent(EventCode.TOO_LARGE, f"over the limit of {EVENT_BYTES} bytes")
    return [check_line(line)] if line.strip() else [], len(line)


def _lines(descriptor: int) -> Iterator[bytes | OverlongLine]:
    splitter = LineSplitter()
    chunks = iter(lambda: _read(descriptor), b"")
    for chunk in checked_chunks(chunks, "standard input"):
        for part in splitter.feed(chunk):
            if isinstance(part, OverlongLine):
                yield part
            else:
                yield from part.split(b"\n")
    yield splitter.finish()


def _read(descriptor: int) -> bytes:
    """Return the available bytes: events from a pipe are sent as they arrive."""
    try:
        return os.read(descriptor, _CHUNK_BYTES)
    except OSError as error:
        raise UsageMistake(
            f"standard input cannot be read: {error.strerror}",
            hint="redirect a file or a pipe: ggend emit --stdin < events.ndjson",
        ) from error
