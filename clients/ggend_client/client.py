"""Client: emit events and forget them.

Owns the outbox, the session, the spool and the worker's thread. `emit` never blocks and never
raises; only `flush`, `close` and `load_memory` wait, and each has a deadline. Constructing a
client does nothing but that: the thread starts with the first event.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ggend_client import fork_hooks
from ggend_client.checks import explain_reject, fault_in
from ggend_client.context import Binding
from ggend_client.emitter import Emitter
from ggend_client.errors import ClientError, InvalidCall
from ggend_client.fork_hooks import fork_page, notice_fork
from ggend_client.memory import load_memory
from ggend_client.mistakes import Mistakes
from ggend_client.options import Options
from ggend_client.pairs import PAIR_BYTES_MAX, pair_of
from ggend_client.replay import left_behind, replay
from ggend_client.spool.spool import Spool
from ggend_client.stats import Dropped, Statistics
from ggend_client.transport.backoff import Backoff
from ggend_client.transport.outbox import outbox_class
from ggend_client.transport.sender import Sender
from ggend_client.transport.session import Session
from ggend_client.transport.worker import Worker
from ggend_schema import Event
from ggend_schema.limits import PRODUCER_BYTES
from ggend_schema.messages import Reject
from ggend_schema.places import client_sockets

__all__ = ["Client"]

#: Events in the queue at most: half a second of what the daemon can take.
MAX_EVENTS = 65_536

#: Bytes in the queue at most.
MAX_BYTES = 32 * 1024 * 1024

#: How long the worker lets events gather into one frame. It halves the CPU per event.
LINGER_SECONDS = 0.02

#: How much longer than its deadline the end may take, to bring the rest to the spool.
SPOOL_SECONDS = 1.0

#: How often a client looks for what others left, and how much later for each that there is.
LOOK_SECONDS = 5.0
LOOK_SECONDS_EACH = 0.05

#: Events of a record of the spool that are looked at.
FORESEEN_EVENTS = 4

#: How long one replay of what others left may take.
REPLAY_SECONDS = 600.0


class Client(Emitter):
    """One producer. Safe to use from any thread; make one for a process and keep it."""

    def __init__(
        self,
        socket: str | Path | None = None,
        *,
        service: str | None = None,
        agent: str | None = None,
        session: str | None = None,
        spool_dir: str | Path | None = None,
        max_events: int = MAX_EVENTS,
        max_bytes: int = MAX_BYTES,
        linger_seconds: float = LINGER_SECONDS,
        exit_timeout: float = 1.0,
        durable: bool = False,
        strict: bool | None = None,
        on_drop: Callable[[str, Event | None], object] | None = None,
        enabled: bool = True,
        producer: bytes | None = None,
        permanent: bool = False,
    ) -> None:
        """What is not given is looked up in the environment: GGEND_SOCKET and so on (README).

        `durable`: emit() returns when the event is on the disk, and may wait for it. `strict`: a
        call that says what the daemon would not store raises InvalidCall. `on_drop` is told each
        cause (a field of `Dropped`) and the event, on the thread that emits. `exit_timeout` is how
        long the end of the program may wait for the last acks, before what is left goes to the
        spool. `producer` is for importers, which derive it from content and say `permanent`: they
        spool nothing.
        """
        self._options = Options.of(
            os.environ,
            socket=socket,
            service=service,
            agent=agent,
            session=session,
            spool_dir="" if permanent else spool_dir,
            strict=strict,
            enabled=enabled,
        )
        super().__init__(
            Binding(
                agent=self._options.agent,
                session=self._options.session,
                execution=self._options.execution,
            ),
            _variables(socket, spool_dir),
        )
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._linger_seconds = linger_seconds
        self._exit_timeout = exit_timeout
        self._durable = durable
        self._is_careful = durable or self._options.is_strict
        self._on_drop = on_drop
        self._producer = producer
        self._permanent = permanent
        self._ends = False
        self._make()
        fork_hooks.watch(self)

    def _make(self) -> None:
        options = self._options
        producer = self._producer or os.urandom(PRODUCER_BYTES)
        self._mistakes = Mistakes(
            self._on_drop, is_debugged=options.is_debugged, is_strict=options.is_strict
        )
        self._session = Session(producer, permanent=self._permanent, client_name=options.service)
        self._spool = self._spool_of(producer)
        self._outbox = outbox_class()(
            max_events=self._max_events,
            max_bytes=self._max_bytes,
            is_enabled=options.is_enabled,
            # The numbers of an id that was given may not begin with 1.
            shelf=None if self._producer else self._spool,
            on_memory=self._mistakes.in_memory,
        )
        #: Events in spools of ids that this process may not use any more.
        self._left_behind = 0
        self._sender = Sender(
            self._outbox, self._session, self._spool, time.monotonic, on_spool=self._foresee
        )
        self._worker = Worker(
            self._outbox,
            self._session,
            self._sender,
            self.sockets,
            linger_seconds=self._linger_seconds,
            backoff=Backoff(),
            on_look=self._look_around,
            on_not_yours=self._take_new_id,
            on_unknown=self._mistakes.unknown,
            on_reject=self._tell_reject,
        )
        self._thread: threading.Thread | None = None
        self._replaying: threading.Thread | None = None
        self._replayed = 0
        #: Events rejected or lost when a strict flush() last said so.
        self._refused = 0

    def emit(self, event: Event) -> bool:
        """Take the event, or count why not and return False. Never blocks, never raises.

        With `durable=True` it does wait for the disk; with `strict=True` it raises InvalidCall.
        """
        if not fork_page[0]:
            notice_fork()
        if self._is_careful:
            if self._options.is_strict:
                self._check(event)
            if self._durable:
                return self._emit_durably(event)
        outbox = self._outbox
        if not outbox.offer(event):
            if outbox is not self._outbox:  # a signal handler has forked, and this is the child
                return self.emit(event)
            return self._drop(outbox.refuse(event), event)
        if self._thread is None:
            self._start()
        return True

    def refuse(self, reason: str) -> bool:
        """Count an event that could not be made, with the reason; return False."""
        self._notice_fork()
        self._outbox.drops.count("invalid", reason)
        return self._drop("invalid", None)

    def flush(self, timeout: float = 2.0, *, strict: bool | None = None) -> bool:
        """Wait until everything emitted before this call is settled, durably; False: not yet.

        Settled are also events that the daemon put in quarantine. `strict`, which is what the
        client is unless given: False also for these, and for lost ones, since the last such call.
        """
        self._notice_fork()
        is_strict = self._options.is_strict if strict is None else strict
        is_settled = self._wait_until_settled(timeout, asks=is_strict)
        if not is_strict:
            return is_settled
        refused = self._session.rejected + self._session.lost
        was_refused, self._refused = self._refused, refused
        return is_settled and refused == was_refused

    def close(self, timeout: float = 1.0) -> bool:
        """Refuse new events, wait for the acks of the old ones, and end the thread.

        What is not acked by then goes to the spool. True: nothing is left in the queue.
        """
        self._notice_fork()
        deadline = time.monotonic() + timeout
        self._outbox.close()
        self._worker.stop(deadline)
        if self._thread is not None or not self._is_settled():
            self._worker.finish(deadline + SPOOL_SECONDS - time.monotonic())
        fork_hooks.forget_end(self._at_end)
        if self._session.welcome is not None and self._is_settled():
            self._look_back(deadline)
        stats = self.stats()
        if stats.queued and not self._sender.is_kept and not self._permanent:
            self._mistakes.left(stats.queued, stats.last_error)
        return stats.queued == 0

    def stats(self) -> Statistics:
        """Return what became of the events so far."""
        self._notice_fork()
        session, outbox, worker = self._session, self._outbox, self._worker
        # In this order, and with one number between what is settled and what is not, nothing is
        # counted twice while the worker goes on.
        rejected, lost, acked_sequence = session.rejected, session.lost, session.acked_sequence
        settled = session.settled_to(acked_sequence)
        spooled = self._left_behind
        if self._spool is not None:
            spooled += self._spool.unsettled(acked_sequence)
        accepted = self._accepted
        dropped = Dropped(**outbox.drops.by_cause, lost=lost)
        return Statistics(
            offered=accepted + dropped.total - lost,
            accepted=accepted,
            acked=settled - rejected - lost,
            queued=accepted - settled - spooled,
            spooled=spooled,
            rejected=rejected,
            dropped=dropped,
            replayed=session.replayed + self._replayed,
            resent=session.resent,
            connected=worker.is_connected,
            last_error=worker.last_error
            or self._sender.last_error
            or self._mistakes.last_error
            or outbox.last_error,
            last_drop=outbox.drops.last_reason,
        )

    def recent_rejects(self) -> list[Reject]:
        """Return the last events that the daemon put in quarantine, with its reasons."""
        self._notice_fork()
        return list(self._session.rejects)

    def load_memory(self, agent_id: str | None = None, timeout: float = 2.0) -> Any:
        """Return what was saved last for this agent, or None.

        What this client emitted before is stored first. Raises DaemonAbsent, RequestRefused,
        ConnectionLost.
        """
        deadline = time.monotonic() + timeout
        self.flush(timeout)
        return load_memory(
            self._options.socket,
            agent_id or self.bound().agent,
            max(0.1, deadline - time.monotonic()),
        )

    @property
    def own_binding(self) -> Binding:
        """What the constructor and the environment bound."""
        return self._binding

    def begin_anew(self) -> None:
        """In a forked child: be a new producer that has emitted nothing (see `fork_hooks`)."""
        was_closed = self._outbox.is_closed
        self._worker.abandon()
        self._ends = False  # finalizers of multiprocessing are not inherited
        self._producer, self._permanent = None, False  # those were the parent's
        self._make()
        self._outbox.is_closed = was_closed

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def sockets(self) -> list[Path]:
        """Return the sockets that are tried, in order."""
        socket = self._options.socket
        return client_sockets(os.environ) if socket is None else [socket]

    def _notice_fork(self) -> None:
        """Begin anew in a child of a fork that Python did not see (see `fork_hooks`)."""
        if not fork_page[0]:
            notice_fork()

    def _is_settled(self) -> bool:
        return self._accepted <= self._session.settled

    @property
    def _accepted(self) -> int:
        return self._outbox.accepted + self._sender.spooled_at_once

    def _wait_until_settled(self, timeout: float, *, asks: bool) -> bool:
        """Wait as `flush` does; `asks`: for the worker, which may be about to count rejects."""
        if self._is_settled() and not (asks and self._accepted):
            return True
        if self._thread is None:
            self._start()
        if self._worker.has_ended:
            return self._is_settled()
        mark = self._outbox.mark()
        self._worker.nudge()
        return mark.durable.wait(timeout) or self._is_settled()

    def _check(self, event: Event) -> None:
        """Raise InvalidCall for what the daemon would not store."""
        try:
            pair = pair_of(event)
        except Exception:  # emit() says why
            return
        fault = fault_in(pair)
        if fault is not None:
            self._outbox.drops.count("invalid", fault[1])
            raise InvalidCall(fault[1])

    def _emit_durably(self, event: Event) -> bool:
        """Write the event to the spool and wait for the disk."""
        outbox, sender = self._outbox, self._sender
        try:
            pair = b"" if outbox.is_closed else pair_of(event)
        except Exception:  # a field is the caller's object: encoding it can raise anything
            pair = b""
        if not 0 < len(pair) <= PAIR_BYTES_MAX:
            return self._drop(outbox.refuse(event), event)
        try:
            is_durable = sender.spool_at_once(pair)
            sender.spool_late()
        except ClientError as error:
            outbox.drops.count("spool", error.message)
            return self._drop("spool", event)
        if self._thread is None:
            self._start()
        outbox.nudge()
        return is_durable  # if not: it is on its way, but that is not what was promised

    def _drop(self, cause: str, event: Event | None) -> bool:
        self._mistakes.dropped(cause, self._outbox.drops.last_reason, event)
        return False

    def _start(self) -> None:
        """Begin the worker's thread. Takes no lock: who is here may be interrupted by who comes."""
        if fork_hooks.has_ended():
            self._end_at_once()
            return
        if not self._ends:
            self._ends = True
            fork_hooks.at_end(self._at_end)
        thread = threading.Thread(target=self._worker.run, name="ggend-client", daemon=True)
        if self._thread is not None:
            return
        self._thread = thread  # no call since the line above: of two threads, one is kept
        try:
            thread.start()
        except BaseException as error:
            # No more threads, or none any more at interpreter exit; or a signal handler has raised.
            # The next emit tries again, in vain if this one has begun, and close() needs none.
            self._thread = None
            if not isinstance(error, RuntimeError):
                raise
            self._worker.last_error = str(error)

    def _end_at_once(self) -> None:
        """Deliver here and now, or spool, what is emitted when exit handlers have run."""
        deadline = time.monotonic() + self._exit_timeout
        self._outbox.close()
        self._worker.stop(deadline)
        self._worker.finish(self._exit_timeout + SPOOL_SECONDS)

    def _at_end(self) -> None:
        self.close(self._exit_timeout)

    def _spool_of(self, producer: bytes) -> Spool | None:
        directory = self._options.spool_directory
        if directory is None:
            return None
        return Spool(directory, producer, destination=self.sockets()[0])

    def _tell_reject(self, reject: Reject, pair: bytes | None) -> None:
        """On the worker's thread: the daemon put an event in quarantine."""
        self._mistakes.rejected(*explain_reject(pair, reject.code, reject.message))

    def _foresee(self, pairs: Sequence[bytes]) -> None:
        """On the worker's thread: say what is wrong with events while no daemon is there to do so.

        Some of them: who says something wrong does so again and again.
        """
        for pair in pairs[:: max(1, len(pairs) // FORESEEN_EVENTS)]:
            fault = fault_in(pair)
            if fault is not None:
                self._mistakes.foreseen(*fault)

    def _take_new_id(self) -> None:
        """On the worker's thread: the id belongs to the user that this process was before."""
        if self._permanent:
            return
        producer = os.urandom(PRODUCER_BYTES)
        spool = self._spool_of(producer)
        self._left_behind += self._sender.take_new_id(producer, spool)
        self._spool = spool

    def _look_around(self) -> float:
        """Deliver what others left, beside this client's own events; return when to look again."""
        directory = self._options.spool_directory
        running = self._replaying
        if directory is None or (running is not None and running.is_alive()):
            return LOOK_SECONDS
        try:
            something_waits, producers = left_behind(directory, self.sockets()[0])
        except OSError:  # it is not this client's affair
            return LOOK_SECONDS
        if something_waits:
            self._replaying = threading.Thread(
                target=self._replay, args=(REPLAY_SECONDS,), name="ggend-replay", daemon=True
            )
            with suppress(RuntimeError):  # none any more at interpreter exit
                self._replaying.start()
        # The more there are, the less each has to look.
        return LOOK_SECONDS + producers * LOOK_SECONDS_EACH

    def _replay(self, seconds: float) -> None:
        directory = self._options.spool_directory
        if directory is not None:
            self._replayed += replay(directory, self.sockets, timeout=seconds).events

    def _look_back(self, deadline: float) -> None:
        """At the end: deliver what others left meanwhile, such as this program's children."""
        directory = self._options.spool_directory
        running = self._replaying
        if running is not None and running.is_alive():
            # It was begun while this client worked, and would end with the process.
            running.join(max(0.0, deadline - time.monotonic()))
            if running.is_alive():
                return
        if directory is None:
            return
        with suppress(OSError):
            if left_behind(directory, self.sockets()[0])[0]:
                self._replay(deadline - time.monotonic())


def _variables(socket: str | Path | None, spool_dir: str | Path | None) -> dict[str, str]:
    """Return what a subprocess must be told to find the same daemon and the same spool."""
    given = {"GGEND_SOCKET": socket, "GGEND_SPOOL_DIR": spool_dir}
    return {name: str(value) for name, value in given.items() if value is not None}
