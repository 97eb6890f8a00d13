"""Delivery: sends events to the daemon for a command, and waits until they are stored.

Unlike a host program, a command waits: it sends no more than the client may hold, and fails when
the daemon is not reachable.
"""

from __future__ import annotations

import os
import socket as sockets
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ggend.errors import DaemonUnreachable
from ggend_client import Client
from ggend_client.mistakes import silence
from ggend_schema.events import Event
from ggend_schema.messages import Reject
from ggend_schema.places import client_sockets

__all__ = ["Delivery", "quiet_client", "require_daemon"]

#: Events sent before waiting for their acks; the client holds eight times as many.
_FLUSH_EVENTS = 8_192

#: Bytes sent before waiting for their acks; the client holds four times as many, so that an event
#: of the largest size always fits.
_FLUSH_BYTES = 8 * 1024 * 1024

_START_IT = "start it with `ggend serve`, or give its socket with --socket or GGEND_SOCKET"


def require_daemon(socket: Path | None) -> None:
    """Raise DaemonUnreachable unless something accepts a connection."""
    failures = []
    for place in client_sockets(os.environ) if socket is None else [socket]:
        with sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM) as candidate:
            try:
                candidate.connect(str(place))
            except OSError as error:
                failures.append(f"{place}: {error.strerror or error}")
            else:
                return
    raise DaemonUnreachable(f"no daemon answers ({'; '.join(failures)})", hint=_START_IT)


def quiet_client(socket: Path | None, **options: Any) -> Client:
    """Return a client that logs nothing: the command itself reports what went wrong."""
    silence()
    return Client(socket, strict=False, **options)


class Delivery:
    """One producer of a command. A context manager: nothing waits after it."""

    __slots__ = ("_client", "_timeout", "_unflushed_bytes", "_unflushed_events", "sent")

    def __init__(
        self,
        socket: Path | None,
        *,
        name: str,
        timeout_seconds: float,
        producer: bytes | None = None,
    ) -> None:
        """`producer` is derived from content, for an import that may be repeated."""
        self._client = quiet_client(
            socket,
            service=name,
            producer=producer,
            permanent=producer is not None,
            spool_dir="",  # a command says that it failed, and is run again
            exit_timeout=0,
        )
        self._timeout = timeout_seconds
        self._unflushed_events = self._unflushed_bytes = 0
        #: Events given to the client.
        self.sent = 0

    def send(self, events: Iterable[Event], *, size: int) -> None:
        """Send events of about this many bytes. Raises DaemonUnreachable."""
        for event in events:
            if not self._client.emit(event):
                self.flush()  # makes room; what does not fit now never will
                if not self._client.emit(event):
                    raise DaemonUnreachable("the client's queue is full")
            self.sent += 1
            self._unflushed_events += 1
            if self._unflushed_events >= _FLUSH_EVENTS:
                self.flush()
        self._unflushed_bytes += size
        if self._unflushed_bytes >= _FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Wait until everything sent is stored or rejected. Raises DaemonUnreachable."""
        self._unflushed_events = self._unflushed_bytes = 0
        if self._client.flush(self._timeout):
            return
        statistics = self._client.stats()
        if not statistics.queued:
            return
        raise DaemonUnreachable(
            f"{statistics.queued} of {statistics.accepted} events are not stored after "
            f"{self._timeout:g} s: {statistics.last_error or 'the daemon is slow to answer'}",
            hint=_START_IT,
        )

    @property
    def rejected(self) -> int:
        """Events that the daemon put in quarantine."""
        return self._client.stats().rejected

    def rejects(self) -> list[Reject]:
        """Return the last of them, with the daemon's reasons."""
        return self._client.recent_rejects()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Flushed or failed: either way there is nothing left to wait for but the goodbye.
        self._client.close(_GOODBYE_SECONDS if error is None else 0)


#: How long the last frame may take: everything before it is acked.
_GOODBYE_SECONDS = 1.0
