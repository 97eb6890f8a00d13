"""Lifetimes: what happens to the clients of a process when it forks, and when it ends.

A forked child has a copy of each client and none of the threads, and its locks as they happened
to be. The hook that runs there takes no lock: each client closes what it inherited and begins
anew. Children of `multiprocessing` end without running atexit, but run finalizers.
"""

from __future__ import annotations

import atexit
import os
import sys
import weakref
from collections.abc import Callable
from typing import Protocol

__all__ = ["at_end", "forget_end", "watch", "watched"]

#: Below 0: after the finalizers of the host program that say when they want to run.
_FINALIZER_PRIORITY = -100


class Forked(Protocol):
    """What has to know that it is in a forked child."""

    def begin_anew(self) -> None:
        """Close what was inherited, and start from nothing. Takes no lock, never raises."""


_watched: weakref.WeakSet[Forked] = weakref.WeakSet()


def watch(client: Forked) -> None:
    """Tell this one when it finds itself in a forked child."""
    _watched.add(client)


def watched() -> list[Forked]:
    """Return those that are told."""
    return list(_watched)


def at_end(callback: Callable[[], object]) -> None:
    """Call this when the process ends in order."""
    atexit.register(callback)
    # Looked up, not imported: a program that has not loaded it is no child of it.
    process = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() is not None:
        from multiprocessing import util

        util.Finalize(None, callback, exitpriority=_FINALIZER_PRIORITY)


def forget_end(callback: Callable[[], object]) -> None:
    """Take back `at_end`."""
    atexit.unregister(callback)


def _in_child() -> None:
    for client in watched():
        client.begin_anew()


os.register_at_fork(after_in_child=_in_child)
