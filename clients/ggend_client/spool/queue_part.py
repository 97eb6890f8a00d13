"""Queue part: a piece of the queue between the threads that emit and the worker.

A part is a mapping: events are stored into it one behind the other and never moved. Shared with a
file, it outlives the process: what a program has stored is in the kernel's hands, however the
program ends. All integers are in the machine's byte order, since nobody else reads them:

    header  "ggqueue1" · producer (16 bytes) · begun at, ns since 1970 u64 · index u64
            · first sequence u64 · settled u64 · records u64 · lap u8 · 7 bytes 0
    record  lap u8 · msgpack pair [stamp in ns as uint64, event]

The lap of a record is stored last: that publishes it. A place that was used before begins a new
lap after it was filled with zeros, so that nothing old is read as new, not even where a power cut
has undone the zeros. `index` counts the parts of a queue. `first sequence` is the number of the
first record, 0 while it follows from the part before. Up to `settled` nothing needs to be sent.
`records` is how many there are, once the next part was begun. Lap 0: the part is not in use.

Records have no checksum: a kill cannot undo a store, and a checksum would cost as much as the rest
of emit().
"""

from __future__ import annotations

import mmap
import os
import time
from contextlib import suppress
from pathlib import Path
from struct import Struct

import msgspec

from ggend_client.pairs import opened
from ggend_schema.errors import MessageMalformed
from ggend_schema.limits import PRODUCER_BYTES
from ggend_schema.msgpack_spans import skip

__all__ = ["HEADER_BYTES", "INDEX", "LAP", "RECORDS", "LeftPart", "QueuePart", "read_part"]

_MAGIC = b"ggqueue1"
_HEADER = Struct(f"=8s{PRODUCER_BYTES}sQQQQQB7x")
HEADER_BYTES = _HEADER.size

#: Places of the header, in words of eight bytes, and of the lap.
INDEX, _FIRST_SEQUENCE, _SETTLED, RECORDS = 4, 5, 6, 7
LAP = HEADER_BYTES - 8

#: Laps are values that msgpack takes for an integer of one byte; 0 is none.
LAPS = 127

#: How a pair begins: an array of two, of which the first is a uint64.
_PAIR_HEAD = b"\x92\xcf"

#: A record without an event, where one was reserved and could not be stored: bytes, for msgpack.
_VOID = Struct(">BI")
_VOID_BYTE = 0xC6

_ARRAY = Struct(">BI")
_ARRAY_32 = 0xDD
_ZEROS = bytes(64 * 1024)

#: Bytes of which the pages are asked for at once: as many as take a tenth of a millisecond.
GROWTH_BYTES = 64 * 1024

#: MADV_POPULATE_WRITE (Linux 5.14), for which the module mmap has no name.
_POPULATE_WRITE = 23

_values = msgspec.msgpack.Decoder(list[msgspec.Raw])


class QueuePart:
    """A part of the queue of this process."""

    __slots__ = (
        "begin_record",
        "content",
        "end_record",
        "head",
        "index",
        "lap",
        "last_sequence",
        "limit",
        "next",
        "path",
        "size",
        "tail",
        "words",
    )

    def __init__(self, content: mmap.mmap, path: Path | None = None) -> None:
        """`content` is the mapping; `path` the file that it is shared with, None: of no file."""
        self.content = content
        #: The same in words of eight bytes: one of them is stored at once.
        self.words = memoryview(content).cast("Q")
        self.path = path
        #: Bytes; 0: nothing is ever stored here, it only ends the chain.
        self.size = len(content)
        #: Up to here something may be stored: so far the kernel has given it pages, of which the
        #: first store into each would take as long as several emits.
        self.limit = HEADER_BYTES
        #: Offsets: where the next record will be stored, and where the next is to be read.
        self.tail = self.head = HEADER_BYTES
        self.index = 0
        self.lap = 0
        #: The part behind this one. When there is one, nothing more is stored here.
        self.next: QueuePart | None = None
        #: Records of the whole queue before this part, and up to its end once there is a next one.
        self.begin_record = self.end_record = 0
        #: The number of the last event here, once all were read.
        self.last_sequence = 0

    def begin(self, producer: bytes, *, first_sequence: int) -> None:
        """Make it ready for the next lap, which begins when its place in the queue is stored."""
        self.lap = self.lap % LAPS + 1
        self.tail = self.head = HEADER_BYTES
        self.next = None
        self.content[:HEADER_BYTES] = _HEADER.pack(
            _MAGIC, producer, time.time_ns(), 0, first_sequence, 0, 0, 0
        )

    def grow(self, size: int) -> bool:
        """Let more be stored here, at least so many bytes if it is large enough; False: it is not.

        Many threads may come at once.
        """
        if self.tail + size > self.size:
            return False
        begin = self.limit & -mmap.PAGESIZE
        end = min(self.size, max(self.tail + size, self.limit + GROWTH_BYTES))
        with suppress(OSError):  # a kernel before 5.14: then each first store takes its time
            self.content.madvise(_POPULATE_WRITE, begin, end - begin)
        self.limit = max(self.limit, end)
        return True

    def end_lap(self) -> None:
        """Forget what is in it, and be ready for the next lap."""
        self.retire()
        for begin in range(HEADER_BYTES, self.tail, len(_ZEROS)):
            end = min(begin + len(_ZEROS), self.tail)
            self.content[begin:end] = _ZEROS[: end - begin]

    def number(self, first_sequence: int) -> None:
        """Say which number the first record has."""
        if not self.words[_FIRST_SEQUENCE]:
            self.words[_FIRST_SEQUENCE] = first_sequence

    def settle(self, sequence: int) -> None:
        """Say that nothing up to this number needs to be sent by whoever finds the file."""
        self.words[_SETTLED] = sequence

    def void(self, at: int, end: int) -> None:
        """Put a record without an event where one was reserved."""
        self.content[at + 1 : at + 1 + _VOID.size] = _VOID.pack(_VOID_BYTE, end - at - 6)
        self.content[at] = self.lap

    def read(self, tail: int, records: int, *, has_voids: bool) -> tuple[list[bytes], int]:
        """Take the published records up to `tail`; return their pairs, and how many there were.

        `records` are reserved before `tail`. One of them that is not published yet ends it.
        `has_voids`: some of the queue hold no event.
        """
        region = self.content[self.head : tail]
        lap = bytes([self.lap])
        try:
            found = _values.decode(_ARRAY.pack(_ARRAY_32, 2 * records) + region)
        except (msgspec.DecodeError, RecursionError):  # one may be nested deeply
            found = []
        if found[::2].count(msgspec.Raw(lap)) == records:
            self.head = tail
            pairs: list[bytes] = [*found[1::2]]
        else:
            pairs, end = _walk(region, self.lap)
            self.head += end
        count = len(pairs)
        if has_voids:
            pairs = [pair for pair in pairs if memoryview(pair)[0] != _VOID_BYTE]
        return pairs, count

    def retire(self) -> None:
        """Say that nothing in it needs to be sent, for when the file cannot be removed."""
        self.content[LAP] = 0

    def close(self) -> None:
        """Unmap it. The file stays."""
        self.words.release()
        self.content.close()


