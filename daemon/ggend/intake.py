"""Intake: the bounded queue between the connections and the writer.

Bounded in events and in bytes; full means that connections wait, and so read less from their
sockets. It never drops and never reorders.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable
from typing import Any, TypeAlias

import anyio
from msgspec import Struct

from ggend.accounts import Sender
from ggend.books import Books
from ggend.rows import Row
from ggend_schema.codes import EventCode
from ggend_schema.events import Event

__all__ = ["Call", "Entry", "Intake", "Outcome", "Rejection", "Submission"]


class Rejection(Struct, frozen=True, gc=False):
    """An event refused before the database saw it; it passes the intake to settle its number."""

    code: EventCode
    message: str
    encoded: bytes
    encoding: str = "msgpack"


#: An event with its stamp (ns) and its row; a Rejection has no row.
Entry: TypeAlias = tuple[Event | Rejection, int, Row | None]


class Outcome:
    """What became of one Submission, known after the commit."""

    __slots__ = (
        "duplicate",
        "failure",
        "first_sequence",
        "last_sequence",
        "parked",
        "rejected",
        "rejects",
        "replayed",
        "stored",
        "superseded",
    )

    def __init__(self) -> None:
        #: The number of the submission's first entry, and the highest settled number.
        self.first_sequence = self.last_sequence = 0
        self.stored = self.duplicate = self.superseded = 0
        self.parked = self.rejected = self.replayed = 0
        #: Sequence, code and message of each rejected event.
        self.rejects: list[tuple[int, EventCode, str]] = []
        #: Why nothing was settled: GAP or NOT_YOURS.
        self.failure: EventCode | None = None


class Submission:
    """Consecutive events of one sender, on their way to one transaction."""

    __slots__ = ("bytes", "done", "entries", "first_sequence", "lost", "sender", "shed")

    def __init__(
        self,
        sender: Sender,
        entries: list[Entry],
        done: Callable[[Submission, Outcome], None],
        *,
        size: int,
        first_sequence: int | None,
        lost: int = 0,
        shed: int = 0,
    ) -> None:
        self.sender = sender
        self.entries = entries
        #: Told the outcome after the commit. It is handed the submission instead of holding it:
        #: a cycle would keep every event alive until the garbage collector comes.
        self.done = done
        self.bytes = size
        #: None for unnumbered lines: the anonymous account numbers them itself.
        self.first_sequence = first_sequence
        self.lost = lost
        self.shed = shed


class Call:
    """Something to run on the writer's connection, in its turn, inside the transaction."""

    __slots__ = ("changed_rows", "done", "failed", "run")

    def __init__(
        self,
        run: Callable[[sqlite3.Connection, Books], object],
        done: Callable[[Call, Any], None],
        failed: Callable[[Call, Exception], None],
    ) -> None:
        self.run = run
        self.done = done
        self.failed = failed
        #: What it did to the database, for whoever decides when a checkpoint is due.
        self.changed_rows = 0


class Intake:
    """FIFO of submissions and calls, bounded by `max_events` and `max_bytes`."""

    def __init__(self, max_events: int, max_bytes: int) -> None:
        self._max_events, self._max_bytes = max_events, max_bytes
        self._queue: deque[Submission | Call] = deque()
        self.events = 0
        self.bytes = 0
        self._closed = False
        self._arrived = anyio.Event()
        self._space = anyio.Event()

    async def put(self, item: Submission | Call) -> None:
        """Queue an item; wait while the intake is full. One item over the bound is let in."""
        while self.events >= self._max_events or self.bytes >= self._max_bytes:
            await self._space.wait()
        self._queue.append(item)
        if isinstance(item, Submission):
            self.events += len(item.entries)
            self.bytes += item.bytes
        self._arrived.set()

    async def take(self, max_events: int) -> list[Submission | Call]:
        """Return what is waiting, at least one item, up to about `max_events`; [] when closed."""
        while not self._queue:
            if self._closed:
                return []
            self._arrived = anyio.Event()
            await self._arrived.wait()
        taken: list[Submission | Call] = []
        events = 0
        while self._queue and events < max_events:
            item = self._queue.popleft()
            taken.append(item)
            if isinstance(item, Submission):
                events += len(item.entries)
                self.bytes -= item.bytes
        self.events -= events
        self._space.set()
        self._space = anyio.Event()
        return taken

    def close(self) -> None:
        """Nothing more will be put; `take` returns [] once the queue is empty."""
        self._closed = True
        self._arrived.set()
