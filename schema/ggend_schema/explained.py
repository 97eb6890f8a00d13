"""Explained: what is wrong with an event, in words for the person who made it.

The daemon's own message says where and why ("Invalid enum value 'done' - at `$.status`"). Whoever
has the event can say which value that is, and which would be allowed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args, get_origin, get_type_hints

from ggend_schema.events import EVENT_TYPES

__all__ = ["explained", "field_of"]

#: Where a message says that it is, as msgspec does.
_PATH = re.compile(r" - at `\$\.(\w+)[^`]*`$")

#: Characters of a value that are shown.
_SHOWN_CHARS = 60


def field_of(message: str) -> str | None:
    """Return the field that a message is about, None: it does not say."""
    found = _PATH.search(message)
    return found[1] if found else None


def explained(event: Mapping[str, Any], message: str) -> str:
    """Return a message of InvalidEvent with the field's name, its value and what is allowed."""
    field, kind = field_of(message), event.get("type")
    if field is None or field not in event or not isinstance(kind, str):
        return f"{kind}: {message}" if isinstance(kind, str) else message
    shown = _shown(event[field])
    words = list(_allowed(kind, field))
    # Stages have other spellings, which fewer keyboards give.
    allowed = [repr(word) for word in words if str(word).isascii()]
    if allowed:
        return f"{kind}.{field} is {shown}; allowed are {', '.join(allowed)}"
    return f"{kind}.{field} is {shown}: {_PATH.sub('', message)}"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"


def _allowed(kind: str, field: str) -> Iterator[object]:
    """Return the values of a field that takes some words only."""
    if kind in EVENT_TYPES:
        yield from _words(get_type_hints(EVENT_TYPES[kind], include_extras=True).get(field))


def _words(annotation: object) -> Iterator[object]:
    if get_origin(annotation) is Literal:
        yield from get_args(annotation)
        return
    for inner in get_args(annotation):
        yield from _words(inner)
