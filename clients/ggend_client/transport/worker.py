"""Worker: the one thread of a client. Sends, waits for acks, and decides what is spooled.

Owns the connection and the backoff. No error leaves `run`: each is kept in `last_error`, ends the
connection, and is followed by a new attempt. What is spooled:

- everything that waits, while there is no connection;
- everything that waits, while the daemon acks nothing for a second, or the queue is half full;
- what is left at the end.

It waits in one of three places, never in a loop: on the outbox while there is nothing to send or
nobody to send it to, on the socket while something is not settled, and on the wake socket where
the spool takes nothing either. A SimpleQueue cannot be polled together with a socket, so while it
waits on the socket it looks into the outbox every `linger_seconds`; flush and close cut that by
writing to the wake socket.
"""

from __future__ import annotations

import math
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from ggend_client.errors import ConnectionLost
from ggend_client.transport.backoff import Backoff
from ggend_client.transport.connection import Connection, pause
from ggend_client.transport.outbox import Outbox
from ggend_client.transport.sender import RETRY_SECONDS, Sender
from ggend_client.transport.session import FRAME_EVENTS, Session
from ggend_schema.codes import GoodbyeCode
from ggend_schema.errors import ProtocolError
from ggend_schema.messages import Reject

__all__ = ["Worker"]

#: Events sent and not acked, at most: two of the daemon's largest transactions, so that it
#: never waits for the client between them.
FLIGHT_EVENTS = 8_192

#: Bytes sent and not acked before no further frame is made: what waits is then in the kernel's
#: buffers and here, not in the daemon's memory.
FLIGHT_BYTES = 4 * 1024 * 1024

#: How long to wait for the host program to close a file when it has as many open as it may.
DESCRIPTOR_SECONDS = 0.1

#: The shortest linger. Zero would spin while an ack is on its way.
LINGER_SECONDS_MIN = 0.001

#: How long a daemon that accepted the connection may take to say Welcome.
HANDSHAKE_SECONDS = 5.0

#: How often an idle worker looks whether the daemon is still there.
IDLE_SECONDS = 5.0

#: How long a daemon may ack nothing before what waits for it goes to the spool.
SLOW_SECONDS = 1.0

#: How often a worker that cannot send looks whether memory gets full.
LOOK_SECONDS = 0.05


