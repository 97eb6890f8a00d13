"""Mistakes: tells the program that an event was dropped, is lost, or will not be stored.

The first of each kind is a warning on the logger `ggend`; the others are counted. For what is the
program's own mistake a strict client raises InvalidCall at the call instead.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from ggend_client.errors import InvalidCall
from ggend_schema import Event

__all__ = ["LOGGER", "Mistakes", "silence"]

#: The logger of every client.
LOGGER = "ggend"

#: Causes of a drop that are the caller's mistake; the others are the state of things.
_MISTAKES = frozenset({"invalid", "too_large"})

#: Causes that a program brought about itself, be it by ending.
_CHOSEN = frozenset({"closed", "disabled"})

#: Kinds that are remembered at most, so that a reason that is always another does not fill memory.
MOST_KINDS = 100

#: Whether this process is a command of `ggend`, which tells its user itself.
_is_silent = False


def silence() -> None:
    """Log nothing in this process."""
    global _is_silent
    _is_silent = True


class Mistakes:
    """The host's `on_drop`, the warning for each kind, and the error where the client is strict."""

    __slots__ = ("_busy", "_is_debugged", "_is_strict", "_on_drop", "_told", "last_error")

    def __init__(
        self,
        on_drop: Callable[[str, Event | None], object] | None,
        *,
        is_debugged: bool = False,
        is_strict: bool = False,
    ) -> None:
        """`is_debugged`: log each, not the first of a kind only."""
        self._on_drop = on_drop
        self._is_debugged = is_debugged
        self._is_strict = is_strict
        #: Threads that are in here already: what they are told may make them emit.
        self._busy: set[int] = set()
        self._told: set[tuple[str, str]] = set()
        #: What `on_drop` raised last, for people.
        self.last_error: str | None = None

    def dropped(self, cause: str, reason: str | None, event: Event | None) -> None:
        """Say that emit() did not take an event. Raises InvalidCall if the client is strict."""
        if self._is_strict and cause in _MISTAKES:
            raise InvalidCall(reason or cause)
        if self._is_debugged or cause not in _CHOSEN:
            kind = (cause, (reason or "") if cause == "invalid" else "")
            self._tell(kind, "an event was dropped (%s): %s", cause, reason)
        thread = threading.get_ident()
        if self._on_drop is None or thread in self._busy:
            return
        self._busy.add(thread)
        try:
            self._on_drop(cause, event)
        except Exception as error:  # the host's own
            self.last_error = f"on_drop raised {type(error).__name__}"
        finally:
            self._busy.discard(thread)

    def rejected(self, kind: str, reason: str) -> None:
        """Say that the daemon put an event in quarantine."""
        self._tell(
            ("rejected", kind),
            "the daemon did not store an event: %s; `ggend rejected list` shows it",
            reason,
        )

    def foreseen(self, kind: str, reason: str) -> None:
        """Say that no daemon is there, and that an event will not be stored when one is."""
        self._tell(("rejected", kind), "an event will not be stored: %s", reason)

    def in_memory(self, reason: str) -> None:
        """Say that what is taken does not outlive the process, and why."""
        self._tell(("in memory", ""), "%s; unsent events are lost if the program is killed", reason)

    def unknown(self, reason: str) -> None:
        """Say that the daemon's database knows nothing of what it acknowledged before."""
        self._tell(
            ("unknown", ""),
            "acknowledged events are no longer in the daemon's database: %s",
            reason,
        )

    def left(self, events: int, reason: str | None) -> None:
        """Say that a client ended with events that are nowhere else."""
        self._tell(("left", ""), "%d events were lost when the client ended: %s", events, reason)

    def _tell(self, kind: tuple[str, str], message: str, *values: object) -> None:
        if _is_silent:
            return
        if not self._is_debugged:
            if kind in self._told or len(self._told) >= MOST_KINDS:
                return
            self._told.add(kind)
            message += " (logged once for each kind; GGEND_DEBUG=1 logs each)"
        thread = threading.get_ident()
        if thread in self._busy:
            return
        self._busy.add(thread)
        try:
            import logging  # late: most programs make no mistake

            logging.getLogger(LOGGER).warning(message, *values)
        except Exception as error:  # a handler of the host's, or the interpreter ends
            self.last_error = f"logging raised {type(error).__name__}"
        finally:
            self._busy.discard(thread)
