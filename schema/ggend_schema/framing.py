"""Framing: bytes from a stream, cut into frames or lines. No I/O, no waiting.

Framed:  +----------------+---------------------+
         | length, u32 BE | msgpack, that long  |  …
         +----------------+---------------------+
Lines:   JSON text, LF, JSON text, LF, …, the last LF optional; CR before LF is white space.
         Before a line, byte order marks (EF BB BF) and NULs are skipped: editors and joined files
         leave the one, logs that were truncated beside their writer begin with a hole of the other.

However the stream is cut into chunks, the frames and lines that come out are the same. Each
splitter holds at most one unfinished frame or line.
"""

from __future__ import annotations

import re
import struct

from ggend_schema import limits
from ggend_schema.errors import FrameTooLarge

__all__ = ["FrameSplitter", "LineSplitter", "OverlongLine", "bare_line", "frame", "is_ndjson"]

_LENGTH = struct.Struct(">I")

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

#: What is no part of a line that follows it. Possessive: a hole of NULs may be long.
_BEFORE_LINE = re.compile(rb"^(?:\0++|\xef\xbb\xbf)++", re.MULTILINE)


def is_ndjson(first_byte: int) -> bool:
    """Tell the two encodings apart by the first byte of a stream.

    NDJSON begins with `{`, white space, or a byte order mark (no frame is as long as its first byte
    would say).
    """
    return first_byte in b"{ \t\r\n\xef"


def frame(payload: bytes) -> bytes:
    """Put the length in front."""
    return _LENGTH.pack(len(payload)) + payload


def bare_line(line: bytes) -> bytes:
    """Return a line without the byte order marks and NULs before it."""
    before = _BEFORE_LINE.match(line)
    return line if before is None else line[before.end() :]


class FrameSplitter:
    """Cuts a byte stream into frame payloads."""

    __slots__ = ("_limit", "_needed", "_pending", "completed", "error")

    def __init__(self, limit: int = limits.FRAME_BYTES) -> None:
        self._limit = limit
        self._pending = bytearray()
        self._needed = _LENGTH.size
        #: Frames that were completed so far.
        self.completed = 0
        #: Set when a length was over the limit; nothing that follows can be read.
        self.error: FrameTooLarge | None = None

    @property
    def is_partial(self) -> bool:
        """Whether an unfinished frame is waiting for the rest."""
        return bool(self._pending)

    @property
    def partial_bytes(self) -> int:
        """How many bytes are kept of the unfinished frame so far, with its length."""
        return len(self._pending)

    def feed(self, chunk: bytes) -> list[memoryview]:
        """Return the payloads that this chunk completes; look at `error` afterwards."""
        if self.error is not None:
            return []
        if self._pending:
            self._pending += chunk
            if len(self._pending) < self._needed:
                return []
            chunk = bytes(self._pending)
            self._pending.clear()
        view = memoryview(chunk)
        end = len(chunk)
        payloads: list[memoryview] = []
        offset = 0
        self._needed = _LENGTH.size
        while end - offset >= _LENGTH.size:
            (size,) = _LENGTH.unpack_from(chunk, offset)
            if size > self._limit:
                self.error = FrameTooLarge(size, self._limit)
                break
            stop = offset + _LENGTH.size + size
            if stop > end:
                self._needed = stop - offset
                break
            payloads.append(view[offset + _LENGTH.size : stop])
            offset = stop
        self.completed += len(payloads)
        if offset < end and self.error is None:
            self._pending += view[offset:]
        return payloads


class OverlongLine:
    """Stands for one line over the limit, of which only the beginning was kept."""

    __slots__ = ("head",)

    def __init__(self, head: bytes) -> None:
        self.head = head


#: What is kept of an over-long line to recognise it by.
_HEAD_BYTES = 1024


class LineSplitter:
    """Cuts a byte stream into blocks of whole lines, so that many lines are decoded in one call."""

    __slots__ = ("_limit", "_pending", "_skipping", "completed")

    def __init__(self, limit: int = limits.EVENT_BYTES) -> None:
        self._limit = limit
        self._pending = bytearray()
        self._skipping = False
        #: Blocks of lines that were completed so far.
        self.completed = 0

    @property
    def is_partial(self) -> bool:
        """Whether an unfinished line is waiting for the rest."""
        return bool(self._pending) or self._skipping

    @property
    def partial_bytes(self) -> int:
        """How many bytes are kept of the unfinished line so far."""
        return len(self._pending)

    @property
    def is_skipping(self) -> bool:
        """Whether the unfinished line is over the limit, and was reported already."""
        return self._skipping

    def feed(self, chunk: bytes) -> list[bytes | OverlongLine]:
        """Return blocks of whole lines (without the last LF) and marks for over-long lines."""
        out: list[bytes | OverlongLine] = []
        first = chunk.find(b"\n")
        if first < 0:
            self._hold(chunk, out)
            return out
        self.completed += 1
        if self._skipping:
            self._skipping = False
            chunk = chunk[first + 1 :]
        whole, found, rest = chunk.rpartition(b"\n")
        if found:
            block = bytes(self._pending) + whole if self._pending else whole
            self._pending.clear()
            # Two looks for one byte each cost nothing beside the decoding; both find one rarely.
            if b"\0" in block or (b"\xef" in block and _BYTE_ORDER_MARK in block):
                block = _BEFORE_LINE.sub(b"", block)
            if len(block) <= self._limit:
                out.append(block)
            else:
                out += map(self._checked, block.split(b"\n"))
        self._hold(rest, out)
        return out

    def finish(self) -> bytes:
        """Return the last line if the stream ended without LF, else nothing."""
        last = bytes(self._pending)
        self._pending.clear()
        return last

    def _checked(self, line: bytes) -> bytes | OverlongLine:
        return line if len(line) <= self._limit else OverlongLine(line[:_HEAD_BYTES])

    def _hold(self, part: bytes, out: list[bytes | OverlongLine]) -> None:
        if self._skipping:
            return
        self._pending += part
        if self._pending.startswith((b"\0", b"\xef")):
            # Before its size is looked at: a hole may be larger than memory.
            before = _BEFORE_LINE.match(self._pending)
            if before is not None:
                length = before.end()
                del before  # it holds the buffer
                del self._pending[:length]
        if len(self._pending) > self._limit:
            out.append(OverlongLine(bytes(self._pending[:_HEAD_BYTES])))
            self._pending.clear()
            self._skipping = True
