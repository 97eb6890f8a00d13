"""Segment file: one file of a spool, open to be appended to, to be read, or neither.

Owns the descriptors. Knows nothing of the other segments, nor of what is settled.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ggend_client.errors import SpoolFull, SpoolUnusable
from ggend_client.spool import segment

__all__ = ["LoadedSegment", "SegmentFile", "unusable"]

_OPEN = os.O_CLOEXEC | os.O_NOFOLLOW
#: Errors of the process, not of the file.
_PASSING = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES}

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | _OPEN


class SegmentFile:
    """Records of one producer, with rising numbers."""

    __slots__ = (
        "_offset",
        "_reading",
        "_synced",
        "_writing",
        "end",
        "is_flawed",
        "last_sequence",
        "path",
    )

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writing: int | None = None
        self._reading: int | None = None
        #: Where the next record to read begins.
        self._offset = segment.HEADER_BYTES
        self._synced = 0
        #: Offset behind the last whole record.
        self.end = 0
        self.last_sequence = 0
        #: Whether something in it cannot be read: it is kept for people.
        self.is_flawed = False

    @property
    def is_open(self) -> bool:
        """Whether it can be appended to."""
        return self._writing is not None

    def create(self, header: segment.Header) -> None:
        """Make the file. Raises SpoolFull, SpoolUnusable: then there is none."""
        try:
            try:
                self._writing = os.open(self.path, _CREATE, 0o600)
            except FileExistsError:
                # Left by an attempt that a signal handler ended: nothing was ever written there.
                self.path.unlink()
                self._writing = os.open(self.path, _CREATE, 0o600)
        except OSError as error:
            raise unusable(self.path, error) from error
        try:
            self._write(segment.pack_header(header), 0)
        except BaseException:
            self.stop_writing()
            with suppress(OSError):
                self.path.unlink()
            raise

    def append(self, record: bytes, last_sequence: int) -> None:
        """Add a record. Raises SpoolFull, SpoolUnusable: then it was not added."""
        self._write(record, last_sequence)

    def sync(self) -> bool:
        """Bring it to the disk; whether it was the first time. Raises SpoolUnusable."""
        if self._writing is None or self._synced == self.end:
            return False
        first = self._synced == 0
        end = self.end
        try:
            os.fdatasync(self._writing)
        except OSError as error:
            # A second one would say that all is well (architecture: after a failed sync, no retry).
            self.stop_writing()
            raise unusable(self.path, error) from error
        self._synced = end
        return first

    def next_record(self) -> segment.Record | None:
        """Return the next record; None: there is none yet, or it cannot be read (`is_flawed`).

        Raises SpoolUnusable when it may be possible later.
        """
        if self._offset >= self.end:
            return None
        try:
            if self._reading is None:
                self._reading = os.open(self.path, os.O_RDONLY | _OPEN)
            record = segment.read_record(self._reading, self._offset, self.end)
            if record is None:
                self.is_flawed = True
                intact = segment.find_record(self._reading, self._offset + 1, self.end)
                if intact is not None:
                    record = segment.read_record(self._reading, intact, self.end)
        except OSError as error:
            if error.errno in _PASSING:
                raise unusable(self.path, error) from error
            record = None  # removed by somebody, or on a bad sector
        if record is None:
            self.is_flawed = True
            self._offset = self.end
        else:
            self._offset = record.end
        return record

    def stop_reading(self) -> None:
        """Close what is read."""
        if self._reading is not None:
            descriptor, self._reading = self._reading, None
            with suppress(OSError):
                os.close(descriptor)

    def stop_writing(self) -> None:
        """Never append to it again."""
        if self._writing is not None:
            descriptor, self._writing = self._writing, None
            with suppress(OSError):
                os.close(descriptor)

    def remove(self) -> None:
        """Remove the file, or set it aside when somebody should look at it."""
        self.stop_reading()
        self.stop_writing()
        with suppress(OSError):
            if self.is_flawed:
                self.set_aside("corrupt")
            else:
                self.path.unlink(missing_ok=True)

    def set_aside(self, why: str) -> None:
        """Give it a name under which it is never sent. Raises OSError."""
        self.path.rename(self.path.with_name(f"{self.path.name}.{why}"))

    def _write(self, data: bytes, last_sequence: int) -> None:
        descriptor = self._writing
        if descriptor is None:
            raise SpoolUnusable(f"{self.path}: closed")
        rest, end = memoryview(data), self.end + len(data)
        try:
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            # No call in between: a signal handler that raises finds both old or both new.
            self.end = end
            self.last_sequence = last_sequence
        except BaseException as error:
            # What was written of it goes; else this file is not appended to any more.
            try:
                os.ftruncate(descriptor, self.end)
            except BaseException as failure:
                self.stop_writing()
                if not isinstance(failure, OSError):
                    raise
            if isinstance(error, OSError):
                raise unusable(self.path, error) from error
            raise


class LoadedSegment(SegmentFile):
    """Records in memory, of files in another format that go when these are settled."""

    __slots__ = ("_paths", "_records")

    def __init__(self, paths: Sequence[Path], records: Sequence[segment.Record]) -> None:
        """`paths` are removed in this order."""
        super().__init__(paths[-1])
        self._paths = paths
        self._records = deque(records)
        self.last_sequence = records[-1].last_sequence

    def next_record(self) -> segment.Record | None:
        """Return the next record; None: there is none."""
        return self._records.popleft() if self._records else None

    def remove(self) -> None:
        """Remove the files."""
        for path in self._paths:
            with suppress(OSError):
                path.unlink(missing_ok=True)


def unusable(path: Path, error: OSError) -> SpoolFull | SpoolUnusable:
    """Return what to raise for this error of the file system."""
    message = f"{path}: {error.strerror or error}"
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return SpoolFull(message)
    return SpoolUnusable(message)
