"""Session: one producer's side of protocol 1, without I/O.

Owns the numbering, the events in memory that are not settled yet, and what the daemon said. It
never awaits, opens a file or reads a clock; its producer id is passed in.

Events travel in chunks: pairs as the outbox holds them, numbered without a gap. What was pushed
and is not settled is in exactly one of two queues, both in the order of their numbers: sent on
this connection, or not yet. A new connection moves everything back to the second. Numbers may be
missing between two chunks: those are elsewhere (in the spool, and pushed when their turn comes)
or lost. `_daemon_sequence` is what the daemon will have settled once it has read every frame of
this connection; a frame that begins above the next number after it declares the numbers between
as `lost`, which covers a database that was replaced by an older copy as well as an event that
cannot be read any more, or that the daemon's limits do not let through.

Invariant: `acked_sequence` never falls.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import msgspec

from ggend_client.pairs import opened
from ggend_client.sequence_ranges import SequenceRanges
from ggend_schema import limits, messages
from ggend_schema.codec import decode_daemon_message, encode_frame
from ggend_schema.codes import GoodbyeCode
from ggend_schema.errors import MessageMalformed
from ggend_schema.framing import FrameSplitter
from ggend_schema.portable import portable_text

__all__ = ["FRAME_BYTES", "FRAME_EVENTS", "Chunk", "Session"]

#: Events in one frame at most. One event a frame costs four times the CPU of 128; beyond a few
#: hundred nothing is gained.
FRAME_EVENTS = 512

#: Bytes that a frame aims at: about what a Unix socket's buffer takes at once.
FRAME_BYTES = 256 * 1024

#: Bytes of a Batch beside its events and stamps: the map's keys and three integers are under 90.
ENVELOPE_BYTES = 128

#: Frames remembered that may not have been written: more than fly at once.
KEPT_FRAMES = 10_000

#: Rejects kept for people to look at.
KEPT_REJECTS = 100


class Chunk(msgspec.Struct):
    """Events with consecutive numbers: pairs, as the outbox holds them."""

    first_sequence: int
    pairs: list[bytes]
    #: Bytes of the pairs.
    size: int
    #: Whether it came from the outbox, whose bound it counts against; else from the spool.
    is_live: bool

    @property
    def last_sequence(self) -> int:
        """The number of the last event."""
        return self.first_sequence + len(self.pairs) - 1


class Session:
    """Numbers events, frames them, and remembers them until the daemon has settled them."""

    __slots__ = (
        "_base",
        "_client_name",
        "_daemon_sequence",
        "_framed_before",
        "_framed_sequence",
        "_lost",
        "_rejected_sequences",
        "_sent",
        "_singly_to",
        "_splitter",
        "_told",
        "_unsent",
        "acked_sequence",
        "fresh_rejects",
        "goodbye",
        "in_flight",
        "in_flight_bytes",
        "last_sequence",
        "lost",
        "permanent",
        "producer",
        "pushed_sequence",
        "rejected",
        "rejects",
        "released",
        "replayed",
        "resent",
        "shed",
        "welcome",
    )

    def __init__(
        self, producer: bytes, *, permanent: bool = False, client_name: str = "", base: int = 0
    ) -> None:
        """`base` is the last number before those that this session gives or repeats."""
        if len(producer) != limits.PRODUCER_BYTES:
            raise ValueError(f"a producer id has {limits.PRODUCER_BYTES} bytes")
        self.producer = producer
        self.permanent = permanent
        self._client_name = portable_text(client_name)[: limits.NAME_CHARS]
        self._base = base
        self._sent: deque[Chunk] = deque()
        self._unsent: deque[Chunk] = deque()
        self._splitter = FrameSplitter()
        self._daemon_sequence = 0
        self._framed_sequence = base
        #: What it was before each of the last frames of this connection.
        self._framed_before: deque[int] = deque(maxlen=KEPT_FRAMES)
        self._rejected_sequences: set[int] = set()
        #: Numbers up to this one are sent one by one: a frame that held them could not be read.
        self._singly_to = 0
        self._lost = SequenceRanges()
        #: The highest number of this producer that a daemon said is settled.
        self._told = 0
        #: The highest number given so far.
        self.last_sequence = base
        #: The highest number that was pushed, or that is never to be pushed.
        self.pushed_sequence = base
        #: Every number up to this one is settled.
        self.acked_sequence = base
        #: Of the settled, those that went to the daemon's quarantine.
        self.rejected = 0
        #: Of the settled, those that came from the spool.
        self.replayed = 0
        #: Events put in a frame again after a connection was lost.
        self.resent = 0
        #: Of the settled, those that were never stored: they cannot be read any more, or the
        #: daemon's limits do not let them through.
        self.lost = 0
        #: Live events that need no memory any more.
        self.released = 0
        #: Events, and their bytes, sent on this connection and not settled.
        self.in_flight = 0
        self.in_flight_bytes = 0
        #: Running total of events dropped before they got a number; the owner sets it.
        self.shed = 0
        #: The last rejects, oldest first.
        self.rejects: deque[messages.Reject] = deque(maxlen=KEPT_REJECTS)
        #: Those of them that nobody took from here yet, with what was sent.
        self.fresh_rejects: deque[tuple[messages.Reject, bytes | None]] = deque(maxlen=KEPT_REJECTS)
        #: What the daemon said first on this connection.
        self.welcome: messages.Welcome | None = None
        #: What the daemon said last on this connection.
        self.goodbye: messages.Goodbye | None = None

    @property
    def settled(self) -> int:
        """Events that are settled: stored, rejected or lost."""
        return self.settled_to(self.acked_sequence)

    def settled_to(self, acked_sequence: int) -> int:
        """Return how many events this number settles."""
        return max(0, min(acked_sequence, self.last_sequence) - self._base)

    @property
    def is_settled(self) -> bool:
        """Whether every number given so far is settled."""
        return self.acked_sequence >= self.last_sequence

    @property
    def has_unsent(self) -> bool:
        """Whether there are events that no frame of this connection holds yet."""
        return bool(self._unsent)

    def unsettled(self) -> Iterable[Chunk]:
        """Return the chunks in memory, in the order of their numbers."""
        return (*self._sent, *self._unsent)

    def hello(self) -> bytes:
        """Begin a connection: forget the one before, return the frame that opens this one."""
        self._splitter = FrameSplitter()
        self.welcome = None
        self.goodbye = None
        self._unsent.extendleft(reversed(self._sent))
        self._sent.clear()
        self.in_flight = self.in_flight_bytes = 0
        self._framed_before.clear()
        return encode_frame(
            messages.Hello(
                protocol=messages.PROTOCOL,
                producer=self.producer,
                permanent=self.permanent,
                client=self._client_name,
                acked=self._told,
            )
        )

    def begin_anew(self) -> bool:
        """The daemon knows nothing of what it acked: do not say any more that it did.

        What is not settled keeps its numbers, and those before it are declared lost. Returns False
        where nothing was said.
        """
        told, self._told = self._told, 0
        return told > 0

    def number(self, events: int) -> int:
        """Give the next numbers to this many events; return the first."""
        first_sequence = self.last_sequence + 1
        self.last_sequence += events
        return first_sequence

    def take_new_id(self, producer: bytes) -> None:
        """Go on under another id, after the daemon refused this one.

        Live events that were in no frame yet get new numbers. One that was may be stored under
        the old id, and would be doubled: it is lost, and counted. What came from the spool, or
        went there, stays there under the old id.
        """
        settled = self.settled
        fresh: list[bytes] = []
        doubtful = self._lost.count(self.acked_sequence)
        for chunk in self.unsettled():
            if chunk.is_live:
                framed = max(0, self._framed_sequence + 1 - chunk.first_sequence)
                doubtful += len(chunk.pairs[:framed])
                self.released += len(chunk.pairs[:framed])
                fresh += chunk.pairs[framed:]
        self.producer = producer
        self._sent.clear()
        self._unsent.clear()
        self._lost = SequenceRanges()
        self._rejected_sequences.clear()
        self.lost += doubtful
        self._base = -(settled + doubtful)
        self.last_sequence = self.pushed_sequence = self.acked_sequence = 0
        self._daemon_sequence = self._framed_sequence = self._singly_to = self._told = 0
        self.in_flight = self.in_flight_bytes = 0
        if fresh:
            self.push(self.number(len(fresh)), fresh, is_live=True)

    def push(self, first_sequence: int, pairs: list[bytes], *, is_live: bool) -> None:
        """Remember events that have these numbers, to be sent after those pushed before.

        Numbers that are left out are lost.
        """
        self.skip_to(first_sequence - 1)
        chunk = Chunk(first_sequence, pairs, sum(map(len, pairs)), is_live)
        self.pushed_sequence = chunk.last_sequence
        self.last_sequence = max(self.last_sequence, chunk.last_sequence)
        self._unsent.append(chunk)
        # A permanent producer that begins again: the daemon has these numbers already.
        self._settle(self.acked_sequence)

    def skip_to(self, sequence: int) -> None:
        """Note that numbers up to this one that were not pushed never will be: they are lost."""
        if sequence > self.pushed_sequence:
            self._lost.add(self.pushed_sequence + 1, sequence)
            self.pushed_sequence = sequence
            # Lost numbers are settled by the daemon like any others.
            self.last_sequence = max(self.last_sequence, sequence)

    def release(self, chunk: Chunk) -> None:
        """Note that these events are in the spool, and no longer count as live."""
        if chunk.is_live:
            self.released += len(chunk.pairs)
            chunk.is_live = False

    def next_frame(self) -> bytes | None:
        """Return the next Batch frame to send, or None: all is sent, or no Welcome came yet."""
        if self.welcome is None:
            return None
        singly = bool(self._unsent) and self._unsent[0].first_sequence <= self._singly_to
        if singly and self.in_flight:
            return None
        most_events = 1 if singly else max(1, min(FRAME_EVENTS, self.welcome.limits.batch_events))
        most_bytes = min(self.welcome.limits.frame_bytes, limits.FRAME_BYTES) - ENVELOPE_BYTES
        chunk = self._cut(most_events, min(FRAME_BYTES, most_bytes), most_bytes)
        first_sequence = chunk.first_sequence if chunk else self.pushed_sequence + 1
        lost = max(0, first_sequence - 1 - self._daemon_sequence)
        if chunk is None and (self.acked_sequence >= self.pushed_sequence or not lost):
            return None
        pairs = chunk.pairs if chunk else []
        self._daemon_sequence = first_sequence + len(pairs) - 1
        if first_sequence <= self._framed_sequence:
            self.resent += min(self._framed_sequence, self._daemon_sequence) - first_sequence + 1
        self._framed_before.append(self._framed_sequence)
        self._framed_sequence = max(self._framed_sequence, self._daemon_sequence)
        decoded = list(map(opened, pairs))
        return encode_frame(
            messages.EncodedBatch(
                first_sequence=first_sequence,
                stamps=[stamp for stamp, _ in decoded],
                events=[event for _, event in decoded],
                shed=self.shed,
                lost=lost,
            )
        )

    def receive(self, data: bytes) -> list[messages.DaemonMessage]:
        """Apply what the daemon sent; return its messages.

        Raises ProtocolError; the messages before the broken one are applied.
        """
        received: list[messages.DaemonMessage] = []
        for payload in self._splitter.feed(data):
            message = decode_daemon_message(payload)
            self._apply(message)
            received.append(message)
        if self._splitter.error is not None:
            raise self._splitter.error
        return received

    def take_back(self, frames: int) -> None:
        """Note that the daemon saw nothing of the last frames of this connection."""
        if 0 < frames <= len(self._framed_before):
            self._framed_sequence = self._framed_before[-frames]

    def farewell(self, code: str = GoodbyeCode.DONE, message: str = "") -> bytes:
        """Return the Goodbye frame that ends a connection.

        `done` makes the daemon forget this producer: only for one that is settled and ends.
        """
        return encode_frame(messages.Goodbye(code=code, message=message))

    def _apply(self, message: messages.DaemonMessage) -> None:
        if isinstance(message, messages.Goodbye):
            self.goodbye = message
            if message.code == GoodbyeCode.PROTOCOL and self._sent:
                self._cut_down()
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
            self._note(sequence)
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
        if not self.permanent and welcome.last_sequence > self.last_sequence:
            # An id used by an earlier process: go on above it, or new events would look like
            # repetitions. (A permanent producer does repeat the same events from 1.)
            self._base += welcome.last_sequence - self.last_sequence
            self.last_sequence = self.pushed_sequence = welcome.last_sequence
        self._settle(welcome.last_sequence)
        self._note(welcome.last_sequence)

    def _note(self, sequence: int) -> None:
        # A permanent producer sends the same again to any database.
        self._told = 0 if self.permanent else max(self._told, sequence)

    def _apply_reject(self, reject: messages.Reject) -> None:
        # What is sent again may be rejected again: each number counts once.
        if (
            self.acked_sequence < reject.sequence <= self.last_sequence
            and reject.sequence not in self._rejected_sequences
        ):
            self._rejected_sequences.add(reject.sequence)
            self.rejects.append(reject)
            self.fresh_rejects.append((reject, self._sent_pair(reject.sequence)))

    def _sent_pair(self, sequence: int) -> bytes | None:
        for chunk in self._sent:
            if chunk.first_sequence <= sequence <= chunk.last_sequence:
                return chunk.pairs[sequence - chunk.first_sequence]
        return None

    def _settle(self, sequence: int) -> None:
        self.acked_sequence = max(self.acked_sequence, sequence)
        self.pushed_sequence = max(
            self.pushed_sequence, min(self.acked_sequence, self.last_sequence)
        )
        for chunks, are_sent in ((self._sent, True), (self._unsent, False)):
            while chunks and chunks[0].first_sequence <= self.acked_sequence:
                self._settle_first(chunks, are_sent=are_sent)
        settled = {n for n in self._rejected_sequences if n <= self.acked_sequence}
        self.rejected += len(settled)
        self._rejected_sequences -= settled
        self.lost += self._lost.remove_to(self.acked_sequence)

    def _settle_first(self, chunks: deque[Chunk], *, are_sent: bool) -> None:
        """Take what is settled off the first chunk: all of it, or its first events."""
        chunk = chunks[0]
        events = min(len(chunk.pairs), self.acked_sequence - chunk.first_sequence + 1)
        size = chunk.size
        if events == len(chunk.pairs):
            chunks.popleft()
        else:
            size = sum(map(len, chunk.pairs[:events]))
            chunk.first_sequence += events
            chunk.pairs = chunk.pairs[events:]
            chunk.size -= size
        if are_sent:
            self.in_flight -= events
            self.in_flight_bytes -= size
        self._release(chunk, events)
        if not chunk.is_live:
            self.replayed += events

    def _release(self, chunk: Chunk, events: int) -> None:
        if chunk.is_live:
            self.released += events

    def _cut(self, most_events: int, most_bytes: int, limit_bytes: int) -> Chunk | None:
        """Take the next chunk to send, cut to the size of a frame; note it as sent.

        An event that is over `limit_bytes` is lost: this daemon lets it through in no frame.
        """
        self._lose_over(limit_bytes)
        if not self._unsent:
            return None
        chunk = self._unsent.popleft()
        if len(chunk.pairs) > most_events or chunk.size > most_bytes:
            events = size = 0
            for pair in chunk.pairs[:most_events]:
                if events and size + len(pair) > most_bytes:
                    break
                events += 1
                size += len(pair)
            if events < len(chunk.pairs):
                self._unsent.appendleft(_split(chunk, events, size))
        self._sent.append(chunk)
        self.in_flight += len(chunk.pairs)
        self.in_flight_bytes += chunk.size
        return chunk

    def _cut_down(self) -> None:
        """Find the event that the daemon cannot read, since it will not read it next time either.

        What was in flight is sent again one by one; what stands alone when this happens is lost.
        """
        if self.in_flight > 1:
            self._singly_to = self._sent[-1].last_sequence
            return
        chunk = self._sent.popleft()
        self.in_flight = self.in_flight_bytes = 0
        self._release(chunk, 1)
        self._lost.add(chunk.first_sequence, chunk.first_sequence)

    def _lose_over(self, limit_bytes: int) -> None:
        while self._unsent and len(self._unsent[0].pairs[0]) > limit_bytes:
            chunk = self._unsent.popleft()
            size = len(chunk.pairs[0])
            if len(chunk.pairs) > 1:
                self._unsent.appendleft(_split(chunk, 1, size))
            self._release(chunk, 1)
            self._lost.add(chunk.first_sequence, chunk.first_sequence)


def _split(chunk: Chunk, events: int, size: int) -> Chunk:
    """Shorten a chunk to its first events, of this size; return the rest."""
    rest = Chunk(
        chunk.first_sequence + events, chunk.pairs[events:], chunk.size - size, chunk.is_live
    )
    chunk.pairs, chunk.size = chunk.pairs[:events], size
    return rest
