"""Backoff: how long to wait before the next try, twice as long each time. It never waits itself."""

from __future__ import annotations

__all__ = ["Backoff"]


class Backoff:
    """Delays in seconds that double from the first up to the longest, until `reset`."""

    def __init__(self, first_seconds: float, longest_seconds: float) -> None:
        self._first = self._next = first_seconds
        self._longest = longest_seconds

    def next_delay(self) -> float:
        """Return how long to wait after this failure."""
        delay = self._next
        self._next = min(2 * delay, self._longest)
        return delay

    def reset(self) -> None:
        """Begin with the first delay again: a try succeeded."""
        self._next = self._first
