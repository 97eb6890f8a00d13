"""Shared limits: what all connections share; each holds a part until its peer has done something.

Such as the memory of half frames, or of answers on their way. Waiting is first come,
first served, and whoever waits looks after those who hold something: a peer that makes no progress
meanwhile is cut off. So a peer that does nothing costs the others seconds, not its whole timeout.

Who is first in line is let in even if there is no room, one at a time: peers that hold a part each
and all wait for more do not wait for each other for ever.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import anyio

__all__ = ["STALL_SECONDS", "Hold", "SharedLimit"]

#: Seconds without progress after which a peer is cut off, while others wait.
STALL_SECONDS = 3.0

#: Seconds between two looks.
_LOOK_SECONDS = 0.5


class Hold:
    """What one connection holds. Made by `SharedLimit.hold`."""

    __slots__ = ("_cut_off", "_idle_seconds", "_shared", "amount", "is_waiting")

    def __init__(
        self, shared: SharedLimit, idle_seconds: Callable[[], float], cut_off: Callable[[], None]
    ) -> None:
        self._shared = shared
        self._idle_seconds = idle_seconds
        self._cut_off = cut_off
        self.amount = 0
        self.is_waiting = False

    async def grow(self, amount: int) -> None:
        """Hold at least so much; wait until it is there."""
        if amount > self.amount:
            await self._shared.take(self, amount - self.amount)

    def shrink(self, amount: int) -> None:
        """Hold no more than so much."""
        if amount < self.amount:
            self._shared.give(self, self.amount - amount)

    def release(self) -> None:
        """Give everything back."""
        self._shared.give(self, self.amount)

    def cut_off_if_stalled(self) -> None:
        """End it if the others wait for the peer alone."""
        if not self.is_waiting and self._idle_seconds() >= STALL_SECONDS:
            self._cut_off()


class SharedLimit:
    """So much in all; `held` says how much is taken."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        self._holders: set[Hold] = set()
        self._waiting: deque[tuple[Hold, int, anyio.Event]] = deque()
        #: Who was first in line when there was no room, and was let in.
        self._favoured: Hold | None = None
        self._looked = 0.0

    def hold(self, idle_seconds: Callable[[], float], cut_off: Callable[[], None]) -> Hold:
        """Return what a connection holds: nothing yet.

        `idle_seconds` says how long its peer has made no progress that could be waited for,
        `cut_off` ends it and has it released.
        """
        return Hold(self, idle_seconds, cut_off)

    async def take(self, hold: Hold, amount: int) -> None:
        """Take so much for it; wait until it is there."""
        granted = anyio.Event()
        turn = hold, amount, granted
        if hold is self._favoured:
            self._waiting.appendleft(turn)
        else:
            self._waiting.append(turn)
        hold.is_waiting = True
        try:
            self._grant()
            while not granted.is_set():
                with anyio.move_on_after(_LOOK_SECONDS):
                    await granted.wait()
                if not granted.is_set():
                    self._look()
        except BaseException:
            if granted.is_set():
                self.give(hold, amount)
            else:
                self._waiting.remove(turn)
                self._grant()
            raise
        finally:
            hold.is_waiting = False

    def give(self, hold: Hold, amount: int) -> None:
        """Take back so much of what it holds."""
        amount = min(amount, hold.amount)  # it may have released everything meanwhile
        self.held -= amount
        hold.amount -= amount
        if not hold.amount:
            self._holders.discard(hold)
            if self._favoured is hold:
                self._favoured = None
        self._grant()

    def _grant(self) -> None:
        while self._waiting:
            hold, amount, granted = self._waiting[0]
            if self.held + amount > self.limit:
                if self._favoured is None:
                    self._favoured = hold
                if self._favoured is not hold:
                    return
            self._waiting.popleft()
            self.held += amount
            hold.amount += amount
            self._holders.add(hold)
            granted.set()

    def _look(self) -> None:
        """Cut off who makes no progress. Of all that wait, one looks at a time."""
        now = anyio.current_time()
        if now - self._looked >= _LOOK_SECONDS:
            self._looked = now
            for hold in list(self._holders):
                hold.cut_off_if_stalled()
