"""Ggen log: what the lines of a `receipt-log.jsonl` of `ggen sync` are as events.

Never opens a file, a socket or a database: bytes of lines in, events out.

A line is `{"record": {…}, "payload": {…}}` and becomes one receipt_emitted, and one audit for
each decision that wrote or injected something, in the order of the line. Each line is a permanent
producer of its own, whose id `line_producer` derives from the agent and the chain hash, and its
events are numbered from 1. However often a line comes, in whatever file and at whatever place in
it, the daemon recognises it; what stands before or after it does not matter.

`ggen sync` records neither how long it took nor where it ran. Where the record or the payload
has a `duration_ms` (a whole number from 0 to 10^12), that is the duration; else the receipt
says that it is unknown. Where one of them has an `origin` that can be a name, that is the
environment. What is of another kind is as if it were not there: it stays in the receipt's JSON.

Each record names the chain hash of the one before; where that does not fit, the chain is broken
there. A break, or a line that cannot be read, is reported with its number and stops nothing. Links
are all that is checked: neither the hash of a payload (BLAKE3) nor a signature is computed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import Meta

from ggend_schema import limits
from ggend_schema.codec import DECODE_ERRORS, decode_event, encode_event
from ggend_schema.errors import InvalidEvent
from ggend_schema.events import Audit, Event, ReceiptEmitted, ReceiptStatus
from ggend_schema.framing import LineSplitter, OverlongLine
from ggend_schema.rows import row_of
from ggend_schema.spelling import or_nearest
from ggend_schema.timestamps import format_ms
from ggend_schema.value_words import in_words, shown

__all__ = ["DEFAULT_AGENT", "LogLine", "LogReader", "UnreadableLine", "line_producer"]

#: The agent of imported receipts: these logs name none.
DEFAULT_AGENT = "ggen-sync"

#: What the first record names as the one before it.
_NO_RECORD = "0" * 64

_STATUS_OF_ANDON: dict[str, ReceiptStatus] = {
    "Green": "passed",
    "Overridden": "partial",
    "Halted": "failed",
}

ChainHash: TypeAlias = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class UnreadableLine(ValueError):
    """A line is no receipt, or one over the limits of events."""


class LogLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a log: its events, or the problem why it has none."""

    number: int
    #: Who numbers the events; empty where there are none.
    producer: bytes = b""
    events: list[Event] = []
    #: Bytes of the line.
    size: int = 0
    #: Why the line could not be read.
    problem: str | None = None
    #: How the chain is broken before this line.
    chain_break: str | None = None


class _Record(msgspec.Struct, frozen=True, kw_only=True):
    chain_hash_hex: ChainHash
    prev_chain_hash_hex: ChainHash
    payload_hash_hex: str
    andon: str | dict[str, Any]
    ts_ns: Annotated[int, Meta(ge=0)] = 0
    duration_ms: Any = None
    origin: Any = None


class _Payload(msgspec.Struct, frozen=True, kw_only=True):
    graph_hash: str | None = None
    outputs: dict[str, str] = {}
    decisions: dict[str, str] = {}
    duration_ms: Any = None
    origin: Any = None


class _Line(msgspec.Struct, frozen=True, kw_only=True):
    record: _Record
    payload: _Payload


_lines = msgspec.json.Decoder(_Line)
_values = msgspec.json.Decoder(dict[str, Any])


def line_producer(chain_hash_hex: str, agent: str) -> bytes:
    """Derive the producer id of a line.

    The agent is part of it: the same line for another agent is other events.
    """
    return hashlib.blake2b(
        chain_hash_hex.encode() + b"\0" + agent.encode(),
        digest_size=limits.PRODUCER_BYTES,
        person=b"ggend ggen-log",
    ).digest()


