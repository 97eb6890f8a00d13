"""Scripted: a producer that sends the same few batches one by one and remembers what was acked.

It waits for each Ack, so that a daemon makes nearly the same system calls every time; after a lost
connection it sends again from the first number that was not acked. Judges only what it is told.
"""

from __future__ import annotations

import time
from pathlib import Path

from ggend_schema.codec import encode_event
from ggend_schema.messages import Ack
from support.framed_peer import Peer, batch
from torture.work import emitted

__all__ = ["EVENTS", "HALF", "PRODUCER", "Scripted"]

PRODUCER = bytes(range(16))

#: Executions, some parked until the end, and events a Batch.
_EXECUTIONS = 4
_BATCH_EVENTS = 10

_ENCODED = [encode_event(event) for event in emitted("p0", iter(range(_EXECUTIONS)))]

#: How many events there are, and how many of them have been sent when the script is half done.
EVENTS = len(_ENCODED)
HALF = EVENTS // (2 * _BATCH_EVENTS) * _BATCH_EVENTS


class Scripted:
    """The producer. `acked` is the last number that the daemon has promised to keep."""

    def __init__(self, *, acked: int = 0) -> None:
        self.acked = acked
        #: When the last Batch that was acked had been sent.
        self.sent = 0.0
        #: Broken promises that it was witness to.
        self.problems: list[str] = []

    def send(self, socket: Path, *, upto: int = EVENTS) -> None:
        """Send until this number is acked or the connection is lost.

        Raises TimeoutError where the daemon keeps the connection and says nothing.
        """
        try:
            with Peer(socket) as peer:
                told = peer.hello(PRODUCER, permanent=True).last_sequence
                if told < self.acked:
                    self.problems.append(f"{self.acked} were acked, and the Welcome says {told}")
                while self.acked < upto:
                    first = self.acked
                    sent = time.monotonic()
                    peer.send(batch(first + 1, *_ENCODED[first : first + _BATCH_EVENTS]))
                    answer = peer.read()
                    if not isinstance(answer, Ack):
                        if answer is not None and answer.code != "draining":  # type: ignore[union-attr]
                            self.problems.append(f"answered with {answer}")
                        return
                    self.acked, self.sent = max(self.acked, answer.sequence), sent
        except (ConnectionError, FileNotFoundError, AssertionError):
            return
