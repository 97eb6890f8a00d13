"""Codec: messages and events to bytes and back, with errors that say what is wrong and where.

Decoding checks every constraint of `events` and `messages` in one call. What msgspec alone would
let through or report as something else (broken UTF-8, deep nesting) is mapped here.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from typing import Annotated, TypeVar

import msgspec

from ggend_schema import limits
from ggend_schema.codes import EventCode
from ggend_schema.errors import InvalidEvent, MessageMalformed
from ggend_schema.events import EVENT_TYPES, Event
from ggend_schema.explained import taught, taught_type
from ggend_schema.framing import bare_line, frame
from ggend_schema.messages import (
    ClientMessage,
    DaemonMessage,
    EncodedBatch,
    LinesAnswer,
    Stamp,
    Total,
)

# `Sequence` of collections.abc is for annotations; the wire's own is a constrained int.
from ggend_schema.messages import Sequence as SequenceNumber
from ggend_schema.msgpack_spans import array_spans, map_spans
from ggend_schema.portable import portable_event, portable_line, portable_packed
from ggend_schema.value_words import in_words

__all__ = [
    "NumberedLine",
    "SalvagedBatch",
    "decode_client_message",
    "decode_daemon_message",
    "decode_event",
    "decode_line",
    "decode_line_number",
    "decode_lines",
    "encode_answer_line",
    "encode_event",
    "encode_event_line",
    "encode_frame",
    "salvage_batch",
]

_T = TypeVar("_T")

#: Everything that decoding untrusted bytes raises (the last three are not msgspec's).
DECODE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError)

_daemon_messages: msgspec.msgpack.Decoder[DaemonMessage] = msgspec.msgpack.Decoder(DaemonMessage)
_encoder = msgspec.msgpack.Encoder()
_json_encoder = msgspec.json.Encoder()


class SalvagedBatch(msgspec.Struct, frozen=True, kw_only=True):
    """A Batch of which at least one event is broken: the events are still encoded."""

    first_sequence: SequenceNumber
    stamps: list[Stamp]
    events: list[memoryview]
    shed: Total = 0
    lost: Total = 0


class _BatchHeader(msgspec.Struct, frozen=True, kw_only=True):
    first_sequence: SequenceNumber
    stamps: list[Stamp]
    shed: Total = 0
    lost: Total = 0


class _RawBatch(_BatchHeader, frozen=True, kw_only=True, tag="batch"):
    events: Annotated[list[msgspec.Raw], msgspec.Meta(max_length=limits.BATCH_EVENTS)]


class NumberedLine(msgspec.Struct, frozen=True, kw_only=True):
    """The optional numbering of an NDJSON line; `producer` is 32 hex digits."""

    producer: msgspec.UnsetType | str = msgspec.UNSET
    sequence: msgspec.UnsetType | SequenceNumber = msgspec.UNSET
    #: Only `true` means something; on a line without a number it is one of the unknown keys.
    permanent: object = False


class _Typed(msgspec.Struct, frozen=True):
    """An event of which only the type is looked at."""

    type: str = ""


# Made when first needed: a client never needs them, and would pay for each at its import.


@cache
def _messages() -> msgspec.msgpack.Decoder[ClientMessage]:
    return msgspec.msgpack.Decoder(ClientMessage)


@cache
def _events() -> msgspec.msgpack.Decoder[Event]:
    return msgspec.msgpack.Decoder(Event)


@cache
def _lines() -> msgspec.json.Decoder[Event]:
    return msgspec.json.Decoder(Event)


@cache
def _typed_events() -> msgspec.msgpack.Decoder[_Typed]:
    return msgspec.msgpack.Decoder(_Typed)


@cache
def _typed_lines() -> msgspec.json.Decoder[_Typed]:
    return msgspec.json.Decoder(_Typed)


@cache
def _raw_batches() -> msgspec.msgpack.Decoder[_RawBatch]:
    return msgspec.msgpack.Decoder(_RawBatch)


@cache
def _line_numbers() -> msgspec.json.Decoder[NumberedLine]:
    return msgspec.json.Decoder(NumberedLine)


def encode_event(event: Event) -> bytes:
    """Encode one event as it stands in a Batch.

    What msgpack cannot carry is made `portable`. Raises TypeError for what is no JSON value.
    """
    try:
        return _encoder.encode(event)
    except (UnicodeEncodeError, OverflowError):
        return _encoder.encode(portable_event(event))


def encode_event_line(event: Event) -> bytes:
    """Encode one event as an NDJSON line, with its LF."""
    return _json_encoder.encode(event) + b"\n"


def encode_frame(message: ClientMessage | DaemonMessage | EncodedBatch) -> bytes:
    """Encode one message as a whole frame."""
    return frame(_encoder.encode(message))


def encode_answer_line(answer: LinesAnswer) -> bytes:
    """Encode the answer to NDJSON, with its LF."""
    return _json_encoder.encode(answer) + b"\n"


def decode_daemon_message(payload: bytes | memoryview) -> DaemonMessage:
    """Decode what a client receives. Raises MessageMalformed."""
    try:
        return _daemon_messages.decode(payload)
    except DECODE_ERRORS as error:
        raise MessageMalformed(f"not a message of this protocol: {in_words(str(error))}") from error


def decode_client_message(payload: memoryview) -> ClientMessage | SalvagedBatch:
    """Decode what the daemon receives.

    Raises MessageMalformed when not even the envelope can be read.
    """
    if len(payload) > limits.EVENT_BYTES:
        # One event may be too large, so that each is looked at singly: decoding once is enough.
        with suppress(MessageMalformed):
            return salvage_batch(payload, MessageMalformed("over the size of one event"))
    try:
        return _messages().decode(payload)
    except DECODE_ERRORS as error:
        return salvage_batch(payload, error)


def salvage_batch(payload: memoryview, why: Exception) -> SalvagedBatch:
    """Read a Batch of which an event is broken: the envelope, and each event's own bytes.

    `why` is what was wrong with it as a whole.

    Raises MessageMalformed when the envelope is broken too.
    """
    try:
        batch = _raw_batches().decode(payload)
    except DECODE_ERRORS:
        # One that is nested so deep that even skipping it recurses too far is found by its spans.
        return _salvage_by_spans(payload, why)
    events = [memoryview(event) for event in batch.events]
    return SalvagedBatch(
        first_sequence=batch.first_sequence,
        stamps=batch.stamps,
        events=events,
        shed=batch.shed,
        lost=batch.lost,
    )


def _salvage_by_spans(payload: memoryview, why: Exception) -> SalvagedBatch:
    found: dict[str, object] = {}
    events: list[memoryview] = []
    try:
        for key, value in map_spans(payload):
            name = msgspec.msgpack.decode(key, type=str)
            if name == "events":
                events = array_spans(value)
            elif name in ("type", *_BatchHeader.__struct_fields__):
                found[name] = msgspec.msgpack.decode(value)
        if found.pop("type", None) != "batch":
            raise MessageMalformed(f"not a message of this protocol: {in_words(str(why))}") from why
        header = msgspec.convert(found, _BatchHeader)
    except DECODE_ERRORS as error:
        raise MessageMalformed(f"not a message of this protocol: {in_words(str(error))}") from error
    return SalvagedBatch(
        first_sequence=header.first_sequence,
        stamps=header.stamps,
        events=events,
        shed=header.shed,
        lost=header.lost,
    )


def decode_event(encoded: bytes | memoryview) -> Event:
    """Decode one event of a Batch. Raises InvalidEvent."""
    _check_size(encoded)
    try:
        try:
            return _events().decode(encoded)
        except UnicodeDecodeError:
            return _events().decode(portable_packed(memoryview(encoded)))
    except msgspec.ValidationError as error:
        raise _invalid_value(error, _type_in(_typed_events(), encoded)) from error
    except (*DECODE_ERRORS, MessageMalformed) as error:
        raise _invalid(error) from error


def decode_line(line: bytes) -> Event:
    """Decode one NDJSON line. Raises InvalidEvent."""
    _check_size(line)
    try:
        return _decode_portable(_lines(), line)
    except msgspec.ValidationError as error:
        raise _invalid_value(error, _type_in(_typed_lines(), line)) from error
    except DECODE_ERRORS as error:
        raise _invalid(error) from error


def decode_lines(block: bytes) -> list[Event] | None:
    """Decode whole lines in one call, or return None: then some line must be looked at singly."""
    if b'"sequence"' in block or b'"producer"' in block or b"\\u" in block:
        return None  # numbered, or escapes could spell those keys
    try:
        events = _lines().decode_lines(block)
    except DECODE_ERRORS:
        return None
    # The decoder cares for objects, not for lines. `}` LF `{` can only stand between two whole
    # objects: if every LF stands so, and there is one object more than that, each has its line.
    breaks = block.count(b"\n")
    return events if breaks == block.count(b"}\n{") == len(events) - 1 else None


def decode_line_number(line: bytes) -> tuple[bytes | None, int | None, bool]:
    """Return the producer id and sequence that a line carries, and whether the id is permanent.

    Raises InvalidEvent. One without the other is refused: it would look exactly-once and not be it.
    """
    try:
        numbered = _decode_portable(_line_numbers(), line)
    except msgspec.ValidationError as error:
        said = taught(NumberedLine, "line", str(error))
        raise InvalidEvent(EventCode.INVALID, said) from error
    except DECODE_ERRORS as error:
        raise _invalid(error) from error
    if isinstance(numbered.producer, str) and isinstance(numbered.sequence, int):
        try:
            producer = bytes.fromhex(numbered.producer)
        except ValueError:
            producer = b""
        if len(producer) != limits.PRODUCER_BYTES:
            raise InvalidEvent(EventCode.INVALID, "`producer` must be 32 hex digits")
        return producer, numbered.sequence, numbered.permanent is True
    if numbered.producer is msgspec.UNSET and numbered.sequence is msgspec.UNSET:
        return None, None, False
    raise InvalidEvent(EventCode.INVALID, "`producer` and `sequence` go together or not at all")


def _decode_portable(decoder: msgspec.json.Decoder[_T], line: bytes) -> _T:
    """Decode a line, also one with texts that are not UTF-8 or not Unicode.

    What stands before a line is cut off from it when it comes; in the quarantine are older ones.
    """
    try:
        return decoder.decode(line)
    except msgspec.ValidationError:
        raise
    except DECODE_ERRORS:
        mended = portable_line(bare_line(line))
        if mended == line:
            raise
        return decoder.decode(mended)


def _check_size(encoded: Sequence[int]) -> None:
    if len(encoded) > limits.EVENT_BYTES:
        raise InvalidEvent(
            EventCode.TOO_LARGE,
            f"an event of {len(encoded)} bytes is over the limit of {limits.EVENT_BYTES}",
        )


def _type_in(
    decoder: msgspec.msgpack.Decoder[_Typed] | msgspec.json.Decoder[_Typed],
    encoded: bytes | memoryview,
) -> str:
    """Return the type that a wrong event has; empty where it cannot be read."""
    try:
        return decoder.decode(encoded).type
    except DECODE_ERRORS:
        return ""


def _invalid_value(error: msgspec.ValidationError, kind: str) -> InvalidEvent:
    text = str(error)
    if text.endswith(("at `$.type`", "required field `type`")):
        return InvalidEvent(EventCode.UNKNOWN_TYPE, taught_type(text))
    return InvalidEvent(EventCode.INVALID, taught(EVENT_TYPES.get(kind), kind, text))


def _invalid(error: Exception) -> InvalidEvent:
    text = str(error)
    if isinstance(error, UnicodeDecodeError):
        return InvalidEvent(EventCode.NOT_UTF8, f"a text is not UTF-8: {error.reason}")
    if isinstance(error, RecursionError):
        return InvalidEvent(
            EventCode.TOO_DEEP, f"nested deeper than the limit of {limits.JSON_DEPTH}"
        )
    if isinstance(error, OverflowError):
        return InvalidEvent(EventCode.INVALID, f"a number is out of range: {text}")
    return InvalidEvent(EventCode.MALFORMED, text)
