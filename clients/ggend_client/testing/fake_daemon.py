"""FakeDaemon: protocol 1 on a real Unix socket, in a thread, with everything kept in memory.

Whatever a client can tell the real daemon it can tell this one, which never touches a database:
what was sent again is recognised by producer and number, an invalid event is rejected with the
same code and message, and `load_memory` returns what was saved. What it does not do: NDJSON,
parking (a stage without its receipt is an event like any other), conflicts with what came before,
and requests that change what is stored.

The methods `hear`, `settle`, `judge` and `answer` may be overridden by who tests a client.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from ggend_client import Client, fork_hooks
from ggend_client.testing.listening import Listening, Peer
from ggend_schema import limits
from ggend_schema.codec import SalvagedBatch, decode_event, encode_event
from ggend_schema.codes import GoodbyeCode
from ggend_schema.errors import InvalidEvent, MessageMalformed
from ggend_schema.events import Event, MemorySaved
from ggend_schema.messages import (
    PROTOCOL,
    Ack,
    Answer,
    Batch,
    ClientMessage,
    DaemonMessage,
    Goodbye,
    Hello,
    Limits,
    Reject,
    Request,
    Welcome,
)
from ggend_schema.rows import row_of
from ggend_schema.timestamps import format_sql

__all__ = ["FakeDaemon", "Refused"]

#: How long a test waits for its program, unless told: far above what a client takes. Only a test
#: that fails waits this long.
PATIENCE_SECONDS = 5.0

#: The database id in every Welcome.
DATABASE = "fa4e" * 8

E = TypeVar("E", bound=Event)


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """An event that the real daemon would have put in quarantine."""

    #: One of `ggend_schema.EventCode`.
    code: str
    #: What is wrong, and where.
    message: str
    #: Its fields as they came, or its bytes where they cannot be read.
    content: Any


class FakeDaemon(Listening):
    """Takes events and keeps them, so that a test can look at them."""

    #: What an Ack stands for, as Welcome says it: the end of the test is the end of it all.
    durability = "memory"

    def __init__(self, socket: str | Path | None = None) -> None:
        """Without `socket`: one in a temporary directory of its own, removed after `with`."""
        super().__init__(socket)
        self._rejected: list[Refused] = []
        #: Whether the test has looked at `rejected`: it knows what it does.
        self.is_rejected_seen = False
        #: The highest settled number of each producer.
        self.settled: dict[bytes, int] = {}
        self._heard = 0
        self._events: list[Event] = []
        self._memories: dict[str, tuple[tuple[int, bytes, int], MemorySaved]] = {}

    @property
    def events(self) -> list[Event]:
        """Every event that was accepted, each once, in the order of arrival.

        What clients of this process have emitted to this daemon is waited for. Raises
        AssertionError when it does not come.
        """
        __tracebackhide__ = True
        self.catch_up()
        return self._now()

    @property
    def rejected(self) -> list[Refused]:
        """Events that were not accepted, and would be in the real daemon's quarantine."""
        self.is_rejected_seen = True
        return self._rejected

    def of_type(self, kind: type[E]) -> list[E]:
        """Return those of one type, such as `Audit`; see `events`."""
        __tracebackhide__ = True
        return [event for event in self.events if isinstance(event, kind)]

    def wait_for(
        self, what: int | Callable[[list[Event]], object], timeout: float = PATIENCE_SECONDS
    ) -> list[Event]:
        """Wait for so many events, or until they make `what` true, and return those there are.

        For a program that is still running: what threads and other processes are about to emit.
        Raises AssertionError, which says what came instead.
        """
        __tracebackhide__ = True
        deadline = time.monotonic() + timeout
        while True:
            seen, events = self._heard, self._now()
            # Not under the lock: the predicate may look at anything here.
            if len(events) >= what if isinstance(what, int) else what(events):
                return events
            with self.changed:
                if self._heard == seen and not self.changed.wait(deadline - time.monotonic()):
                    wanted = f"events ({what})" if isinstance(what, int) else "what was expected"
                    raise AssertionError(f"waited {timeout:g} s for {wanted}: {self._summary()}")

    def catch_up(self) -> None:
        """Wait for what clients of this process have emitted to this daemon, as `events` does."""
        __tracebackhide__ = True
        deadline = time.monotonic() + PATIENCE_SECONDS
        for client in fork_hooks.watched() if self.is_running else []:
            if not isinstance(client, Client) or client.sockets() != [self.socket]:
                continue
            if not client.flush(max(0.0, deadline - time.monotonic())):
                stats = client.stats()
                raise AssertionError(
                    f"what was emitted did not arrive within {PATIENCE_SECONDS:g} s: "
                    f"{stats.queued + stats.spooled} events are on their way, last error: "
                    f"{stats.last_error}; {self._summary()}"
                )

    def hear(
        self, peer: Peer, message: ClientMessage | SalvagedBatch
    ) -> list[DaemonMessage] | None:
        """Return what is said to this message (see `Listening`)."""
        self._heard += 1
        if isinstance(message, Hello):
            return [self._greet(peer, message)]
        producer = None if peer.hello is None else peer.hello.producer
        if isinstance(message, Goodbye):
            return None
        if peer.hello is None:
            raise MessageMalformed(f"a {type(message).__name__} before Hello")
        if isinstance(message, Request):
            return self.answer(message)
        if producer is None:
            raise MessageMalformed("a Batch before a Hello with a producer id")
        return self.settle(producer, message)

    def settle(self, producer: bytes, batch: Batch | SalvagedBatch) -> list[DaemonMessage] | None:
        """Keep what is new of a Batch; return its Rejects and the Ack, as `hear` does."""
        if len(batch.events) != len(batch.stamps) or batch.lost >= batch.first_sequence:
            raise MessageMalformed("the numbers of a Batch do not fit together")
        settled = self.settled.get(producer, 0)
        if batch.first_sequence - batch.lost > settled + 1:
            return [Goodbye(code=GoodbyeCode.GAP, last_sequence=settled)]
        said: list[DaemonMessage] = []
        numbered = enumerate(zip(batch.events, batch.stamps, strict=True), batch.first_sequence)
        for sequence, (event, stamp_ns) in numbered:
            if sequence <= settled:
                continue
            try:
                accepted = self.judge(sequence, event, stamp_ns)
            except InvalidEvent as error:
                self._rejected.append(
                    Refused(code=str(error.code), message=error.message, content=_content(event))
                )
                said.append(Reject(sequence=sequence, code=error.code, message=error.message))
            else:
                self._keep(accepted, (stamp_ns, producer, sequence))
        settled = max(settled, batch.first_sequence + len(batch.events) - 1)
        self.settled[producer] = settled
        return [*said, Ack(sequence=settled)]

    def judge(
        self,
        sequence: int,  # noqa: ARG002 (for those who override it)
        event: Event | memoryview,
        stamp_ns: int,
    ) -> Event:
        """Return the event, decoded. Raises InvalidEvent for what the real daemon refuses."""
        if isinstance(event, memoryview):
            event = decode_event(event)
        row_of(event, stamp_ns)
        return event

    def answer(self, request: Request) -> list[DaemonMessage] | None:
        """Return the answer to a request, as `hear` does."""
        if request.op == "status":
            return [Answer(id=request.id, result=self._status())]
        agent_id = request.arguments.get("agent_id")
        if request.op == "load_memory" and isinstance(agent_id, str):
            return [Answer(id=request.id, result=self._memory(agent_id))]
        why = f"there is no request {request.op!r}; the requests are status, load_memory"
        if request.op == "load_memory":
            why = "load_memory needs the argument agent_id, a string"
        return [Answer(id=request.id, code="unknown_request", message=why)]

    def _greet(self, peer: Peer, hello: Hello) -> DaemonMessage:
        if peer.hello is not None:
            raise MessageMalformed("a second Hello on one connection")
        if hello.protocol != PROTOCOL:
            why = f"ggend speaks protocol {PROTOCOL}, not {hello.protocol}"
            return Goodbye(code=GoodbyeCode.UNSUPPORTED_VERSION, message=why)
        if hello.acked and hello.producer not in self.settled:
            why = f"nothing is known of producer {(hello.producer or b'').hex()}"
            return Goodbye(code=GoodbyeCode.UNKNOWN_PRODUCER, message=why)
        peer.hello = hello
        return Welcome(
            protocol=PROTOCOL,
            database=DATABASE,
            last_sequence=self.settled.get(hello.producer or b"", 0),
            limits=Limits(frame_bytes=limits.FRAME_BYTES, batch_events=limits.BATCH_EVENTS),
            durability=self.durability,
        )

    def _keep(self, event: Event, stamped: tuple[int, bytes, int]) -> None:
        self._events.append(event)
        if isinstance(event, MemorySaved):
            microseconds: int = row_of(event, stamped[0])[-1]
            order = microseconds, *stamped[1:]
            known = self._memories.get(event.agent_id)
            if known is None or known[0] < order:
                self._memories[event.agent_id] = (order, event)

    def _memory(self, agent_id: str) -> dict[str, object] | None:
        found = self._memories.get(agent_id)
        if found is None:
            return None
        (microseconds, _, _), saved = found
        return {
            "memory": saved.memory,
            "collision_history": saved.collision_history,
            "retry_count": saved.retry_count,
            "last_error": saved.last_error,
            "updated_at": format_sql(microseconds // 1000),
        }

    def _status(self) -> dict[str, object]:
        return {
            "health": "ok",
            "trouble": None,
            "stored": len(self._events),
            "rejected": len(self._rejected),
            "database_id": DATABASE,
            "socket": os.fspath(self.socket),
            "pid": os.getpid(),
        }

    def _now(self) -> list[Event]:
        with self.changed:
            return list(self._events)

    def complaint(self) -> str | None:
        """Return what a test should be told of rejected events that it did not look at."""
        if self.is_rejected_seen or not self._rejected:
            return None
        causes = Counter(f"{refused.code}: {refused.message}" for refused in self._rejected)
        found = "; ".join(f"{count} × {cause}" for cause, count in causes.items())
        return f"ggend would not store what this test emitted: {found}"

    def _summary(self) -> str:
        """Say what came, for people whose test fails."""
        with self.changed:
            kinds = Counter(type(event).__name__ for event in self._events)
            refused = [f"{refused.code}: {refused.message}" for refused in self._rejected]
        came = ", ".join(f"{count} {kind}" for kind, count in kinds.items()) or "nothing"
        return f"{came} came" + "".join(f"; rejected: {why}" for why in refused)


def _content(event: Event | memoryview) -> Any:
    encoded = bytes(event) if isinstance(event, memoryview) else encode_event(event)
    try:
        return msgspec.msgpack.decode(encoded)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return encoded
