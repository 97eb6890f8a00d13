"""Locks: whether a daemon holds the lock of a database. A lock is looked at, never kept."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from ggend.database.lock import lock_path

__all__ = ["is_unknown", "lock_holder"]


def lock_holder(path: Path) -> int | None:
    """Return the pid of the daemon that has a database or socket open.

    0: one has it, and did not say which it is. None: none has, or this user may not look.
    """
    try:
        # Not a FIFO's writer, for which open(2) would wait.
        descriptor = os.open(lock_path(path), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError):
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.read(descriptor, 32).strip()
        return int(pid) if pid.isdigit() else 0
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return None


def is_unknown(path: Path) -> bool:
    """Whether there is a lock that this user may not look at."""
    lock = lock_path(path)
    return os.path.lexists(lock) and not os.access(lock, os.R_OK, effective_ids=True)
