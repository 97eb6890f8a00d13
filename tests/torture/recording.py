"""Recording: a daemon's run from the creation of its database over a kill to a drain.

Producers send framed batches and numbered lines, with several answers on their way at any moment.
What is returned has every call of the daemon on its files and sockets, in order, and from the
bytes on the sockets it can be told what each producer had been promised at any point of it.
"""

from __future__ import annotations

import contextlib
import json
import random
import time
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from ggend_schema import Event
from ggend_schema.codec import decode_client_message, decode_daemon_message, encode_event_line
from ggend_schema.framing import FrameSplitter, is_ndjson
from ggend_schema.messages import Ack, Goodbye, Hello, Welcome
from support.framed_peer import Peer
from support.moved_database import FILES
from torture.disk import Files
from torture.recovered import encoded_batch
from torture.trace import Call, TracedDaemon, read_calls
from torture.work import emitted

__all__ = ["Promises", "Recording", "record"]

#: Small, so that a short run has many commits, checkpoints and restarts of the WAL.
_BATCH_EVENTS = 64
_CHECKPOINT_EVENTS = 300

#: Events of one frame, or one connection with lines, at most.
_SENT_EVENTS = 60

#: Seconds after which the daemon is killed in the middle of what it was sent, at most.
_KILLED_SECONDS = 0.02


class Recording(Struct, frozen=True):
    """What the daemon did, and what its files were at the end of each of its lives."""

    offered: dict[bytes, list[Event]]
    lives: list[tuple[list[Call], Files]]
    database: Path


class Promises:
    """What each producer was told, by the bytes on the sockets."""

    def __init__(self) -> None:
        self.acked: dict[bytes, int] = {}
        #: By socket: the producer, the number of its first line, and what cuts its answers.
        self._peers: dict[str, tuple[bytes, int | None, FrameSplitter]] = {}

    def hear(self, call: Call) -> None:
        """Hear what came first on a connection, and every answer."""
        if call.name == "recvfrom":
            is_wakeup = len(call.data.strip(b"\0")) < 2  # of the loop, by a thread or a signal
            if call.on not in self._peers and not is_wakeup:
                self._peers[call.on] = _introduced(call.data)
        elif call.on in self._peers:
            producer, first, splitter = self._peers[call.on]
            sent = call.data if call.result is None else call.data[: call.result]
            if first is not None:
                answer = json.loads(sent)
                self._note(producer, first + answer["stored"] + answer["replayed"] - 1)
                return
            for message in map(decode_daemon_message, splitter.feed(sent)):
                if isinstance(message, Ack):
                    self._note(producer, message.sequence)
                elif isinstance(message, Welcome | Goodbye):
                    self._note(producer, message.last_sequence or 0)

    def _note(self, producer: bytes, sequence: int) -> None:
        self.acked[producer] = max(sequence, self.acked.get(producer, 0))


def _introduced(data: bytes) -> tuple[bytes, int | None, FrameSplitter]:
    splitter = FrameSplitter()
    if is_ndjson(data[0]):
        line = json.loads(data.partition(b"\n")[0])
        return bytes.fromhex(line["producer"]), line["sequence"], splitter
    hello = decode_client_message(splitter.feed(data)[0])
    assert isinstance(hello, Hello), hello
    assert hello.producer is not None
    return hello.producer, None, FrameSplitter()


def record(place: Path, executions: int, producers: int, rng: random.Random) -> Recording:
    """Run a daemon twice, killed in the middle and drained at the end."""
    offered = {
        rng.randbytes(16): list(emitted(f"p{number}", iter(range(executions))))
        for number in range(producers)
    }
    daemon = TracedDaemon(
        place,
        log_level="warning",
        batch_events=_BATCH_EVENTS,
        checkpoint_events=_CHECKPOINT_EVENTS,
    )
    lives = []
    with daemon:
        _send(daemon, offered, rng, share=0.5, kill=True)
        lives.append((daemon.wait_for_trace(), _files(daemon.database)))
        daemon.start()
        _send(daemon, offered, rng, share=1, kill=False)
        assert daemon.stop() == 0, daemon.log.read_text()
        lives.append((daemon.wait_for_trace(), _files(daemon.database)))
    read = [(list(read_calls(trace, daemon.database)), files) for trace, files in lives]
    return Recording(offered, read, daemon.database)


def _files(database: Path) -> Files:
    paths = {suffix: Path(f"{database}{suffix}") for suffix in FILES}
    return {suffix: path.read_bytes() for suffix, path in paths.items() if path.exists()}


def _send(
    daemon: TracedDaemon,
    offered: Mapping[bytes, list[Event]],
    rng: random.Random,
    *,
    share: float,
    kill: bool,
) -> None:
    """Send so much of everything; every third producer has lines. Killed, it has not answered."""
    with contextlib.ExitStack() as stack:
        peers = {
            producer: stack.enter_context(Peer(daemon.socket))
            for number, producer in enumerate(offered)
            if number % 3 != 2
        }
        sent = {one: peers[one].hello(one).last_sequence if one in peers else 0 for one in offered}
        told = dict(sent)
        goal = {producer: int(share * len(events)) for producer, events in offered.items()}
        while True:
            expected = dict(sent)
            for producer, events in offered.items():
                end = min(goal[producer], sent[producer] + rng.randint(1, _SENT_EVENTS))
                chunk = events[sent[producer] : end]
                if chunk and producer in peers:
                    peers[producer].send(encoded_batch(sent[producer] + 1, chunk))
                elif chunk:
                    daemon.exchange(_lines(producer, sent[producer] + 1, chunk))
                sent[producer] += len(chunk)
            if kill and sent == goal:
                time.sleep(rng.uniform(0, _KILLED_SECONDS))
                daemon.kill()
                return
            # The answers to this round are read in the next, so that two are on their way.
            for producer, peer in peers.items():
                while told[producer] < expected[producer]:
                    message = peer.read()
                    assert isinstance(message, Ack), message
                    told[producer] = message.sequence
            if sent == expected:
                return


def _lines(producer: bytes, first_sequence: int, events: list[Event]) -> bytes:
    return b"".join(
        b'{"producer":"%s","sequence":%d,%s'
        % (producer.hex().encode(), sequence, encode_event_line(event)[1:])
        for sequence, event in enumerate(events, first_sequence)
    )
