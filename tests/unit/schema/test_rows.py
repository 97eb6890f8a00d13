"""Rows: timestamps, JSON fields and names, as they are stored and as they are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ggend.storage.tables import AUDITS, COLLISIONS, METRICS, RECEIPTS, SESSIONS
from ggend_schema import (
    STAGES,
    Audit,
    Collision,
    Event,
    EventCode,
    MemorySaved,
    ReceiptEmitted,
    SessionEnded,
    SessionStarted,
    StageCompleted,
    limits,
)
from ggend_schema.codec import decode_event, decode_line, encode_event
from ggend_schema.errors import InvalidEvent
from ggend_schema.events import Stage
from ggend_schema.portable import portable
from ggend_schema.rows import json_text, row_of, same_json

#: 2026-01-29T12:34:56.789Z and a bit, as a stamp.
STAMP_NS = 1_769_690_096_789_999_999
STAMPED = "2026-01-29T12:34:56.789Z"

#: Where each event's row holds its moment.
AUDIT_TIME, COLLISION_TIME, SESSION_TIME, RECEIPT_TIME, STAGE_TIME, MEMORY_TIME = 0, 7, 1, 4, 7, 5

AUDIT = Audit(agent_id="a1", operation="plan", status="completed")
COLLISION = Collision(
    session_id="s1",
    agent_id_1="a1",
    agent_id_2="a2",
    collision_type="file_conflict",
    description="both",
    severity="info",
)
STARTED = SessionStarted(session_id="s1", agent_count=2)
ENDED = SessionEnded(session_id="s1", status="completed")
RECEIPT = ReceiptEmitted(
    execution_id="e1", agent_id="a1", operation="generation", status="passed", duration_ms=1_500
)
STAGE = StageCompleted(execution_id="e1", stage="emit", duration_ms=1_500, status="passed")
MEMORY = MemorySaved(agent_id="a1", memory={})

AT_A_MOMENT: list[tuple[Event, int]] = [
    (AUDIT, AUDIT_TIME),
    (COLLISION, COLLISION_TIME),
    (STARTED, SESSION_TIME),
    (ENDED, SESSION_TIME),
]
WITH_A_START: list[tuple[Event, int]] = [(RECEIPT, RECEIPT_TIME), (STAGE, STAGE_TIME)]

#: What JSON can say, as Python values that compare as JSON does.
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inside: (
        st.lists(inside, max_size=4) | st.dictionaries(st.text(max_size=4), inside, max_size=4)
    ),
    max_leaves=20,
)
not_json: st.SearchStrategy[Any] = st.one_of(
    st.binary(max_size=5),
    st.sampled_from([float("nan"), float("inf"), float("-inf")]),
    st.dictionaries(st.integers() | st.none() | st.binary(max_size=2), st.none(), min_size=1),
    st.datetimes(timezones=st.just(UTC)),
    st.builds(msgspec.msgpack.Ext, st.integers(0, 127), st.binary(max_size=5)),
    st.tuples(st.integers()),
    st.sets(st.integers()),
)
moments = st.datetimes(datetime(1970, 1, 2), datetime(9999, 12, 30))
offsets = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))


def at(event: Event, timestamp: str) -> Event:
    return msgspec.structs.replace(event, timestamp=timestamp)


def nested(depth: int, wrap: Callable[[Any], Any], inside: Any = 1) -> Any:
    for _ in range(depth):
        inside = wrap(inside)
    return inside


def refusal(event: Event, stamp_ns: int = STAMP_NS) -> InvalidEvent:
    with pytest.raises(InvalidEvent) as caught:
        row_of(event, stamp_ns)
    return caught.value


@pytest.mark.parametrize(("event", "column"), AT_A_MOMENT)
def test_a_stamp_is_stored_in_milliseconds_cut_off(event: Event, column: int) -> None:
    assert row_of(event, STAMP_NS)[column] == STAMPED


@pytest.mark.parametrize(("event", "column"), WITH_A_START)
def test_a_stamp_of_a_receipt_or_stage_is_its_end(event: Event, column: int) -> None:
    assert row_of(event, STAMP_NS)[column] == "2026-01-29T12:34:55.289Z"


@pytest.mark.parametrize(("event", "column"), [*AT_A_MOMENT, *WITH_A_START])
def test_an_explicit_timestamp_is_kept(event: Event, column: int) -> None:
    """Also of a receipt or stage: there it is the start already."""
    explicit = at(event, "2020-02-03T04:05:06.007Z")
    assert row_of(explicit, STAMP_NS)[column] == "2020-02-03T04:05:06.007Z"


@pytest.mark.parametrize(
    ("given_text", "stored"),
    [
        ("2026-01-29T12:34:56.789Z", STAMPED),
        ("2026-01-29T12:34:56.789999Z", STAMPED),
        ("2026-01-29T12:34:56.789999999Z", STAMPED),
        ("2026-01-29 12:34:56.789", STAMPED),
        ("2026-01-29T14:34:56.789+02:00", STAMPED),
        ("2026-01-28T17:04:56.789-19:30", STAMPED),
        ("20260129T123456.789Z", STAMPED),
        ("2026-01-29T12:34:56Z", "2026-01-29T12:34:56.000Z"),
        ("2026-01-29T12:34", "2026-01-29T12:34:00.000Z"),
        ("2026-01-29", "2026-01-29T00:00:00.000Z"),
        ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000Z"),
        ("1969-12-31T23:00:00-01:00", "1970-01-01T00:00:00.000Z"),
        ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999Z"),
        ("2024-02-29T00:00:00.0001+00:00", "2024-02-29T00:00:00.000Z"),
        ("2026-01-29t12:34:56.789z", STAMPED),
        ("2026-01-29 12:34:56.789z", STAMPED),
        ("2026-01-29t14:34:56.789+02:00", STAMPED),
        ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59.999Z"),
        ("2016-12-31t23:59:60.25z", "2016-12-31T23:59:59.999Z"),
        ("2016-12-31 23:59:60", "2016-12-31T23:59:59.999Z"),
        ("2017-01-01T05:29:60+05:30", "2016-12-31T23:59:59.999Z"),
    ],
)
def test_any_notation_is_stored_as_utc_milliseconds(given_text: str, stored: str) -> None:
    assert row_of(at(AUDIT, given_text), STAMP_NS)[AUDIT_TIME] == stored


@given(moments, offsets)
def test_any_offset_means_the_same_moment(moment: datetime, offset: timezone) -> None:
    moment = moment.replace(tzinfo=UTC)
    stored = row_of(at(AUDIT, moment.astimezone(offset).isoformat()), STAMP_NS)[AUDIT_TIME]
    milliseconds = moment.microsecond // 1000
    assert stored == f"{moment.replace(microsecond=0, tzinfo=None).isoformat()}.{milliseconds:03}Z"


@given(moments)
def test_a_timestamp_without_offset_means_utc(moment: datetime) -> None:
    naive, aware = moment.isoformat(), moment.replace(tzinfo=UTC).isoformat()
    assert row_of(at(RECEIPT, naive), STAMP_NS) == row_of(at(RECEIPT, aware), STAMP_NS)


@given(moments, moments)
def test_text_order_is_time_order(one: datetime, other: datetime) -> None:
    texts = [row_of(at(AUDIT, moment.isoformat()), 0)[AUDIT_TIME] for moment in (one, other)]
    assert (texts[0] < texts[1]) <= (one < other)
    assert (texts[0] > texts[1]) <= (one > other)


@pytest.mark.parametrize(
    "text",
    [
        "2016-12-31T23:58:60Z",
        "2016-12-31T23:59:60+01:00",
        "2016-12-31T23:59:61Z",
        "2016-02-30t00:00:00z",
        "2016-12-31T23:59:60zz",
        "0001-01-01T23:59:60+23:59",
        "1969-12-31T23:59:59.999999Z",
        "1970-01-01T00:00:00+00:01",
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59.999999-00:01",
        "10000-01-01T00:00:00Z",
        "-2026-01-29T12:34:56Z",
        "yesterday",
        "1769690096",
        "2026-02-29T00:00:00Z",
        "2026-01-29T25:00:00Z",
        "2026-01-29T12:34:56+25:00",
        " 2026-01-29T12:34:56Z",
        "2026-01-29T12:34:56.789Z\n",
        "٢٠٢٦-٠١-٢٩",
    ],
)
@pytest.mark.parametrize("event", [AUDIT, RECEIPT, STAGE, STARTED, MEMORY])
def test_what_is_no_moment_from_1970_to_9999_is_refused(text: str, event: Event) -> None:
    assert refusal(at(event, text)).code is EventCode.INVALID


def test_a_start_before_1970_is_1970() -> None:
    """A stamp minus a duration that is longer than the time since then."""
    assert row_of(RECEIPT, 1_499_999_999)[RECEIPT_TIME] == "1970-01-01T00:00:00.000Z"
    assert row_of(RECEIPT, 1_500_000_000)[RECEIPT_TIME] == "1970-01-01T00:00:00.000Z"


def test_the_largest_stamp_is_stored() -> None:
    assert row_of(AUDIT, 2**63 - 1)[AUDIT_TIME] == "2262-04-11T23:47:16.854Z"


def test_memory_keeps_microseconds_to_order_by() -> None:
    row = row_of(at(MEMORY, "2026-01-29T13:34:56.789012+01:00"), STAMP_NS)
    assert row[MEMORY_TIME:] == ("2026-01-29 12:34:56.789", 1_769_690_096_789_012)
    assert row_of(MEMORY, STAMP_NS)[MEMORY_TIME:] == (
        "2026-01-29 12:34:56.789",
        1_769_690_096_789_999,
    )


@given(json_values)
def test_json_text_says_the_value_again(value: Any) -> None:
    text = json_text(value, "context")
    assert json.loads(text) == value
    assert same_json(text, json.dumps(value))


@given(json_values)
def test_json_text_is_compact(value: Any) -> None:
    """No white space but inside strings, and no escapes for what needs none."""
    text = json_text(without_floats(value), "context")
    assert text == json.dumps(
        portable(without_floats(value)), ensure_ascii=False, separators=(",", ":")
    )


@given(not_json, st.integers(0, 3), st.booleans())
def test_what_is_not_json_is_refused_at_any_depth(
    value: Any,
    depth: int,
    in_a_list: bool,
) -> None:
    wrapped = nested(depth, lambda v: [0, v] if in_a_list else {"a": 0, "b": v}, value)
    with pytest.raises(InvalidEvent, match=r"\$\.context") as caught:
        json_text(wrapped, "context")
    assert caught.value.code is EventCode.INVALID


@pytest.mark.parametrize("wrap", [lambda v: [v], lambda v: {"k": v}, lambda v: [0, v, "x"]])
def test_nesting_is_accepted_up_to_its_limit(wrap: Callable[[Any], Any]) -> None:
    deepest = nested(limits.JSON_DEPTH, wrap)
    assert json.loads(json_text(deepest, "context")) == deepest
    with pytest.raises(InvalidEvent) as caught:
        json_text(nested(limits.JSON_DEPTH + 1, wrap), "context")
    assert caught.value.code is EventCode.TOO_DEEP


def test_a_json_field_is_accepted_up_to_a_mebibyte_of_text() -> None:
    """Bytes of UTF-8 as stored, not characters."""
    longest = "μ" * (limits.JSON_BYTES // 2 - 1)
    assert len(json_text(longest, "context").encode()) == limits.JSON_BYTES
    for value in (longest + "x", {"k": longest}, [longest]):
        with pytest.raises(InvalidEvent) as caught:
            json_text(value, "context")
        assert caught.value.code is EventCode.TOO_LARGE


@pytest.mark.parametrize(
    "event",
    [
        msgspec.structs.replace(AUDIT, context={"k": b"bytes"}),
        msgspec.structs.replace(RECEIPT, receipt=[float("nan")]),
        msgspec.structs.replace(STARTED, context={1: 2}),
        msgspec.structs.replace(MEMORY, memory=datetime(2026, 1, 29, tzinfo=UTC)),
        msgspec.structs.replace(MEMORY, collision_history=[[b""]]),
    ],
)
def test_every_json_field_is_checked(event: Event) -> None:
    """As it comes from the wire, where msgpack can say more than JSON."""
    try:
        received = decode_event(encode_event(event))
    except InvalidEvent as error:
        assert error.code is EventCode.INVALID  # noqa: PT017 - both places may refuse
    else:
        assert refusal(received).code is EventCode.INVALID


def test_a_json_field_that_is_left_out_is_null_in_its_table() -> None:
    columns = dict(zip(column_names(RECEIPTS), row_of(RECEIPT, STAMP_NS), strict=True))
    assert columns["receipt_json"] is None
    assert (columns["files_generated"], columns["files_modified"]) == (0, 0)
    assert row_of(MEMORY, STAMP_NS)[1:5] == ("{}", None, 0, None)


def test_a_memory_may_be_any_json_value_also_null() -> None:
    """`memory` is not optional, so that null is a value there."""
    assert row_of(msgspec.structs.replace(MEMORY, memory=None), STAMP_NS)[1] == "null"


@given(json_values)
def test_the_same_json_in_another_key_order_is_the_same(value: Any) -> None:
    assert same_json(json.dumps(value), json.dumps(turned_over(value), indent=1))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1", "1.0"),
        ("[1e2]", "[100]"),
        ("-0.0", "0"),
        ('{"a":1,"b":[2]}', '{ "b": [2.0], "a": 1.0 }'),
        ('"\\u03bc"', '"μ"'),
        (None, None),
    ],
)
def test_two_texts_of_one_value_are_the_same(one: str | None, other: str | None) -> None:
    assert same_json(one, other)
    assert same_json(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("true", "1"),
        ("[false]", "[0]"),
        ('{"a":true}', '{"a":1.0}'),
        ("null", "0"),
        ("null", None),
        ('""', "null"),
        ("[]", "{}"),
        ("[1,2]", "[2,1]"),
        ("[1]", "[1,1]"),
        ('{"a":1}', '{"a":1,"b":null}'),
        ('"1"', "1"),
        ("9007199254740993", "9007199254740992.0"),
    ],
)
def test_other_values_are_not_the_same(one: str | None, other: str | None) -> None:
    assert not same_json(one, other)
    assert not same_json(other, one)


@given(json_values, json_values)
def test_json_is_the_same_where_its_values_are(one: Any, other: Any) -> None:
    assert same_json(json.dumps(one), json.dumps(other)) is (typed(one) == typed(other))


@pytest.mark.parametrize("spelling", get_args(Stage))
def test_every_spelling_of_a_stage_is_stored_under_the_one_name(spelling: Stage) -> None:
    stored = row_of(msgspec.structs.replace(STAGE, stage=spelling), STAMP_NS)[1]
    assert stored in {
        "μ₁_normalize",
        "μ₂_extract",
        "μ₃_emit",
        "μ₄_canonicalize",
        "μ₅_receipt",
    }
    assert stored.endswith(spelling.partition("_")[2] or spelling)
    assert stored == STAGES[spelling]


def test_each_name_of_a_stage_has_three_spellings() -> None:
    """With the Greek letter, with the micro sign of keyboards, and without either."""
    assert set(STAGES) == set(get_args(Stage))
    assert sorted(STAGES.values()) == sorted(3 * [*dict.fromkeys(STAGES.values())])
    assert STAGES["\u00b5\u2082_extract"] == "\u03bc\u2082_extract"


@pytest.mark.parametrize(
    ("event", "field"),
    [
        (event, field)
        for event in (AUDIT, COLLISION, STARTED, ENDED, RECEIPT, STAGE, MEMORY)
        for field in event.__struct_fields__
        if field.endswith("_id") or field.startswith("agent_id") or field == "environment"
    ],
    ids=str,
)
def test_a_control_character_in_a_name_is_refused_with_its_field(event: Event, field: str) -> None:
    for character in "\0\n\x1b\x7f\x85":
        error = refusal(msgspec.structs.replace(event, **{field: f"a{character}b"}))
        assert error.code is EventCode.INVALID
        assert f"`$.{field}`" in error.message
    for harmless in ("a b", "a\u00a0b", "a\u200bb", "a\u2028b", "é漢😀", "\ue000"):
        row_of(msgspec.structs.replace(event, **{field: harmless}), STAMP_NS)


def test_a_row_has_a_value_for_each_column() -> None:
    for table, event in (
        (AUDITS, AUDIT),
        (COLLISIONS, COLLISION),
        (METRICS, STAGE),
        (RECEIPTS, RECEIPT),
        (SESSIONS, STARTED),
    ):
        assert len(row_of(event, STAMP_NS)) == len(column_names(table))


def test_an_event_has_the_same_row_after_either_encoding() -> None:
    for event in (AUDIT, COLLISION, STARTED, ENDED, RECEIPT, STAGE, MEMORY):
        row = row_of(event, STAMP_NS)
        assert row_of(decode_event(encode_event(event)), STAMP_NS) == row
        assert row_of(decode_line(msgspec.json.encode(event)), STAMP_NS) == row


def column_names(table: Any) -> list[str]:
    return [name.strip() for name in table._columns.split(",")]


def turned_over(value: Any) -> Any:
    """The same value, its keys in the opposite order and its whole floats as integers."""
    if isinstance(value, dict):
        return {key: turned_over(value[key]) for key in reversed(value)}
    if isinstance(value, list):
        return [turned_over(part) for part in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def typed(value: Any) -> Any:
    """The value with every bool marked, so that == compares as JSON does."""
    if isinstance(value, dict):
        return {key: typed(part) for key, part in value.items()}
    if isinstance(value, list):
        return [typed(part) for part in value]
    return ("bool", value) if isinstance(value, bool) else value


def without_floats(value: Any) -> Any:
    """The value with integers for floats, which have several notations."""
    if isinstance(value, dict):
        return {key: without_floats(part) for key, part in value.items()}
    if isinstance(value, list):
        return [without_floats(part) for part in value]
    return int(value) if isinstance(value, float) else value
