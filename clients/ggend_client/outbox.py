"""Outbox: the bounded queue between the threads that emit and the worker.

`offer` runs on any thread, and inside signal handlers: it takes no lock, does not wait and does
not raise. A `queue.SimpleQueue` is the one queue of the standard library that a signal handler
cannot deadlock.

The bound counts what is in the queue and what the worker took and the daemon has not settled.
Threads that offer at the same moment can pass it by one event each. The counters need no lock
because between reading and writing one there is no call, so CPython switches no thread there.
"""

from __future__ import annotations

import queue
import threading
import time
from typing import TypeAlias

from ggend_client.statistics import Dropped
from ggend_schema import EVENT_TYPES, Event, limits
from ggend_schema.codec import encode_event

__all__ = ["FlushMark", "Item", "Outbox", "Stamped"]

#: Wall-clock nanoseconds and the encoded event.
Stamped: TypeAlias = tuple[int, bytes]


class FlushMark:
    """Stands in the queue behind the events that a flush() waits for."""

    __slots__ = ("durable",)

    def __init__(self) -> None:
        self.durable = threading.Event()


#: None only makes the worker look up.
Item: TypeAlias = Stamped | FlushMark | None

_EVENT_CLASSES = frozenset(EVENT_TYPES.values())


class Outbox:
    """Takes events or refuses them, and counts both."""

    __slots__ = (
        "_closed",
        "_max_bytes",
        "_max_events",
        "_queue",
        "_released_bytes",
        "_released_events",
        "_taken_bytes",
        "accepted",
        "dropped_closed",
        "dropped_full",
        "dropped_too_large",
        "dropped_unencodable",
    )

    def __init__(self, *, max_events: int, max_bytes: int) -> None:
        self._queue: queue.SimpleQueue[Item] = queue.SimpleQueue()
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._taken_bytes = 0
        self._released_events = 0
        self._released_bytes = 0
        self._closed = False
        self.accepted = 0
        self.dropped_full = 0
        self.dropped_closed = 0
        self.dropped_unencodable = 0
        self.dropped_too_large = 0

    @property
    def queued(self) -> int:
        """Events accepted and not released."""
        return self.accepted - self._released_events

    @property
    def dropped(self) -> Dropped:
        """The events refused, by cause."""
        return Dropped(
            full=self.dropped_full,
            closed=self.dropped_closed,
            unencodable=self.dropped_unencodable,
            too_large=self.dropped_too_large,
        )

    def offer(self, event: Event) -> bool:
        """Encode the event and put it in the queue, or count why not and return False."""
        if self._closed:
            self.dropped_closed += 1
            return False
        if self.accepted - self._released_events >= self._max_events:
            self.dropped_full += 1
            return False
        try:
            if type(event) not in _EVENT_CLASSES:
                self.dropped_unencodable += 1
                return False
            encoded = encode_event(event)
        except Exception:  # a field is the caller's object: encoding it can raise anything
            self.dropped_unencodable += 1
            return False
        size = len(encoded)
        if size > limits.EVENT_BYTES:
            self.dropped_too_large += 1
            return False
        if self._taken_bytes - self._released_bytes + size > self._max_bytes:
            self.dropped_full += 1
            return False
        self.accepted += 1
        self._taken_bytes += size
        self._queue.put((time.time_ns(), encoded))
        return True

    def mark(self) -> FlushMark:
        """Put a mark behind everything accepted so far."""
        mark = FlushMark()
        self._queue.put(mark)
        return mark

    def close(self) -> None:
        """Refuse everything from now on, and make the worker look up."""
        self._closed = True
        self._queue.put(None)

    def waiting(self) -> int:
        """Items that `take` would return at once."""
        return self._queue.qsize()

    def take(self, timeout_seconds: float) -> Item:
        """Return the next item, after at most this long. Raises queue.Empty."""
        if timeout_seconds > 0:
            return self._queue.get(timeout=timeout_seconds)
        return self._queue.get_nowait()

    def release(self, events: int, bytes_: int) -> None:
        """Note how many accepted events, and bytes, need no memory any more (running totals)."""
        self._released_events = events
        self._released_bytes = bytes_
