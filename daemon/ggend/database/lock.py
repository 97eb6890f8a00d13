"""Lock: allows one daemon per database and per socket, by flock on a file next to it.

The file holds the pid of its holder, for people. It is never deleted: a lock on a deleted file
would exclude nobody.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from ggend.errors import AlreadyRunning, DatabaseUnusable, SocketUnusable

__all__ = ["hold_lock", "lock_path"]

#: Seconds to keep trying while only readers are in the way: they hold a shared lock for an
#: instant, to see whether it is free. A daemon's lock is not waited for.
_PATIENCE_SECONDS = 0.5


def lock_path(path: Path) -> Path:
    """Return the lock file of a database or socket, by whichever name that is reached."""
    path = Path(os.path.realpath(path))
    return path.with_name(path.name + ".lock")


@contextlib.contextmanager
def hold_lock(path: Path, *, what: str) -> Iterator[int]:
    """Hold the lock of `path`, making its directory if need be. Yields its descriptor.

    Raises AlreadyRunning, naming the pid that holds it; SocketUnusable or DatabaseUnusable.
    """
    lock = lock_path(path)
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        unusable = DatabaseUnusable if what == "database" else SocketUnusable
        raise unusable(
            f"cannot open the lock file {lock}: {error.strerror}",
            hint="check that the directory exists and is writable",
        ) from error
    try:
        _acquire(descriptor, path, what)
        with contextlib.suppress(OSError):  # for people: a full disk need not keep the daemon out
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, path: Path, what: str) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if _is_shared(descriptor) and time.monotonic() < deadline:
                time.sleep(0.02)
                continue
            pid = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            raise AlreadyRunning(
                f"another ggend (pid {pid}) is using the {what} {path}",
                hint=f"stop it (kill {pid}), or choose another {what}",
            ) from None
        else:
            return


def _is_shared(descriptor: int) -> bool:
    """Whether those who hold the lock are readers. It is not held afterwards."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return True