class LogReader:
    """Reads one log, in chunks of any size, and watches its chain."""

    __slots__ = ("_agent", "_continues", "_previous", "_splitter", "lines", "modified_ns")

    def __init__(self, *, agent: str, modified_ns: int, continues: str | None = None) -> None:
        """`continues` is the last chain hash of the log that this one took the place of, if any."""
        self._agent = agent
        self._continues = continues
        #: The file's modification time, for records that have no time; set anew as it grows.
        self.modified_ns = modified_ns
        self._previous: str | None = _NO_RECORD
        self._splitter = LineSplitter()
        #: Lines read so far, blank ones too.
        self.lines = 0

    @property
    def last_hash(self) -> str | None:
        """The chain hash of the last line, if it is known."""
        return None if self._previous == _NO_RECORD else self._previous

    def feed(self, chunk: bytes) -> Iterator[LogLine]:
        """Read the lines that this chunk completes; blank ones only count."""
        for part in self._splitter.feed(chunk):
            if isinstance(part, OverlongLine):
                self.lines += 1
                yield self._unreadable(f"a line is over the limit of {limits.EVENT_BYTES} bytes")
            else:
                for line in part.split(b"\n"):
                    yield from self._read(line)

    def finish(self) -> Iterator[LogLine]:
        """Read the last line, where no LF ends it."""
        last = self._splitter.finish()
        if last:
            yield from self._read(last)

    def _read(self, line: bytes) -> Iterator[LogLine]:
        self.lines += 1
        if not line.strip():
            return
        try:
            parsed = _decode(line)
            events = self._events(parsed, line)
        except UnreadableLine as error:
            yield self._unreadable(str(error))
            return
        chain_break = self._follow(parsed.record)
        yield LogLine(
            number=self.lines,
            producer=line_producer(parsed.record.chain_hash_hex, self._agent),
            events=events,
            chain_break=chain_break,
            size=len(line),
        )

    def _unreadable(self, problem: str) -> LogLine:
        self._previous = None  # the next line cannot be compared with this one
        return LogLine(number=self.lines, problem=problem)

    def _follow(self, record: _Record) -> str | None:
        expected, self._previous = self._previous, record.chain_hash_hex
        if expected is None or record.prev_chain_hash_hex == expected:
            return None
        if expected == _NO_RECORD:
            if record.prev_chain_hash_hex == self._continues:
                return None
            return f"the first record continues {_short(record.prev_chain_hash_hex)}"
        return (
            f"the record continues {_short(record.prev_chain_hash_hex)}, "
            f"the one before it is {_short(expected)}"
        )

    def _events(self, line: _Line, text: bytes) -> list[Event]:
        record, payload = line.record, line.payload
        duration_ms = _duration(line)
        try:
            timestamp = format_ms((record.ts_ns or self.modified_ns) // 1_000_000)
            events: list[Event] = [
                ReceiptEmitted(
                    execution_id=record.chain_hash_hex,
                    agent_id=self._agent,
                    operation="generation",
                    status=_status(record.andon),
                    duration_ms=duration_ms or 0,
                    duration_source="unknown" if duration_ms is None else None,
                    timestamp=timestamp,
                    manifest_hash=record.payload_hash_hex,
                    ontology_hash=payload.graph_hash,
                    files_generated=_outputs(payload, "written"),
                    files_modified=_outputs(payload, "injected"),
                    receipt=_values.decode(text),
                    environment=_origin(line),
                )
            ]
            events += [
                Audit(
                    agent_id=self._agent,
                    operation=f"{verb} {path}"[: limits.OPERATION_CHARS],
                    status="completed",
                    context={"path": path, "decision": decision, "hash": payload.outputs.get(path)},
                    execution_id=record.chain_hash_hex,
                    timestamp=timestamp,
                )
                for path, decision in payload.decisions.items()
                if (verb := _verb(decision)) is not None
            ]
            for event in events:
                # What the daemon would reject is reported here, with the line.
                row_of(decode_event(encode_event(event)), 0)
        except InvalidEvent as error:
            raise UnreadableLine(error.message) from error
        except DECODE_ERRORS as error:
            raise UnreadableLine(str(error)) from error
        return events


def _decode(line: bytes) -> _Line:
    try:
        return _lines.decode(line)
    except DECODE_ERRORS as error:
        raise UnreadableLine(f"not a receipt: {in_words(str(error))}") from error


def _duration(line: _Line) -> int | None:
    for value in (line.record.duration_ms, line.payload.duration_ms):
        if type(value) is int and 0 <= value <= limits.COUNT_MAX:
            return value
    return None


def _origin(line: _Line) -> str | None:
    for value in (line.record.origin, line.payload.origin):
        if isinstance(value, str) and value.isprintable() and 1 <= len(value) <= limits.NAME_CHARS:
            return value
    return None


def _status(andon: str | dict[str, Any]) -> ReceiptStatus:
    name = andon if isinstance(andon, str) else next(iter(andon), "")
    if name not in _STATUS_OF_ANDON:
        near = or_nearest(name, _STATUS_OF_ANDON)
        raise UnreadableLine(
            f"andon is {shown(name)}{near}; allowed are {', '.join(_STATUS_OF_ANDON)}"
            " - at `$.record.andon`"
        )
    return _STATUS_OF_ANDON[name]


def _verb(decision: str) -> str | None:
    if decision.startswith("written"):
        return "write"
    return "inject" if decision.startswith("injected") else None


def _outputs(payload: _Payload, decision: str) -> int:
    return sum(payload.decisions.get(path, "").startswith(decision) for path in payload.outputs)


def _short(chain_hash: str) -> str:
    return "nothing" if chain_hash == _NO_RECORD else f"{chain_hash[:12]}…"
