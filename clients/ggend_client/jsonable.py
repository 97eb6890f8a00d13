"""Jsonable: whatever a host program holds, as a JSON value that an event can carry.

For what the client collects by itself, where nobody chose the values for ggend. Never raises:
what cannot be read or has no JSON form becomes text. What comes out is bounded, so that it stays
below the limits of a JSON field (`ggend_schema.limits`) whatever goes in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from collections.abc import Set as AbstractSet

from ggend_client.error_text import error_text
from ggend_schema.limits import NAME_CHARS
from ggend_schema.portable import INTEGER_MAX, INTEGER_MIN, portable_text

__all__ = ["text_of", "to_jsonable"]

#: Nesting; what is deeper becomes text.
DEPTH = 8

#: Values in all; what comes after them is None or left out.
VALUES = 150

#: Characters in one text: with its key at most 700, of six bytes each where JSON escapes them.
CHARS = 500


def to_jsonable(value: object) -> object:
    """Return the value as JSON has it."""
    return _Plainer().of(value, DEPTH)


def text_of(value: object, most: int) -> str:
    """Return it as text of so many characters at most, with what is no UTF-8 spelled out."""
    try:
        text = repr(value) if isinstance(value, (bytes, bytearray)) else str(value)
    except Exception as error:  # it is the host's object that says what it is
        text = f"<{type(value).__name__}: {error_text(error)}>"
    return portable_text(text[:most])[:most]


class _Plainer:
    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = VALUES

    def of(self, value: object, depth: int) -> object:
        self._left -= 1
        if self._left < 0:
            return None
        try:
            # Each is made anew: msgpack takes no subclasses, and they may lie about themselves.
            if value is None or isinstance(value, bool):
                return value
            if isinstance(value, int):
                number = int.__add__(value, 0)
                return number if INTEGER_MIN <= number <= INTEGER_MAX else text_of(number, CHARS)
            if isinstance(value, float):
                real = float.__add__(value, 0.0)
                return real if math.isfinite(real) else text_of(real, CHARS)
            if depth and isinstance(value, Mapping):
                return self._mapping(value, depth - 1)
            if depth and isinstance(value, (list, tuple, AbstractSet)):
                return self._array(value, depth - 1)
        except Exception as error:  # the host's mapping or sequence
            return f"<{type(value).__name__}: {error_text(error)}>"[:CHARS]
        return text_of(value, CHARS)

    def _mapping(self, mapping: Mapping[object, object], depth: int) -> dict[str, object]:
        made: dict[str, object] = {}
        for key, value in list(mapping.items()):
            if self._left <= 0:
                break
            made[text_of(key, NAME_CHARS)] = self.of(value, depth)
        return made

    def _array(
        self, values: list[object] | tuple[object, ...] | AbstractSet[object], depth: int
    ) -> list[object]:
        made: list[object] = []
        for value in list(values):
            if self._left <= 0:
                break
            made.append(self.of(value, depth))
        return made
