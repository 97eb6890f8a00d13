"""WAL keeper: keeps the record of an open database right, and notices when its files are changed.

Whoever writes to a database holds its lock and has one of these, and moves the WAL into the file
through it alone: SQLite's own checkpoints are off (`wal_autocheckpoint = 0`).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import sqlite3
import struct
from collections.abc import Collection, Iterator
from pathlib import Path

from msgspec import structs

from ggend.database.corruption import mark_suspect
from ggend.database.files import companion
from ggend.database.sqlite_errors import TryAgain
from ggend.database.wal_file import COOKIE_AT, read_salts, read_wal
from ggend.database.wal_readers import Checkpoint
from ggend.database.wal_record import (
    RecordFile,
    WalRecord,
    check_wal,
    describe,
    is_doubtful,
    read_record,
)
from ggend.errors import DatabaseReplaced, DatabaseUnusable, DiskFailed

__all__ = ["WalKeeper", "keep_wal"]

#: Errors of the system that say nothing about the disk, and may be over soon.
_PASSING = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM})

#: The bytes of the file that SQLite locks while it has it open (`SHARED_FIRST` in its os.h), as
#: fcntl(2) wants it: type, whence, start, length, pid.
_SHARED = struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, 0x40000002, 510, 0)


class WalKeeper:
    """Of one database. All its methods are for the thread of the connection that writes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # Before each commit they are looked at: links are followed once.
        self._wal_path, self._shm_path = companion(path, "-wal"), companion(path, "-shm")
        before = read_record(path)
        self._database_id = "" if before is None else before.database_id
        self._record_file = RecordFile(path)
        self._record: WalRecord | None = None
        #: Descriptors, if they are open: of the file and of the WAL.
        self._file = self._wal_file = -1
        #: Inode and bytes of the WAL, when it was last looked at.
        self._wal: tuple[int, int] | None = None
        self._shm = 0
        self._salts: tuple[int, int] | None = None
        self._is_replaced = False
        #: Whether another program has moved the WAL, and ours has no mark since.
        self._is_unmarked = False
        self._connection: sqlite3.Connection | None = None
        #: SQLite's number of the last transaction of another program.
        self._data_version = 0

    def expect_changes(self) -> None:
        """Record that from now on SQLite may change the file, made if missing. Raises OSError."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._describe(descriptor)
        finally:
            os.close(descriptor)

    def attach(self, database_id: str | None = None) -> None:
        """Begin to watch the file. Nobody in this process may have a connection to it now.

        Closing the descriptor would drop SQLite's locks: it stays open until `close`.
        Raises DatabaseUnusable.
        """
        self._database_id = database_id or self._database_id
        try:
            self._file = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            self._describe(self._file)
        except OSError as error:
            raise _cannot_open(self.path, error) from error

    def _describe(self, descriptor: int) -> None:
        os.fsync(descriptor)  # what a killed process wrote last may be in the kernel's memory alone
        wal = read_wal(self.path, whole=False)
        record = describe(os.fstat(descriptor), _cookie(descriptor), wal)
        self._write(structs.replace(record, moving=True))

    def look(self, *, in_transaction: bool = False) -> None:
        """See that the files are those that the connection has open, as it left them.

        Inside a transaction nothing is moved. Raises DatabaseReplaced, DiskFailed, TryAgain.
        """
        record = self._known
        if record.moving or self._wal is None:  # a checkpoint could not be recorded to its end
            with _judged(self.path):
                self._settle({record.cookie, record.mark, self._last_cookie(), *self._cookies()})
            record = self._known
        self._is_unmarked |= self._compare(record)
        if self._is_unmarked and self._connection is not None and not in_transaction:
            # Another program has moved the WAL: have the next one begin with our mark.
            self._is_unmarked = False
            with contextlib.suppress(sqlite3.Error):
                self._move(self._connection, "PASSIVE", is_last=False)

    def _compare(self, record: WalRecord) -> bool:
        """Compare the files with the record; return whether another program has moved the WAL."""
        with _judged(self.path):
            try:
                file = self.path.stat()
            except FileNotFoundError as error:
                raise self._replaced(f"{error.filename} was removed") from None
            wal, _ = self._beside()
        if (file.st_dev, file.st_ino) != (record.device, record.inode):
            raise self._replaced("it was replaced by another file")
        assert self._wal is not None, "a checkpoint comes first"  # noqa: S101
        inode, size = self._wal
        is_written = (file.st_mtime_ns, file.st_size) != (record.mtime_ns, record.bytes)
        with _judged(self.path):
            is_moved = is_written or wal.st_size < size
            if is_moved:
                self._look_closer()
            elif read_salts(self._wal_file) != self._salts:
                is_moved = True
                self._settle({record.cookie})  # another program has begun the WAL anew
            else:
                self._wal = inode, wal.st_size
        self._has_company()
        return is_moved

    def _beside(self) -> tuple[os.stat_result, os.stat_result]:
        """Return what the WAL and its index are. Raises DatabaseReplaced, OSError.

        They are the same files as long as a connection is open, whatever other programs do.
        """
        try:
            wal, shm = self._wal_path.stat(), self._shm_path.stat()
        except FileNotFoundError as error:
            raise self._replaced(f"{error.filename} was removed") from None
        if self._wal is not None and (wal.st_ino, shm.st_ino) != (self._wal[0], self._shm):
            raise self._replaced("its -wal or -shm was replaced by another file")
        return wal, shm

    def _has_company(self) -> bool:
        """Whether another program has written through SQLite since this was last asked.

        It may also have moved the WAL, in ways that cannot all be told from a file written over.
        """
        assert self._connection is not None, "a checkpoint comes first"  # noqa: S101
        before = self._data_version
        with contextlib.suppress(sqlite3.Error, MemoryError):  # the next statement says it
            ((self._data_version,),) = self._connection.execute("PRAGMA data_version").fetchall()
        return self._data_version != before

    def _look_closer(self) -> None:
        """Tell the checkpoint of another program from a file that was written over."""
        record = self._known
        wal, cookie = read_wal(self.path), _cookie(self._file)
        if wal is not None and wal.salts == record.salts:
            is_ours = cookie in wal.cookies
        else:  # emptied or begun anew, so that the file has all that came before
            is_ours = cookie in (record.mark, self._last_cookie())
        self._settle({cookie, self._last_cookie()} if is_ours else set())

    def checkpoint(
        self, connection: sqlite3.Connection, mode: str = "PASSIVE", *, is_last: bool = False
    ) -> Checkpoint:
        """Move the WAL into the file as far as that goes; begin a new one if all of it went.

        With `is_last` none is begun. Raises DatabaseReplaced, DiskFailed, TryAgain, sqlite3.Error.
        """
        self._connection = connection
        if self._wal is not None:
            self.look()
        return self._move(connection, mode, is_last=is_last)

    def _move(self, connection: sqlite3.Connection, mode: str, *, is_last: bool) -> Checkpoint:
        mark = secrets.randbelow(2**31 - 1) + 1
        is_first = self._wal is None
        while True:
            record = self._known
            with _judged(self.path):
                self._write(structs.replace(record, moving=True, next_mark=mark))
                hole = _first_hole(self._file)
            if not is_first:
                self._compare(record)  # that took a while
            if self._known.moving:
                break  # and else another program's checkpoint was recorded meanwhile
        # What another program commits after this is company at the end.
        last = self._last_cookie()
        # Read to its end: a statement that is left open makes the next COMMIT fail.
        ((_, frames, moved),) = connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()
        if frames < 0:  # another program is at it: nobody knows how far it comes
            frames, moved = 1, 0
        ((page_bytes,),) = connection.execute("PRAGMA page_size").fetchall()
        done = Checkpoint(frames, moved, page_bytes)
        with _judged(self.path):
            if _first_hole(self._file) < min(hole, record.bytes):
                # Somebody has cut it before the first page was moved.
                raise self._replaced("it was overwritten")
        if is_last:
            return done
        expected: set[int | None] = set()
        if done.is_complete:
            expected = {last, self._last_cookie()}
            # Any number will do that is not there already; SQLite prepares its statements again.
            connection.execute(f"PRAGMA schema_version = {mark}").fetchall()
            expected.add(mark)  # another program may have moved that already
        with _judged(self.path):
            self._settle(expected if done.is_complete else {record.cookie, last, *self._cookies()})
        return done

    def _last_cookie(self) -> int:
        """Return the number of the schema that was committed last, wherever it is written.

        −1 where SQLite does not say it; the next statement will say why.
        """
        assert self._connection is not None, "a checkpoint comes first"  # noqa: S101
        with contextlib.suppress(sqlite3.Error, MemoryError):
            ((cookie,),) = self._connection.execute("PRAGMA schema_version").fetchall()
            return int(cookie) % 2**32
        return -1

    def _cookies(self) -> list[int]:
        wal = read_wal(self.path)
        return [] if wal is None else wal.cookies

    def _settle(self, expected: Collection[int | None]) -> None:
        """Record how the files are now, until the next checkpoint.

        Raises DatabaseReplaced where the file does not have one of these cookies.
        """
        os.fsync(self._file)
        status, shm = self._beside()
        if self._wal is None:
            self._close(self._wal_file)
            self._wal_file = os.open(self._wal_path, os.O_RDONLY | os.O_CLOEXEC)
        # Of its header, also where no frame follows: a disk may have had no room for one.
        self._salts = read_salts(self._wal_file)
        wal = read_wal(self.path, whole=False)
        # In this order: whoever writes over the file after its time was taken changes it again.
        found = describe(os.fstat(self._file), _cookie(self._file), wal)
        if found.cookie not in expected and not self._has_company():
            raise self._replaced("it was overwritten")
        self._write(found)
        self._wal = status.st_ino, status.st_size
        self._shm = shm.st_ino

    def _replaced(self, why: str) -> DatabaseReplaced:
        """Keep SQLite from moving the WAL when it closes: the file is not ours any more.

        A lock of an open file also excludes the process that has it (fcntl(2)).
        """
        self._is_replaced = True
        with contextlib.suppress(OSError):
            fcntl.fcntl(self._file, fcntl.F_OFD_SETLK, _SHARED)
        return DatabaseReplaced(
            f"{self.path} was changed while ggend had it open: {why}",
            hint="clients resend the events that were not acknowledged; `ggend restore FILE` "
            "replaces it by a backup",
        )

    def rest(self) -> None:
        """Record, after the connection was closed, that the file is by itself."""
        if self._is_replaced:
            return
        with contextlib.suppress(OSError), self.path.open("rb") as file:
            if os.fstat(file.fileno()).st_ino == self._known.inode:
                self._describe(file.fileno())

    def close(self) -> None:
        """Close the files, after the connection."""
        self._record_file.close()
        self._close(self._file)
        self._close(self._wal_file)

    @staticmethod
    def _close(descriptor: int) -> None:
        if descriptor >= 0:
            os.close(descriptor)

    @property
    def _known(self) -> WalRecord:
        assert self._record is not None, "attach comes first"  # noqa: S101
        return self._record

    def _write(self, record: WalRecord) -> None:
        record = structs.replace(record, database_id=self._database_id)
        self._record_file.write(record)
        self._record = record


@contextlib.contextmanager
def keep_wal(path: Path) -> Iterator[WalKeeper]:
    """Check that the WAL belongs to the file, and say from now on that it does.

    Under the lock, before SQLite opens anything. Raises WalNotOurs, DatabaseUnusable.
    """
    try:
        if path.exists() and not path.is_file():  # a FIFO would hold it up
            raise DatabaseUnusable(f"{path} is not a file", hint="give the path of a file")
        check_wal(path)
        if is_doubtful(path):
            mark_suspect(path, "its WAL is missing, and may not have been checkpointed completely")
        keeper = WalKeeper(path)
        keeper.expect_changes()
    except OSError as error:
        raise _cannot_open(path, error) from error
    try:
        yield keeper
    finally:
        keeper.rest()
        keeper.close()


def _cookie(descriptor: int) -> int | None:
    found = os.pread(descriptor, 4, COOKIE_AT)
    return int.from_bytes(found, "big") if len(found) == 4 else None


def _first_hole(descriptor: int) -> int:
    """Return where the file has its first hole; its size where it has none."""
    return os.lseek(descriptor, 0, os.SEEK_HOLE) if os.fstat(descriptor).st_size else 0


def _cannot_open(path: Path, error: OSError) -> DatabaseUnusable:
    return DatabaseUnusable(
        f"cannot open the database {path}: {error.strerror} ({error.filename or 'its WAL record'})",
        hint="check that its directory exists and has free space, and that both are writable",
    )


@contextlib.contextmanager
def _judged(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        said = f"the files of {path} cannot be read or written: {error.strerror}"
        if error.errno in _PASSING:
            raise TryAgain(said) from error
        raise DiskFailed(
            said, hint="clients resend the events that were not acknowledged; check the disk"
        ) from error
