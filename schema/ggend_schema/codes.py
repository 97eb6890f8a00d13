"""Codes: the stable words that say why an event or a connection was not accepted.

A code is never renamed; programs compare it, people read the message beside it.
"""

from __future__ import annotations

from enum import StrEnum

__all__ = ["EventCode", "GoodbyeCode"]


class EventCode(StrEnum):
    """Why one event was rejected (`Reject.code`, `errors[].code`, `rejected_events.code`)."""

    MALFORMED = "malformed"
    """The bytes are not one whole msgpack or JSON value."""
    NOT_UTF8 = "not_utf8"
    """A text is not valid UTF-8."""
    TOO_DEEP = "too_deep"
    """Nested deeper than the limit."""
    TOO_LARGE = "too_large"
    """The event, or one of its JSON fields, is over its size limit."""
    UNKNOWN_TYPE = "unknown_type"
    """`type` is missing or names no event of this protocol version."""
    INVALID = "invalid"
    """A field is missing, of the wrong type, outside its range or not in its enumeration."""
    CONFLICT = "conflict"
    """The same id is stored already with other content."""
    PARKED_FULL = "parked_full"
    """The parent is missing and no further event may wait for one."""
    REFUSED_BY_DATABASE = "refused_by_database"
    """SQLite refused the row; the message is SQLite's."""
    ORPHANED = "orphaned"
    """Its parent did not come within `parked_max_age_days`."""
    GAP = "gap"
    """NDJSON only: numbers before this one are missing. Not settled; send them first."""
    NOT_YOURS = "not_yours"
    """NDJSON only: the producer id belongs to another user. Not settled."""


class GoodbyeCode(StrEnum):
    """Why a connection ends (`Goodbye.code`)."""

    DONE = "done"
    """From a client: everything is acked, forget this producer."""
    DRAINING = "draining"
    """The daemon is stopping; what was acked is stored, send the rest again later."""
    GAP = "gap"
    """Numbers are missing before this batch; nothing of it was stored."""
    NOT_YOURS = "not_yours"
    """The producer id belongs to another user."""
    UNKNOWN_PRODUCER = "unknown_producer"
    """The Hello says that something was acked, and the database knows nothing of this producer."""
    TAKEN_OVER = "taken_over"
    """A newer connection uses this producer id."""
    PROTOCOL = "protocol"
    """The bytes are not what the protocol allows here."""
    UNSUPPORTED_VERSION = "unsupported_version"
    """The Hello names a protocol version that the daemon does not speak."""
    FRAME_TOO_LARGE = "frame_too_large"
    """The length prefix is over the limit (or the bytes are no frame at all)."""
    TIMEOUT = "timeout"
    """Half a frame came, and then nothing, or nothing at all for long."""
    INTERNAL = "internal"
    """The daemon failed in a way it does not understand; see its log."""
