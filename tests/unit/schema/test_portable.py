"""What UTF-8, JSON or msgpack cannot carry is carried all the same, by one rule, whichever way."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ggend.importers.event_args import event_of
from ggend_client.transport.outbox import Outbox
from ggend_schema import Audit
from ggend_schema import portable as portable_module
from ggend_schema.codec import decode_event, decode_line, encode_event
from ggend_schema.portable import (
    INTEGER_MAX,
    INTEGER_MIN,
    portable,
    portable_line,
    portable_packed,
    portable_text,
)
from ggend_schema.rows import json_text

#: Text as programs hold it: names of files have halves of surrogate pairs.
texts = st.text(st.characters(exclude_categories=()), max_size=30)

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**130), 2**130) | texts,
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(texts, inside, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("caf\udce9.rs", r"caf\xe9.rs"),
        ("\ud83d", r"\ud83d"),
        ("plain \\xe9", "plain \\xe9"),
        ("\U0001f600 é", "\U0001f600 é"),
    ],
)
def test_a_text_is_spelled_out_where_it_must_be(given: str, stored: str) -> None:
    assert portable_text(given) == stored


@pytest.mark.parametrize(
    ("line", "operation"),
    [
        (b"caf\xe9.rs", r"caf\xe9.rs"),
        (rb"caf\udce9.rs", r"caf\xe9.rs"),
        (rb"\ud83d alone", r"\ud83d alone"),
        (rb"\uD83D\uDE00 \udce9", "\U0001f600 \\xe9"),
        (rb"\\udce9 \udce9", r"\udce9 \xe9"),
        (b"\xed\xa0\x80", r"\xed\xa0\x80"),
    ],
)
def test_a_line_is_spelled_out_where_it_must_be(line: bytes, operation: str) -> None:
    found = decode_line(
        b'{"type":"audit","agent_id":"a","status":"failed","operation":"%s"}' % line
    )
    assert found == Audit(agent_id="a", operation=operation, status="failed")


@given(values)
def test_every_way_gives_the_same(value: Any) -> None:
    """A client in this process, a line of JSON, and a command's argument."""
    event = Audit(agent_id="a", operation="o", status="failed", context=value)
    outbox = Outbox(max_events=1, max_bytes=10**7)
    assert outbox.offer(event)
    [pair] = outbox.take(1, 10**7)
    _, by_client = msgspec.msgpack.decode(pair, type=tuple[int, Audit])
    assert decode_event(encode_event(event)) == by_client
    line = {"type": "audit", "agent_id": "a", "operation": "o", "status": "failed"}
    by_line = decode_line(json.dumps({**line, "context": value}).encode())
    assert isinstance(by_line, Audit)
    expected = _stored(portable(value))
    for found in (by_client, by_line):
        assert (
            "null" if found.context is None else json_text(found.context, "context")
        ) == expected


@given(st.dictionaries(st.text(max_size=5), st.integers(-(2**70), 2**70), max_size=3))
def test_only_integers_of_more_than_64_bits_become_text(numbers: dict[str, int]) -> None:
    stored = json.loads(json_text(numbers, "context"))
    assert stored == {
        key: number if INTEGER_MIN <= number <= INTEGER_MAX else str(number)
        for key, number in numbers.items()
    }


@given(st.lists(st.binary(max_size=40), max_size=5))
def test_packed_texts_of_any_bytes_are_mended_and_nothing_else_changes(found: list[bytes]) -> None:
    head = bytes([0x90 + len(found)])
    packed = head + b"".join(
        (b"\xd9" + bytes([len(text)]) if number % 2 else b"\xdb" + len(text).to_bytes(4, "big"))
        + text
        for number, text in enumerate(found)
    )
    assert msgspec.msgpack.decode(portable_packed(memoryview(packed))) == [
        text.decode("utf-8", "backslashreplace") for text in found
    ]


@given(st.text(max_size=20))
def test_a_sound_line_stays_as_it_is(text: str) -> None:
    line = json.dumps([text], ensure_ascii=False).encode()
    assert portable_line(line) == line
    assert portable_line(json.dumps([text]).encode()) == json.dumps([text]).encode()


def test_an_argument_that_is_not_utf8_is_an_event() -> None:
    event = event_of("audit", ["agent_id=a", "status=failed", "operation=write caf\udce9.rs"])
    assert event == Audit(agent_id="a", status="failed", operation=r"write caf\xe9.rs")


def _stored(value: Any) -> str:
    return "null" if value is None else json_text(value, "context")


def test_a_text_of_many_broken_bytes_is_mended_by_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    spell = portable_module._spelled
    spelled: list[int] = []

    def counted(surrogate: int) -> str:
        spelled.append(surrogate)
        return spell(surrogate)

    monkeypatch.setattr(portable_module, "_spelled", counted)
    portable_module._spellings.cache_clear()
    assert portable_line(b'"' + 5_000 * b"\xe9\xff" + b'"') == b'"' + 5_000 * rb"\\xe9\\xff" + b'"'
    assert len(spelled) == 0xE000 - 0xD800
