"""Memory budget: how much memory unsettled input may take, shared by all connections.

Waiting is first come, first served. What is larger than the whole budget has it for itself. Never
decodes anything: what that would take is estimated from the bytes.
"""

from __future__ import annotations

from collections import deque

import anyio

__all__ = ["FREE_BYTES", "MemoryBudget", "estimate_json_memory", "estimate_memory"]

#: Bytes that a connection with nothing unsettled may have without asking, so that one small event
#: never waits behind large ones. 4,096 connections can have 128 MiB like that.
FREE_BYTES = 32 * 1024

#: Bytes that an empty list, a short text or the like takes, with its place in a list.
_OBJECT_BYTES = 72

#: Bytes that the place of a small number takes, which is encoded in one.
_PLACE_BYTES = 8

#: Bytes of a JSON object with one key; of what follows a comma, and of one byte of text in it.
_JSON_MAP_BYTES, _JSON_VALUE_BYTES, _JSON_TEXT_BYTES = 232, 50, 2

#: First bytes of containers, short texts and numbers that are not small in msgpack. They occur
#: inside of texts that are not ASCII as well, whose weight is too high then: that only makes them
#: wait for each other.
_OBJECTS = bytes([*range(0x80, 0xC0), *range(0xCC, 0xD4), *range(0xDC, 0xFB)])

#: Bytes up to which it is not worth looking.
_SMALL_BYTES = 256


def estimate_memory(encoded: bytes | memoryview) -> int:
    """Return about how many bytes decoded msgpack takes at most, its own among them."""
    size = len(encoded)
    if size <= _SMALL_BYTES:
        return size * (_OBJECT_BYTES + _PLACE_BYTES)
    objects = size - len(bytes(encoded).translate(None, _OBJECTS))
    return size * _PLACE_BYTES + objects * _OBJECT_BYTES


def estimate_json_memory(text: bytes) -> int:
    """Return about how many bytes decoded JSON takes at most, its own among them."""
    return (
        len(text) * _JSON_TEXT_BYTES
        + text.count(b"[") * _OBJECT_BYTES
        + text.count(b"{") * _JSON_MAP_BYTES
        + text.count(b",") * _JSON_VALUE_BYTES
    )


class MemoryBudget:
    """So many bytes in all; `held` says how many are taken."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        self._waiting: deque[tuple[int, anyio.Event]] = deque()

    def try_take(self, size: int) -> bool:
        """Take bytes if nobody waits for some and they are there; say whether."""
        if self._waiting or (self.held and self.held + size > self.limit):
            return False
        self.held += size
        return True

    async def take(self, size: int) -> None:
        """Take bytes; wait until they are there."""
        if self.try_take(size):
            return
        granted = anyio.Event()
        turn = size, granted
        self._waiting.append(turn)
        try:
            await granted.wait()
        except BaseException:
            if granted.is_set():
                self.give(size)
            else:
                self._waiting.remove(turn)
                self._grant()
            raise

    def give(self, size: int) -> None:
        """Give bytes back."""
        self.held -= size
        self._grant()

    def _grant(self) -> None:
        while self._waiting:
            size, granted = self._waiting[0]
            if self.held and self.held + size > self.limit:
                return
            self._waiting.popleft()
            self.held += size
            granted.set()
