"""Conversation: says what a `Spoken` says to a daemon, in one of many ways, and judges the answer.

Whatever the way, the connection ends in time with an answer that can be read to its last byte.
"""

from __future__ import annotations

import os
import random
import select
import socket
import time
from collections.abc import Iterator, Sequence
from enum import Enum
from pathlib import Path

import msgspec
from msgspec import Struct

from ggend_schema.codec import decode_daemon_message, encode_frame
from ggend_schema.codes import GoodbyeCode
from ggend_schema.errors import ProtocolError
from ggend_schema.framing import FrameSplitter, LineSplitter, bare_line, is_ndjson
from ggend_schema.messages import (
    PROTOCOL,
    Ack,
    Answer,
    DaemonMessage,
    Goodbye,
    Hello,
    LinesAnswer,
    Request,
)
from torture.dialogues import Spoken
from torture.mutations import cuts

__all__ = ["TIMEOUT_SECONDS", "Heard", "converse"]

#: What the daemon is configured to, for half-sent input and unread answers.
TIMEOUT_SECONDS = 1.0

#: Seconds after which a conversation is too late: some timeouts, and a busy machine.
_LATE_SECONDS = 20.0

#: Requests that a deaf client asks. They, too, are more than what fits between the two, so that it
#: cannot say them all and begin to read.
_DEAF_REQUESTS = 40_000


#: What is said to a client that sent half of something and then nothing for so long.
_HALF_SENT = b"nothing more for"


class _Way(Enum):
    """How a client behaves, apart from what it says."""

    POLITE = "says it all, closes its sending side, reads to the end"
    WAITING = "says a part and waits to be told to go, if it ends in the middle of something"
    SHORT = "says a part and closes its sending side"
    GONE = "says a part and is gone"
    DEAF = "asks without end and reads nothing until it is cut off"
    TWICE = "says it all, and on another connection again"


_WAYS = [_Way.POLITE] * 40 + [_Way.SHORT] * 10 + [_Way.GONE] * 10 + [_Way.TWICE] * 10
_WAYS += [_Way.WAITING] * 3 + [_Way.DEAF]


class Heard(Struct):
    """What came back."""

    acked: int
    problems: list[str]


def converse(path: Path, said: Spoken, rng: random.Random) -> Heard:
    """Say it, hear the daemon out, and return what was wrong with the answer."""
    way = rng.choice(_WAYS)
    if way is _Way.TWICE and said.finishes:
        way = _Way.POLITE  # whoever is done is forgotten, and would be new
    sent = said.sent
    if way in (_Way.SHORT, _Way.GONE, _Way.WAITING):
        sent = sent[: rng.randrange(len(sent) + 1)]
    elif way is _Way.DEAF:
        request = Request(id=1, op=rng.choice(("status", "load_memory", "?")))
        sent = encode_frame(Hello(protocol=PROTOCOL)) + encode_frame(request) * _DEAF_REQUESTS
    if way is _Way.WAITING and not _is_partial(sent):
        way = _Way.SHORT
    heard = Heard(0, [])
    is_late = False
    for _ in range(2 if way is _Way.TWICE else 1):
        begin = time.monotonic()
        received = _exchange(path, cuts(rng, sent), way)
        is_slow = time.monotonic() - begin >= TIMEOUT_SECONDS
        if is_slow and received is not None and _HALF_SENT in received and way is not _Way.WAITING:
            is_late = True  # this machine was so busy that the client itself was
            continue
        if received is None:
            heard.problems.append(f"{way.name}: no answer and no close in {_LATE_SECONDS:g} s")
        elif sent and way is not _Way.GONE:
            judge = _judge_lines if is_ndjson(sent[0]) else _judge_frames
            heard.problems += [f"{way.name}: {one}" for one in judge(sent, received, way, heard)]
    if (
        way in (_Way.POLITE, _Way.TWICE)
        and said.producer is not None
        and not (heard.problems or is_late)
    ):
        if is_ndjson(sent[0]):
            heard.acked = said.acked
        elif heard.acked < said.acked:
            heard.problems.append(f"{way.name}: acked up to {heard.acked}, not {said.acked}")
    return heard


