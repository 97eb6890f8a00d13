"""Spans: where the values of a msgpack array or map lie, for any value and any depth."""

from __future__ import annotations

import sys
from contextlib import suppress
from datetime import UTC
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ggend_schema.codec import SalvagedBatch, decode_client_message
from ggend_schema.errors import MessageMalformed
from ggend_schema.messages import Batch
from ggend_schema.msgpack_spans import SKIPPED_VALUES, array_spans, map_spans, skip

DEPTH = 100_000

#: -1 is msgpack's own timestamp, which is here as a datetime.
ext_codes = st.integers(-128, 127).filter(lambda code: code != -1)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=40)
    | st.binary(max_size=40)
    | st.datetimes(timezones=st.just(UTC))
    | st.builds(msgspec.msgpack.Ext, ext_codes, st.binary(max_size=20))
)
values = st.recursive(
    scalars,
    lambda inside: (
        st.lists(inside, max_size=5) | st.dictionaries(st.text(max_size=5), inside, max_size=5)
    ),
    max_leaves=25,
)
arrays = st.lists(values, max_size=20)
maps = st.dictionaries(st.text(max_size=5), values, max_size=20)

#: One value for each width of each format: header bytes that the drawn values seldom reach.
WIDE: list[Any] = [
    "s" * 300,
    "s" * 70_000,
    b"b" * 300,
    b"b" * 70_000,
    msgspec.msgpack.Ext(5, b"e" * 300),
    msgspec.msgpack.Ext(5, b"e" * 70_000),
    [1] * 70_000,
    {f"k{number}": number for number in range(70_000)},
    *(msgspec.msgpack.Ext(5, bytes(size)) for size in (1, 2, 4, 8, 16)),
]


def encode(value: Any) -> memoryview:
    return memoryview(msgspec.msgpack.encode(value))


def decode(span: memoryview) -> Any:
    return msgspec.msgpack.decode(span)


@given(arrays)
def test_the_spans_of_an_array_decode_to_its_values(array: list[Any]) -> None:
    assert [decode(span) for span in array_spans(encode(array))] == array


@given(maps)
def test_the_spans_of_a_map_decode_to_its_keys_and_values(mapping: dict[str, Any]) -> None:
    spans = map_spans(encode(mapping))
    assert [(decode(key), decode(value)) for key, value in spans] == list(mapping.items())


@pytest.mark.parametrize("value", WIDE, ids=lambda value: f"{type(value).__name__}")
def test_every_width_of_every_format_is_skipped(value: Any) -> None:
    encoded = encode(value)
    assert skip(encoded, 0) == len(encoded)
    assert [bytes(span) for span in array_spans(encode([value, None]))] == [
        bytes(encoded),
        b"\xc0",
    ]


@pytest.mark.parametrize("first", [byte for byte in range(256) if byte != 0xC1], ids=hex)
def test_every_first_byte_is_skipped_as_the_decoder_reads_it(first: int) -> None:
    """With zeros behind it: empty texts and containers, or as many zeros as it says."""
    whole = bytes([first]) + bytes(40)
    for size in range(1, len(whole)):
        with suppress(msgspec.DecodeError):
            msgspec.msgpack.decode(whole[:size])
            break
    assert skip(memoryview(whole), 0) == size


@given(values, st.data())
def test_a_value_that_is_cut_off_is_malformed(value: Any, data: st.DataObject) -> None:
    encoded = encode([value])
    kept = data.draw(st.integers(0, len(encoded) - 1))
    with pytest.raises(MessageMalformed):
        array_spans(encoded[:kept])
    with pytest.raises(MessageMalformed):
        skip(encoded[:kept], 0)


@given(maps, st.data())
def test_a_map_that_is_cut_off_is_malformed(mapping: dict[str, Any], data: st.DataObject) -> None:
    encoded = encode(mapping)
    kept = data.draw(st.integers(0, len(encoded) - 1))
    with pytest.raises(MessageMalformed):
        map_spans(encoded[:kept])


@given(arrays, st.binary(min_size=1, max_size=9))
def test_bytes_behind_the_end_are_malformed(array: list[Any], behind: bytes) -> None:
    with pytest.raises(MessageMalformed):
        array_spans(memoryview(bytes(encode(array)) + behind))


@given(st.binary(max_size=200))
def test_any_bytes_are_spans_or_malformed_and_nothing_else(garbage: bytes) -> None:
    for spans_of in (array_spans, map_spans):
        try:
            spans_of(memoryview(garbage))
        except MessageMalformed:
            continue


@given(values)
def test_an_array_is_no_map_and_a_map_no_array(value: Any) -> None:
    encoded = encode(value)
    if not isinstance(value, list):
        with pytest.raises(MessageMalformed):
            array_spans(encoded)
    if not isinstance(value, dict):
        with pytest.raises(MessageMalformed):
            map_spans(encoded)


def test_the_one_byte_that_msgpack_never_uses_is_malformed() -> None:
    with pytest.raises(MessageMalformed, match="0xc1"):
        array_spans(memoryview(b"\x91\xc1"))


def test_a_length_that_promises_more_than_there_is_costs_nothing() -> None:
    """Four billion promised values are noticed at the first that is missing."""
    for head in (b"\xdd\xff\xff\xff\xff", b"\x91\xdf\xff\xff\xff\xff", b"\x91\xc6\xff\xff\xff\xff"):
        with pytest.raises(MessageMalformed):
            array_spans(memoryview(head))


@pytest.mark.parametrize("opening", [b"\x91", b"\x81\xa1k", b"\xdc\x00\x01"])
def test_deep_nesting_is_skipped_without_recursion(opening: bytes) -> None:
    """The decoder gives up on such a value; finding where it ends must not."""
    deep = opening * DEPTH + b"\xc0"
    assert sys.getrecursionlimit() < DEPTH
    spans = array_spans(memoryview(b"\x93\x01" + deep + b"\x02"))
    assert [len(span) for span in spans] == [1, len(deep), 1]
    assert (decode(spans[0]), decode(spans[2])) == (1, 2)


def test_an_event_nested_too_deep_leaves_its_neighbours_in_the_batch() -> None:
    audit = {"type": "audit", "agent_id": "a1", "operation": "plan", "status": "completed"}
    good = bytes(encode(audit))
    deep = bytes(encode({**audit, "context": None}))[:-1] + b"\x91" * DEPTH + b"\xc0"
    batch = {"type": "batch", "first_sequence": 1, "stamps": [1, 2, 3]}
    head = bytes(encode({**batch, "events": None}))[:-1]
    message = decode_client_message(memoryview(head + b"\x93" + good + deep + good))
    assert isinstance(message, SalvagedBatch)
    assert [bytes(event) for event in message.events] == [good, deep, good]
    whole = decode_client_message(memoryview(head + b"\x92" + good + good))
    assert isinstance(whole, Batch)


def test_all_values_of_a_map_together_are_skipped_up_to_the_limit() -> None:
    """Many values just below it would take many times as long as one."""
    almost = msgspec.msgpack.encode([None] * (SKIPPED_VALUES - 10))
    assert len(map_spans(memoryview(b"\x81\xa1a" + almost))) == 1
    with pytest.raises(MessageMalformed, match=f"more than {SKIPPED_VALUES} values"):
        map_spans(memoryview(b"\x82\xa1a" + almost + b"\xa1b" + almost))
