"""Framed peer: a blocking peer that speaks framed msgpack, for tests that look at every message.

It sends what it is told to, right or wrong, and never resends; the real client is `ggend_client`.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias

import msgspec

from ggend_schema.codec import decode_daemon_message, encode_frame
from ggend_schema.framing import FrameSplitter
from ggend_schema.messages import (
    PROTOCOL,
    Ack,
    ClientMessage,
    DaemonMessage,
    EncodedBatch,
    Goodbye,
    Hello,
    Reject,
    Welcome,
)
from support.daemon_process import Daemon
from support.patience import PATIENCE_SECONDS

__all__ = [
    "STAMP_NS",
    "EventLike",
    "Peer",
    "audit",
    "batch",
    "line_of",
    "new_producer",
    "packed",
    "receipt",
    "stage",
    "unbalanced_accounts",
]

#: 2026-01-29T12:34:56.789Z, the stamp of events where the test does not care.
STAMP_NS = 1_769_690_096_789_000_000

#: An event as its fields, or as bytes that may be anything.
EventLike: TypeAlias = Mapping[str, Any] | bytes


class Peer:
    """One connection to the daemon's socket."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(PATIENCE_SECONDS)
        try:
            self._socket.connect(os.fspath(path))
        except OSError:
            self._socket.close()
            raise
        self._splitter = FrameSplitter()
        self._received: deque[DaemonMessage] = deque()

    def __enter__(self) -> Peer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()

    def send(self, *messages: ClientMessage | EncodedBatch | bytes) -> None:
        """Send messages in one go; bytes go out as they are."""
        self._socket.sendall(
            b"".join(
                message if isinstance(message, bytes) else encode_frame(message)
                for message in messages
            )
        )

    def send_to_deaf_ears(self, sent: bytes) -> None:
        """Send bytes that the daemon may refuse by closing before it has read them all."""
        with suppress(BrokenPipeError, ConnectionResetError):
            self._socket.sendall(sent)

    def finish(self) -> None:
        """Close the sending side."""
        self._socket.shutdown(socket.SHUT_WR)

    def hello(self, producer: bytes | None = None, *, permanent: bool = False) -> Welcome:
        """Say hello and return the Welcome."""
        self.send(Hello(protocol=PROTOCOL, producer=producer, permanent=permanent, client="test"))
        welcome = self.read()
        assert isinstance(welcome, Welcome), welcome
        return welcome

    def read(self) -> DaemonMessage | None:
        """Return the next message, None when the daemon has closed the connection."""
        while not self._received:
            try:
                chunk = self._socket.recv(65536)
            except ConnectionResetError:  # closed while something we sent was still unread
                return None
            if not chunk:
                return None
            self._received.extend(map(decode_daemon_message, self._splitter.feed(chunk)))
        return self._received.popleft()

    def is_silent_for(self, seconds: float) -> bool:
        """Whether nothing comes within this time."""
        assert not self._received
        self._socket.settimeout(seconds)
        try:
            return not self._socket.recv(1, socket.MSG_PEEK)
        except TimeoutError:
            return True
        finally:
            self._socket.settimeout(PATIENCE_SECONDS)

    def read_to_ack(self, sequence: int) -> list[Reject]:
        """Read until this number is acked; return the Rejects that came before."""
        rejects: list[Reject] = []
        while True:
            message = self.read()
            if isinstance(message, Reject):
                rejects.append(message)
            else:
                assert isinstance(message, Ack), message
                if message.sequence >= sequence:
                    assert message.sequence == sequence
                    return rejects

    def read_to_end(self) -> list[DaemonMessage]:
        """Return everything that comes until the daemon closes the connection."""
        messages: list[DaemonMessage] = []
        while (message := self.read()) is not None:
            messages.append(message)
        return messages

    def read_goodbye(self) -> Goodbye:
        """Read to the end and return the last message, which is a Goodbye."""
        messages = self.read_to_end()
        assert messages, "the connection was closed without a word"
        last = messages[-1]
        assert isinstance(last, Goodbye), messages
        return last


def new_producer() -> bytes:
    """Return a producer id that nobody else has."""
    return os.urandom(16)


def packed(event: EventLike) -> bytes:
    """Return an event as it stands in a Batch."""
    return event if isinstance(event, bytes) else msgspec.msgpack.encode(event)


def batch(
    first_sequence: int,
    *events: EventLike,
    stamps: Sequence[int] | None = None,
    shed: int = 0,
    lost: int = 0,
) -> EncodedBatch:
    """Return a Batch of these events."""
    return EncodedBatch(
        first_sequence=first_sequence,
        stamps=[STAMP_NS] * len(events) if stamps is None else list(stamps),
        events=[msgspec.Raw(packed(event)) for event in events],
        shed=shed,
        lost=lost,
    )


def audit(agent_id: str, /, **fields: object) -> dict[str, object]:
    """Return an audit event, the one that needs nothing else."""
    return {
        "type": "audit",
        "agent_id": agent_id,
        "operation": "write",
        "status": "completed",
        **fields,
    }


def stage(execution_id: str, name: str = "extract", /, **fields: object) -> dict[str, object]:
    """Return a stage event, which waits for its receipt."""
    return {
        "type": "stage_completed",
        "execution_id": execution_id,
        "stage": name,
        "duration_ms": 10,
        "status": "passed",
        **fields,
    }


def receipt(execution_id: str, /, **fields: object) -> dict[str, object]:
    """Return a receipt event."""
    return {
        "type": "receipt_emitted",
        "execution_id": execution_id,
        "agent_id": "agent",
        "operation": "generation",
        "status": "passed",
        "duration_ms": 100,
        **fields,
    }


def line_of(event: Mapping[str, object]) -> bytes:
    """Return an event as an NDJSON line, with its LF."""
    return msgspec.json.encode(event) + b"\n"


def unbalanced_accounts(daemon: Daemon) -> list[tuple[object, ...]]:
    """Return what breaks promise 3: accounts that do not add up, totals that the tables deny."""
    return daemon.query(
        """
        SELECT kind, producer, last_sequence
        FROM producers
        WHERE last_sequence <> stored + duplicate + superseded + parked + rejected + lost
        """
    ) + daemon.query(
        """
        SELECT 'parked, rejected', *
        FROM (
            SELECT
                (SELECT coalesce(SUM(parked), 0) FROM producers) AS parked,
                (SELECT coalesce(SUM(events), 0) FROM parked_events) AS parked_rows,
                (SELECT coalesce(SUM(rejected), 0) FROM producers) AS rejected,
                (SELECT COUNT(*) FROM rejected_events) AS rejected_rows
        )
        WHERE parked <> parked_rows
           OR rejected <> rejected_rows
        """
    )
