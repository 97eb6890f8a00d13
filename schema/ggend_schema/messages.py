"""Messages: what travels in the frames of protocol 1 (docs/WIRE.md), both directions.

Each is a msgpack map; `type` tells them apart. Unknown keys are ignored.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from ggend_schema import limits
from ggend_schema.events import Event

__all__ = [
    "PROTOCOL",
    "Ack",
    "Answer",
    "Batch",
    "ClientMessage",
    "DaemonMessage",
    "EncodedBatch",
    "Goodbye",
    "Hello",
    "Limits",
    "LineError",
    "LinesAnswer",
    "Reject",
    "Request",
    "Welcome",
]

#: The version that Hello and Welcome carry.
PROTOCOL = 1

Sequence: TypeAlias = Annotated[int, Meta(ge=1, le=limits.SEQUENCE_MAX)]
SequenceOrZero: TypeAlias = Annotated[int, Meta(ge=0, le=limits.SEQUENCE_MAX)]
#: Wall-clock nanoseconds since 1970; 64 bits reach the year 2262.
Stamp: TypeAlias = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Total: TypeAlias = Annotated[int, Meta(ge=0, le=limits.SEQUENCE_MAX)]
Producer: TypeAlias = Annotated[
    bytes, Meta(min_length=limits.PRODUCER_BYTES, max_length=limits.PRODUCER_BYTES)
]
ShortText: TypeAlias = Annotated[str, Meta(max_length=limits.NAME_CHARS)]


class Hello(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="hello"):
    """First frame of a client. Without a producer the connection may only send requests."""

    protocol: int
    producer: Producer | None = None
    #: An id derived from content (an importer's): never folded, never forgotten.
    permanent: bool = False
    #: Name and version of the client, for people.
    client: ShortText = ""
    #: The highest sequence that was acked to this producer, as far as the client knows.
    acked: SequenceOrZero = 0


class Limits(Struct, frozen=True, kw_only=True):
    """What the daemon accepts, in Welcome."""

    frame_bytes: int
    batch_events: int


class Welcome(Struct, frozen=True, kw_only=True, tag="welcome"):
    """First frame of the daemon."""

    protocol: int
    #: Random id made with the database file, 32 hex digits.
    database: str
    #: The highest settled sequence of this producer; 0 for a new one.
    last_sequence: int
    limits: Limits
    #: What an Ack stands for: the journal mode and synchronous level of the database.
    durability: str


class Batch(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="batch"):
    """Events with consecutive numbers, beginning at `first_sequence`."""

    first_sequence: Sequence
    stamps: list[Stamp]
    events: Annotated[list[Event], Meta(max_length=limits.BATCH_EVENTS)]
    #: Running total of events dropped before they got a number.
    shed: Total = 0
    #: How many numbers directly before `first_sequence` never come.
    lost: Total = 0


class EncodedBatch(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="batch"):
    """A Batch as its sender builds it: the events are encoded already."""

    first_sequence: int
    stamps: list[int]
    events: list[Raw]
    shed: int = 0
    lost: int = 0


class Ack(Struct, frozen=True, kw_only=True, gc=False, tag="ack"):
    """Everything up to and including `sequence` is settled, durably."""

    sequence: int


class Reject(Struct, frozen=True, kw_only=True, gc=False, tag="reject"):
    """This event went to quarantine. Comes before the Ack that covers it."""

    sequence: int
    code: str
    message: str


class Request(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="request"):
    """Ask for something; answered after the commit of what was sent before."""

    id: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    op: ShortText
    arguments: dict[str, Any] = {}


class Answer(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="answer"):
    """The answer to the Request of the same id: a result, or a code and a message."""

    id: int
    result: Any = None
    code: str | None = None
    message: str | None = None


class Goodbye(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="goodbye"):
    """The last frame of either side."""

    code: str
    message: str = ""
    #: With code `gap`: the highest settled sequence.
    last_sequence: SequenceOrZero | None = None


class LineError(Struct, frozen=True, kw_only=True):
    """One line that was not stored, in a LinesAnswer. Lines count from 1."""

    line: int
    code: str
    message: str


class LinesAnswer(Struct, frozen=True, kw_only=True):
    """The one line that answers NDJSON: lines is the sum of the six counts, `parked` apart."""

    lines: int
    stored: int
    replayed: int
    duplicate: int
    superseded: int
    rejected: int
    refused: int
    #: The part of `stored` that waited for its parent when it was committed.
    parked: int
    errors: list[LineError]
    #: Errors beyond the first `limits.REPORTED_ERRORS`.
    errors_omitted: int = 0
    #: Users who have imported the same content before; left out where there are none.
    imported_by: list[int] | UnsetType = UNSET


ClientMessage: TypeAlias = Hello | Batch | Request | Goodbye
DaemonMessage: TypeAlias = Welcome | Ack | Reject | Answer | Goodbye
