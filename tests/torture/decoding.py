"""Decoding: what framing, codec and rows make of any bytes at all, without a daemon.

`problems_of` takes one client's bytes the way `frames` and `ndjson` take them and says what was
wrong: an exception that is not documented, another result for another cut of the same stream,
lines that mean something else in a block than alone, a row that SQLite cannot take, or too long.
"""

from __future__ import annotations

import json
import random
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress

import msgspec

from ggend.ingest.intake import Entry, Rejection
from ggend.server.decode import batch_entries, block_entries, check_batch, line_entry
from ggend_schema import limits
from ggend_schema.codec import (
    SalvagedBatch,
    decode_client_message,
    decode_daemon_message,
    decode_event,
    decode_line_number,
)
from ggend_schema.errors import InvalidEvent, MessageMalformed
from ggend_schema.events import Audit, Event, MemorySaved, ReceiptEmitted, SessionStarted
from ggend_schema.framing import FrameSplitter, LineSplitter, OverlongLine, bare_line, is_ndjson
from ggend_schema.messages import Batch
from ggend_schema.msgpack_spans import SKIPPED_VALUES, array_spans, map_spans, skip
from support.framed_peer import STAMP_NS
from torture.mutations import cuts

__all__ = ["INPUT_SECONDS", "problems_of"]

#: CPU seconds that one client's bytes may take here, where all is decoded some six times.
#: Measured: 0.2 s with a frame of 4 MiB.
INPUT_SECONDS = 5.0

#: Where the rows have JSON.
_JSON_COLUMNS: dict[type[Event], tuple[int, ...]] = {
    ReceiptEmitted: (10,),
    Audit: (6,),
    SessionStarted: (4,),
    MemorySaved: (1, 2),
}


def problems_of(sent: bytes, rng: random.Random) -> list[str]:
    """Decode what a client sent, in several ways; return what was wrong."""
    begin = time.thread_time()
    problems: list[str] = []
    try:
        if sent and is_ndjson(sent[0]):
            problems += _lines(sent, rng)
        problems += _frames(sent, rng)
    except Exception as error:
        problems.append(f"not a documented error: {error!r:.500}")
    seconds = time.thread_time() - begin
    if seconds > INPUT_SECONDS:
        problems.append(f"{len(sent)} bytes took {seconds:.1f} s")
    return problems


def _frames(sent: bytes, rng: random.Random) -> Iterator[str]:
    whole, cut = _split(_frames_of([sent])), _split(_frames_of(cuts(rng, sent)))
    if whole != cut:
        yield "another cut of the stream gave other frames"
    for payload in _frames_of([sent])[0]:
        yield from _payload(payload)


def _frames_of(chunks: Iterable[bytes]) -> tuple[list[memoryview], FrameSplitter]:
    splitter = FrameSplitter()
    return [payload for chunk in chunks for payload in splitter.feed(chunk)], splitter


def _split(found: tuple[list[memoryview], FrameSplitter]) -> tuple[object, ...]:
    payloads, splitter = found
    return payloads, str(splitter.error), splitter.is_partial, splitter.completed


def _payload(payload: memoryview) -> Iterator[str]:
    for decode in (decode_daemon_message, array_spans, map_spans):
        _refused_with(MessageMalformed, decode, payload)
    _refused_with(InvalidEvent, decode_event, payload)
    yield from _spans(payload)
    try:
        message = decode_client_message(payload)
        if isinstance(message, (Batch, SalvagedBatch)):
            check_batch(message)
    except MessageMalformed:
        return
    if isinstance(message, (Batch, SalvagedBatch)):
        entries = batch_entries([(message, payload)])
        if len(entries) != len(message.events):
            yield f"{len(message.events)} events became {len(entries)} entries"
        yield from _unstorable(entries)


def _refused_with(
    error: type[Exception], decode: Callable[[memoryview], object], payload: memoryview
) -> None:
    with suppress(error):
        decode(payload)


def _spans(payload: memoryview) -> Iterator[str]:
    """What msgspec reads to the end, `skip` walks to the end."""
    try:
        msgspec.msgpack.decode(payload, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError, OverflowError):
        return
    try:
        end = skip(payload, 0)
    except MessageMalformed as error:
        if str(SKIPPED_VALUES) not in str(error) and b"\xc1" not in bytes(payload):
            yield f"msgspec reads what `skip` does not: {error}"
    else:
        if end != len(payload):
            yield f"`skip` ends at {end} of {len(payload)}"


def _lines(sent: bytes, rng: random.Random) -> Iterator[str]:
    whole = _lines_of(_chunks(sent))
    if whole != _lines_of(part for cut in cuts(rng, sent) for part in _chunks(cut)):
        yield "another cut of the stream gave other lines"
    plain = [line for line in map(bare_line, sent.split(b"\n")) if line.strip()]
    if whole != [line if len(line) <= limits.EVENT_BYTES else None for line in plain]:
        yield "other lines than `split` gives"
    together = block_entries(b"\n".join(line for line in whole if line is not None), STAMP_NS)
    singly: list[Entry] = []
    for line in whole:
        if line is None:
            continue
        with suppress(InvalidEvent):
            decode_line_number(line)
        singly.append(line_entry(line, STAMP_NS))
    yield from _unstorable(singly)
    if together is not None and together != singly:
        yield "lines mean something else in a block than alone"


def _chunks(stream: bytes) -> list[bytes]:
    """As the daemon reads: never more at a time than the limit of a line."""
    step = limits.EVENT_BYTES // 8
    return [stream[at : at + step] for at in range(0, len(stream), step)]


def _lines_of(chunks: Iterable[bytes]) -> list[bytes | None]:
    """Return the lines that are not blank, None for an over-long one."""
    splitter = LineSplitter()
    out: list[bytes | None] = []
    for chunk in chunks:
        for block in splitter.feed(chunk):
            if isinstance(block, OverlongLine):
                out.append(None)
            else:
                out.extend(line for line in block.split(b"\n") if line.strip())
    last = splitter.finish()
    return [*out, last] if last.strip() else out


def _unstorable(entries: Sequence[Entry]) -> Iterator[str]:
    """Rows that SQLite, or a reader of its JSON, would stumble over."""
    with closing(sqlite3.connect(":memory:")) as connection:
        for event, _, row in entries:
            if isinstance(event, Rejection) or row is None:
                continue
            try:
                connection.execute(f"SELECT {', '.join('?' * len(row))}", row)
            except (OverflowError, UnicodeError, sqlite3.Error) as error:
                yield f"a row that SQLite does not take: {error!r}: {row!r:.300}"
            for column in _JSON_COLUMNS.get(type(event), ()):
                yield from _bad_json(row[column])


def _bad_json(text: str | None) -> Iterator[str]:
    """Python's own reader is the judge, and no bare NaN."""
    try:
        json.loads(text or "null", parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        yield f"a JSON column that does not parse: {error}: {text:.200}"


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
