"""Shutdown: whether the daemon is to end, and by when; asked a second time, at once.

Everything that may take its time while it ends has a scope whose deadline is kept here. Cut short,
it loses nothing that was acknowledged.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

import anyio

__all__ = ["Shutdown"]


class Shutdown:
    """Asked by a signal; waited for by the stages."""

    def __init__(self, drain_seconds: float) -> None:
        self._drain_seconds = drain_seconds
        self._deadline = math.inf
        self._scopes: set[anyio.CancelScope] = set()
        self.asked = anyio.Event()

    def ask(self) -> None:
        """Stop in order within the drain timeout; when that was asked already, now."""
        now = anyio.current_time()
        self._deadline = now if self.asked.is_set() else now + self._drain_seconds
        self.asked.set()
        for scope in self._scopes:
            scope.deadline = self._deadline

    @contextlib.contextmanager
    def limit(self, scope: anyio.CancelScope) -> Iterator[None]:
        """While inside, cancel `scope` when there is no more time."""
        scope.deadline = self._deadline
        self._scopes.add(scope)
        try:
            yield
        finally:
            self._scopes.discard(scope)
