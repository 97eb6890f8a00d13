"""Client: emit events and forget them.

Owns the outbox, the session and the worker's thread. `emit` never blocks and never raises; only
`flush` and `close` wait, and both have a deadline. Constructing a client does nothing but that:
the thread starts with the first event.
"""

from __future__ import annotations

import atexit
import os
import random
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from ggend_client.backoff import Backoff
from ggend_client.outbox import Outbox
from ggend_client.session import Session
from ggend_client.statistics import Statistics
from ggend_client.worker import Worker
from ggend_schema import Event
from ggend_schema.limits import PRODUCER_BYTES
from ggend_schema.messages import Reject
from ggend_schema.places import client_sockets

__all__ = ["Client"]

#: Events held at most, waiting or not acked: half a second of what the daemon can take.
MAX_EVENTS = 65_536

#: Bytes held at most, waiting or not acked.
MAX_BYTES = 32 * 1024 * 1024

#: How long the worker lets events gather into one frame. It halves the CPU per event.
LINGER_SECONDS = 0.02


class Client:
    """One producer. Safe to use from any thread; make one for a process and keep it."""

    def __init__(
        self,
        socket: str | Path | None = None,
        *,
        client_name: str = "ggend_client",
        max_events: int = MAX_EVENTS,
        max_bytes: int = MAX_BYTES,
        linger_seconds: float = LINGER_SECONDS,
        exit_timeout: float = 1.0,
        producer: bytes | None = None,
        permanent: bool = False,
    ) -> None:
        """Without `socket`: `GGEND_SOCKET`, or the user's daemon, or else the system's.

        `producer` is for importers, which derive it from content and say `permanent`.
        `exit_timeout` is how long the end of the program may wait for the last acks.
        """
        self._places = None if socket is None else [Path(socket)]
        self._exit_timeout = exit_timeout
        self._outbox = Outbox(max_events=max_events, max_bytes=max_bytes)
        self._session = Session(
            os.urandom(PRODUCER_BYTES) if producer is None else producer,
            permanent=permanent,
            client_name=client_name,
        )
        self._worker = Worker(
            self._outbox,
            self._session,
            self._sockets,
            linger_seconds=linger_seconds,
            backoff=Backoff(random.random),
        )
        self._thread: threading.Thread | None = None
        self._exits = False
        self._starting = threading.Lock()

    def emit(self, event: Event) -> bool:
        """Take the event, or count why not and return False. Never blocks, never raises."""
        accepted = self._outbox.offer(event)
        if accepted and self._thread is None:
            self._start()
        return accepted

    def flush(self, timeout: float = 2.0) -> bool:
        """Wait until everything emitted before this call is settled, durably; False: not yet."""
        if self._outbox.queued == 0:
            return True
        if self._thread is None:
            self._start(timeout)
        if self._worker.has_ended:
            return False
        mark = self._outbox.mark()
        self._worker.nudge()
        return mark.durable.wait(timeout) or self._outbox.queued == 0

    def close(self, timeout: float = 1.0) -> bool:
        """Refuse new events, wait for the acks of the old ones, and end the thread.

        True: everything accepted is settled. What is not by then is gone with the process.
        """
        deadline = time.monotonic() + timeout
        self._outbox.close()
        self._worker.stop(deadline)
        if self._starting.acquire(timeout=max(0, timeout)):
            try:
                self._end(deadline)
            finally:
                self._starting.release()
        return self._outbox.queued == 0

    def statistics(self) -> Statistics:
        """Return what became of the events so far."""
        session, outbox = self._session, self._outbox
        return Statistics(
            accepted=outbox.accepted,
            acked=session.acked,
            queued=outbox.queued,
            rejected=session.rejected,
            lost=session.lost,
            dropped=outbox.dropped,
            resent=session.resent,
            connected=self._worker.is_connected,
            last_error=self._worker.last_error,
        )

    def recent_rejects(self) -> list[Reject]:
        """Return the last events that the daemon put in quarantine, with its reasons."""
        return list(self._session.rejects)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _sockets(self) -> Sequence[Path]:
        return client_sockets(os.environ) if self._places is None else self._places

    def _start(self, timeout: float = 0) -> None:
        # emit() does not wait for the lock: it may be a signal handler, and the code that it
        # interrupts the holder.
        if not self._starting.acquire(timeout=max(0, timeout)):
            return
        try:
            if self._thread is not None:
                return
            if not self._exits:
                self._exits = True
                atexit.register(self._at_exit)
            self._thread = threading.Thread(
                target=self._worker.run, name="ggend-client", daemon=True
            )
            self._thread.start()
        except RuntimeError as error:
            # No more threads, or none any more at interpreter exit: the next emit tries again,
            # and close() works without one.
            self._thread = None
            self._worker.last_error = str(error)
        finally:
            self._starting.release()

    def _end(self, deadline: float) -> None:
        if self._thread is not None:
            self._thread.join(max(0, deadline - time.monotonic()))
        elif self._outbox.queued:
            self._worker.run()
        atexit.unregister(self._at_exit)

    def _at_exit(self) -> None:
        self.close(self._exit_timeout)
