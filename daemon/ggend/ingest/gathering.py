"""Gathering: how much goes into one transaction, decided while it is open.

A batch is taken from the intake in slices. While nobody is in a hurry, slices follow until the
batch is large: that is what costs least an event. As soon as something waits that goes first, it is
taken in, and the transaction is committed: so a quiet producer beside a flood waits for what is
left of one slice, and for one commit. Used on the writer's thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from ggend.ingest.intake import Call, Intake, Submission, Taken

__all__ = ["Gathering", "Pace"]

#: Seconds that a slice is to take. Each is settled for itself: with 15 ms one flooding producer
#: was 5 % slower than without slices, with this it was not.
SLICE_SECONDS = 0.025

#: The same while somebody in a hurry was seen lately, and for how long that is remembered. So long
#: a transaction has lasted at least when it is ended early: many short ones cost more.
HURRIED_SLICE_SECONDS = 0.01
HURRIED_SECONDS = 1.0

#: Events of a slice at least: smaller ones cost more each.
SLICE_EVENTS = 256

#: How much of the cost of an event is what the last slice said.
_WEIGHT = 0.2


class Pace:
    """What an event has cost lately, and whether somebody was in a hurry."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
        self._event_seconds = 0.0
        self._hurried_until = clock()

    def note(self, events: int, seconds: float) -> None:
        """A slice of so many events took so long."""
        last = seconds / events
        before = self._event_seconds or last
        self._event_seconds = before + _WEIGHT * (last - before)

    def note_hurry(self) -> None:
        """Somebody is in a hurry."""
        self._hurried_until = self.clock() + HURRIED_SECONDS

    @property
    def slice_seconds(self) -> float:
        """How long the next slice is to take."""
        return HURRIED_SLICE_SECONDS if self.clock() < self._hurried_until else SLICE_SECONDS

    def slice_events(self, most: int) -> int:
        """Return how many events the next slice is to have."""
        if not self._event_seconds:
            return min(SLICE_EVENTS, most)
        return min(max(int(self.slice_seconds / self._event_seconds), SLICE_EVENTS), most)


class Gathering:
    """What goes into one transaction of at most about `most` events."""

    def __init__(self, intake: Intake, pace: Pace, first: Taken, most: int) -> None:
        self._intake = intake
        self._pace = pace
        self._most = most
        self._slice = pace.slice_events(most)
        self._last = first
        self._events = first.events
        self._is_hurried = first.is_hurried
        self._began = self._last_began = pace.clock()
        self._is_complete = False

    def more(self) -> list[Submission | Call]:
        """Return what else goes into it; nothing when it is to be committed."""
        if self._is_complete:
            return []
        pace = self._pace
        now = pace.clock()
        is_slice = self._last.events >= self._slice
        if is_slice:
            pace.note(self._last.events, now - self._last_began)
        self._is_hurried |= self._intake.is_hurried
        if self._is_hurried:
            pace.note_hurry()
        is_late = now - self._began >= HURRIED_SLICE_SECONDS
        if not is_slice or self._events >= self._most or (self._is_hurried and is_late):
            self._is_complete = True
            self._last = self._intake.take_hurried(self._slice)
        else:
            self._slice = pace.slice_events(self._most)
            self._last = self._intake.take_now(self._slice)
            self._is_hurried |= self._last.is_hurried
        self._events += self._last.events
        self._last_began = now
        return self._last.items
