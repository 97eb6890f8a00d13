"""Sender: brings events out of the outbox, into the session or behind what is in the spool.

They get their numbers on the way. While anything in the spool waits for its turn there is only
the second way, so that numbers are always sent in their order. It belongs to the worker's thread,
but for `spool_at_once`; it knows nothing of connections, and never decides when to spool.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from ggend_client.errors import ClientError, SpoolUnusable
from ggend_client.spool.spool import Spool
from ggend_client.transport.outbox import FlushMark, Outbox
from ggend_client.transport.session import FRAME_BYTES, FRAME_EVENTS, Session
from ggend_client.turn import Reentered

__all__ = ["Sender"]

#: How long a spool that took nothing is left alone.
RETRY_SECONDS = 1.0


class Sender:
    """What is between the outbox of a client and its session."""

    __slots__ = (
        "_at_once_before",
        "_clock",
        "_flushes",
        "_late",
        "_on_spool",
        "_outbox",
        "_pending",
        "_retry_at",
        "_session",
        "_spool",
        "has_begun",
        "is_kept",
        "last_error",
    )

    def __init__(
        self,
        outbox: Outbox,
        session: Session,
        spool: Spool | None,
        clock: Callable[[], float],
        *,
        on_spool: Callable[[Sequence[bytes]], None] = lambda _: None,
    ) -> None:
        """`on_spool` is shown what goes from the outbox to the spool."""
        self._outbox = outbox
        self._session = session
        self._spool = spool
        self._clock = clock
        self._on_spool = on_spool
        #: Numbered, and neither in the session nor in the spool, which did not take them: the
        #: next ones once everything in the spool has been read.
        self._pending: tuple[int, list[bytes]] | None = None
        #: The number that must be settled, and who waits for it.
        self._flushes: deque[tuple[int, FlushMark]] = deque()
        #: Time of the clock before which the spool is left alone.
        self._retry_at = 0.0
        #: Came in the middle of another event, and is not spooled yet.
        self._late: deque[bytes] = deque()
        #: Whether what is left at the end is on disk.
        self.is_kept = True
        #: Whether `wait` saw an event that nobody took yet.
        self.has_begun = False
        #: Of those that went around the outbox, the ones under ids that are not used any more.
        self._at_once_before = 0
        #: Why the spool took nothing, last.
        self.last_error: str | None = None

    @property
    def waits(self) -> bool:
        """Whether there are events that no one has numbered, or that nothing took."""
        return bool(self._pending or self._late or self._outbox.waiting())

    @property
    def is_awaited(self) -> bool:
        """Whether a flush waits for something to be settled."""
        return bool(self._flushes)

    @property
    def is_settled(self) -> bool:
        """Whether everything that has a number is settled."""
        return self._session.is_settled and not (self._spool and self._spool.has_unread)

    @property
    def is_all_spooled(self) -> bool:
        """Whether everything that has a number, and is not settled, is on disk."""
        return bool(self._spool and self._spool.last_sequence >= self._session.last_sequence)

    @property
    def spooled_at_once(self) -> int:
        """Events that went around the outbox."""
        here = self._spool.at_once if self._spool else 0
        return self._at_once_before + here + len(self._late)

    def wait(self, seconds: float) -> bool:
        """Wait for an event, or for anything else in the outbox; whether there is an event."""
        self._note(self._outbox.wait(seconds))
        self.has_begun = self._outbox.waiting() > 0
        return self.has_begun

    def push_next(self, *, live: bool) -> None:
        """Give the session what comes next: from the spool, or else (`live`) from the outbox."""
        session, spool = self._session, self._spool
        if spool is not None and spool.has_unread:
            loaded = spool.load(FRAME_EVENTS, FRAME_BYTES)
            if loaded is not None:
                session.push(loaded.first_sequence, loaded.items, is_live=False)
            if not spool.has_unread:
                session.skip_to(spool.last_sequence)  # its last records were damaged
        elif self._pending is not None:
            pending, self._pending = self._pending, None
            session.push(*pending, is_live=True)
        elif live and (pairs := self._take()):
            session.push(session.number(len(pairs)), pairs, is_live=True)

    def spool_out(self) -> bool:
        """Bring everything that waits to the spool; False: it does not take it (now)."""
        spool, session = self._spool, self._session
        if spool is None or self._clock() < self._retry_at:
            return False
        try:
            for chunk in session.unsettled():
                if chunk.last_sequence > spool.last_sequence:
                    spool.append(chunk.first_sequence, chunk.pairs, loaded=True)
                    session.release(chunk)
            self._spool_outbox(spool)
        except ClientError as error:
            self.last_error = error.message
            self._retry_at = self._clock() + RETRY_SECONDS
            return False
        finally:
            self._release()
        return True

    def spool_at_once(self, pair: bytes) -> bool:
        """On the thread that emits: bring one event to the disk; False: it is not there yet.

        For a client of which all events go this way. Raises SpoolFull, SpoolUnusable: then it is
        not taken. One that comes in the middle of another, from a finalizer or a signal handler,
        is spooled by `spool_late`, which who was interrupted calls, or the worker.
        """
        try:
            self._append_next(pair)
        except Reentered:
            self._late.append(pair)
            return False
        try:
            if self._spool is not None:
                self._spool.sync()
        except (ClientError, Reentered) as error:
            self.last_error = str(error) or None
            return False
        return True

    def spool_late(self) -> None:
        """Spool what came in the middle of something."""
        while self._late:
            pair = self._late.popleft()
            try:
                self._append_next(pair)
            except (ClientError, Reentered) as error:
                self._late.appendleft(pair)
                self.last_error = str(error) or self.last_error
                return

    def note_offer(self) -> None:
        """A frame is about to be sent."""
        if self._spool is not None:
            self._spool.note_offer()

    def settle(self) -> None:
        """Let go of what the session knows to be settled."""
        session = self._session
        if self._spool is not None:
            self._spool.settle(session.acked_sequence)
        self._release()
        while self._flushes and self._flushes[0][0] <= session.acked_sequence:
            self._flushes.popleft()[1].durable.set()

    def rest(self) -> None:
        """Everything is settled: see to what can only be done then."""
        self.settle()
        self._outbox.return_to_file()

    def take_new_id(self, producer: bytes, spool: Spool | None) -> int:
        """Go on under another id with a spool of its own; return how many events stay in the old.

        They wait there for the user who may send them.
        """
        session, old = self._session, self._spool
        left = 0
        if old is not None:
            left = old.unsettled(session.acked_sequence)
            self._at_once_before += old.at_once
        self._spool = spool
        session.take_new_id(producer)
        if self._pending is not None:
            _, pairs = self._pending
            self._pending = session.number(len(pairs)), pairs
        self._outbox.move(spool, session.last_sequence)
        if old is not None:
            old.close()
        # Who waits for something waits for all that is left to be settled.
        self._flushes = deque((session.last_sequence, mark) for _, mark in self._flushes)
        return left

    def close(self) -> None:
        """Bring what is left to the spool, whatever it said before, and close both."""
        self._retry_at = 0
        self.spool_late()
        self.settle()
        self.spool_out()
        self.is_kept = self._outbox.finish(self._kept_sequence)
        if self._spool is not None:
            self._spool.close()

    def abandon(self) -> None:
        """In a forked child: close the parent's descriptors."""
        self._outbox.abandon()
        if self._spool is not None:
            self._spool.abandon()

    def _append_next(self, pair: bytes) -> None:
        if self._spool is None:
            raise SpoolUnusable("there is no spool directory")
        self._spool.append_next(pair)

    def _spool_outbox(self, spool: Spool) -> None:
        waiting = self._outbox.waiting() + 1  # no more than that: it must come to an end
        while self._pending or waiting > 0:
            if self._pending is None:
                pairs = self._take()
                if not pairs:
                    return
                self._pending = self._session.number(len(pairs)), pairs
            spool.append(*self._pending)
            self._on_spool(self._pending[1])
            waiting -= len(self._pending[1])
            self._session.released += len(self._pending[1])
            self._pending = None

    def _take(self) -> list[bytes]:
        """Take what fits in a frame from the outbox."""
        self.has_begun = False
        pairs = self._outbox.take(FRAME_EVENTS, FRAME_BYTES)
        self._note(self._outbox.marks(), taken=len(pairs))
        return pairs

    @property
    def _kept_sequence(self) -> int:
        """Up to this number, nothing depends on the outbox."""
        return max(self._session.acked_sequence, self._spool.last_sequence if self._spool else 0)

    def _release(self) -> None:
        self._outbox.release(self._session.released)
        self._outbox.let_go(self._kept_sequence)

    def _note(self, marks: Sequence[FlushMark], *, taken: int = 0) -> None:
        """Note marks and the number that each waits for; `taken` events have no number yet."""
        for mark in marks:
            last = self._session.last_sequence
            if self._spool is not None:
                last = max(last, self._spool.last_sequence)
            last += mark.accepted - (self._outbox.taken - taken)
            self._flushes.append((last, mark))
            if last <= self._session.acked_sequence:
                self.settle()
