"""WAL readers: detects that a reader keeps the WAL from shrinking, and names its process.

A checkpoint moves frames only up to the place that the oldest reader looks at. Who reads is told by
/proc/locks alone. Never opens the `-shm`: closing it would drop the locks of our own connection.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from msgspec import Struct

from ggend.database.files import companion, wal_size

__all__ = ["Checkpoint", "Reader", "WalMonitor", "readers"]

log = logging.getLogger("ggend.wal")

#: Bytes of the `-shm` that a reader holds a shared lock on, one of these while its transaction is
#: open: WAL_READ_LOCK(0) to (4) of https://www.sqlite.org/walformat.html. Slot 0 is for a reader
#: that found everything moved and reads the file alone: it holds up every checkpoint all the same,
#: since no page of the file may change under it.
_FIRST_SLOT, _LAST_SLOT = 123, 127

#: The byte that every open connection holds, whatever it does.
_DEAD_MAN_SWITCH = 128

#: Bytes of the header of a frame, before its page.
_FRAME_HEADER_BYTES = 24

_LOCKS = Path("/proc/locks")


class Checkpoint(Struct, frozen=True, gc=False):
    """How far a checkpoint came: frames in the WAL, those that are in the file, bytes of a page."""

    frames: int
    moved: int
    page_bytes: int

    @property
    def is_complete(self) -> bool:
        """Whether nothing of the WAL is needed any more but by those who still read in it."""
        return self.moved >= self.frames

    @property
    def wal_bytes(self) -> int:
        """Bytes of the WAL that are in use. The file may be larger from another time."""
        return self.frames * (self.page_bytes + _FRAME_HEADER_BYTES)


class Reader(Struct, frozen=True):
    """A process that has a read transaction open."""

    #: None: in another pid namespace, where /proc/locks does not show it.
    pid: int | None
    #: What it calls itself, made printable.
    command: str
    #: Since it was first noticed.
    seconds: float = 0.0

    def __str__(self) -> str:
        return self.command if self.pid is None else f"{self.pid} ({self.command})"


class WalMonitor:
    """Is on from a checkpoint that had to leave frames in a large WAL, to the next complete one."""

    def __init__(
        self, database: Path, limit_bytes: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._database = database
        self._limit_bytes = limit_bytes
        self._clock = clock
        self._seen: dict[int | None, float] = {}
        #: Bytes of the WAL at which the alarm is repeated; None while it is off.
        self._repeat_bytes: int | None = None

    @property
    def is_on(self) -> bool:
        """Whether the WAL is larger than it should be, and cannot be emptied."""
        return self._repeat_bytes is not None

    def is_too_large(self) -> bool:
        """Whether the file of the WAL has reached the size at which something must be done."""
        return wal_size(self._database) >= self._limit_bytes

    def look(self, last: Checkpoint) -> None:
        """Take in how far the last checkpoint came; log when that makes a difference."""
        if last.is_complete:
            self._seen.clear()
            if self.is_on:
                self._repeat_bytes = None
                log.info("the WAL is no longer blocked by readers")
        elif last.wal_bytes >= (self._repeat_bytes or self._limit_bytes):
            self._repeat_bytes = 2 * last.wal_bytes
            found = self._look_around()
            log.warning(
                "the WAL grows because of a long-running reader",
                extra={
                    "mib": last.wal_bytes >> 20,
                    "readers": ", ".join(map(str, found)) or "none that /proc/locks shows",
                },
            )

    def readers(self) -> list[Reader]:
        """Return who reads at the moment, the longest first; nobody while the alarm is off."""
        return self._look_around() if self.is_on else []

    def _look_around(self) -> list[Reader]:
        now = self._clock()
        found = readers(companion(self._database, "-shm"))
        self._seen = {reader.pid: self._seen.get(reader.pid, now) for reader in found}
        since = sorted(found, key=lambda reader: self._seen[reader.pid])
        return [
            Reader(reader.pid, reader.command, round(now - self._seen[reader.pid], 3))
            for reader in since
        ]


def readers(shm: Path, locks: Path = _LOCKS) -> list[Reader]:
    """Return the other processes that hold a read lock of SQLite on this `-shm`, each once."""
    try:
        status = shm.stat()
        table = locks.read_text(errors="replace")
    except OSError:  # no database is open, or this is no Linux
        return []
    ours = os.getpid()
    held = [lock for lock in _held(table) if lock.inode == status.st_ino]
    # Some file systems (btrfs, overlay) show another device in /proc/locks than stat does. Our own
    # connection's lock tells which one it is.
    device = next(
        (lock.device for lock in held if lock.pid == ours and lock.covers(_DEAD_MAN_SWITCH)),
        (os.major(status.st_dev), os.minor(status.st_dev)),
    )
    pids = {
        lock.pid
        for lock in held
        if lock.device == device and lock.covers(_FIRST_SLOT, _LAST_SLOT) and lock.pid != ours
    }
    return [_reader(pid) for pid in sorted({max(pid, 0) for pid in pids})]


class _Lock(Struct, frozen=True):
    """A shared POSIX lock that is held."""

    pid: int
    device: tuple[int, int]
    inode: int
    first: int
    last: int | None

    def covers(self, first: int, last: int | None = None) -> bool:
        """Whether it lies on one of these bytes. The kernel shows neighbouring ranges as one."""
        return self.first <= (first if last is None else last) and (
            self.last is None or self.last >= first
        )


def _held(table: str) -> Iterator[_Lock]:
    """Read lines like `3: POSIX  ADVISORY  READ 5433 fe:00:786444 123 123`.

    `3: -> POSIX` is one that still waits.
    """
    for line in table.splitlines():
        match line.split():
            case [_, "POSIX", _, "READ", pid, file, first, last]:
                major, minor, inode = file.split(":")
                yield _Lock(
                    pid=int(pid),
                    device=(int(major, 16), int(minor, 16)),
                    inode=int(inode),
                    first=int(first),
                    last=None if last == "EOF" else int(last),
                )


def _reader(pid: int) -> Reader:
    if pid == 0:
        return Reader(None, "another pid namespace")
    try:
        name = Path(f"/proc/{pid}/comm").read_bytes().decode(errors="backslashreplace")
    except OSError:  # it has just ended, or /proc hides it
        return Reader(pid, "unknown")
    # Any process may give itself any name, with line ends and terminal sequences.
    shown = name.removesuffix("\n")
    return Reader(pid, "".join(c if c.isprintable() else ascii(c)[1:-1] for c in shown))
