"""Log follower: reads logs as they grow, through rotation, truncation and absence.

Polls; never writes to a log, and never keeps more of it than one unfinished line.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, Self

from ggend.encodings import WrongEncoding, other_encoding
from ggend.errors import UsageMistake
from ggend.importers.ggen_log import LogLine, LogReader

__all__ = ["LogTail", "Stopped", "follow"]

#: Seconds between two looks at files that do not grow: soon enough for a person who watches.
_POLL_SECONDS = 0.3

#: Bytes read at once.
_READ_BYTES = 1024 * 1024

#: Bytes before the place of reading that are looked at again: if they changed, the file was
#: truncated and has grown past that place since. Enough to hold most lines whole: their ends may be
#: alike.
_TAIL_BYTES = 16 * 1024

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(Exception):
    """SIGINT or SIGTERM came: raised by `pause`, told by `after`."""

    _came = False

    @classmethod
    @contextmanager
    def on_signals(cls) -> Iterator[Self]:
        """Hold SIGINT and SIGTERM back, to be looked at between two steps."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            yield cls("asked to stop")
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def after(self, seconds: float) -> bool:
        """Wait, at most so long; return whether a signal came, now or before."""
        self._came = self._came or signal.sigtimedwait(_SIGNALS, seconds) is not None
        return self._came

    def pause(self, seconds: float) -> None:
        """Wait; raise this if a signal comes."""
        if self.after(seconds):
            raise self


class Taker(Protocol):
    """What becomes of the lines of a log."""

    def take(self, line: LogLine) -> None:
        """Take in one line."""

    def flush(self) -> None:
        """Wait until everything taken in is stored."""


class LogTail:
    """One log that is followed: which file it is at the moment, and how far it has been read."""

    __slots__ = (
        "_agent",
        "_file",
        "_is_rotated",
        "_lines_before",
        "_looked_at",
        "_offset",
        "_path",
        "_reader",
        "_tail",
    )

    def __init__(self, path: Path, *, agent: str) -> None:
        self._path = path
        self._agent = agent
        self._file: int | None = None
        self._offset = 0
        #: Size and time of change at the last look: while they stay, nothing was written.
        self._looked_at = (0, 0)
        self._tail = b""
        self._is_rotated = False
        self._lines_before = 0
        self._reader = LogReader(agent=agent, modified_ns=0)

    @property
    def lines(self) -> int:
        """Lines read so far."""
        return self._lines_before + self._reader.lines

    def poll(self) -> Iterator[LogLine] | None:
        """Return the lines that are new, or None where nothing has happened.

        What it returns must be read to the end before the next look. Raises UsageMistake for what
        cannot be read, and WrongEncoding.
        """
        try:
            return self._look()
        except OSError as error:
            raise UsageMistake(
                f"{self._path} cannot be read: {error.strerror or error}",
                hint="earlier lines are stored",
            ) from error

    def _look(self) -> Iterator[LogLine] | None:
        if self._file is None:
            self._file = self._open()
            if self._file is None:
                return None
        found = os.fstat(self._file)
        if found.st_size < self._offset or not self._continues(found):
            return self._restart()
        self._looked_at = found.st_size, found.st_mtime_ns
        chunk = os.pread(self._file, _READ_BYTES, self._offset)
        if chunk:
            if not self._offset and (encoding := other_encoding(chunk)) is not None:
                raise WrongEncoding(str(self._path), encoding)
            self._offset += len(chunk)
            self._tail = (self._tail + chunk)[-_TAIL_BYTES:]
            self._reader.modified_ns = found.st_mtime_ns
            return self._reader.feed(chunk)
        if self._is_rotated:
            return self._leave()
        # Between that read and this look something may have been written: read once more.
        self._is_rotated = self._is_another(found)
        return iter(()) if self._is_rotated else None

    def finish(self) -> Iterator[LogLine]:
        """Return the last line, where no LF ends it, and close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
        return self._reader.finish()

    def _open(self) -> int | None:
        try:
            # A pipe must not be waited for here: it is refused when it is read.
            return os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _is_another(self, opened: os.stat_result) -> bool:
        try:
            found = self._path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return False  # gone for a moment; what is open can still grow
        return (found.st_dev, found.st_ino) != (opened.st_dev, opened.st_ino)

    def _continues(self, found: os.stat_result) -> bool:
        """Whether what was read is still there, before what is new."""
        if self._file is None or (found.st_size, found.st_mtime_ns) == self._looked_at:
            return True
        length = len(self._tail)
        return os.pread(self._file, length, self._offset - length) == self._tail

    def _restart(self) -> Iterator[LogLine]:
        """The file was truncated: read it from the beginning."""
        yield from self._reader.finish()
        self._renew()

    def _leave(self) -> Iterator[LogLine]:
        """Another file has taken its place: the next look opens that."""
        yield from self.finish()
        self._is_rotated = False
        self._renew()

    def _renew(self) -> None:
        self._offset = 0
        self._tail = b""
        self._lines_before += self._reader.lines
        self._reader = LogReader(agent=self._agent, modified_ns=0, continues=self._reader.last_hash)


def follow(
    logs: Sequence[tuple[Path, Taker]], agent: str, is_over: Callable[[float], bool]
) -> list[int]:
    """Hand on what comes to these logs until it is over; return how many lines each had.

    `is_over` waits at most so many seconds.
    """
    tails = [(LogTail(path, agent=agent), taker) for path, taker in logs]
    pause = 0.0
    while not is_over(pause):
        pause = _POLL_SECONDS
        for tail, taker in tails:
            lines = tail.poll()
            if lines is None:
                continue
            pause = 0.0
            for line in lines:
                taker.take(line)
            taker.flush()
    for tail, taker in tails:
        for line in tail.finish():
            taker.take(line)
    return [tail.lines for tail, _ in tails]
