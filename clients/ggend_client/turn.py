"""Turn: a lock that tells a thread that has it already so, where an ordinary one would hang.

The garbage collector runs finalizers in the middle of anything, and so do signal handlers: what
they call may be what they interrupt.
"""

from __future__ import annotations

import threading
from types import TracebackType

__all__ = ["Reentered", "Turn"]


class Reentered(Exception):
    """This thread is in the middle of it."""


class Turn:
    """One thread at a time, once."""

    __slots__ = ("_is_taken", "_lock")

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._is_taken = False

    def __enter__(self) -> None:
        """Wait for the others. Raises Reentered."""
        self._lock.acquire()
        # Whoever comes in between, on the same thread, is out again before this goes on.
        if self._is_taken:
            self._lock.release()
            raise Reentered
        self._is_taken = True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_taken = False
        self._lock.release()
