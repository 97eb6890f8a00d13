"""Drop counts: how many events emit() did not take, by cause, and why the last one."""

from __future__ import annotations

__all__ = ["DropCounts"]

#: Fields of `Dropped`, but for what is lost later.
_CAUSES = ("full", "closed", "disabled", "invalid", "too_large", "spool")


class DropCounts:
    """Counts on any thread: between reading and writing a counter there is no call."""

    __slots__ = ("by_cause", "last_reason")

    def __init__(self) -> None:
        self.by_cause = dict.fromkeys(_CAUSES, 0)
        #: For people.
        self.last_reason: str | None = None

    @property
    def total(self) -> int:
        """All causes together."""
        return sum(self.by_cause.values())

    def count(self, cause: str, reason: str) -> str:
        """Count one; return the cause."""
        self.by_cause[cause] += 1
        self.last_reason = reason
        return cause
