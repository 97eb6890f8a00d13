"""Descriptors: how many the process may have open, and how many of them connections may take.

The daemon keeps some for itself: without a descriptor it could neither open its WAL nor read its
objectives again.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import resource
from pathlib import Path

from ggend.errors import NoDescriptors

__all__ = ["connection_room", "name_exhaustion", "raise_limit"]

log = logging.getLogger("ggend.descriptors")

#: Descriptors that connections leave free, beyond those that are open before the first one. The
#: database, its records and what is read again now and then take 10 at a time; the rest is margin.
RESERVED = 64

_EXHAUSTED = {errno.EMFILE, errno.ENFILE}


def raise_limit() -> None:
    """Raise the soft limit to the hard one. It is for programs that call select(2); none does."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # then the lower one holds
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def connection_room(configured: int) -> int:
    """Return how many connections there may be at a time: as configured, or as the limit allows.

    Call this when everything else is open.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return configured
    is_open = sum(1 for _ in Path("/proc/self/fd").iterdir())
    room = max(1, min(configured, limit - is_open - RESERVED))
    if room < configured:
        log.warning(
            "fewer connections than configured, because the descriptor limit is too low",
            extra={"max_connections": room, "configured": configured, "descriptors": limit},
        )
    return room


def name_exhaustion(error: BaseException) -> NoDescriptors | None:
    """Return the named error if file descriptors ran out; None for any other error."""
    if not isinstance(error, OSError) or error.errno not in _EXHAUSTED:
        return None
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return NoDescriptors(
        f"{error.strerror}: the limit of this process is {limit} descriptors",
        hint="raise it with LimitNOFILE= in the unit, or with `ulimit -n NUMBER` in the shell that "
        "starts ggend",
    )
