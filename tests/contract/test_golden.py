"""The bytes on the wire are frozen: these files are what other languages' clients rely on."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from contract.samples import ANSWER, EVENTS, FRAMES, GOLDEN, UNKNOWN
from ggend_schema.codec import (
    decode_client_message,
    decode_daemon_message,
    decode_lines,
    encode_answer_line,
    encode_event_line,
    encode_frame,
)
from ggend_schema.framing import FrameSplitter
from ggend_schema.messages import Batch, EncodedBatch, Welcome

WIRE = Path(__file__).parents[2] / "docs" / "WIRE.md"


@pytest.mark.parametrize("name", [name for name in FRAMES if name != "batch"])
def test_a_message_is_encoded_as_its_golden_frame(name: str) -> None:
    assert encode_frame(FRAMES[name]) == (GOLDEN / f"{name}.bin").read_bytes()


def test_a_receipt_of_an_older_client_is_the_same_event() -> None:
    """The map of a receipt has a longer header since it has 16 keys; its content is the same."""
    (old,) = FrameSplitter().feed((GOLDEN / "batch.bin").read_bytes())
    (now,) = FrameSplitter().feed(encode_frame(FRAMES["batch"]))
    assert len(now) == len(old) + 2
    assert msgspec.msgpack.decode(now) == msgspec.msgpack.decode(old)


@pytest.mark.parametrize("name", FRAMES)
def test_a_golden_frame_decodes_to_its_message(name: str) -> None:
    (payload,) = FrameSplitter().feed((GOLDEN / f"{name}.bin").read_bytes())
    expected = FRAMES[name]
    if isinstance(expected, EncodedBatch):
        message = decode_client_message(payload)
        assert isinstance(message, Batch)
        assert message.first_sequence == expected.first_sequence
        events = UNKNOWN if name == "batch_unknown_durations" else EVENTS
        assert message.events == list(events[: len(expected.events)])
        assert (message.stamps, message.shed, message.lost) == (
            expected.stamps,
            expected.shed,
            expected.lost,
        )
    elif name.split("_")[0] in ("hello", "request", "goodbye"):
        assert decode_client_message(payload) == expected
    else:
        assert decode_daemon_message(payload) == expected


def test_golden_lines_are_the_same_events() -> None:
    lines = (GOLDEN / "events.ndjson").read_bytes()
    assert lines == b"".join(map(encode_event_line, EVENTS))
    assert decode_lines(lines.rstrip()) == list(EVENTS)
    lines = (GOLDEN / "events_unknown_durations.ndjson").read_bytes()
    assert lines == b"".join(map(encode_event_line, UNKNOWN))
    assert decode_lines(lines.rstrip()) == list(UNKNOWN)


def test_the_golden_answer_is_what_lines_are_answered_with() -> None:
    assert encode_answer_line(ANSWER) == (GOLDEN / "answer.ndjson").read_bytes()


def test_there_are_no_other_golden_files() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == {
        *(f"{name}.bin" for name in FRAMES),
        "events.ndjson",
        "events_unknown_durations.ndjson",
        "answer.ndjson",
    }


@pytest.mark.parametrize("name", ["hello", "welcome", "batch_lost_and_shed", "ack"])
def test_the_wire_document_shows_the_golden_bytes(name: str) -> None:
    shown = "".join(WIRE.read_text(encoding="utf-8").split())
    assert (GOLDEN / f"{name}.bin").read_bytes().hex() in shown


def test_unknown_keys_are_ignored() -> None:
    """A later protocol may add keys; this one must go on reading it."""
    frame = encode_frame(FRAMES["welcome"])
    payload = bytes([frame[4] + 1]) + frame[5:] + b"\xa5extra\x01"
    assert isinstance(decode_daemon_message(payload), Welcome)
