"""Decode: pairs each decoded event with its row. A wrong event becomes a Rejection of it alone.

The fast path builds all rows of a frame or block in one go. Only if that fails are its events
looked at singly, from their own bytes.
"""

from __future__ import annotations

from collections.abc import Sequence

from ggend.ingest.intake import Entry, Rejection
from ggend_schema.codec import (
    SalvagedBatch,
    decode_event,
    decode_line,
    decode_lines,
    salvage_batch,
)
from ggend_schema.codes import EventCode
from ggend_schema.errors import InvalidEvent, MessageMalformed
from ggend_schema.events import Event
from ggend_schema.limits import BATCH_EVENTS, EVENT_BYTES, SEQUENCE_MAX
from ggend_schema.messages import Batch
from ggend_schema.rows import row_of

__all__ = ["batch_entries", "block_entries", "check_batch", "line_entry"]


def check_batch(batch: Batch | SalvagedBatch) -> None:
    """Raise MessageMalformed when the numbers of a Batch do not fit together."""
    events = len(batch.events)
    if events != len(batch.stamps):
        raise MessageMalformed(
            f"a Batch has {events} events but {len(batch.stamps)} stamps; it needs one per event"
        )
    if events > BATCH_EVENTS:
        raise MessageMalformed(f"a Batch of {events} events is over {BATCH_EVENTS}")
    if batch.first_sequence + events > SEQUENCE_MAX or batch.lost >= batch.first_sequence:
        raise MessageMalformed(
            f"first_sequence {batch.first_sequence} with {events} events and "
            f"{batch.lost} lost is outside 1 to {SEQUENCE_MAX}"
        )


def batch_entries(
    batches: Sequence[tuple[Batch | SalvagedBatch, memoryview]],
) -> list[Entry]:
    """Return the entries of checked Batches, each with the payload that it was decoded from."""
    try:
        return [
            (event, stamp_ns, row_of(event, stamp_ns))
            for batch, payload in batches
            for event, stamp_ns in zip(_events(batch, payload), batch.stamps, strict=True)
        ]
    except InvalidEvent as error:
        entries: list[Entry] = []
        for batch, payload in batches:
            salvaged = batch if isinstance(batch, SalvagedBatch) else salvage_batch(payload, error)
            entries += _singly(salvaged.events, batch.stamps)
        return entries


def _events(batch: Batch | SalvagedBatch, payload: memoryview) -> Sequence[Event]:
    """Return the decoded events of a Batch, none of them over the size limit.

    Raises InvalidEvent where that takes a look at each.
    """
    if isinstance(batch, SalvagedBatch) or len(payload) > EVENT_BYTES:
        raise InvalidEvent(EventCode.INVALID, "look at each")
    return batch.events


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
