"""Gathering: how much goes into one transaction, decided while it is open.

A batch is taken from the intake in slices. While nobody is in a hurry, slices follow until the
batch is large: that is what costs least an event. As soon as something waits that goes first, it is
taken in, and the transaction is committed: so a quiet producer beside a flood waits for what is
left of one slice, and for one commit. Used on the writer's thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from ggend.intake import Call, Intake, Submission, Taken

__all__ = ["Gathering", "Pace"]

#: Seconds that a slice is to take, and that a transaction has lasted at least when somebody in a
#: hurry has it committed: cut off earlier, too many short transactions would slow the others down.
SLICE_SECONDS = 0.015

#: Events of a slice at least: smaller ones cost more each.
SLICE_EVENTS = 256

#: How much of the cost of an event is what the last slice said.
_WEIGHT = 0.2


class Pace:
    """What an event has cost lately."""

    def __init__(self) -> None:
        self._event_seconds = 0.0

    def note(self, events: int, seconds: float) -> None:
        """A slice of so many events took so long."""
        self._event_seconds += _WEIGHT * (seconds / events - self._event_seconds)

    def slice_events(self, most: int) -> int:
        """Return how many events the next slice is to have."""
        if not self._event_seconds:
            return min(SLICE_EVENTS, most)
        return min(max(int(SLICE_SECONDS / self._event_seconds), SLICE_EVENTS), most)


class Gathering:
    """What goes into one transaction of at most about `most` events."""

    def __init__(
        self,
        intake: Intake,
        pace: Pace,
        first: Taken,
        most: int,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._intake = intake
        self._pace = pace
        self._most = most
        self._clock = clock
        self._slice = pace.slice_events(most)
        self._last = first
        self._events = first.events
        self._is_hurried = first.is_hurried
        self._began = self._last_began = clock()
        self._is_complete = False

    def more(self) -> list[Submission | Call]:
        """Return what else goes into it; nothing when it is to be committed."""
        if self._is_complete:
            return []
        now = self._clock()
        is_slice = self._last.events >= self._slice
        if is_slice:
            self._pace.note(self._last.events, now - self._last_began)
        is_late = now - self._began >= SLICE_SECONDS
        is_hurried = self._is_hurried or self._intake.is_hurried
        if not is_slice or self._events >= self._most or (is_hurried and is_late):
            self._is_complete = True
            self._last = self._intake.take_hurried(self._slice)
        else:
            self._last = self._intake.take_now(self._slice)
            self._is_hurried |= self._last.is_hurried
        self._events += self._last.events
        self._last_began = now
        return self._last.items
