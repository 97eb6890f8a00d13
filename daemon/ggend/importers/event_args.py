"""Event args: one event spelled out by hand, as `TYPE key=value key:=json …`.

`key=value` is text, read as a number where the field is one; `key:=json` is any JSON value. Unlike
the daemon, which must accept the fields of newer clients, this refuses a key that it does not know:
by hand that is a slip.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from ggend.errors import GgendError
from ggend_schema.codec import DECODE_ERRORS, decode_event, decode_line, encode_event
from ggend_schema.errors import InvalidEvent
from ggend_schema.events import EVENT_TYPES, Event
from ggend_schema.explained import explained
from ggend_schema.rows import check_row
from ggend_schema.spelling import did_you_mean
from ggend_schema.value_words import requirement

__all__ = ["VARIABLES", "BadEvent", "check_line", "event_of", "unread_json"]

#: Where an id comes from that is not given, as for programs that use `ggend_client`.
VARIABLES = {
    "agent_id": "GGEND_AGENT",
    "execution_id": "GGEND_EXECUTION",
    "session_id": "GGEND_SESSION",
}


class BadEvent(GgendError):
    """An event was not sent, because the daemon would reject it."""

    code = "bad_event"
    exit_status = os.EX_DATAERR


def event_of(
    kind: str, assignments: Sequence[str], environ: Mapping[str, str] | None = None
) -> Event:
    """Build and check the event. Raises BadEvent, which names the key that is wrong.

    Ids that are not given are those of the environment: GGEND_AGENT and its like.
    """
    if kind not in EVENT_TYPES:
        raise BadEvent(
            f"there is no event type {kind!r}",
            hint=f"{_question(kind, EVENT_TYPES)}the event types are {', '.join(EVENT_TYPES)}",
        )
    values: dict[str, Any] = {}
    for assignment in assignments:
        key, value = _split(assignment)
        if key in values:
            raise BadEvent(f"`{key}` is given twice", hint="give each key once")
        values[key] = value
    fields = EVENT_TYPES[kind].__struct_fields__
    for key, variable in VARIABLES.items():
        if key in fields and (environ or {}).get(variable):
            values.setdefault(key, (environ or {})[variable])
    for key in values:
        if key not in fields:
            raise BadEvent(
                f"{kind} has no key `{key}`",
                hint=f"{_question(key, fields)}its keys are {', '.join(fields)}",
            )
    try:
        event = msgspec.convert(values, EVENT_TYPES[kind], strict=False)
        checked = decode_event(encode_event(event))
        check_row(checked)
    except InvalidEvent as error:
        said = explained({"type": kind, **values}, error.message)
        raise _bad(said.removeprefix(f"{kind}: "), kind) from error
    except DECODE_ERRORS as error:
        said = explained({"type": kind, **values}, str(error))
        raise _bad(said.removeprefix(f"{kind}: "), kind) from error
    return checked


def unread_json(kind: str, assignments: Sequence[str]) -> dict[str, str]:
    """Return the texts that are JSON objects or arrays, by their keys: `:=` was probably meant.

    Only of fields that may hold any JSON value; the assignments are those of a valid event.
    """
    texts: dict[str, str] = {}
    for assignment in assignments:
        key, text = _split(assignment)
        is_text = isinstance(text, str) and not assignment.startswith(f"{key}:=")
        if is_text and requirement(EVENT_TYPES[kind], key) is None and _is_container(text):
            texts[key] = text
    return texts


def _is_container(text: str) -> bool:
    if not text.lstrip().startswith(("{", "[")):
        return False
    try:
        msgspec.json.decode(text)
    except DECODE_ERRORS:
        return False
    return True


def check_line(line: bytes) -> Event:
    """Decode one NDJSON line, and check all that the daemon checks. Raises InvalidEvent."""
    checked = decode_event(encode_event(decode_line(line)))
    check_row(checked)
    return checked


def _split(assignment: str) -> tuple[str, Any]:
    key, found, value = assignment.partition("=")
    is_json = key.endswith(":")
    key = key.removesuffix(":")
    if not found or not key:
        raise BadEvent(
            f"{assignment!r} is neither key=value nor key:=json",
            hint='for example: agent_id=a1 duration_ms=1500 context:=\'{"path": "src"}\'',
        )
    if not is_json:
        return key, value
    try:
        return key, msgspec.json.decode(value)
    except UnicodeEncodeError as error:
        raise BadEvent(f"`{key}` is not UTF-8 text", hint="JSON is UTF-8 text only") from error
    except DECODE_ERRORS as error:
        raise BadEvent(
            f"`{key}` is not JSON: {error}", hint=f"use `{key}=…` for plain text"
        ) from error


#: How msgspec begins to say that a field is not there.
_MISSING = "Object missing required field"


def _bad(message: str, kind: str) -> BadEvent:
    return BadEvent(
        f"not a valid {kind}: {message.replace('$.', '').replace(_MISSING, 'it needs')}",
        hint=f"`ggend emit {kind} --help` lists what each field takes",
    )


def _question(word: str, known: Iterable[str]) -> str:
    question = did_you_mean(word, known)
    return f"{question} " if question else ""