def _is_partial(sent: bytes) -> bool:
    splitter = LineSplitter() if sent and is_ndjson(sent[0]) else FrameSplitter()
    splitter.feed(sent)
    return splitter.is_partial


def _exchange(path: Path, parts: Sequence[bytes], way: _Way) -> bytes | None:
    """Return what came until the daemon closed the connection, None if it did not."""
    late = time.monotonic() + _LATE_SECONDS
    received = bytearray()
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(_LATE_SECONDS)
        peer.connect(os.fspath(path))
        peer.settimeout(0)
        unsent = [part for part in reversed(parts) if part]
        is_finished = False
        is_deaf = way is _Way.DEAF
        while time.monotonic() < late:
            if not unsent and not is_finished:
                is_finished, is_deaf = True, False
                if way is _Way.GONE:
                    return b""
                if way is not _Way.WAITING:
                    peer.shutdown(socket.SHUT_WR)
            readable, writable, _ = select.select(
                [] if is_deaf else [peer], [peer] if unsent else [], [], 0.5
            )
            try:
                if writable:
                    part = unsent.pop()
                    rest = part[peer.send(part) :]
                    if rest:
                        unsent.append(rest)
                if readable:
                    chunk = peer.recv(65536)
                    if not chunk:
                        return bytes(received)
                    received += chunk
            except (BrokenPipeError, ConnectionResetError):
                # It was closed before all was read; what was told before may still be there.
                is_deaf, unsent, is_finished = False, [], True
                if not _has_more(peer, received):
                    return bytes(received)
    return None


def _has_more(peer: socket.socket, received: bytearray) -> bool:
    """Take in what is left to read on a connection that is broken; False when there is no more."""
    try:
        chunk = peer.recv(65536)
    except (BlockingIOError, ConnectionResetError):
        return False
    received += chunk
    return bool(chunk)


def _judge_lines(sent: bytes, received: bytes, way: _Way, _: Heard) -> Iterator[str]:
    """One line answers, and it speaks of every line that came."""
    if way is _Way.DEAF:
        return
    try:
        answer = msgspec.json.decode(received, type=LinesAnswer)
    except msgspec.DecodeError as error:
        yield f"not one line of answer ({error}): {received[:300]!r}"
        return
    outcomes = (
        answer.stored + answer.replayed + answer.duplicate + answer.superseded + answer.rejected
    )
    if answer.lines != outcomes + answer.refused or received.count(b"\n") != 1:
        yield f"an answer that does not add up: {received[:300]!r}"
    # The one over the limit may be blank and is counted; these here never are.
    lines = sum(1 for line in sent.split(b"\n") if bare_line(line).strip())
    if answer.lines != lines and way in (_Way.POLITE, _Way.TWICE, _Way.SHORT):
        yield f"{lines} lines, and {answer.lines} answered: {received[:300]!r}"
    if len(answer.errors) + answer.errors_omitted != answer.rejected + answer.refused:
        yield f"errors that are not told: {received[:300]!r}"


def _judge_frames(sent: bytes, received: bytes, way: _Way, heard: Heard) -> Iterator[str]:
    """Whole messages, acks that only rise, and a Goodbye last or not at all."""
    splitter = FrameSplitter()
    last: DaemonMessage | None = None
    for payload in splitter.feed(received):
        if isinstance(last, Goodbye):
            yield "a message after Goodbye"
        try:
            last = decode_daemon_message(payload)
        except ProtocolError as error:
            yield f"not a message: {error}"
            return
        if isinstance(last, Ack):
            if last.sequence < heard.acked and way is not _Way.TWICE:
                yield f"acked up to {heard.acked}, and then up to {last.sequence}"
            heard.acked = max(heard.acked, last.sequence)
        elif isinstance(last, Goodbye) and last.code == GoodbyeCode.INTERNAL:
            yield f"the daemon does not understand itself: {last.message}"
        elif isinstance(last, Answer) and last.code == "failed" and not last.message:
            yield "a request failed without a word"
    if splitter.error is not None or (splitter.is_partial and way is not _Way.DEAF):
        yield f"an answer that is cut off: {received[-100:]!r}"
    if way is _Way.WAITING and last is None and b"goodbye" not in sent:
        yield "closed without a word"
