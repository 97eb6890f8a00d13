"""Entries: decoded events with their rows; what is wrong with one makes a Rejection of it alone.

The fast path builds all rows of a frame or block in one go. Only if that fails are its events
looked at singly, from their own bytes.
"""

from __future__ import annotations

from collections.abc import Sequence

from ggend.intake import Entry, Rejection
from ggend.rows import row_of
from ggend_schema.codec import (
    SalvagedBatch,
    decode_event,
    decode_line,
    decode_lines,
    salvage_events,
)
from ggend_schema.errors import InvalidEvent, MessageMalformed
from ggend_schema.limits import BATCH_EVENTS, EVENT_BYTES, SEQUENCE_MAX
from ggend_schema.messages import Batch

__all__ = ["batch_entries", "block_entries", "line_entry"]


def batch_entries(batch: Batch | SalvagedBatch, payload: memoryview) -> list[Entry]:
    """Return the entries of a Batch; `payload` is what it was decoded from.

    Raises MessageMalformed when its numbers do not fit together.
    """
    events, stamps = batch.events, batch.stamps
    if len(events) != len(stamps):
        raise MessageMalformed(
            f"a Batch with {len(events)} events and {len(stamps)} stamps; one stamp an event"
        )
    if len(events) > BATCH_EVENTS:
        raise MessageMalformed(f"a Batch of {len(events)} events is over {BATCH_EVENTS}")
    if batch.first_sequence + len(events) > SEQUENCE_MAX or batch.lost >= batch.first_sequence:
        raise MessageMalformed(
            f"first_sequence {batch.first_sequence} with {len(events)} events and "
            f"{batch.lost} lost is outside 1 to {SEQUENCE_MAX}"
        )
    if isinstance(batch, Batch):
        if len(payload) > EVENT_BYTES:  # one of them may be over the limit
            return _singly(salvage_events(payload), stamps)
        try:
            return [
                (event, stamp_ns, row_of(event, stamp_ns))
                for event, stamp_ns in zip(batch.events, stamps, strict=True)
            ]
        except InvalidEvent:
            return _singly(salvage_events(payload), stamps)
    return _singly(batch.events, stamps)


def _singly(encoded_events: Sequence[memoryview], stamps: Sequence[int]) -> list[Entry]:
    entries: list[Entry] = []
    for encoded, stamp_ns in zip(encoded_events, stamps, strict=True):
        try:
            event = decode_event(encoded)
            entries.append((event, stamp_ns, row_of(event, stamp_ns)))
        except InvalidEvent as error:
            refused = Rejection(error.code, error.message, bytes(encoded))
            entries.append((refused, stamp_ns, None))
    return entries


def block_entries(block: bytes, stamp_ns: int) -> list[Entry] | None:
    """Return the entries of whole unnumbered lines, or None: then take them line by line."""
    events = decode_lines(block)
    if events is None:
        return None
    try:
        return [(event, stamp_ns, row_of(event, stamp_ns)) for event in events]
    except InvalidEvent:
        return None


def line_entry(line: bytes, stamp_ns: int) -> Entry:
    """Return the entry of one line."""
    try:
        event = decode_line(line)
        return event, stamp_ns, row_of(event, stamp_ns)
    except InvalidEvent as error:
        return Rejection(error.code, error.message, line, "json"), stamp_ns, None
