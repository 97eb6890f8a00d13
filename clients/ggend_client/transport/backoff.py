"""Backoff: how long to wait before the next attempt. It never waits itself.

Exponential with full jitter, so that a thousand clients of a restarted daemon do not come back
in the same millisecond.
"""

from __future__ import annotations

import os
from collections.abc import Callable

__all__ = ["Backoff"]

#: Upper end of the first delay. A restarting daemon is back within a few of these.
FIRST_SECONDS = 0.05

#: Upper end of any delay: how late a client notices, at worst, that the daemon is back.
LONGEST_SECONDS = 5.0


class Backoff:
    """Delays that double in their upper end until `reset`."""

    __slots__ = ("_ceiling", "_first", "_longest", "_random")

    def __init__(
        self,
        random: Callable[[], float] | None = None,
        *,
        first_seconds: float = FIRST_SECONDS,
        longest_seconds: float = LONGEST_SECONDS,
    ) -> None:
        """`random` returns floats in [0, 1), as random.random does.

        Without one it draws from the system: the numbers of the host program's own generator,
        which it may have seeded, are not touched.
        """
        self._random = _draw if random is None else random
        self._first = min(first_seconds, longest_seconds)
        self._longest = longest_seconds
        self._ceiling = self._first

    def next_delay(self) -> float:
        """Return the seconds to wait after this failure."""
        delay = self._random() * self._ceiling
        self._ceiling = min(self._ceiling * 2, self._longest)
        return delay

    def reset(self) -> None:
        """Begin anew: the peer made progress."""
        self._ceiling = self._first


def _draw() -> float:
    return int.from_bytes(os.urandom(6)) / 2**48
