"""Intake: the bounded queue between the connections and the writer.

Bounded in events (bytes are bounded by the budget before they are decoded); full means that
connections wait, and so read less from their sockets. It never drops, and never reorders what one
connection sent.
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
from ggend_schema.codes import EventCode
from ggend_schema.events import Event
from ggend_schema.rows import Row

__all__ = ["Call", "Entry", "Intake", "Outcome", "Rejection", "Submission"]


#: Events of an item that may go first. A client that is not in a hurry sends as many at most.
BRIEF_EVENTS = 128


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
        "imported_by",
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
        #: Another user who has imported from the same source.
        self.imported_by: int | None = None


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
        #: What it has taken from the budget.
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
    """Submissions and calls, in order for each owner, and fair between owners.

    Bounded by `max_events`. Of an owner with nothing waiting, something small comes first; apart
    from that they have their turns, one item each.
    """

    def __init__(self, max_events: int) -> None:
        self._max_events = max_events
        self._waiting: dict[object, deque[Submission | Call]] = {}
        #: Owners in the order of their turns. Each is in one of the two while something waits.
        self._brief: deque[object] = deque()
        self._turns: deque[object] = deque()
        self.events = 0
        self._closed = False
        self._arrived = anyio.Event()
        self._space = anyio.Event()

    async def put(self, item: Submission | Call, owner: object) -> None:
        """Queue an item; wait while the intake is full. One item over the bound is let in.

        Something brief of an owner with nothing waiting never waits for space.
        """
        events = len(item.entries) if isinstance(item, Submission) else 1
        while self.events >= self._max_events and (events > BRIEF_EVENTS or owner in self._waiting):
            await self._space.wait()
        queue = self._waiting.get(owner)
        if queue is None:
            self._waiting[owner] = deque((item,))
            (self._brief if events <= BRIEF_EVENTS else self._turns).append(owner)
        else:
            queue.append(item)
        self.events += events
        self._arrived.set()

    async def take(self, max_events: int) -> list[Submission | Call]:
        """Return what is waiting, at least one item, up to about `max_events`; [] when closed."""
        while not self._waiting:
            if self._closed:
                return []
            self._arrived = anyio.Event()
            await self._arrived.wait()
        taken: list[Submission | Call] = []
        # What is brief may fill half of it: many quiet owners do not keep the others out either.
        events = self._take_turns(self._brief, taken, max_events // 2)
        events += self._take_turns(self._turns, taken, max_events - events)
        if events < max_events:
            events += self._take_turns(self._brief, taken, max_events - events)
        self.events -= events
        self._space.set()
        self._space = anyio.Event()
        return taken

    def _take_turns(
        self, turns: deque[object], taken: list[Submission | Call], max_events: int
    ) -> int:
        """Take one item of each owner in turn; whose queue is not empty then goes to the end."""
        events = 0
        while turns and events < max_events:
            owner = turns.popleft()
            queue = self._waiting[owner]
            item = queue.popleft()
            taken.append(item)
            events += len(item.entries) if isinstance(item, Submission) else 1
            if queue:
                self._turns.append(owner)
            else:
                del self._waiting[owner]
        return events

    def close(self) -> None:
        """Nothing more will be put; `take` returns [] once the queue is empty."""
        self._closed = True
        self._arrived.set()
