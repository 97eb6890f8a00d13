"""JSON texts: the values of a file, one or many, pretty-printed or a line each, with their places.

Never opens a file. Behind what is not JSON, reading goes on at the next line that begins with `{`
or `[`: in pretty-printed documents only a document begins there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NoReturn

import msgspec

from ggend_schema.portable import portable_line

__all__ = ["Found", "canonical_json", "values_of"]

#: Places that are not JSON after which the rest is not read: each costs a look at all before it.
_PROBLEMS = 100

_SPACE = re.compile(r"[ \t\r\n\0\ufeff]*")
_NEXT = re.compile(r"^[{\[]", re.MULTILINE)

_encode = msgspec.json.Encoder(order="sorted").encode


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A value of a file, or the problem why something is none."""

    #: The line where it begins, from 1.
    line: int
    #: Its place in an array, from 1; 0 outside of arrays.
    position: int = 0
    value: Any = None
    problem: str | None = None


def values_of(content: bytes) -> Iterator[Found]:
    """Read the values of a file; the elements of an array are values of their own."""
    text = portable_line(content).decode()
    lines = _Lines(text)
    at = _space(text, 0)
    problems = 0
    while at < len(text):
        if problems == _PROBLEMS:
            yield Found(line=lines.of(at), problem="the rest is not read: too much is not JSON")
            return
        problems += 1
        try:
            value, end = _decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            message = error.msg.removesuffix(" at")
            where = f"line {error.lineno}, column {error.colno}"
            yield Found(line=lines.of(at), problem=f"not JSON: {message} at {where}")
        except RecursionError:
            yield Found(line=lines.of(at), problem="not JSON that can be read: nested too deep")
        except ValueError as error:
            why = str(error).partition(";")[0]  # Python goes on with advice to programmers
            yield Found(line=lines.of(at), problem=f"not JSON: {why}")
        else:
            if isinstance(value, list):
                # The decoder does not say where an element stands.
                for position, element in enumerate(value, 1):
                    yield Found(line=lines.of(at), position=position, value=element)
            else:
                yield Found(line=lines.of(at), value=value)
            at = _space(text, end)
            problems -= 1
            continue
        following = _NEXT.search(text, at + 1)
        at = len(text) if following is None else following.start()


def canonical_json(value: Any) -> bytes:
    """Encode a value so that equal values give equal bytes: keys sorted, 1.0 as 1."""
    return _encode(_plain(value))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inside) for key, inside in value.items()}
    if isinstance(value, list):
        return [_plain(inside) for inside in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        return int(value)
    return value


#: Below this a float holds every integer.
_EXACT = 2.0**53


class _Lines:
    """Counts lines, each once; places are asked for in ascending order."""

    __slots__ = ("_at", "_line", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._line = 1

    def of(self, place: int) -> int:
        self._line += self._text.count("\n", self._at, place)
        self._at = place
        return self._line


def _space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return at if found is None else found.end()


def _not_a_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is not a JSON number")


_decoder = json.JSONDecoder(parse_constant=_not_a_number)
