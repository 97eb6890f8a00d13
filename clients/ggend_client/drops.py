"""Drops: tells who wants to know, on the thread that emits, that an event was dropped."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ggend_schema import Event

__all__ = ["Drops"]


class Drops:
    """The host's `on_drop`, and the warning once a cause."""

    __slots__ = ("_busy", "_is_debugged", "_on_drop", "_warned", "last_error")

    def __init__(
        self, on_drop: Callable[[str, Event | None], object] | None, *, is_debugged: bool
    ) -> None:
        self._on_drop = on_drop
        self._is_debugged = is_debugged
        #: Threads that are in here already: what they are told may make them emit.
        self._busy: set[int] = set()
        self._warned: set[str] = set()
        #: What `on_drop` raised last, for people.
        self.last_error: str | None = None

    def tell(self, cause: str, reason: str | None, event: Event | None) -> None:
        """Call the host. Never raises."""
        thread = threading.get_ident()
        if (self._on_drop is None and not self._is_debugged) or thread in self._busy:
            return
        self._busy.add(thread)
        try:
            if self._is_debugged and cause not in self._warned:
                self._warned.add(cause)
                _warn(cause, reason)
            if self._on_drop is not None:
                self._on_drop(cause, event)
        except Exception as error:  # the host's own
            self.last_error = f"on_drop raised {type(error).__name__}"
        finally:
            self._busy.discard(thread)


def _warn(cause: str, reason: str | None) -> None:
    import logging

    logging.getLogger("ggend_client").warning(
        "an event was dropped (%s): %s; told once a cause", cause, reason
    )
