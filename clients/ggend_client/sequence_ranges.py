"""Sequence ranges: a set of sequences that rise, kept as runs without a gap. No I/O."""

from __future__ import annotations

from collections import deque

__all__ = ["SequenceRanges"]


class SequenceRanges:
    """Grows at its upper end, shrinks at its lower."""

    __slots__ = ("_highest", "_runs")

    def __init__(self) -> None:
        self._runs: deque[tuple[int, int]] = deque()
        self._highest = 0

    @property
    def first(self) -> int | None:
        """The lowest."""
        return self._runs[0][0] if self._runs else None

    def add(self, first: int, last: int) -> None:
        """Add the numbers from `first` to `last`, without those below one that was added before."""
        first = max(first, self._highest + 1)
        if first > last:
            return
        self._highest = last
        if self._runs and self._runs[-1][1] == first - 1:
            self._runs[-1] = (self._runs[-1][0], last)
        else:
            self._runs.append((first, last))

    def remove_to(self, last: int) -> int:
        """Remove the numbers up to `last`; return how many there were."""
        before = self.count()
        while self._runs and self._runs[0][1] <= last:
            self._runs.popleft()
        if self._runs and self._runs[0][0] <= last:
            self._runs[0] = (last + 1, self._runs[0][1])
        return before - self.count()

    def count(self, above: int = 0) -> int:
        """Return how many there are above this one. Safe while another thread changes them."""
        return sum(max(0, last - max(first - 1, above)) for first, last in tuple(self._runs))
