r"""Portable: values that UTF-8, JSON and msgpack cannot all carry, as values that they can.

Clients, commands and the daemon follow one rule, so that what an event says is stored whichever
way it comes, and what is stored can be loaded:

- a byte of a text that is not UTF-8 becomes `\xe9`: a backslash, `x` and its two hex digits;
- half of a surrogate pair becomes that byte where it stands for one, as in Python's names of files
  (PEP 383), and otherwise `\ud83d`;
- an integer that has more than 64 bits becomes the text of its digits.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any, TypeVar

import msgspec

from ggend_schema.errors import MessageMalformed
from ggend_schema.events import Event
from ggend_schema.msgpack_spans import SKIPPED_VALUES, head

__all__ = [
    "INTEGER_MAX",
    "INTEGER_MIN",
    "portable",
    "portable_event",
    "portable_line",
    "portable_packed",
    "portable_text",
]

#: The integers of msgpack: a signed and an unsigned 64-bit number.
INTEGER_MIN, INTEGER_MAX = -(2**63), 2**64 - 1

_E = TypeVar("_E", bound=Event)

_SURROGATE = re.compile("[\ud800-\udfff]")
_SURROGATES = re.compile("[\ud800-\udfff]+")

#: An escape in a JSON text: a whole pair, the half of one, or any other.
_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u([dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)

#: First bytes of msgpack texts: with the length in them, and how many bytes come before the text.
_SHORT_TEXT = range(0xA0, 0xC0)
_LONG_TEXT = {0xD9: 2, 0xDA: 3, 0xDB: 5}


def portable_text(text: str) -> str:
    """Spell out the halves of surrogate pairs."""
    return _SURROGATE.sub(lambda found: _spelled(ord(found[0])), text)


def portable(value: Any) -> Any:
    """Return a value of lists, dicts and scalars in which nothing breaks the rule.

    What is none of these stays as it is. Raises RecursionError.
    """
    if isinstance(value, str):
        return portable_text(value)
    if isinstance(value, int):
        return value if INTEGER_MIN <= value <= INTEGER_MAX else str(value)
    if isinstance(value, dict):
        return {portable(key): portable(inside) for key, inside in value.items()}
    if isinstance(value, (list, tuple)):
        return [portable(inside) for inside in value]
    return value


def portable_event(event: _E) -> _E:
    """Return an event that can be encoded. Raises RecursionError."""
    fields = {name: portable(getattr(event, name)) for name in event.__struct_fields__}
    return msgspec.structs.replace(event, **fields)


def portable_line(line: bytes) -> bytes:
    """Return a JSON text in which nothing but integers breaks the rule."""
    text = line.decode("utf-8", "surrogateescape")
    text = _SURROGATES.sub(lambda found: found[0].translate(_spellings()), text)
    return _ESCAPE.sub(_mended_escape, text).encode()


def portable_packed(encoded: memoryview) -> bytes:
    """Return a msgpack value of which all texts are UTF-8. Raises MessageMalformed."""
    parts: list[bytes] = []
    offset = 0
    while offset < len(encoded):
        if len(parts) >= SKIPPED_VALUES:
            raise MessageMalformed(f"more than {SKIPPED_VALUES} values, some not UTF-8")
        end, _ = head(encoded, offset)
        first = encoded[offset]
        part = bytes(encoded[offset:end])
        if first in _SHORT_TEXT or first in _LONG_TEXT:
            text = part[_LONG_TEXT.get(first, 1) :].decode("utf-8", "backslashreplace")
            part = msgspec.msgpack.encode(text)
        parts.append(part)
        offset = end
    return b"".join(parts)


@cache
def _spellings() -> dict[int, str]:
    """How each surrogate is spelled in a JSON text. Many in a row take a quarter of the time."""
    return {surrogate: "\\" + _spelled(surrogate) for surrogate in range(0xD800, 0xE000)}


def _spelled(surrogate: int) -> str:
    if 0xDC80 <= surrogate <= 0xDCFF:
        return f"\\x{surrogate - 0xDC00:02x}"
    return f"\\u{surrogate:04x}"


def _mended_escape(found: re.Match[str]) -> str:
    return found[0] if found[1] is None else "\\" + _spelled(int(found[1], 16))
