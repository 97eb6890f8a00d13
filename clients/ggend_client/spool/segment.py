"""Segment: the format of one file of the spool, and nothing about where it lies.

A file is a header and records, all integers big-endian, appended and never changed:

    header   "ggspool1" · producer (16 bytes) · first sequence u64 · made at, ns since 1970 u64
             · CRC-32 of the 40 bytes before u32
    record   length of the payload u32 · events u32 · first sequence u64 · CRC-32 of the payload u32
             · CRC-32 of the 20 bytes before u32 · payload
    payload  a msgpack array of pairs [stamp in ns as uint64, event], as the outbox holds them

The events of a record are numbered from its first sequence on; records rise. A record that ends
beyond the end of the file, and has no whole one behind it, ends the file: a torn tail. One that
is damaged is skipped, and its numbers are known to be lost by those of the next; where the damage
is in its head, the next is found by its own head (`find_record`).
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Sequence
from struct import Struct

import msgspec

from ggend_schema import limits

__all__ = [
    "HEADER_BYTES",
    "Header",
    "Record",
    "find_record",
    "is_torn",
    "pack_header",
    "pack_record",
    "read_header",
    "read_record",
]

_MAGIC = b"ggspool1"
_HEADER = Struct(">8s16sQQ")
_RECORD = Struct(">IIQI")
_CRC = Struct(">I")
#: A msgpack array with a 32-bit length.
_ARRAY = Struct(">BI")
_ARRAY_32 = 0xDD

HEADER_BYTES = _HEADER.size + _CRC.size
RECORD_BYTES = _RECORD.size + _CRC.size

#: Bytes of a payload at most: a full frame, or one event of the largest size.
PAYLOAD_BYTES = 2 * limits.FRAME_BYTES

#: What a head of a record can begin with: a length of at most 16 MiB, less than 65,536 events and
#: at least one, and a sequence below 2^56. It rules out most bytes before a checksum is made.
_MAYBE_HEAD = re.compile(rb"(?=\x00[\s\S]{3}\x00\x00(?!\x00\x00)[\s\S]{2}\x00)")

_pairs = msgspec.msgpack.Decoder(list[msgspec.Raw])


class Header(msgspec.Struct, frozen=True, gc=False):
    """What the first bytes of a segment say."""

    producer: bytes
    first_sequence: int
    #: Wall-clock nanoseconds.
    made_at: int


class Record(msgspec.Struct, frozen=True):
    """One record: its numbers, and its events unless they are damaged."""

    first_sequence: int
    events: int
    #: As they were given to `pack_record`; None: the payload does not have its checksum.
    items: list[bytes] | None
    #: Offset of the next record.
    end: int

    @property
    def last_sequence(self) -> int:
        """The number of its last event."""
        return self.first_sequence + self.events - 1


def pack_header(header: Header) -> bytes:
    """Return the bytes that a segment begins with."""
    return _sealed(_HEADER.pack(_MAGIC, header.producer, header.first_sequence, header.made_at))


def pack_record(first_sequence: int, items: Sequence[bytes]) -> bytes:
    """Return the record of these items: encoded pairs of a stamp and an event."""
    payload = _ARRAY.pack(_ARRAY_32, len(items)) + b"".join(items)
    head = _RECORD.pack(len(payload), len(items), first_sequence, zlib.crc32(payload))
    return _sealed(head) + payload


def read_header(descriptor: int) -> Header | None:
    """Return the header of an open segment; None: it is no segment, or damaged."""
    head = os.pread(descriptor, HEADER_BYTES, 0)
    if not _is_sealed(head, _HEADER.size):
        return None
    magic, producer, first_sequence, made_at = _HEADER.unpack_from(head)
    return Header(producer, first_sequence, made_at) if magic == _MAGIC else None


def read_record(descriptor: int, offset: int, end: int) -> Record | None:
    """Read the record at `offset`; None: none ends before `end`, or its header is damaged.

    Raises OSError.
    """
    head = os.pread(descriptor, RECORD_BYTES, offset)
    if not _is_sealed(head, _RECORD.size):
        return None
    length, events, first_sequence, checksum = _RECORD.unpack_from(head)
    begin = offset + RECORD_BYTES
    if not 0 < length <= PAYLOAD_BYTES or begin + length > end or not events:
        return None
    payload = os.pread(descriptor, length, begin)
    items: list[bytes] | None = None
    if zlib.crc32(payload) == checksum:
        items = _items(payload, events)
    return Record(first_sequence, events, items, begin + length)


def find_record(descriptor: int, offset: int, end: int) -> int | None:
    """Return where the next head of a record is, at `offset` or behind it. Raises OSError."""
    rest = os.pread(descriptor, max(0, end - offset), offset)
    for found in _MAYBE_HEAD.finditer(rest):
        if _is_sealed(rest[found.start() : found.start() + RECORD_BYTES], _RECORD.size):
            return offset + found.start()
    return None


def is_torn(descriptor: int, offset: int, end: int) -> bool:
    """Whether what follows the last record is one that was not written to its end.

    Else it is damage: whole records may have been there. Raises OSError.
    """
    head = os.pread(descriptor, RECORD_BYTES, offset)
    if _is_sealed(head, _RECORD.size):
        length: int = _RECORD.unpack_from(head)[0]
        return offset + RECORD_BYTES + length > end
    # After a power cut, a file can have its new length and zeros for what was to be written.
    return len(head) < RECORD_BYTES or not any(head)


def _items(payload: bytes, events: int) -> list[bytes] | None:
    try:
        pairs = _pairs.decode(payload)
    except (msgspec.DecodeError, RecursionError):
        return None
    return [bytes(pair) for pair in pairs] if len(pairs) == events else None


def _sealed(head: bytes) -> bytes:
    return head + _CRC.pack(zlib.crc32(head))


def _is_sealed(head: bytes, size: int) -> bool:
    return len(head) == size + _CRC.size and _sealed(head[:size]) == head