class LeftPart(msgspec.Struct, frozen=True, kw_only=True):
    """What a process that has ended left in one file of its queue."""

    path: Path
    #: Wall-clock nanoseconds.
    begun_at: int
    index: int
    #: The number of its first event; 0: it follows from the part before.
    first_sequence: int
    settled: int
    #: Whether these are all: another part was begun behind them, or nothing says so.
    is_whole: bool
    #: Pairs; None: it cannot be read.
    items: list[bytes | None]

    @property
    def unsettled(self) -> int:
        """How many of them may have to be sent, as far as this file says."""
        settled = self.settled - self.first_sequence + 1 if self.first_sequence else 0
        return max(0, len(self.items) - max(0, settled))


def read_part(path: Path, producer: bytes) -> LeftPart | None:
    """Return what a file holds; None: it was not in use. Raises OSError, or ValueError: no part."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    with os.fdopen(descriptor, "rb") as file:
        content = file.read()
    if len(content) < HEADER_BYTES or not any(content[:HEADER_BYTES]):
        return None  # it was only being made
    magic, owner, begun_at, index, first, settled, records, lap = _HEADER.unpack_from(content)
    if magic != _MAGIC or owner != producer or lap > LAPS:
        raise ValueError(f"{path}: not a part of this producer's queue")
    if not lap:
        return None
    items: list[bytes | None] = []
    found = 0
    region = content[HEADER_BYTES:]
    published = bytes([lap]) + _PAIR_HEAD
    begin = 0
    while begin >= 0:
        pairs, end = _walk(region[begin:], lap)
        found += len(pairs)
        items += [_checked(pair) for pair in pairs if pair[0] != _VOID_BYTE]
        # Behind a place that was reserved and not published, by a thread whose emit() had not
        # returned, there may be others.
        begin = region.find(published, begin + end + 1)
    return LeftPart(
        path=path,
        begun_at=begun_at,
        index=index,
        first_sequence=first,
        settled=settled,
        is_whole=records in (0, found),
        items=items,
    )


def _walk(region: bytes, lap: int) -> tuple[list[bytes], int]:
    """Return the pairs up to the first record that is not published, and where that is."""
    view = memoryview(region)
    pairs: list[bytes] = []
    at = 0
    while at < len(region) and region[at] == lap:
        try:
            end = skip(view, at + 1, most_values=len(region))
        except (MessageMalformed, IndexError):
            break
        if end > len(region):
            break
        pairs.append(region[at + 1 : end])
        at = end
    return pairs, at


def _checked(pair: bytes) -> bytes | None:
    """Return the pair if it is one: a machine that lost power may have kept half of a page."""
    try:
        stamp, event = opened(pair)
    except msgspec.DecodeError:
        return None
    head = bytes(event)[0]
    is_map = 0x80 <= head <= 0x8F or head in (0xDE, 0xDF)
    return pair if stamp and is_map else None
