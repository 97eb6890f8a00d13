"""Session: one producer's side of protocol 1, without I/O.

Owns the numbering, the events not acked yet and what the daemon said. It never awaits, opens a
file or reads a clock; its producer id is passed in.

Invariants: `acked_sequence` never falls. What was enqueued and not acked is in exactly one of two
queues, both in the order of their numbers: sent on this connection, or not yet. A new connection
moves everything back to the second. `_daemon_sequence` is what the daemon will have settled once
it has read every frame of this connection; a frame that begins above the next number after it
declares the numbers between as `lost`, which covers a database that was replaced by an older
copy as well as an event that the daemon's limits do not let through.
"""

from __future__ import annotations

from collections import deque

from msgspec import Raw

from ggend_schema import limits, messages
from ggend_schema.codec import decode_daemon_message, encode_frame
from ggend_schema.codes import GoodbyeCode
from ggend_schema.errors import MessageMalformed
from ggend_schema.framing import FrameSplitter

__all__ = ["FRAME_BYTES", "FRAME_EVENTS", "Session"]

#: Events in one frame at most. One event a frame costs four times the CPU of 128; beyond a few
#: hundred nothing is gained.
FRAME_EVENTS = 512

#: Bytes that a frame aims at: about what a Unix socket's buffer takes at once.
FRAME_BYTES = 256 * 1024

#: Bytes of a Batch beside its events and stamps: the map's keys and three integers are under 90.
ENVELOPE_BYTES = 128

#: Bytes of one stamp: a msgpack uint64.
STAMP_BYTES = 9

#: Rejects kept for people to look at.
KEPT_REJECTS = 100

#: Sequence, stamp and encoded event.
_Numbered = tuple[int, int, bytes]


