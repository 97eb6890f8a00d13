"""Spans: where each value of a msgpack array or map begins and ends, at any nesting depth.

Used when a Batch as a whole cannot be decoded, to find the events that can. It never recurses,
so that an event nested ten thousand deep costs its sender that event and nothing else.
Format: the MessagePack specification (github.com/msgpack/msgpack/blob/master/spec.md).
"""

from __future__ import annotations

from ggend_schema.errors import MessageMalformed

__all__ = ["SKIPPED_VALUES", "array_spans", "head", "map_spans", "skip"]

#: Formats with a fixed size, header byte included.
_FIXED = {
    0xC0: 1, 0xC2: 1, 0xC3: 1, 0xCA: 5, 0xCB: 9,
    0xCC: 2, 0xCD: 3, 0xCE: 5, 0xCF: 9, 0xD0: 2, 0xD1: 3, 0xD2: 5, 0xD3: 9,
    0xD4: 3, 0xD5: 4, 0xD6: 6, 0xD7: 10, 0xD8: 18,
}  # fmt: skip
#: Formats with a length field: its width, and the bytes after it that it does not count.
_SIZED = {
    0xC4: (1, 0), 0xC5: (2, 0), 0xC6: (4, 0),
    0xC7: (1, 1), 0xC8: (2, 1), 0xC9: (4, 1),
    0xD9: (1, 0), 0xDA: (2, 0), 0xDB: (4, 0),
}  # fmt: skip
#: Containers with a length field: its width, and the values per element.
_CONTAINERS = {0xDC: (2, 1), 0xDD: (4, 1), 0xDE: (2, 2), 0xDF: (4, 2)}


#: Values that are skipped at most, one by one: a tenth of a second, during which nobody else is
#: served. A full Batch of ordinary events holds some 100,000.
SKIPPED_VALUES = 250_000


def head(buffer: memoryview, offset: int) -> tuple[int, int]:
    """Return the end of the value's own bytes and how many values follow inside it."""
    byte = buffer[offset]
    if byte <= 0x7F or byte >= 0xE0:
        return offset + 1, 0
    if byte <= 0x8F:
        return offset + 1, 2 * (byte & 0x0F)
    if byte <= 0x9F:
        return offset + 1, byte & 0x0F
    if byte <= 0xBF:
        return offset + 1 + (byte & 0x1F), 0
    if byte in _FIXED:
        return offset + _FIXED[byte], 0
    if byte in _SIZED:
        width, extra = _SIZED[byte]
        size = int.from_bytes(buffer[offset + 1 : offset + 1 + width], "big")
        return offset + 1 + width + extra + size, 0
    if byte in _CONTAINERS:
        width, values = _CONTAINERS[byte]
        count = int.from_bytes(buffer[offset + 1 : offset + 1 + width], "big")
        return offset + 1 + width, values * count
    raise MessageMalformed(f"byte 0x{byte:02x} at offset {offset} is not msgpack")


def skip(buffer: memoryview, offset: int, *, most_values: int = SKIPPED_VALUES) -> int:
    """Return the offset after the value that begins at `offset`.

    Raises MessageMalformed when the buffer ends before the value does, or when it holds more
    values than are worth the time.
    """
    return _skip(buffer, offset, most_values)[0]


def _skip(buffer: memoryview, offset: int, most_values: int) -> tuple[int, int]:
    """Do as `skip`; return also how many more values might have been skipped."""
    open_values = 1
    left = most_values
    while open_values:
        left -= 1
        if left < 0:
            raise MessageMalformed(f"more than {SKIPPED_VALUES} values, some nested too deep")
        if offset >= len(buffer):
            raise MessageMalformed(f"the message ends inside a value, at offset {offset}")
        offset, inside = head(buffer, offset)
        open_values += inside - 1
    if offset > len(buffer):
        raise MessageMalformed("the message ends inside a value")
    return offset, left


def _spans(buffer: memoryview, *, first: int, last: int, wide: tuple[int, int]) -> list[memoryview]:
    if not buffer or not (first <= buffer[0] <= last or buffer[0] in wide):
        raise MessageMalformed("expected a msgpack map with an array in `events`")
    offset, count = head(buffer, 0)
    if count > SKIPPED_VALUES:
        raise MessageMalformed(f"more than {SKIPPED_VALUES} values")
    spans: list[memoryview] = []
    left = SKIPPED_VALUES  # for all of them: one after the other they take as long
    for _ in range(count):
        end, left = _skip(buffer, offset, left)
        spans.append(buffer[offset:end])
        offset = end
    if offset != len(buffer):
        raise MessageMalformed(f"{len(buffer) - offset} bytes follow the end of the value")
    return spans


def array_spans(buffer: memoryview) -> list[memoryview]:
    """Return the encoded values of a msgpack array."""
    return _spans(buffer, first=0x90, last=0x9F, wide=(0xDC, 0xDD))


def map_spans(buffer: memoryview) -> list[tuple[memoryview, memoryview]]:
    """Return the encoded keys and values of a msgpack map."""
    spans = _spans(buffer, first=0x80, last=0x8F, wide=(0xDE, 0xDF))
    return list(zip(spans[::2], spans[1::2], strict=True))
