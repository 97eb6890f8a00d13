"""Producers: processes that send what was built before the clock started, and wait for the acks.

Everything is encoded in the parent and inherited by fork; the children only connect, meet at a
barrier, send and read. A frame is one send(2), whatever its size; NDJSON goes in pieces of 64 KiB,
as `cat` would send it. The clock runs from the first send of any to the last ack of all.
"""

from __future__ import annotations

import multiprocessing
import os
import select
import socket
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path

import msgspec
from msgspec import Raw, Struct

from ggend_schema import PROTOCOL, Event
from ggend_schema.codec import (
    decode_daemon_message,
    encode_event,
    encode_event_line,
    encode_frame,
)
from ggend_schema.framing import FrameSplitter
from ggend_schema.messages import Ack, EncodedBatch, Hello, LinesAnswer, Welcome

__all__ = ["Feed", "FramedPeer", "blast", "feed_of_frames", "feed_of_lines", "frames"]

#: Bytes a send for NDJSON.
_PIECE_BYTES = 64 * 1024

#: Seconds after which a producer that hears nothing gives up.
PATIENCE_SECONDS = 60.0

_READ_BYTES = 64 * 1024

#: Nanoseconds between the stamps of two events: 50,000 events a second. Stamped all at once, the
#: indexes on time are written all over instead of at their end, as no real stream does.
_STAMP_NS = 20_000


class Feed(Struct, frozen=True):
    """What one producer sends: each piece is one send(2). Without an id it is NDJSON."""

    pieces: list[bytes]
    events: int
    producer: bytes | None


def frames(events: Sequence[Event], size: int, *, first_sequence: int = 1) -> list[bytes]:
    """Encode events as Batch frames of `size` events, stamped as a busy swarm would until now."""
    stamp = time.time_ns() - len(events) * _STAMP_NS
    encoded = [Raw(encode_event(event)) for event in events]
    return [
        encode_frame(
            EncodedBatch(
                first_sequence=first_sequence + start,
                stamps=[stamp + (start + offset) * _STAMP_NS for offset in range(len(block))],
                events=block,
            )
        )
        for start in range(0, len(encoded), size)
        if (block := encoded[start : start + size])
    ]


def feed_of_frames(events: Sequence[Event], size: int) -> Feed:
    """Return a numbered feed with `size` events a frame."""
    return Feed(frames(events, size), len(events), os.urandom(16))


def feed_of_lines(events: Sequence[Event]) -> Feed:
    """Return an NDJSON feed without numbers."""
    text = b"".join(map(encode_event_line, events))
    pieces = [text[start : start + _PIECE_BYTES] for start in range(0, len(text), _PIECE_BYTES)]
    return Feed(pieces, len(events), None)


def blast(address: Path, feeds: Sequence[Feed]) -> float:
    """Send all feeds at the same time, one process each; return the seconds to the last ack."""
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(len(feeds))
    children = []
    for feed in feeds:
        ours, theirs = context.Pipe(duplex=False)
        child = context.Process(target=_produce, args=(address, feed, barrier, theirs))
        child.start()
        theirs.close()
        children.append((child, ours))
    times: list[tuple[float, float]] = []
    for child, ours in children:
        try:
            times.append(ours.recv())
        except EOFError:
            raise AssertionError("a producer failed; what it said is above") from None
        finally:
            ours.close()
            child.join()
    return max(end for _, end in times) - min(begin for begin, _ in times)


def _produce(address: Path, feed: Feed, barrier: Barrier, report: Connection) -> None:
    peer = FramedPeer(address, feed.producer) if feed.producer else _LinesPeer(address)
    barrier.wait(PATIENCE_SECONDS)
    begin = time.monotonic()
    peer.send(feed.pieces)
    peer.wait(feed.events)
    report.send((begin, time.monotonic()))


class _Peer:
    """A socket that is read whenever it cannot be written."""

    def __init__(self, address: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE_SECONDS)
        self.socket.connect(os.fspath(address))

    def send(self, pieces: Sequence[bytes]) -> None:
        """Send the pieces, and hear what comes meanwhile."""
        peer = self.socket
        peer.settimeout(0)
        ready = select.poll()
        ready.register(peer, select.POLLIN | select.POLLOUT)
        for piece in pieces:
            rest: bytes | memoryview = piece
            while rest:
                try:
                    sent = peer.send(rest)
                except BlockingIOError:
                    occurred = ready.poll(PATIENCE_SECONDS * 1000)
                    assert occurred, "the daemon reads nothing"
                    if occurred[0][1] & select.POLLIN:
                        self.hear(peer.recv(_READ_BYTES))
                else:
                    if sent == len(rest):
                        break
                    rest = memoryview(rest)[sent:]
        peer.settimeout(PATIENCE_SECONDS)

    def hear(self, chunk: bytes) -> None:
        """Take in what the daemon says."""
        raise NotImplementedError

    def wait(self, events: int) -> None:
        """Wait until all events are acknowledged."""
        raise NotImplementedError


class FramedPeer(_Peer):
    """A numbered producer."""

    def __init__(self, address: Path, producer: bytes) -> None:
        super().__init__(address)
        self._splitter = FrameSplitter()
        self.settled = 0
        self.socket.sendall(encode_frame(Hello(protocol=PROTOCOL, producer=producer)))
        (payload,) = self._splitter.feed(self.socket.recv(_READ_BYTES))
        assert isinstance(decode_daemon_message(payload), Welcome)

    def hear(self, chunk: bytes) -> None:
        """Take in acks; anything else is a failure."""
        assert chunk, "the daemon closed the connection"
        for payload in self._splitter.feed(chunk):
            message = decode_daemon_message(payload)
            assert isinstance(message, Ack), message
            self.settled = message.sequence

    def wait(self, events: int) -> None:
        """Wait until everything up to this number is acknowledged."""
        while self.settled < events:
            self.hear(self.socket.recv(_READ_BYTES))


class _LinesPeer(_Peer):
    """NDJSON: one answer at the end."""

    def hear(self, chunk: bytes) -> None:
        raise AssertionError(f"an answer before the end: {chunk!r}")

    def wait(self, events: int) -> None:
        self.socket.shutdown(socket.SHUT_WR)
        received = b""
        while chunk := self.socket.recv(_READ_BYTES):
            received += chunk
        answer = msgspec.json.decode(received, type=LinesAnswer)
        assert (answer.lines, answer.stored) == (events, events), answer
