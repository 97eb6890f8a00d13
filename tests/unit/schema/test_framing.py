"""Framing: whatever the cuts of the byte stream, the same frames and the same lines come out."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ggend_schema import limits
from ggend_schema.codes import GoodbyeCode
from ggend_schema.errors import FrameTooLarge
from ggend_schema.framing import FrameSplitter, LineSplitter, OverlongLine, frame, is_ndjson

FRAME_LIMIT = 40

#: Above the bytes that are kept of an over-long line, so that these are the same at any cut.
LINE_LIMIT = 1_500

#: Where a stream may be cut, as fractions, so that one list serves streams of any length.
cuts = st.lists(st.floats(0, 1), max_size=12)
payloads = st.lists(st.binary(max_size=FRAME_LIMIT), max_size=8)

#: Lines of a few bytes, blank ones, and ones around the limit.
line = st.one_of(
    st.binary(max_size=12).map(lambda text: text.replace(b"\n", b"")),
    st.sampled_from([b"", b"\r", b" "]),
    st.integers(LINE_LIMIT - 2, LINE_LIMIT + 3).map(lambda size: b"%d" % (size % 7) * size),
    st.integers(3, 5).map(lambda times: b"long" * times * LINE_LIMIT),
)
#: Lines with what is skipped before them.
marked = st.tuples(
    st.lists(st.sampled_from([b"\xef\xbb\xbf", b"\0", bytes(2 * LINE_LIMIT)]), max_size=3), line
).map(lambda parts: b"".join(parts[0]) + parts[1])
lines = st.lists(line | marked, max_size=8)


def cut(stream: bytes, at: list[float], most: int | None = None) -> Iterable[bytes]:
    """Cut the stream at these fractions of it, and no piece longer than `most`."""
    offsets = {0, len(stream), *(int(fraction * len(stream)) for fraction in at)}
    if most is not None:
        offsets.update(range(0, len(stream), most))
    places = sorted(offsets)
    return [stream[start:stop] for start, stop in pairwise(places)]


def frames_of(chunks: Iterable[bytes], limit: int) -> tuple[list[bytes], FrameSplitter]:
    splitter = FrameSplitter(limit)
    out = [bytes(payload) for chunk in chunks for payload in splitter.feed(chunk)]
    return out, splitter


def lines_of(chunks: Iterable[bytes]) -> list[bytes | None]:
    """Return the lines that are not blank, None for an over-long one."""
    splitter = LineSplitter(LINE_LIMIT)
    out: list[bytes | None] = []
    for chunk in chunks:
        for block in splitter.feed(chunk):
            if isinstance(block, OverlongLine):
                out.append(None)
            else:
                out.extend(part for part in block.split(b"\n") if part.strip())
    last = splitter.finish()
    return [*out, last] if last.strip() else out


def plain_lines(stream: bytes) -> list[bytes | None]:
    """The same, said without a splitter."""
    bare = [bare_line(part) for part in stream.split(b"\n")]
    whole = [part for part in bare if part.strip() or len(part) > LINE_LIMIT]
    return [None if len(part) > LINE_LIMIT else part for part in whole]


def bare_line(line: bytes) -> bytes:
    """The line without the marks and NULs before it."""
    while line.startswith((b"\0", b"\xef\xbb\xbf")):
        line = line.lstrip(b"\0").removeprefix(b"\xef\xbb\xbf")
    return line


@given(payloads, cuts)
def test_any_cut_of_the_stream_gives_the_same_frames(sent: list[bytes], at: list[float]) -> None:
    stream = b"".join(map(frame, sent))
    received, splitter = frames_of(cut(stream, at), FRAME_LIMIT)
    assert received == sent
    assert splitter.error is None
    assert not splitter.is_partial


@given(payloads, st.binary(max_size=60), st.integers(1, 2**32 - 1 - FRAME_LIMIT), cuts)
def test_any_cut_finds_a_length_over_the_limit_and_nothing_behind_it(
    sent: list[bytes], rest: bytes, excess: int, at: list[float]
) -> None:
    """The frames before it are whole; what follows cannot be told from garbage."""
    size = FRAME_LIMIT + excess
    stream = b"".join(map(frame, sent)) + size.to_bytes(4, "big") + rest
    received, splitter = frames_of(cut(stream, at), FRAME_LIMIT)
    assert received == sent
    assert isinstance(splitter.error, FrameTooLarge)
    assert (splitter.error.size, splitter.error.limit) == (size, FRAME_LIMIT)
    assert splitter.feed(b"".join(map(frame, sent))) == []


@given(payloads, st.binary(min_size=1, max_size=FRAME_LIMIT), cuts, st.data())
def test_half_a_frame_at_the_end_is_partial_and_no_frame(
    sent: list[bytes], last: bytes, at: list[float], data: st.DataObject
) -> None:
    half = frame(last)[: data.draw(st.integers(1, len(last) + 3))]
    received, splitter = frames_of(cut(b"".join(map(frame, sent)) + half, at), FRAME_LIMIT)
    assert received == sent
    assert splitter.is_partial
    assert splitter.error is None


def test_a_length_over_the_limit_is_refused_before_its_bytes_come() -> None:
    splitter = FrameSplitter()
    for byte in (limits.FRAME_BYTES + 1).to_bytes(4, "big"):
        assert splitter.error is None
        assert splitter.feed(bytes([byte])) == []
    assert splitter.error is not None
    assert splitter.error.code is GoodbyeCode.FRAME_TOO_LARGE


def test_a_frame_at_the_limit_comes_through() -> None:
    payload = bytes(limits.FRAME_BYTES)
    received, splitter = frames_of([frame(payload)], limits.FRAME_BYTES)
    assert received == [payload]
    assert splitter.error is None


def test_a_payload_stays_as_it_was_while_further_bytes_come() -> None:
    """Payloads are views; the splitter never writes into the bytes below them."""
    splitter = FrameSplitter()
    stream = frame(b"first") + frame(b"second") + frame(b"third")
    held = [payload for byte in stream for payload in splitter.feed(bytes([byte]))]
    assert [bytes(payload) for payload in held] == [b"first", b"second", b"third"]


@given(lines, st.booleans(), cuts)
def test_any_cut_of_the_stream_gives_the_same_lines(
    sent: list[bytes],
    ends_with_lf: bool,
    at: list[float],
) -> None:
    """The last LF is optional. No piece is longer than the limit: the daemon reads far less."""
    stream = b"\n".join(sent) + (b"\n" if ends_with_lf else b"")
    assert lines_of(cut(stream, at, most=LINE_LIMIT)) == plain_lines(stream)


@given(lines, cuts)
def test_at_most_one_unfinished_line_is_held(sent: list[bytes], at: list[float]) -> None:
    """However long a line is: what is over the limit is dropped as it comes."""
    splitter = LineSplitter(LINE_LIMIT)
    for chunk in cut(b"\n".join(sent), at, most=LINE_LIMIT):
        splitter.feed(chunk)
    assert len(splitter.finish()) <= LINE_LIMIT


@given(cuts)
def test_the_beginning_of_an_overlong_line_is_kept_at_any_cut(at: list[float]) -> None:
    beginning = b'{"type":"audit","agent_id":"a1",'
    splitter = LineSplitter(LINE_LIMIT)
    stream = b"{}\n" + beginning + b"x" * 2 * LINE_LIMIT + b"\n{}\n"
    marks = [
        block
        for chunk in cut(stream, at, most=LINE_LIMIT)
        for block in splitter.feed(chunk)
        if isinstance(block, OverlongLine)
    ]
    assert [mark.head[: len(beginning)] for mark in marks] == [beginning]


def test_nothing_is_kept_of_a_hole_before_a_line() -> None:
    """It may be larger than memory."""
    splitter = LineSplitter(LINE_LIMIT)
    for _ in range(1_000):
        assert splitter.feed(bytes(LINE_LIMIT)) == []
        assert splitter.partial_bytes == 0
    assert splitter.feed(b"\xef\xbb\xbf{}\n\0\0[]\n\xef\xbb") == [b"{}\n[]"]
    assert splitter.feed(b"\xbf\0") == []
    assert splitter.feed(b'"\0"\n') == [b'"\0"'], "within a line, a NUL is the line's own"


@pytest.mark.parametrize("ends_with_lf", [True, False])
def test_a_line_is_partial_until_its_lf(
    ends_with_lf: bool,
) -> None:
    splitter = LineSplitter(LINE_LIMIT)
    assert splitter.feed(b'{"a":1}\n{"b"') == [b'{"a":1}']
    assert splitter.is_partial
    if ends_with_lf:
        assert splitter.feed(b":2}\n") == [b'{"b":2}']
        assert not splitter.is_partial
    else:
        assert splitter.finish() == b'{"b"'


@pytest.mark.parametrize("size", [LINE_LIMIT, LINE_LIMIT + 1])
@pytest.mark.parametrize("ending", [b"", b"\n"])
def test_a_line_is_overlong_from_one_byte_over_the_limit(size: int, ending: bytes) -> None:
    expected: list[bytes | None] = [b"x" * size] if size == LINE_LIMIT else [None]
    stream = b"x" * size + ending
    assert lines_of([stream]) == expected
    assert lines_of([stream[:700], stream[700:]]) == expected


@pytest.mark.parametrize(
    ("first", "is_lines"),
    [
        *((first, True) for first in (b"{", b" ", b"\t", b"\r", b"\n", b"\xef\xbb\xbf{")),
        *((first, False) for first in (b"\0", b"[", b'"', b"\x85")),
    ],
)
def test_the_first_byte_tells_the_encoding(
    first: bytes,
    is_lines: bool,
) -> None:
    """A frame within the limit begins with a zero byte."""
    assert is_ndjson(first[0]) is is_lines
