"""What is said of a wrong event: where, what it has, what is allowed, and what was meant."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from ggend_schema.codec import decode_client_message, decode_event, decode_line, decode_line_number
from ggend_schema.codes import EventCode
from ggend_schema.errors import InvalidEvent, MessageMalformed
from ggend_schema.events import EVENT_TYPES
from ggend_schema.explained import explained
from ggend_schema.limits import EVENT_BYTES, MESSAGE_CHARS
from ggend_schema.rows import check_row
from ggend_schema.spelling import did_you_mean, nearest
from ggend_schema.value_words import allowed_words, shown

AUDIT = {"type": "audit", "agent_id": "a", "operation": "o", "status": "completed"}
RECEIPT = {
    "type": "receipt_emitted",
    "execution_id": "e",
    "agent_id": "a",
    "operation": "watch",
    "status": "passed",
    "duration_ms": 1,
}
STAGE = {
    "type": "stage_completed",
    "execution_id": "e",
    "stage": "emit",
    "status": "passed",
    "duration_ms": 1,
}
COLLISION = {
    "type": "collision",
    "session_id": "s",
    "agent_id_1": "a",
    "agent_id_2": "b",
    "collision_type": "file_conflict",
    "description": "d",
    "severity": "info",
}

#: Words of the decoder and of Python that no message has.
FOREIGN = ("`str", "`int", "`float", "`array`", "`object`", "None", "True", "dict", "enum")


def refusal(event: Any) -> InvalidEvent:
    """Return what is said of an event, which both encodings are told alike."""
    with pytest.raises(InvalidEvent) as packed:
        check_row(decode_event(msgspec.msgpack.encode(event)))
    with pytest.raises(InvalidEvent) as line:
        check_row(decode_line(json.dumps(event).encode()))
    assert packed.value.message == line.value.message
    return packed.value


@pytest.mark.parametrize(
    ("base", "field", "word", "meant"),
    [
        (AUDIT, "status", "complete", "completed"),
        (AUDIT, "status", "COMPLETED", "completed"),
        (AUDIT, "status", "complétéd", "completed"),
        (AUDIT, "status", "done", None),
        (RECEIPT, "operation", "validate", "validation"),
        (RECEIPT, "operation", "dry-run", "dry_run"),
        (RECEIPT, "status", "pass", "passed"),
        (STAGE, "stage", "normalise", "normalize"),
        (STAGE, "status", "skipped", None),
        (COLLISION, "severity", "warn", "warning"),
        (COLLISION, "collision_type", "file", None),
        (COLLISION, "collision_type", "memory-conflict", "memory_conflict"),
    ],
)
def test_a_wrong_word_is_said_with_the_allowed_and_the_nearest(
    base: dict[str, Any], field: str, word: str, meant: str | None
) -> None:
    error = refusal({**base, field: word})
    near = f" (did you mean `{meant}`?)" if meant else ""
    words = ", ".join(allowed_words(EVENT_TYPES[base["type"]], field))
    said = f'{base["type"]}.{field} is "{word}"{near}; allowed are {words}'
    assert (error.code, error.message) == (EventCode.INVALID, f"{said} - at `$.{field}`")
    assert explained({**base, field: word}, error.message) == said


@pytest.mark.parametrize(
    ("field", "value", "got"),
    [
        ("status", 5, "a number"),
        ("status", None, "null"),
        ("agent_id", ["a"], "an array"),
        ("agent_id", {"a": 1}, "an object"),
        ("agent_id", True, "true or false"),
        ("agent_id", 1.5, "a number"),
        ("duration_ms", "5", "a string"),
        ("duration_ms", 1.5, "a number that is not whole"),
        ("duration_ms", False, "true or false"),
        ("timestamp", 5, "a number"),
        ("error_message", [1], "an array"),
    ],
)
def test_a_wrong_type_is_said_in_the_words_of_json(field: str, value: object, got: str) -> None:
    event = {**AUDIT, field: value}
    message = refusal(event).message
    assert message.startswith(f"audit.{field} is {got}; it must be ")
    assert message.endswith(f" - at `$.{field}`")
    with_value = explained(event, message)
    assert with_value.startswith(f"audit.{field} is {json.dumps(value, separators=(',', ':'))}")
    assert "; it must be " in with_value
    for said in (message, with_value):
        assert not [word for word in FOREIGN if word in said]


@pytest.mark.parametrize(
    ("field", "value", "needed"),
    [
        ("duration_ms", -1, "a whole number from 0 to 1000000000000"),
        ("duration_ms", 10**12 + 1, "a whole number from 0 to 1000000000000"),
        ("agent_id", "", "a string of 1 to 200 characters"),
        ("error_message", "e" * 10_001, "a string of at most 10000 characters"),
    ],
)
def test_a_value_out_of_range_is_said_with_the_range(
    field: str, value: object, needed: str
) -> None:
    message = refusal({**AUDIT, field: value}).message
    assert message == f"audit.{field} must be {needed} - at `$.{field}`"
    said = explained({**AUDIT, field: value}, message)
    assert said == f"audit.{field} is {shown(value)}; it must be {needed}"


def test_an_unknown_type_is_said_with_the_nearest_and_all_types() -> None:
    error = refusal({**AUDIT, "type": "audti"})
    assert error.code == EventCode.UNKNOWN_TYPE
    assert error.message.startswith('there is no event type "audti" (did you mean `audit`?); ')
    assert all(kind in error.message for kind in EVENT_TYPES)
    assert explained({"type": "audti"}, error.message) == error.message.removesuffix(
        " - at `$.type`"
    )


@pytest.mark.parametrize("event", [{}, {**AUDIT, "type": "x"}])
def test_an_event_without_a_known_type_is_said_all_types(event: dict[str, Any]) -> None:
    assert all(kind in refusal(event).message for kind in EVENT_TYPES)


@pytest.mark.parametrize(("value", "got"), [([1], "an array"), (5, "a number"), (None, "null")])
def test_what_is_no_object_is_said_in_the_words_of_json(value: object, got: str) -> None:
    assert refusal(value).message.endswith(("got null", f"expected an object, got {got}"))


def test_a_numbering_of_the_wrong_type_is_said_in_the_words_of_json() -> None:
    with pytest.raises(InvalidEvent, match="producer is a number; it must be a string"):
        decode_line_number(b'{"producer":5,"sequence":1}')
    with pytest.raises(InvalidEvent, match="sequence is a string; it must be a whole number"):
        decode_line_number(b'{"producer":"x","sequence":"1"}')


def test_a_message_of_the_wrong_types_is_said_in_the_words_of_json() -> None:
    hello = msgspec.msgpack.encode({"type": "batch", "first_sequence": "1"})
    with pytest.raises(MessageMalformed, match="expected a number, got a string - at"):
        decode_client_message(memoryview(hello))


@pytest.mark.parametrize("value", [b"x", datetime.now(UTC), msgspec.msgpack.Ext(5, b"x")])
def test_what_only_msgpack_has_is_named(value: object) -> None:
    for field in ("agent_id", "duration_ms"):
        with pytest.raises(InvalidEvent, match=rf"audit\.{field} is binary data; it must be "):
            decode_event(msgspec.msgpack.encode({**AUDIT, field: value}))
    with pytest.raises(InvalidEvent, match=r"context. has (binary data|a binary timestamp), which"):
        check_row(decode_event(msgspec.msgpack.encode({**AUDIT, "context": value})))


def test_the_words_of_an_older_version_are_said_anew() -> None:
    said = explained(
        {**AUDIT, "status": "complete"}, "Invalid enum value 'complete' - at `$.status`"
    )
    assert said.startswith('audit.status is "complete" (did you mean `completed`?); allowed are ')
    said = explained(
        {**AUDIT, "duration_ms": "5"}, "Expected `int | null`, got `str` - at `$.duration_ms`"
    )
    assert said == 'audit.duration_ms is "5", a string; it must be a whole number from 0 to ' + str(
        10**12
    )


@pytest.mark.parametrize("filling", ["x", " - at `$.a", "`", "'"])
def test_a_word_as_long_as_an_event_is_cut(filling: str) -> None:
    word = (filling * EVENT_BYTES)[: EVENT_BYTES - 1_000]
    message = refusal({**AUDIT, "status": word}).message
    assert len(message) < MESSAGE_CHARS / 2
    assert message.endswith("allowed are started, completed, failed, skipped - at `$.status`")


def test_a_long_word_is_not_compared_in_full() -> None:
    assert nearest("x" * 10_000_000, ["completed"]) is None
    assert did_you_mean("completed" + "x" * 10_000_000, ["completed"]) is None


def test_what_does_not_print_is_shown_escaped() -> None:
    assert shown("a\x1b\x9b") == '"a\\u001b\\u009b"'
    assert shown({"a": [None, True]}) == '{"a":[null,true]}'
    assert shown(float("inf")) == "inf"
