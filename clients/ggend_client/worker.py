"""Worker: the one thread of a client. Connects, numbers, frames, sends, and waits for acks.

Owns the session, the connection and the backoff. No error leaves `run`: each is kept in
`last_error`, ends the connection, and is followed by a pause and a new attempt.

It waits in one of three places, never in a loop: on the outbox while everything is settled, on
the socket while something is not, and on the wake socket between two attempts. A SimpleQueue
cannot be polled together with a socket, so while it waits on the socket it looks into the outbox
every `linger_seconds`; flush and close cut that by writing to the wake socket.
"""

from __future__ import annotations

import queue
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from ggend_client.backoff import Backoff
from ggend_client.connection import Connection, pause
from ggend_client.errors import ConnectionLost
from ggend_client.outbox import FlushMark, Item, Outbox, Stamped
from ggend_client.session import FRAME_EVENTS, Session
from ggend_schema.errors import ProtocolError

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

#: How long to wait for room while as much as allowed is in flight; an ack ends it sooner.
FULL_SECONDS = 1.0


class Worker:
    """Brings what is in the outbox to the daemon, until told to stop."""

    __slots__ = (
        "_backoff",
        "_clock",
        "_connection",
        "_connects_at",
        "_fill_at",
        "_first",
        "_flushes",
        "_linger",
        "_nudged",
        "_outbox",
        "_places",
        "_session",
        "_stop_at",
        "_waker",
        "has_ended",
        "last_error",
    )

    def __init__(
        self,
        outbox: Outbox,
        session: Session,
        places: Callable[[], Sequence[Path]],
        *,
        linger_seconds: float,
        backoff: Backoff,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`places` is asked for the sockets to try, in order, before every attempt."""
        self._outbox = outbox
        self._session = session
        self._places = places
        self._linger = max(linger_seconds, LINGER_SECONDS_MIN)
        self._backoff = backoff
        self._clock = clock
        self._connection: Connection | None = None
        self._connects_at = 0.0
        self._waker: socket.socket | None = None
        #: Taken from the outbox by waiting for it, not numbered yet.
        self._first: Stamped | None = None
        #: The number that must be settled, and who waits for it.
        self._flushes: deque[tuple[int, FlushMark]] = deque()
        self._fill_at = 0.0
        self._nudged = False
        self._stop_at: float | None = None
        #: Whether `run` returned: nobody takes from the outbox any more.
        self.has_ended = False
        #: What went wrong last.
        self.last_error: str | None = None

    @property
    def is_connected(self) -> bool:
        """Whether a daemon has welcomed this client on a connection that is still open."""
        return self._connection is not None and self._session.welcome is not None

    def run(self) -> None:
        """Work until `stop`: the body of the thread."""
        wake = self._make_waker()
        if wake is None:
            self.has_ended = True
            return
        try:
            while not self._is_finished():
                try:
                    self._turn(wake)
                except Exception as error:  # whatever it is, the host program goes on
                    self._disconnect(error)
                    pause(self._until_stop(self._backoff.next_delay()), wake)
        finally:
            self._finish()
            self.has_ended = True
            wake.close()
            if self._waker is not None:
                self._waker.close()

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

    def _is_finished(self) -> bool:
        if self._stop_at is None:
            return False
        settled = self._session.is_settled and self._first is None and not self._outbox.waiting()
        return settled or self._clock() >= self._stop_at

    def _turn(self, wake: socket.socket) -> None:
        if self._session.is_settled and self._first is None:
            self._rest()
            return
        connection = self._connection
        if connection is None:
            connection = self._connection = Connection(self._places(), wake)
            self._connects_at = self._clock()
            connection.send(self._session.hello())
        if self._session.welcome is not None:
            self._fill(connection)
        elif self._clock() >= self._connects_at + HANDSHAKE_SECONDS:
            raise ConnectionLost(f"no Welcome within {HANDSHAKE_SECONDS:g} s")
        self._receive(connection.exchange(self._patience()))

    def _rest(self) -> None:
        """Wait for something to do. Nothing is unsettled here."""
        try:
            item = self._outbox.take(self._until_stop(IDLE_SECONDS))
        except queue.Empty:
            if self._connection is not None:
                self._receive(self._connection.exchange(0))
            return
        if isinstance(item, tuple):
            self._first = item
            self._fill_at = self._clock() + self._linger
        else:
            self._number(item)

    def _fill(self, connection: Connection) -> None:
        """Make frames of what waits, as far as the flight allows."""
        session = self._session
        session.shed = self._outbox.dropped.total
        nudged, self._nudged = self._nudged, False
        lingers = (
            self._clock() < self._fill_at
            and not (nudged or self._flushes or self._stop_at is not None)
            and self._outbox.waiting() < FRAME_EVENTS
        )
        while self._has_room():
            if not lingers and session.unsent < FRAME_EVENTS:
                self._take(FRAME_EVENTS)
            frame = session.next_frame()
            if frame is None:
                break
            connection.send(frame)
        if not lingers:
            self._fill_at = self._clock() + self._linger

    def _has_room(self) -> bool:
        session = self._session
        return session.in_flight < FLIGHT_EVENTS and session.in_flight_bytes < FLIGHT_BYTES

    def _take(self, most: int) -> None:
        if self._first is not None:
            first, self._first = self._first, None
            self._number(first)
        for _ in range(most):
            try:
                item = self._outbox.take(0)
            except queue.Empty:
                return
            self._number(item)

    def _number(self, item: Item) -> None:
        if isinstance(item, tuple):
            self._session.enqueue(*item)
        elif item is not None:
            self._flushes.append((self._session.last_sequence, item))
            self._settle_flushes()

    def _receive(self, chunk: bytes) -> None:
        session = self._session
        acked_sequence = session.acked_sequence
        try:
            if chunk:
                session.receive(chunk)
        finally:
            if session.acked_sequence > acked_sequence:
                self._backoff.reset()
            self._outbox.release(session.released, session.released_bytes)
            self._settle_flushes()
        if session.goodbye is not None:
            raise ConnectionLost(
                f"the daemon said goodbye: {session.goodbye.code}: {session.goodbye.message}"
            )

    def _settle_flushes(self) -> None:
        while self._flushes and self._flushes[0][0] <= self._session.acked_sequence:
            self._flushes.popleft()[1].durable.set()

    def _patience(self) -> float:
        """Return how long the socket may stay silent before there is something else to do."""
        now = self._clock()
        if self._session.welcome is None:
            return self._until_stop(self._connects_at + HANDSHAKE_SECONDS - now)
        if not self._has_room():
            return self._until_stop(FULL_SECONDS)
        return self._until_stop(max(self._fill_at - now, 0))

    def _until_stop(self, seconds: float) -> float:
        if self._stop_at is None:
            return seconds
        return max(0, min(seconds, self._stop_at - self._clock()))

    def _disconnect(self, error: Exception) -> None:
        self.last_error = str(error) or type(error).__name__
        connection, self._connection = self._connection, None
        if connection is not None:
            last_frame = b""
            if isinstance(error, ProtocolError):
                last_frame = self._session.farewell(error.code, error.message)
            connection.close(last_frame)

    def _finish(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        session = self._session
        done = session.welcome is not None and session.is_settled and not session.permanent
        connection.close(session.farewell() if done else b"")