class Session:
    """Numbers events, frames them, and remembers them until the daemon has settled them."""

    __slots__ = (
        "_client_name",
        "_daemon_sequence",
        "_framed_sequence",
        "_rejected_sequences",
        "_sent",
        "_splitter",
        "_unsent",
        "acked",
        "acked_sequence",
        "goodbye",
        "in_flight_bytes",
        "last_sequence",
        "lost",
        "permanent",
        "producer",
        "rejected",
        "rejects",
        "released_bytes",
        "resent",
        "shed",
        "welcome",
    )

    def __init__(self, producer: bytes, *, permanent: bool = False, client_name: str = "") -> None:
        if len(producer) != limits.PRODUCER_BYTES:
            raise ValueError(f"a producer id has {limits.PRODUCER_BYTES} bytes")
        self.producer = producer
        self.permanent = permanent
        self._client_name = client_name[: limits.NAME_CHARS]
        self._sent: deque[_Numbered] = deque()
        self._unsent: deque[_Numbered] = deque()
        self._splitter = FrameSplitter()
        self._daemon_sequence = 0
        self._framed_sequence = 0
        self._rejected_sequences: set[int] = set()
        #: The highest number given so far.
        self.last_sequence = 0
        #: Every number up to this one is settled.
        self.acked_sequence = 0
        #: Events settled, the rejected ones included.
        self.acked = 0
        #: Events that went to the daemon's quarantine.
        self.rejected = 0
        #: Events put in a frame again after a connection was lost.
        self.resent = 0
        #: Numbered events that the daemon's limits do not let through, declared as lost.
        self.lost = 0
        #: Bytes of events settled or lost.
        self.released_bytes = 0
        #: Bytes of events sent on this connection and not settled.
        self.in_flight_bytes = 0
        #: Running total of events dropped before they got a number; the owner sets it.
        self.shed = 0
        #: The last rejects, oldest first.
        self.rejects: deque[messages.Reject] = deque(maxlen=KEPT_REJECTS)
        #: What the daemon said first on this connection.
        self.welcome: messages.Welcome | None = None
        #: What the daemon said last on this connection.
        self.goodbye: messages.Goodbye | None = None

    @property
    def is_settled(self) -> bool:
        """Whether every number given so far is settled."""
        return self.acked_sequence >= self.last_sequence

    @property
    def released(self) -> int:
        """Events that need no memory any more: settled or lost."""
        return self.acked + self.lost

    @property
    def in_flight(self) -> int:
        """Events sent on this connection and not settled."""
        return len(self._sent)

    @property
    def unsent(self) -> int:
        """Events that no frame of this connection holds yet."""
        return len(self._unsent)

    def hello(self) -> bytes:
        """Begin a connection: forget the one before, return the frame that opens this one."""
        self._splitter = FrameSplitter()
        self.welcome = None
        self.goodbye = None
        self._unsent.extendleft(reversed(self._sent))
        self._sent.clear()
        self.in_flight_bytes = 0
        return encode_frame(
            messages.Hello(
                protocol=messages.PROTOCOL,
                producer=self.producer,
                permanent=self.permanent,
                client=self._client_name,
            )
        )

    def enqueue(self, stamp: int, encoded: bytes) -> int:
        """Give an event its number and remember it; return the number.

        `encoded` is what `encode_event` returned, at most `limits.EVENT_BYTES` long.
        """
        self.last_sequence += 1
        if self.last_sequence <= self.acked_sequence:
            # A permanent producer that begins again: the daemon has this number already.
            self.acked += 1
            self.released_bytes += len(encoded)
        else:
            self._unsent.append((self.last_sequence, stamp, encoded))
        return self.last_sequence

    def next_frame(self) -> bytes | None:
        """Return the next Batch frame to send, or None: all is sent, or no Welcome came yet."""
        if self.welcome is None:
            return None
        most_events = max(1, min(FRAME_EVENTS, self.welcome.limits.batch_events))
        most_bytes = min(self.welcome.limits.frame_bytes, limits.FRAME_BYTES)
        self._lose_over(most_bytes)
        stamps: list[int] = []
        events: list[Raw] = []
        size = ENVELOPE_BYTES
        # The first event always fits: anything that does not has just been taken out.
        room = min(FRAME_BYTES, most_bytes)
        first_sequence = self._unsent[0][0] if self._unsent else self.last_sequence + 1
        expected = first_sequence
        while self._unsent and len(events) < most_events:
            sequence, stamp, encoded = self._unsent[0]
            size += STAMP_BYTES + len(encoded)
            if events and (size > room or sequence != expected):
                break
            self._sent.append(self._unsent.popleft())
            stamps.append(stamp)
            events.append(Raw(encoded))
            self.in_flight_bytes += len(encoded)
            expected = sequence + 1
            if sequence <= self._framed_sequence:
                self.resent += 1
        lost = max(0, first_sequence - 1 - self._daemon_sequence)
        if not events and (self.is_settled or not lost):
            return None
        self._daemon_sequence = expected - 1
        self._framed_sequence = max(self._framed_sequence, self._daemon_sequence)
        return encode_frame(
            messages.EncodedBatch(
                first_sequence=first_sequence,
                stamps=stamps,
                events=events,
                shed=self.shed,
                lost=lost,
            )
        )

    def receive(self, chunk: bytes) -> list[messages.DaemonMessage]:
        """Apply what the daemon sent; return its messages.

        Raises ProtocolError; the messages before the broken one are applied.
        """
        received: list[messages.DaemonMessage] = []
        for payload in self._splitter.feed(chunk):
            message = decode_daemon_message(payload)
            self._apply(message)
            received.append(message)
        if self._splitter.error is not None:
            raise self._splitter.error
        return received

    def farewell(self, code: str = GoodbyeCode.DONE, message: str = "") -> bytes:
        """Return the Goodbye frame that ends a connection.

        `done` makes the daemon forget this producer: only for one that is settled and ends.
        """
        return encode_frame(messages.Goodbye(code=code, message=message))

    def _apply(self, message: messages.DaemonMessage) -> None:
        if isinstance(message, messages.Goodbye):
            self.goodbye = message
            return
        if isinstance(message, messages.Welcome):
            self._apply_welcome(message)
            return
        if self.welcome is None:
            raise MessageMalformed("the daemon's first message is not a Welcome")
        if isinstance(message, messages.Ack):
            # An Ack for numbers that were never given would settle events still to come.
            sequence = min(message.sequence, self.last_sequence)
            self._settle(sequence)
            # It may be for frames of the connection before, which this one need not repeat.
            self._daemon_sequence = max(self._daemon_sequence, sequence)
        elif isinstance(message, messages.Reject):
            self._apply_reject(message)

    def _apply_welcome(self, welcome: messages.Welcome) -> None:
        if self.welcome is not None:
            raise MessageMalformed("a second Welcome on one connection")
        if welcome.protocol != messages.PROTOCOL:
            raise MessageMalformed(f"the daemon speaks protocol {welcome.protocol}")
        self.welcome = welcome
        self._daemon_sequence = welcome.last_sequence
        self._settle(welcome.last_sequence)
        if not self.permanent:
            # An id used by an earlier process: go on above it, or new events would look like
            # repetitions. (A permanent producer does repeat the same events from 1.)
            self.last_sequence = max(self.last_sequence, welcome.last_sequence)

    def _apply_reject(self, reject: messages.Reject) -> None:
        # What is sent again may be rejected again: each number counts once.
        if (
            self.acked_sequence < reject.sequence <= self.last_sequence
            and reject.sequence not in self._rejected_sequences
        ):
            self._rejected_sequences.add(reject.sequence)
            self.rejected += 1
            self.rejects.append(reject)

    def _settle(self, sequence: int) -> None:
        if sequence <= self.acked_sequence:
            return
        self.acked_sequence = sequence
        while self._sent and self._sent[0][0] <= sequence:
            size = len(self._sent.popleft()[2])
            self.in_flight_bytes -= size
            self.released_bytes += size
            self.acked += 1
        while self._unsent and self._unsent[0][0] <= sequence:
            self.released_bytes += len(self._unsent.popleft()[2])
            self.acked += 1
        if self._rejected_sequences:
            self._rejected_sequences = {n for n in self._rejected_sequences if n > sequence}

    def _lose_over(self, most_bytes: int) -> None:
        """Give up the events, next in line, that this daemon's limits let through in no frame."""
        while self._unsent:
            size = len(self._unsent[0][2])
            if ENVELOPE_BYTES + STAMP_BYTES + size <= most_bytes:
                return
            self._unsent.popleft()
            self.released_bytes += size
            self.lost += 1
