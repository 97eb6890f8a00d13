"""Connection: one non-blocking stream to the daemon, and the waiting for it.

Owns a socket and what is still to be written. It knows nothing of frames or messages. Waiting
ends early when a byte arrives on the `wake` socket.
"""

from __future__ import annotations

import math
import select
import socket
from collections import deque
from collections.abc import Iterable
from pathlib import Path

from ggend_client.errors import ConnectionLost, DaemonAbsent

__all__ = ["Connection", "connect", "pause"]

#: Bytes read at once. Acks are 20 bytes each; this is more than a full flight of them.
READ_BYTES = 64 * 1024


def connect(paths: Iterable[Path]) -> socket.socket:
    """Return a non-blocking stream to the first that accepts at once. Raises DaemonAbsent."""
    failures = []
    for path in paths:
        candidate = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        candidate.settimeout(0)  # a full backlog is a failure like any other, not a wait
        try:
            candidate.connect(str(path))
        except OSError as error:
            candidate.close()
            failures.append(f"{path}: {error.strerror or error}")
        else:
            return candidate
    raise DaemonAbsent("no daemon accepts a connection: " + "; ".join(failures))


def pause(seconds: float, wake: socket.socket) -> None:
    """Wait, at most until a byte arrives on `wake`."""
    poll = select.poll()
    poll.register(wake, select.POLLIN)
    poll.poll(_milliseconds(seconds))
    _drain(wake)


class Connection:
    """A stream to the first of some sockets that accepts."""

    __slots__ = ("_broken", "_is_begun", "_outbound", "_poll", "_socket", "_wake")

    def __init__(self, paths: Iterable[Path], wake: socket.socket) -> None:
        """Raise DaemonAbsent if none accepts at once."""
        self._wake = wake
        self._socket = connect(paths)
        self._outbound: deque[memoryview] = deque()
        #: Whether some bytes of the first of them were written.
        self._is_begun = False
        self._broken: OSError | None = None
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)
        self._poll.register(wake, select.POLLIN)

    @property
    def unwritten_frames(self) -> int:
        """The last frames of which the daemon cannot have seen a byte."""
        return len(self._outbound) - self._is_begun

    def send(self, frame: bytes) -> None:
        """Put a frame behind what is to be written."""
        self._outbound.append(memoryview(frame))

    def exchange(self, timeout_seconds: float) -> bytes:
        """Write what the socket takes, wait, and return what came (nothing, after a timeout).

        Raises ConnectionLost once everything that the daemon sent has been returned.
        """
        self._write()
        interest = select.POLLIN | (select.POLLOUT if self._outbound else 0)
        self._poll.modify(self._socket, interest)
        ready = dict(self._poll.poll(0 if self._broken else _milliseconds(timeout_seconds)))
        if self._wake.fileno() in ready:
            _drain(self._wake)
        event = ready.get(self._socket.fileno(), 0)
        if event & select.POLLOUT:
            self._write()
        if event & ~select.POLLOUT or self._broken:
            return self._read()
        return b""

    def close(self, last_frame: bytes = b"") -> None:
        """Close, after one attempt to send a last frame behind what was written whole."""
        if last_frame and not self._outbound:
            self.send(last_frame)
            self._write()
        self._outbound.clear()
        self._socket.close()

    def abandon(self) -> None:
        """In a forked child: close the parent's socket, without a word on it."""
        self._socket.close()

    def _write(self) -> None:
        while self._outbound and not self._broken:
            frame = self._outbound[0]
            try:
                written = self._socket.send(frame)
            except BlockingIOError:
                return
            except OSError as error:
                # The daemon may have said why before it closed: read first, then give up.
                self._broken = error
                return
            self._is_begun = written < len(frame)
            if not self._is_begun:
                self._outbound.popleft()
            else:
                self._outbound[0] = frame[written:]

    def _read(self) -> bytes:
        try:
            chunk = self._socket.recv(READ_BYTES)
        except BlockingIOError:
            if self._broken is None:
                return b""
            raise ConnectionLost(f"cannot write: {self._broken}") from self._broken
        except OSError as error:
            raise ConnectionLost(f"cannot read: {error}") from error
        if not chunk:
            raise ConnectionLost("the daemon closed the connection")
        return chunk


def _drain(wake: socket.socket) -> None:
    try:
        while wake.recv(64):
            pass
    except BlockingIOError:
        return


def _milliseconds(seconds: float) -> int:
    # Rounded up: rounded down, the last millisecond of every wait would be spent spinning.
    return max(0, math.ceil(seconds * 1000))