class Worker:
    """Brings what is in the outbox to the daemon, until told to stop."""

    __slots__ = (
        "_backoff",
        "_clock",
        "_connection",
        "_connects_at",
        "_ended",
        "_fill_at",
        "_has_begun",
        "_is_away",
        "_linger",
        "_look_at",
        "_nudged",
        "_on_look",
        "_on_not_yours",
        "_on_reject",
        "_on_unknown",
        "_outbox",
        "_places",
        "_progress_at",
        "_retry_at",
        "_sender",
        "_session",
        "_stop_at",
        "_waker",
        "_wakes",
        "last_error",
    )

    def __init__(
        self,
        outbox: Outbox,
        session: Session,
        sender: Sender,
        places: Callable[[], Sequence[Path]],
        *,
        linger_seconds: float,
        backoff: Backoff,
        clock: Callable[[], float] = time.monotonic,
        on_look: Callable[[], float] = lambda: math.inf,
        on_not_yours: Callable[[], None] = lambda: None,
        on_unknown: Callable[[str], None] = lambda _: None,
        on_reject: Callable[[Reject, bytes | None], None] = lambda *_: None,
    ) -> None:
        """`places` is asked for the sockets to try, in order, before every attempt.

        `on_look` looks for what others left, while a daemon is there, and returns in how many
        seconds it wants to look again. `on_not_yours` may take a new id, after the daemon refused
        this one. `on_unknown` is told that the daemon knows nothing of what was acked. `on_reject`
        is told what went to quarantine, with what was sent.
        """
        self._outbox = outbox
        self._session = session
        self._sender = sender
        self._places = places
        self._linger = max(linger_seconds, LINGER_SECONDS_MIN)
        self._backoff = backoff
        self._clock = clock
        self._on_look = on_look
        self._on_not_yours = on_not_yours
        self._on_unknown = on_unknown
        self._on_reject = on_reject
        self._connection: Connection | None = None
        self._connects_at = 0.0
        self._wakes: socket.socket | None = None
        self._waker: socket.socket | None = None
        #: Times of the clock: of the next look into the outbox, of the last ack, of the next
        #: attempt to connect, and of the next look for what others left.
        self._fill_at = self._progress_at = self._retry_at = self._look_at = 0.0
        #: Whether a connection was lost, or could not be made, since the last one was.
        self._is_away = False
        self._nudged = False
        self._stop_at: float | None = None
        self._has_begun = False
        self._ended = threading.Event()
        #: What went wrong last.
        self.last_error: str | None = None

    @property
    def is_connected(self) -> bool:
        """Whether a daemon has welcomed this client on a connection that is still open."""
        return self._connection is not None and self._session.welcome is not None

    @property
    def has_ended(self) -> bool:
        """Whether nobody takes from the outbox any more."""
        return self._ended.is_set()

    def finish(self, seconds: float) -> None:
        """Wait until `run` returns, or do its work here if no thread has begun it."""
        if self._has_begun:
            self._ended.wait(max(0, seconds))
        else:
            self.run()

    def run(self) -> None:
        """Work until `stop`: the body of the thread. Called again, it does nothing."""
        if self._has_begun:
            return
        self._has_begun = True  # no call in between: of two threads, one comes here
        try:
            wake = self._wakes = self._make_waker()
            while wake is not None and not self._is_finished():
                try:
                    self._turn(wake)
                except Exception as error:  # whatever it is, the host program goes on
                    self._disconnect(error)
        finally:
            try:
                self._finish()
            finally:
                self._ended.set()

    def nudge(self) -> None:
        """Cut the linger and the pause between attempts. Safe from any thread."""
        self._nudged = True
        waker = self._waker
        if waker is not None:
            # Full: it is awake already. Closed: it has ended.
            with suppress(OSError):
                waker.send(b"\0")

    def stop(self, at: float) -> None:
        """End once everything is settled, at the latest at this time of the clock."""
        self._stop_at = at
        self.nudge()

    def abandon(self) -> None:
        """In a forked child: close the parent's descriptors. The thread is not there."""
        self._sender.abandon()
        if self._connection is not None:
            self._connection.abandon()
        for end in (self._wakes, self._waker):
            if end is not None:
                end.close()

    def _make_waker(self) -> socket.socket | None:
        """Make the wake socket, as soon as the process has descriptors; None when told to stop."""
        while not self._is_finished():
            try:
                wake, waker = socket.socketpair()
            except OSError as error:
                self.last_error = str(error)
                time.sleep(self._until_stop(DESCRIPTOR_SECONDS))
            else:
                wake.settimeout(0)
                waker.settimeout(0)
                self._waker = waker
                return wake
        return None

    def _is_finished(self) -> bool:
        if self._stop_at is None:
            return False
        if self._clock() >= self._stop_at:
            return True
        if self._sender.waits:
            return False
        # With everything on disk there is nothing to gain from waiting for a daemon.
        return self._sender.is_settled or (self._is_away and self._sender.is_all_spooled)

    def _turn(self, wake: socket.socket) -> None:
        self._sender.spool_late()
        if self._sender.is_settled and not self._sender.has_begun:
            self._wait_for_events()
            return
        connection = self._connection
        if connection is None:
            if self._clock() < self._retry_at and not self._nudged:
                self._wait_to_reconnect(wake)
                return
            connection = self._connect(wake)
        if self._session.welcome is not None:
            self._fill(connection)
        elif self._clock() >= self._connects_at + HANDSHAKE_SECONDS:
            raise ConnectionLost(f"no Welcome within {HANDSHAKE_SECONDS:g} s")
        else:
            self._spill_if_slow()
        self._receive(connection.exchange(self._patience()))

    def _wait_for_events(self) -> None:
        """Wait for something to do. Nothing is unsettled here."""
        self._sender.rest()
        if self._sender.wait(self._until_stop(IDLE_SECONDS)):
            self._fill_at = self._clock() + self._linger
        elif self._connection is not None:
            self._receive(self._connection.exchange(0))

    def _wait_to_reconnect(self, wake: socket.socket) -> None:
        """Spool what comes, until it is time for the next attempt to connect."""
        remaining = self._retry_at - self._clock()
        had_some = self._sender.waits
        if not self._sender.spool_out():
            self.last_error = self._sender.last_error or self.last_error
            pause(self._until_stop(min(remaining, RETRY_SECONDS)), wake)
        elif self._stop_at is not None:
            if not self._is_finished():
                pause(self._until_stop(remaining), wake)
        elif had_some:
            # More may follow: who puts something for a thread that waits on it pays for waking it.
            pause(min(remaining, self._linger), wake)
        elif self._sender.wait(remaining):
            pause(self._linger, wake)

    def _connect(self, wake: socket.socket) -> Connection:
        self._nudged = False
        connection = self._connection = Connection(self._places(), wake)
        self._is_away = False
        self._look_at = 0.0
        self._connects_at = self._progress_at = self._clock()
        connection.send(self._session.hello())
        return connection

    def _fill(self, connection: Connection) -> None:
        """Make frames of what waits, as far as the flight allows."""
        session = self._session
        session.shed = self._outbox.drops.total
        nudged, self._nudged = self._nudged, False
        lingers = (
            self._clock() < self._fill_at
            and not (nudged or self._sender.is_awaited or self._stop_at is not None)
            and self._outbox.waiting() < FRAME_EVENTS
        )
        if not session.in_flight:
            self._progress_at = self._clock()
        while self._has_room():
            if not session.has_unsent:
                self._sender.push_next(live=not lingers)
            frame = session.next_frame()
            if frame is None:
                break
            self._sender.note_offer()
            connection.send(frame)
        if not lingers:
            self._fill_at = self._clock() + self._linger
        self._spill_if_slow()

    def _spill_if_slow(self) -> None:
        """Spool what waits, when it is too much or the daemon too slow."""
        waits = self._session.in_flight or self._session.welcome is None
        is_slow = waits and self._clock() >= self._progress_at + SLOW_SECONDS
        if is_slow or (self._outbox.is_half_full and not self._has_room()):
            self._sender.spool_out()

    def _has_room(self) -> bool:
        session = self._session
        return session.in_flight < FLIGHT_EVENTS and session.in_flight_bytes < FLIGHT_BYTES

    def _receive(self, data: bytes) -> None:
        session = self._session
        acked_sequence = session.acked_sequence
        try:
            if data:
                session.receive(data)
        finally:
            if session.acked_sequence > acked_sequence:
                self._progress_at = self._clock()
                self._backoff.reset()
                self._sender.settle()
        while session.fresh_rejects:
            self._on_reject(*session.fresh_rejects.popleft())
        if session.welcome is not None and self._clock() >= self._look_at:
            self._look_at = self._clock() + self._on_look()
        if session.goodbye is not None:
            if session.goodbye.code == GoodbyeCode.NOT_YOURS:
                self._on_not_yours()
            elif session.goodbye.code == GoodbyeCode.UNKNOWN_PRODUCER and session.begin_anew():
                self._nudged = True  # nothing is wrong with the daemon
                self._on_unknown(session.goodbye.message)
            raise ConnectionLost(
                f"the daemon said goodbye: {session.goodbye.code}: {session.goodbye.message}"
            )

    def _patience(self) -> float:
        """Return how long the socket may stay silent before there is something else to do."""
        if self._session.welcome is None or not self._has_room():
            return self._until_stop(LOOK_SECONDS)
        return self._until_stop(max(self._fill_at - self._clock(), 0))

    def _until_stop(self, seconds: float) -> float:
        if self._stop_at is None:
            return max(0, seconds)
        return max(0, min(seconds, self._stop_at - self._clock()))

    def _disconnect(self, error: Exception) -> None:
        self.last_error = str(error) or type(error).__name__
        self._is_away = True
        self._retry_at = self._clock() + self._backoff.next_delay()
        connection, self._connection = self._connection, None
        if connection is not None:
            self._session.take_back(connection.unwritten_frames)
            last_frame = b""
            if isinstance(error, ProtocolError):
                last_frame = self._session.farewell(error.code, error.message)
            connection.close(last_frame)

    def _finish(self) -> None:
        self._sender.close()
        connection, self._connection = self._connection, None
        if connection is not None:
            session = self._session
            done = session.welcome is not None and self._sender.is_settled
            connection.close(session.farewell() if done and not session.permanent else b"")
        for end in (self._wakes, self._waker):
            if end is not None:
                end.close()
