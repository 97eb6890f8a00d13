"""Explained: what is wrong with an event, in words for the person who made it.

The decoder says where and why ("Invalid enum value 'done' - at `$.status`"). `taught` says also
what is allowed, from that message alone; `explained` says it for whoever has the event, and so the
value. Both end with what to write instead, and both leave alone what they do not know.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from ggend_schema.events import EVENT_TYPES
from ggend_schema.spelling import or_nearest
from ggend_schema.value_words import allowed_words, in_words, kind_words, requirement, shown

__all__ = ["explained", "field_of", "taught", "taught_type"]

#: Where a message says that it is, as msgspec does.
_PATH = re.compile(r" - at `\$\.(\w+)[^`]*`$")

#: Characters at the end of a message that are searched for the place: no field's name is longer,
#: and what stands before may be all that came.
_PATH_CHARS = 100

#: How a message of the decoder begins that is about a word, and about a type or a range.
_WORD = "Invalid enum value "
_TYPE = re.compile(r"Expected `(?P<expected>[\w |]+)`(?:, got `(?P<got>\w+)`)?")

_TYPES = ", ".join(EVENT_TYPES)

#: How a message about the type begins where it says all that there is to say.
_TAUGHT_TYPES = ("there is no event type", "the event's type")


def field_of(message: str) -> str | None:
    """Return the field that a message is about, None: it does not say."""
    found = _PATH.search(message[-_PATH_CHARS:])
    return found[1] if found else None


def taught(struct: type[msgspec.Struct] | None, kind: str, message: str) -> str:
    """Return a message of the decoder about a field of `struct`, with what is allowed.

    `kind` is the event's type, or what else the field belongs to. The place stays at the end.
    """
    field = field_of(message)
    needed = requirement(struct, field) if struct is not None and field is not None else None
    if struct is None or field is None or needed is None:
        return in_words(message)
    place = f" - at `$.{field}`"
    if message.startswith(_WORD):
        word = message[len(_WORD) : -len(place)][1:-1]  # in quotes
        return f"{kind}.{field} is {_of_words(struct, field, word)}{place}"
    found = _TYPE.match(message)
    if found is None:
        return message
    if found["got"] is None:
        return f"{kind}.{field} must be {needed}{place}"
    return f"{kind}.{field} is {_got(found)}; it must be {needed}{place}"


def taught_type(message: str) -> str:
    """Return a message of the decoder about an event's type, with the types that there are."""
    word = re.match(r"Invalid value ['\"](.*)['\"] - at `\$\.type`$", message, re.DOTALL)
    if word is not None:
        return f"{_unknown_type(word[1])} - at `$.type`"
    if "required field" in message:
        return f"an event needs `type`; the event types are {_TYPES}"
    found = _TYPE.match(message)
    is_what = f"is {kind_words(found['got'])}" if found and found["got"] else "is not a string"
    return f"the event's type {is_what}; the event types are {_TYPES} - at `$.type`"


def explained(event: Mapping[str, Any], message: str) -> str:
    """Return a message of InvalidEvent with the field's name, its value and what is allowed.

    The message is the decoder's, or `taught` already, be it by this or by another version.
    """
    field, kind = field_of(message), event.get("type")
    if field == "type" and message.startswith(_TAUGHT_TYPES):
        return _without_place(message)
    if field is None or field not in event or not isinstance(kind, str):
        return f"{kind}: {in_words(message)}" if isinstance(kind, str) else in_words(message)
    struct, value, why = EVENT_TYPES.get(kind), event[field], _without_place(message)
    needed = requirement(struct, field) if struct is not None else None
    if struct is not None and isinstance(value, str) and allowed_words(struct, field):
        return f"{kind}.{field} is {_of_words(struct, field, value)}"
    found = _TYPE.match(why)
    if needed is None or not (found or why.startswith(f"{kind}.{field} ")):
        return f"{kind}.{field} is {shown(value)}: {in_words(why)}"
    got_string = found["got"] == "str" if found else why.startswith(f"{kind}.{field} is a string")
    a_string = ", a string" if got_string else ""
    return f"{kind}.{field} is {shown(value)}{a_string}; it must be {needed}"


def _without_place(message: str) -> str:
    return message[:-_PATH_CHARS] + _PATH.sub("", message[-_PATH_CHARS:])


def _of_words(struct: type[msgspec.Struct], field: str, word: str) -> str:
    words = allowed_words(struct, field)
    are = "are" if len(words) > 1 else "is only"
    return f"{shown(word)}{or_nearest(word, words)}; allowed {are} {', '.join(words)}"


def _unknown_type(word: str) -> str:
    near = or_nearest(word, EVENT_TYPES)
    return f"there is no event type {shown(word)}{near}; the event types are {_TYPES}"


def _got(found: re.Match[str]) -> str:
    if found["got"] == "float" and found["expected"].startswith("int"):
        return "a number that is not whole"
    return kind_words(found["got"])
