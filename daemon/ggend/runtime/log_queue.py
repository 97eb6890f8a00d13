"""Log queue: takes lines at once, and writes them whenever whoever reads lets it.

Nobody who puts a line in waits: a thread of its own writes, and what the queue has no room for is
dropped and counted. So is what cannot be written, since the reader is gone or the disk is full. The
order is kept, and one line stands where others are missing. Knows nothing of what is in a line.
"""

from __future__ import annotations

import io
import os
import select
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["LogQueue"]

#: Bytes that wait at most: some thousand lines, for a terminal that was held for a while.
QUEUE_BYTES = 1024 * 1024


class LogQueue(io.RawIOBase):
    """The file that a log is written to. `notice` makes the line that says how many are missing."""

    def __init__(self, descriptor: int, notice: Callable[[int], bytes]) -> None:
        self._descriptor = descriptor
        self._notice = notice
        #: Guards all that follows. It can be entered twice, as a finalizer may complain anywhere.
        self._changed = threading.Condition()
        self._lines: deque[bytes] = deque()
        self._held = 0
        #: No room: nothing is taken before all is written, so that what is missing is one gap.
        self._is_full = False
        self._is_writing = False
        self._unsaid = 0
        #: Lines that nobody will read.
        self.dropped = 0
        threading.Thread(target=self._write_all, name="log", daemon=True).start()

    def write(self, data: ReadableBuffer, /) -> int:
        """Take whole lines, or drop them."""
        lines = bytes(data)
        with self._changed:
            if self._lines and self._held + len(lines) > QUEUE_BYTES:
                self._is_full = True
            if self._is_full:
                self._drop(lines)
            else:
                self._lines.append(lines)
                self._held += len(lines)
            self._changed.notify_all()
        return len(lines)

    def drain(self, seconds: float) -> None:
        """Wait until all is written or dropped, but no longer than this."""
        with self._changed:
            self._changed.wait_for(self._is_idle, seconds)

    def writable(self) -> bool:
        """It takes everything."""
        return True

    def fileno(self) -> int:
        """Return where it all goes."""
        return self._descriptor

    def isatty(self) -> bool:
        """Whether a person may be reading."""
        return os.isatty(self._descriptor)

    def _is_idle(self) -> bool:
        return not (self._lines or self._is_full or self._is_writing)

    def _drop(self, lines: bytes) -> None:
        count = lines.count(b"\n")
        self.dropped += count
        self._unsaid += count

    def _write_all(self) -> None:
        while True:
            with self._changed:
                self._is_writing = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._lines or self._is_full)
                self._is_writing = True
                if not self._lines:
                    self._is_full = False
                lines = self._lines.popleft() if self._lines else b""
                self._held -= len(lines)
                # What the full queue dropped belongs behind what is in it.
                missing = 0 if self._is_full else self._unsaid
                self._unsaid -= missing
            is_written = not missing or self._is_written(self._notice(missing))
            with self._changed:
                self._unsaid += 0 if is_written else missing
            if not (is_written and self._is_written(lines)):
                with self._changed:
                    self._drop(lines)

    def _is_written(self, lines: bytes) -> bool:
        """Write; return whether it went out."""
        while lines:
            try:
                lines = lines[os.write(self._descriptor, lines) :]
            except BlockingIOError:
                # Another program made it non-blocking.
                poller = select.poll()
                poller.register(self._descriptor, select.POLLOUT)
                poller.poll()
            except OSError:
                return False
        return True
