"""Fork hooks: what happens to the clients of a process when it forks, and when it ends.

A forked child has a copy of each client and none of the threads, and its locks as they happened
to be. The hook that runs there takes no lock: each client closes what it inherited and begins
anew. A fork that Python does not see, by a server that embeds it or a C extension, runs no hook:
its child finds `fork_page` empty at the next use of a client, and does the same then. Children of
`multiprocessing` end without running atexit, but run finalizers.

What is called at the end is registered with atexit once, when this module is imported: so it comes
after the handlers of a program that imported it first, and what these emit is still delivered.
"""

from __future__ import annotations

import atexit
import mmap
import os
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Protocol

__all__ = [
    "at_end",
    "forget_end",
    "fork_page",
    "has_ended",
    "notice_fork",
    "watch",
    "watched",
]

#: Below 0: after the finalizers of the host program that say when they want to run.
_FINALIZER_PRIORITY = -100


#: MADV_WIPEONFORK (Linux 4.14), for which the module mmap has no name. The page must be private
#: and anonymous.
_WIPE_ON_FORK = 18


class _Flag(Protocol):
    """Something of one item, which is 0 in a forked child."""

    def __getitem__(self, index: int, /) -> int: ...

    def __setitem__(self, index: int, value: int, /) -> None: ...


class _Pid:
    """The same where no page can be wiped: it asks for the pid, which takes longer."""

    def __init__(self) -> None:
        self._pid = os.getpid()

    def __getitem__(self, _: int) -> int:
        return os.getpid() == self._pid

    def __setitem__(self, _: int, value: int) -> None:
        self._pid = os.getpid()


def _make_flag() -> _Flag:
    try:
        page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        page.madvise(_WIPE_ON_FORK)
    except (AttributeError, OSError, ValueError):
        return _Pid()
    page[0] = 1
    return page


#: Its first item is 0 in a forked child that does not know yet that it is one. Looking at it takes
#: some 25 ns.
fork_page = _make_flag()


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
    """Call this when the process ends in order, unless it `has_ended`."""
    _callbacks[callback] = None
    # Looked up, not imported: a program that has not loaded it is no child of it.
    process = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() is not None:
        from multiprocessing import util

        util.Finalize(None, callback, exitpriority=_FINALIZER_PRIORITY)


def forget_end(callback: Callable[[], object]) -> None:
    """Take back `at_end`."""
    _callbacks.pop(callback, None)


def has_ended() -> bool:
    """Whether the end was here already, so that nothing would call what is given to `at_end`."""
    return _is_over


def _end() -> None:
    global _is_over
    if not fork_page[0]:
        notice_fork()
    while _callbacks:
        callback, _ = _callbacks.popitem()
        callback()
    _is_over = True


#: What is called at the end, the last one first.
_callbacks: dict[Callable[[], object], None] = {}

#: Whether atexit calls nothing any more. An exit handler that imports this module registers too
#: late; it runs on the main thread, which has ended by then (other threads may go on before that).
_is_over = (
    threading.current_thread() is threading.main_thread() and not threading.main_thread().is_alive()
)

atexit.register(_end)


def notice_fork() -> None:
    """In a forked child: let each client begin anew."""
    fork_page[0] = 1
    _callbacks.clear()
    for client in watched():
        client.begin_anew()


os.register_at_fork(after_in_child=notice_fork)
