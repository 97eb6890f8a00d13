"""Standard streams: what the process is given as descriptors 0, 1 and 2, made safe to use.

A number that is closed is taken, before a socket or the database gets it and is written into.
Output that cannot be written is one named error, wherever it is noticed; a complaint that cannot be
written is none. Nothing here knows what is printed.
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import sys
from typing import TYPE_CHECKING

from ggend.errors import GgendError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["OutputUnwritable", "flush_output", "open_standard_streams"]

#: How the null device stands in for a closed descriptor: so that its use fails as that of a closed
#: one does, with EBADF, and a command that does not use it does not notice.
_MODES = (os.O_WRONLY, os.O_RDONLY, os.O_RDONLY)


class OutputUnwritable(GgendError):
    """Standard output takes nothing: it is closed, or the disk behind it is full."""

    code = "output_unwritable"
    exit_status = os.EX_IOERR


class _Output(io.FileIO):
    """Standard output. What comes after a failure is discarded: it was told once."""

    def __init__(self) -> None:
        super().__init__(1, "wb", closefd=False)
        self._has_failed = False

    def write(self, data: ReadableBuffer, /) -> int:
        """Write some of it; raise OutputUnwritable, or BrokenPipeError where the reader went."""
        if self._has_failed:
            return memoryview(data).nbytes
        try:
            return _write(self, data)
        except OSError as error:
            self._has_failed = True
            if isinstance(error, BrokenPipeError):
                raise
            why = error.strerror or str(error)
            raise OutputUnwritable(f"cannot write to standard output: {why}") from error


class _Complaints(io.FileIO):
    """Standard error. There is nobody left to tell that it cannot be written."""

    def __init__(self) -> None:
        super().__init__(2, "wb", closefd=False)

    def write(self, data: ReadableBuffer, /) -> int:
        """Write some of it, or nothing."""
        try:
            return _write(self, data)
        except OSError:
            return memoryview(data).nbytes


def open_standard_streams() -> None:
    """Call this first of all. `sys.stdin`, `sys.stdout` and `sys.stderr` are there afterwards."""
    for number, mode in enumerate(_MODES):
        try:
            os.fstat(number)
        except OSError:
            # The lowest number that is free, which is this one.
            os.set_inheritable(os.open(os.devnull, mode), True)  # noqa: FBT003 - has no name
    # None is what Python makes of a closed descriptor, whatever the type says.
    if not isinstance(sys.stdin, io.IOBase):
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - a descriptor
    if not _is_replaced(sys.stdout):
        sys.stdout = _text(_Output(), sys.stdout)
    if not _is_replaced(sys.stderr):
        sys.stderr = _text(_Complaints(), sys.stderr, by_line=True)


def flush_output() -> None:
    """Notice here what cannot be written: at exit the interpreter would complain about it."""
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()


def _is_replaced(stream: object) -> bool:
    """Whether a program that calls `main` has put something else there."""
    return isinstance(stream, io.IOBase) and not isinstance(stream, io.TextIOWrapper)


def _text(raw: io.FileIO, before: object, *, by_line: bool = False) -> io.TextIOWrapper:
    encoding = "utf-8"
    if isinstance(before, io.TextIOWrapper):
        encoding = before.encoding
        by_line = by_line or before.line_buffering or before.write_through
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding, errors="backslashreplace", line_buffering=by_line
    )


def _write(file: io.FileIO, data: ReadableBuffer) -> int:
    """Write as a FileIO does, and wait where another program made the file non-blocking."""
    written: int | None
    while (written := io.FileIO.write(file, data)) is None:
        poller = select.poll()
        poller.register(file, select.POLLOUT)
        poller.poll()
    return written
