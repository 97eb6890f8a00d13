"""Ways: how a program says the event that `./dev bench emit` measures, and what it says it with.

An event that is dropped, or not delivered in the end, is an error: dropping is cheap.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from queue import SimpleQueue
from time import time_ns
from typing import Any

import msgspec
from msgspec import Struct

from bench.logged import logged, queued
from ggend_client import Audit, Client

__all__ = ["QUEUES", "WAYS", "Place", "Way"]

#: Seconds that everything emitted may take to be delivered.
_PATIENCE_SECONDS = 60.0


class Place(Struct, frozen=True, kw_only=True):
    """Where events go."""

    #: The daemon's socket, or where none is.
    socket: Path
    has_daemon: bool
    spool: Path


class Way(Struct, frozen=True):
    """One way of saying an event."""

    #: Called outside the clock with an id; what it makes is said.
    make: Callable[[str], object]
    #: What the clock is around.
    call: Callable[[Any], object]
    #: Waits until everything is delivered, or in the spool.
    settle: Callable[[], None]
    #: Name of the thread that delivers, if any.
    worker: str | None = "ggend-client"
    #: Whether `call` is what a program calls. Else it is a function around that, whose own cost
    #: is taken off.
    is_direct: bool = False


def _given(execution_id: str) -> str:
    return execution_id


def _audit(execution_id: str) -> Audit:
    return Audit(
        agent_id="agent-7",
        operation="write src/lib.rs",
        status="completed",
        duration_ms=1_250,
        execution_id=execution_id,
    )


@contextmanager
def _client(place: Place, *, durable: bool = False) -> Iterator[tuple[Client, Callable[[], None]]]:
    """Make a client, and what settles it. Nothing may be dropped."""
    client = Client(place.socket, spool_dir=place.spool, durable=durable)

    def settle() -> None:
        if place.has_daemon:
            assert client.flush(_PATIENCE_SECONDS), client.stats()
            return
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while client.stats().queued:
            assert time.monotonic() < deadline, client.stats()
            client.flush(0.01)  # it cuts the pause between two attempts to connect

    with client:
        yield client, settle
        found = client.stats()
        assert found.dropped.total == found.rejected == found.queued == 0, found
        assert found.spooled == (0 if place.has_daemon else found.accepted), found


@contextmanager
def _emit(place: Place) -> Iterator[Way]:
    with _client(place) as (client, settle):
        yield Way(_audit, client.emit, settle, is_direct=True)


@contextmanager
def _emit_durably(place: Place) -> Iterator[Way]:
    with _client(place, durable=True) as (client, settle):
        yield Way(_audit, client.emit, settle, is_direct=True)


@contextmanager
def _make_and_emit(place: Place) -> Iterator[Way]:
    with _client(place) as (client, settle):

        def call(execution_id: str) -> None:
            client.emit(
                Audit(
                    agent_id="agent-7",
                    operation="write src/lib.rs",
                    status="completed",
                    duration_ms=1_250,
                    execution_id=execution_id,
                )
            )

        yield Way(_given, call, settle)


@contextmanager
def _typed_method(place: Place) -> Iterator[Way]:
    with _client(place) as (client, settle):

        def call(execution_id: str) -> None:
            client.audit(
                agent_id="agent-7",
                operation="write src/lib.rs",
                status="completed",
                duration_ms=1_250,
                execution_id=execution_id,
            )

        yield Way(_given, call, settle)


@contextmanager
def _stage(place: Place) -> Iterator[Way]:
    with _client(place) as (client, settle):

        def call(execution_id: str) -> None:
            with client.stage("extract", execution_id=execution_id):
                pass

        yield Way(_given, call, settle)


@contextmanager
def _floor(place: Place) -> Iterator[Way]:
    """Do the least that any such client can do. There is no thread, and no bound."""
    put, encode = SimpleQueue[bytes]().put, msgspec.msgpack.Encoder().encode

    def call(event: Audit) -> None:
        put(encode((time_ns(), event)))

    yield Way(_audit, call, lambda: None, worker=None)


@contextmanager
def _logging(place: Place) -> Iterator[Way]:
    with logged(str(place.socket) if place.has_daemon else None) as (logger, worker, settle):

        def call(execution_id: str) -> None:
            logger.info(
                "write src/lib.rs",
                extra={
                    "agent_id": "agent-7",
                    "status": "completed",
                    "duration_ms": 1_250,
                    "execution_id": execution_id,
                },
            )

        yield Way(_given, call, settle, worker=worker)


@contextmanager
def _full_client(events: int) -> Iterator[None]:
    client = Client(Path("/nonexistent/socket"), spool_dir="", max_events=events)
    for number in range(events):
        client.emit(_audit(f"{number:032x}"))
    yield
    assert client.stats().queued == events
    client.close(0)


@contextmanager
def _full_log(events: int) -> Iterator[None]:
    records, logger = queued()
    for number in range(events):
        logger.info(
            "write src/lib.rs",
            extra={
                "agent_id": "agent-7",
                "status": "completed",
                "duration_ms": 1_250,
                "execution_id": f"{number:032x}",
            },
        )
    yield
    assert records.qsize() == events


#: By the name that people read.
WAYS: dict[str, Callable[[Place], AbstractContextManager[Way]]] = {
    "emit(event)": _emit,
    "emit(event), durable": _emit_durably,
    "emit(Audit(…))": _make_and_emit,
    "client.audit(…)": _typed_method,
    "with client.stage(…)": _stage,
    "encode and put, no more": _floor,
    "logging": _logging,
}

#: What fills a queue that nobody empties, by the name that people read.
QUEUES: dict[str, Callable[[int], AbstractContextManager[None]]] = {
    "a queued event": _full_client,
    "a queued record of logging": _full_log,
}
