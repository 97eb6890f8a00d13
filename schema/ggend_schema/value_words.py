"""Value words: what a field may hold and what it holds, in the words of JSON.

The decoder speaks of `str`, `int` and regular expressions; the person who made the value does not.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import inspect

__all__ = ["allowed_words", "in_words", "kind_words", "requirement", "shown"]

#: Characters of a value that are shown.
_SHOWN_CHARS = 60

#: The kinds of values by the decoder's names of them.
_KINDS = {
    "str": "a string",
    "int": "a number",
    "float": "a number",
    "bool": "true or false",
    "null": "null",
    "None": "null",
    "array": "an array",
    "object": "an object",
    "bytes": "binary data",
    "datetime": "a binary timestamp",
    "ext": "binary data",
    "Ext": "binary data",
}

_EXPECTED = re.compile(r"Expected `([\w |]{1,40})`(?:, got `(\w{1,40})`)?")


def kind_words(kind: str) -> str:
    """Return what the decoder calls `str`, `int` and so on; `int | null` is one of both."""
    return " or ".join(_KINDS.get(part, part) for part in kind.split(" | "))


def in_words(message: str) -> str:
    """Return a message of the decoder with its types in the words of JSON."""
    return _EXPECTED.sub(_expected, message)


def _expected(found: re.Match[str]) -> str:
    got = f", got {kind_words(found[2])}" if found[2] else ""
    return f"expected {kind_words(found[1])}{got}"


def shown(value: object) -> str:
    """Return a value as JSON spells it, cut off where it is long."""
    try:
        if isinstance(value, str):
            value = value[: _SHOWN_CHARS + 1]
        is_finite = not isinstance(value, float) or math.isfinite(value)
        text = msgspec.json.encode(value).decode() if is_finite else repr(value)
    except (TypeError, ValueError, OverflowError, RecursionError):
        text = repr(value)  # the program that made it knows it so
    if len(text) > _SHOWN_CHARS:
        text = f"{text[:_SHOWN_CHARS]}…"
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in text)


@cache
def allowed_words(struct: type[msgspec.Struct], field: str) -> tuple[str, ...]:
    """Return the words of a field that takes some words only; none: it takes others too.

    Stages have other spellings, which fewer keyboards give: only those in ASCII are returned.
    """
    hint = get_type_hints(struct, include_extras=True).get(field)
    return tuple(word for word in _words(hint) if word.isascii())


def _words(annotation: object) -> Iterator[str]:
    if get_origin(annotation) is Literal:
        yield from map(str, get_args(annotation))
        return
    for inner in get_args(annotation):
        yield from _words(inner)


@cache
def requirement(struct: type[msgspec.Struct], field: str) -> str | None:
    """Return what a field must be, such as "a whole number from 0 to 9"; None: anything."""
    if words := allowed_words(struct, field):
        return f"one of {', '.join(words)}"
    if field == "timestamp":
        return "an ISO 8601 time such as 2026-01-31T12:00:00Z"
    for one in msgspec.structs.fields(struct):
        if one.name == field:
            return _requirement(inspect.type_info(one.type))
    return None


def _requirement(kind: inspect.Type) -> str | None:
    match kind:
        case inspect.Metadata():
            return _requirement(kind.type)
        case inspect.UnionType():  # with null, or with what stands for a value that is left out
            parts = [part for part in map(_requirement, kind.types) if part]
            return " or ".join(parts) or None
        case inspect.IntType():
            return f"a whole number{_range(kind.ge, kind.le)}"
        case inspect.FloatType():
            return f"a number{_range(kind.ge, kind.le)}"
        case inspect.StrType():
            if kind.pattern is not None:
                return f"a string that matches {kind.pattern}"
            return f"a string{_length(kind.min_length, kind.max_length)}"
        case inspect.BoolType():
            return "true or false"
        case inspect.ListType():
            return "an array"
        case _:
            return None


def _range(least: Any, most: Any) -> str:
    if least is None or most is None:
        return "" if least is None else f" of at least {_plain(least)}"
    return f" from {_plain(least)} to {_plain(most)}"


def _plain(number: float) -> str:
    return str(int(number)) if number == int(number) else str(number)


def _length(least: int | None, most: int | None) -> str:
    if most is None:
        return ""
    return f" of {least} to {most} characters" if least else f" of at most {most} characters"
