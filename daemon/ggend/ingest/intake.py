"""Intake: the bounded queue between the connections and the writer.

Bounded in events (bytes are bounded by the budget before they are decoded); full means that
connections wait, and so read less from their sockets. It never drops, and never reorders what one
connection sent.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import anyio
from msgspec import Struct

from ggend.storage.accounts import Sender
from ggend.storage.writer_state import WriterState
from ggend_schema.codes import EventCode
from ggend_schema.events import Event
from ggend_schema.rows import Row

__all__ = ["Call", "Entry", "Intake", "Lane", "Outcome", "Rejection", "Submission", "Taken"]


#: Events of a lane that may go first in one round of turns. A quiet client sends a few at a time.
AHEAD_EVENTS = 32


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

    __slots__ = ("changed_rows", "done", "failed", "run", "waits")

    def __init__(
        self,
        run: Callable[[sqlite3.Connection, WriterState], object],
        done: Callable[[Call, Any], None],
        failed: Callable[[Call, Exception], None],
        *,
        waits: bool = True,
    ) -> None:
        self.run = run
        #: Whether it waits while the disk is full. Somebody's request is told so instead.
        self.waits = waits
        self.done = done
        self.failed = failed
        #: What it did to the database, for whoever decides when a checkpoint is due.
        self.changed_rows = 0


class Taken(NamedTuple):
    """What was taken at once."""

    items: list[Submission | Call]
    events: int
    #: Whether something is among it that went first.
    is_hurried: bool


class Lane:
    """What one connection, or another part of the daemon, has waiting; in order."""

    __slots__ = ("ahead", "items", "round")

    def __init__(self) -> None:
        self.items: deque[Submission | Call] = deque()
        #: Events of it that went first in this round.
        self.round = self.ahead = 0


class Intake:
    """Submissions and calls, in order in each lane, and fair between lanes.

    Lanes have their turns, one item each, whatever its size. In a round each that waits has one.
    Something small goes first, up to AHEAD_EVENTS a lane and round, and up to half of what is
    taken: so a quiet connection does not wait for the others' turns, and many of them do not keep
    the others from theirs.

    Bounded: over `max_events`, only a lane in which nothing waits takes another item.

    The event loop puts and takes; the writer's thread takes more while its transaction is open.
    """

    def __init__(self, max_events: int) -> None:
        self._max_events = max_events
        #: Held for a moment each time; never across anything that waits.
        self._lock = threading.Lock()
        #: Lanes in which something waits. Each is in one of the two, once.
        self._first: deque[Lane] = deque()
        self._turns: deque[tuple[int, Lane]] = deque()
        #: The round of the turn that was last.
        self._round = 0
        self.events = 0
        self._closed = False
        self._arrived = anyio.Event()
        self._space = anyio.Event()

    @property
    def is_hurried(self) -> bool:
        """Whether something waits that goes first."""
        return bool(self._first)

    async def put(self, item: Submission | Call, lane: Lane) -> None:
        """Queue an item. A lane in which something waits has to wait while the intake is full."""
        while lane.items and self.events >= self._max_events:
            await self._space.wait()
        with self._lock:
            lane.items.append(item)
            self.events += _events(item)
            if len(lane.items) == 1:
                self._line_up(lane)
        self._arrived.set()

    async def take(self, max_events: int) -> Taken:
        """Return what is waiting, at least one item until it is closed, up to `max_events`."""
        while not (taken := self.take_now(max_events)).items and not self._closed:
            self._arrived = anyio.Event()
            await self._arrived.wait()
        return taken

    def take_now(self, max_events: int) -> Taken:
        """Return what is waiting, up to about `max_events`."""
        with self._lock:
            items: list[Submission | Call] = []
            events = self._take_first(items, max_events // 2)
            is_hurried = bool(items)
            while self._turns and events < max_events:
                self._round, lane = self._turns.popleft()
                events += self._take_one(lane, items)
            if events < max_events:
                events += self._take_first(items, max_events - events)
            self.events -= events
        return Taken(items, events, is_hurried)

    def take_hurried(self, max_events: int) -> Taken:
        """Return what goes first alone, up to about `max_events`."""
        with self._lock:
            items: list[Submission | Call] = []
            events = self._take_first(items, max_events)
            self.events -= events
        return Taken(items, events, bool(items))

    def take_requests(self) -> list[Call]:
        """Take the calls that do not wait for room, each where it is alone in its lane."""
        taken: list[Call] = []

        def is_left(lane: Lane) -> bool:
            item = lane.items[0]
            if len(lane.items) > 1 or not isinstance(item, Call) or item.waits:
                return True
            lane.items.clear()
            taken.append(item)
            return False

        with self._lock:
            self._first = deque(filter(is_left, self._first))
            self._turns = deque(turn for turn in self._turns if is_left(turn[1]))
            self.events -= len(taken)
        return taken

    def make_room(self) -> None:
        """Wake those who wait for room. Called in the event loop when something was taken."""
        self._space.set()
        self._space = anyio.Event()

    def close(self) -> None:
        """Nothing more will be put; `take` returns [] once the queue is empty."""
        self._closed = True
        self._arrived.set()

    def _take_first(self, taken: list[Submission | Call], max_events: int) -> int:
        events = 0
        while self._first and events < max_events:
            events += self._take_one(self._first.popleft(), taken)
        return events

    def _take_one(self, lane: Lane, taken: list[Submission | Call]) -> int:
        """Take the next item of a lane; what else waits in it has another turn."""
        item = lane.items.popleft()
        taken.append(item)
        if lane.items:
            self._turns.append((self._round + 1, lane))
        return _events(item)

    def _line_up(self, lane: Lane) -> None:
        """Give a turn to a lane in which something has begun to wait."""
        if lane.round != self._round:
            lane.round, lane.ahead = self._round, 0
        ahead = lane.ahead + _events(lane.items[0])
        if ahead <= AHEAD_EVENTS:
            lane.ahead = ahead
            self._first.append(lane)
        else:
            self._turns.append((self._round + 1, lane))


def _events(item: Submission | Call) -> int:
    """Count what an item weighs; one without events (an empty Batch) is work as well."""
    return len(item.entries) or 1 if isinstance(item, Submission) else 1
