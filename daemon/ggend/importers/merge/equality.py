"""Equality: whether a row of another database is what this one has already.

Content counts, in the notation that ggend would store it in: neither ids nor how somebody wrote a
timestamp or a JSON text. Never opens a database.
"""

from __future__ import annotations

from contextlib import suppress

from ggend.importers.merge.row_to_event import COLUMNS, fingerprint, raw_fingerprint, read_back
from ggend_schema.errors import InvalidEvent
from ggend_schema.events import (
    Event,
    MemorySaved,
    ReceiptEmitted,
    SessionEnded,
    SessionStarted,
)
from ggend_schema.rows import Row, same_json
from ggend_schema.timestamps import format_ms, parse_us

__all__ = [
    "Reading",
    "differing_columns",
    "is_same_memory",
    "missing_of_session",
    "normal_timestamp",
    "saved_us",
]


class Reading:
    """A stored row, and what it is as an event, if it can be one.

    Rows with the same fingerprint have the same content.
    """

    __slots__ = ("event", "fingerprint", "problem", "row", "stored")

    def __init__(self, kind: type[Event], stored: Row) -> None:
        self.stored = self.row = stored
        self.event: Event | None = None
        self.problem = ""
        try:
            self.event, self.row = read_back(kind, stored)
            self.fingerprint = fingerprint(kind, self.row)
        except InvalidEvent as error:
            self.problem = error.message
            self.fingerprint = raw_fingerprint(kind, stored)


def missing_of_session(stored: Row, own: Row | None) -> list[Event] | None:
    """Return the events that bring a session here to where it is there; None: a conflict.

    Numbers that were derived there, not given, say nothing against other numbers here.
    """
    if own is not None and stored[:9] == own[:9]:
        return []
    session_id, _, agent_count, _, end_time, status, *numbers = stored[:9]
    start, row = read_back(SessionStarted, stored[:4])
    end: Event | None = None
    if status != "running":
        end, _ = read_back(SessionEnded, (session_id, end_time, status, *numbers))
    if own is None:
        return [start] if end is None else [start, end]
    if agent_count != own[2] or not same_json(row[4], own[3]):
        return None
    if end is None:
        return []
    if own[5] == "running":
        return [end]
    given = stored[9:] or (1, 1, 1)
    is_same = status == own[5] and all(
        number is None or not is_given or number == own_number
        for number, is_given, own_number in zip(numbers, given, own[6:9], strict=True)
    )
    return [] if is_same else None


def differing_columns(stored: Row, own: Row, *, has_session: bool) -> list[str]:
    """Return the columns in which two receipts of one execution differ, timestamp apart."""
    if stored == own:
        return []
    there, here = Reading(ReceiptEmitted, stored).row, Reading(ReceiptEmitted, own).row
    return [
        column
        for column, one, other in zip(COLUMNS[ReceiptEmitted], there, here, strict=True)
        if one != other
        and column != "timestamp"
        and not (column == "receipt_json" and same_json(one, other))
        # Databases without the mark have 0 ms for an unknown duration.
        and not (column == "duration_source" and None in (one, other) and there[9] == here[9] == 0)
        and (has_session or column != "session_id")
    ]


def is_same_memory(row: Row, own: Row) -> bool:
    """Say whether a memory that was read back is the one stored here."""
    try:
        _, here = read_back(MemorySaved, own[:6])
    except InvalidEvent:
        return False
    return same_json(row[1], here[1]) and same_json(row[2], here[2]) and row[3:6] == here[3:6]


def saved_us(stored: Row) -> int:
    """Return when a stored memory was saved, in microseconds; what is no time is oldest.

    Behind its columns may stand the exact time, which version 1.0.0 has not.
    """
    for exact in stored[6:]:
        if isinstance(exact, int):
            with suppress(InvalidEvent):
                format_ms(exact // 1000)  # outside the years that a moment can have: not exact
                return exact
    try:
        return parse_us(stored[5]) if isinstance(stored[5], str) else -1
    except InvalidEvent:
        return -1


def normal_timestamp(timestamp: object) -> str | None:
    """Return a stored timestamp as ggend writes it, or None where it is none."""
    try:
        return format_ms(parse_us(timestamp) // 1000) if isinstance(timestamp, str) else None
    except InvalidEvent:
        return None
