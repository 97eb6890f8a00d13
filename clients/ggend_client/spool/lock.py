"""Lock: who holds a producer's spool, for which daemon it is meant, and since which boot.

It also says whether any daemon was ever sent something under the producer's id: what was not can
be sent at any time without being stored twice.

A process holds a POSIX record lock on `<id>.lock` while it lives. Such a lock ends with its
process, whatever children it has: flock(2) would be inherited by the child of a fork that Python
does not see. But the process also loses it with the first descriptor of that file that it closes
(fcntl(2)), and it never keeps a process from itself. So each of these files is opened once in a
process at most: `_here` says which are.
"""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import suppress
from pathlib import Path

from ggend_schema.places import default_sockets

__all__ = ["DEFAULT", "SpoolLock", "boot_id", "destination_of"]

#: What a lock says of events for the daemon that a client finds by itself.
DEFAULT = "default"

#: Bytes of a lock, at most: a path, and a boot id.
LOCK_BYTES = 4096

#: What stands in the third place.
_OFFERED, _NOT_OFFERED = b"1", b"0"

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class SpoolLock:
    """A lock that this process holds, and what it says."""

    __slots__ = ("_descriptor", "_key", "boot_id", "destination", "is_held", "is_offered", "path")

    def __init__(self, path: Path) -> None:
        """Hold nothing yet: see `take`, and `look`."""
        self.path = path
        self._key = (os.getpid(), *_identity(path))
        self._descriptor = -1
        #: Whether a process that lives holds it, be it this one.
        self.is_held = False
        #: The socket that the events are meant for, or DEFAULT; empty: it is not known.
        self.destination = ""
        #: The boot of the machine in which they were written; empty: it is not known.
        self.boot_id = ""
        #: Whether a daemon was, or may have been, sent some of the producer's events.
        self.is_offered = True

    def take(self, *, is_new: bool = False) -> bool:
        """Hold the lock, and make its file if there is none; False: somebody holds it.

        A new one is waited for: others can only look at it. Within this process False also while
        another thread looks. Raises OSError.
        """
        if self.is_held:
            return True
        try:
            if _here.setdefault(self._key, self) is not self:
                return False
            kind = fcntl.LOCK_EX if is_new else fcntl.LOCK_EX | fcntl.LOCK_NB
            if self._take(os.O_RDWR | os.O_CREAT, kind):
                self._read()
                self.is_held = True
            return self.is_held
        finally:
            if not self.is_held:  # whatever was raised, by a signal handler too
                self.release()

    def is_there(self) -> bool:
        """Whether it is held, and its file was neither removed nor replaced."""
        return self.is_held and self._is_at_path()

    @classmethod
    def look(cls, path: Path) -> SpoolLock:
        """Return what a lock says, and whether it is held; of one that is not ours, nothing."""
        lock = cls(path)
        found = _here.setdefault(lock._key, lock)
        if found is not lock:
            lock.is_held, lock.is_offered = True, found.is_offered
            lock.destination, lock.boot_id = found.destination, found.boot_id
            return lock
        is_free = True
        try:
            if _is_own_file(path):
                # Shared: others may look, too.
                is_free = lock._take(os.O_RDONLY, fcntl.LOCK_SH | fcntl.LOCK_NB)
                lock._read()
        except OSError:  # removed, or not to be read: then nobody can hold it
            pass
        finally:
            lock.release()
            lock.is_held = not is_free
        return lock

    def write(self, destination: str, boot: str, *, is_offered: bool) -> None:
        """Say for whom the events are, in which boot they are written, and whether any was sent.

        Raises OSError.
        """
        fields = os.fsencode(destination), boot.encode(), _OFFERED if is_offered else _NOT_OFFERED
        written = b"\0".join(fields)
        # In one write, and a later one is as long: nobody finds half of it.
        os.pwrite(self._descriptor, written, 0)
        os.ftruncate(self._descriptor, len(written))
        self.destination, self.boot_id, self.is_offered = destination, boot, is_offered

    def release(self, *, remove: bool = False) -> None:
        """Let go of it; `remove`: nothing is left that it is for."""
        if remove:
            with suppress(OSError):
                self.path.unlink()
        self.is_held = False
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            with suppress(OSError):
                os.close(descriptor)
        # Not before: whoever finds it here opens no other descriptor.
        if _here.get(self._key) is self:
            del _here[self._key]

    def _take(self, flags: int, kind: int) -> bool:
        """Open and lock the file that is at the path."""
        while True:
            self._descriptor = os.open(self.path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.lockf(self._descriptor, kind)
            except (BlockingIOError, PermissionError):  # POSIX allows EAGAIN and EACCES
                return False
            if self._is_at_path():
                return True
            # The one who held it removed it meanwhile: that lock is worth nothing.
            os.close(self._descriptor)
            self._descriptor = -1

    def _is_at_path(self) -> bool:
        try:
            there = self.path.lstat()
        except FileNotFoundError:
            return False
        here = os.fstat(self._descriptor)
        return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)

    def _read(self) -> None:
        written = os.pread(self._descriptor, LOCK_BYTES, 0)
        named, *rest = written.split(b"\0")
        destination = os.fsdecode(named)
        # An earlier version named the path of each daemon, and nothing else.
        is_path = destination.startswith("/")
        self.destination = destination_of(Path(destination)) if is_path else destination
        self.boot_id = rest[0].decode(errors="replace") if rest else ""
        self.is_offered = rest[1:] != [_NOT_OFFERED]


def destination_of(socket: Path) -> str:
    """Return how a lock names where its events are meant for.

    That is `default` for the sockets of the user's and the host's daemon, which not every program
    of a user calls by the same path, and else the absolute path.
    """
    return DEFAULT if socket in default_sockets(os.environ) else _absolute(socket)


def boot_id() -> str:
    """Return the random id of this boot of the machine, or what no lock says."""
    try:
        return _BOOT_ID.read_bytes().decode().strip()
    except OSError:
        return "unknown"


def _absolute(path: Path) -> str:
    try:
        return os.fspath(path.absolute())
    except OSError:  # the current directory is gone
        return os.fspath(path)


def _identity(path: Path) -> tuple[str, str]:
    """Return what is the same for every way to spell a path: a directory has several."""
    try:
        directory = path.parent.stat()
    except OSError:
        return _absolute(path.parent), path.name
    return f"{directory.st_dev}:{directory.st_ino}", path.name


def _is_own_file(path: Path) -> bool:
    found = path.lstat()
    return stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid()


#: By pid, since a forked child holds nothing of it: the locks that this process has open.
_here: dict[tuple[int, str, str], SpoolLock] = {}
