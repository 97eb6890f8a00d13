"""Outbox: the bounded queue between the threads that emit and the worker.

`offer` runs on any thread, and inside signal handlers: it takes no lock, does not wait and does
not raise. A `queue.SimpleQueue` is the one queue of the standard library that a signal handler
cannot deadlock.

What is in the queue is one bytes object an event, the msgpack pair [stamp, event]: encoded by the
caller, whose objects may change afterwards, and without anything that the garbage collector would
have to visit.

The bound counts what is in the queue and what the worker holds in memory. Threads that offer at
the same moment can pass it by one event each. The counters need no lock because between reading
and writing one there is no call, so CPython switches no thread there.
"""

from __future__ import annotations

import queue
import threading
from time import time_ns
from typing import TypeAlias

import msgspec

from ggend_schema import EVENT_TYPES, Event, limits
from ggend_schema.portable import portable_event

__all__ = ["PAIR_BYTES_MAX", "FlushMark", "Item", "Outbox", "pair_of"]

#: Bytes of a pair beside its event: the array's head and the stamp.
PAIR_BYTES = 10

_EVENT_CLASSES = frozenset(EVENT_TYPES.values())
#: Bytes of a pair at most.
PAIR_BYTES_MAX = limits.EVENT_BYTES + PAIR_BYTES
_encode = msgspec.msgpack.Encoder().encode


class FlushMark:
    """Stands in the queue behind the events that a flush() waits for."""

    __slots__ = ("durable",)

    def __init__(self) -> None:
        self.durable = threading.Event()


#: None only makes the worker look up.
Item: TypeAlias = bytes | FlushMark | None


class Outbox:
    """Takes events or refuses them, and counts both."""

    __slots__ = (
        "_is_enabled",
        "_max_bytes",
        "_max_events",
        "_put",
        "_queue",
        "_released_bytes",
        "_released_events",
        "_taken_bytes",
        "accepted",
        "dropped_closed",
        "dropped_disabled",
        "dropped_full",
        "dropped_invalid",
        "dropped_spool",
        "dropped_too_large",
        "is_closed",
        "last_drop",
    )

    def __init__(self, *, max_events: int, max_bytes: int, is_enabled: bool = True) -> None:
        self._queue: queue.SimpleQueue[Item] = queue.SimpleQueue()
        self._put = self._queue.put
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._taken_bytes = 0
        self._released_events = 0
        self._released_bytes = 0
        self._is_enabled = is_enabled
        self.is_closed = not is_enabled
        #: Events taken, by the queue or around it.
        self.accepted = 0
        self.dropped_full = 0
        self.dropped_closed = 0
        self.dropped_disabled = 0
        self.dropped_invalid = 0
        self.dropped_spool = 0
        self.dropped_too_large = 0
        #: Why the last event was dropped, for people.
        self.last_drop: str | None = None

    @property
    def dropped(self) -> int:
        """Events refused, whatever the cause."""
        return (
            self.dropped_full
            + self.dropped_closed
            + self.dropped_disabled
            + self.dropped_invalid
            + self.dropped_spool
            + self.dropped_too_large
        )

    def offer(self, event: Event) -> bool:
        """Encode the event and put it in the queue; False: it is not taken (see `refusal`)."""
        if (
            self.accepted - self._released_events >= self._max_events
            or self.is_closed
            or type(event) not in _EVENT_CLASSES
        ):
            return False
        try:
            pair = _encode((time_ns(), event))
        except Exception:  # a field is the caller's object: encoding it can raise anything
            try:
                pair = pair_of(event)
            except Exception:
                return False
        size = len(pair)
        if (
            size > PAIR_BYTES_MAX
            or self._taken_bytes - self._released_bytes + size > self._max_bytes
        ):
            return False
        self.accepted += 1
        self._taken_bytes += size
        self._put(pair)
        return True

    def refuse(self, event: Event) -> str:
        """Find out why `offer` did not take the event, count it, and return the cause."""
        if not self._is_enabled:
            self.dropped_disabled += 1
            self.last_drop = "the client is not enabled"
            return "disabled"
        if self.is_closed:
            self.dropped_closed += 1
            self.last_drop = "the client was closed"
            return "closed"
        try:
            pair = pair_of(event)
        except Exception as error:  # see `offer`
            self.dropped_invalid += 1
            self.last_drop = _reason(error)
            return "invalid"
        if len(pair) > PAIR_BYTES_MAX:
            self.dropped_too_large += 1
            self.last_drop = (
                f"an event of {len(pair) - PAIR_BYTES} bytes, over {limits.EVENT_BYTES}"
            )
            return "too_large"
        self.dropped_full += 1
        self.last_drop = "the bound on events or bytes was reached"
        return "full"

    def refuse_for(self, reason: str) -> None:
        """Count an event that could not even be made."""
        self.dropped_invalid += 1
        self.last_drop = reason

    def refuse_spool(self, reason: str) -> None:
        """Count an event that had to be spooled, and was not."""
        self.dropped_spool += 1
        self.last_drop = reason

    def mark(self) -> FlushMark:
        """Put a mark behind everything accepted so far."""
        mark = FlushMark()
        self._put(mark)
        return mark

    def close(self) -> None:
        """Refuse everything from now on, and make the worker look up."""
        self.is_closed = True
        self._put(None)

    def nudge(self) -> None:
        """Make the worker look up."""
        self._put(None)

    def waiting(self) -> int:
        """Items that `take` would return at once."""
        return self._queue.qsize()

    @property
    def is_half_full(self) -> bool:
        """Whether more is held in memory than half of what may be."""
        return (
            2 * (self.accepted - self._released_events) > self._max_events
            or 2 * (self._taken_bytes - self._released_bytes) > self._max_bytes
        )

    def take(self, timeout_seconds: float) -> Item:
        """Return the next item, after at most this long. Raises queue.Empty."""
        if timeout_seconds > 0:
            return self._queue.get(timeout=timeout_seconds)
        return self._queue.get_nowait()

    def release(self, events: int, bytes_: int) -> None:
        """Note how many accepted events, and bytes, need no memory any more (running totals)."""
        self._released_events = events
        self._released_bytes = bytes_


def pair_of(event: Event) -> bytes:
    """Encode a pair. Raises TypeError for what is no event, and what encoding raises.

    Texts that are not Unicode and integers of more than 64 bits are made `portable` first.
    """
    if type(event) not in _EVENT_CLASSES:
        raise TypeError(f"{type(event).__name__} is not an event")
    try:
        return _encode((time_ns(), event))
    except (UnicodeEncodeError, OverflowError):
        return _encode((time_ns(), portable_event(event)))


def _reason(error: Exception) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # the message is the caller's object, too
        return type(error).__name__
