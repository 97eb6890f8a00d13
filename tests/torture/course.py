"""Course: one run of a daemon to its end, started again as often as it ends before.

Ending is allowed, if it is in words, with a status that has a name, and with everything in the file
that was acked. Hanging is not, nor is a traceback, nor an ack after a sync has failed.
"""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from ggend.errors import (
    CommitUnknown,
    DatabaseUnusable,
    DatabaseUnwritable,
    DiskFailed,
    SocketUnusable,
)
from support.daemon_process import Daemon, DidNotStart, free_place
from support.patience import PATIENCE_SECONDS
from torture.aftermath import copy_database, settled
from torture.scripted import EVENTS, PRODUCER, Scripted

__all__ = ["Course"]

#: Seconds in which a daemon that has dropped its connection ends, if it is about to.
_ENDING_SECONDS = 0.3

#: With what a daemon may end when a disk fails it, by status: nothing here is a defect in it.
_NAMES = {
    error.exit_status: error.code
    for error in (CommitUnknown, DatabaseUnusable, DatabaseUnwritable, DiskFailed, SocketUnusable)
}

#: What is said at the end: a line and a hint.
_IN_WORDS = re.compile(r"^ggend: .+\n  hint: .+", re.MULTILINE)


class Course:
    """One run to its end, however often the daemon ends before."""

    def __init__(
        self,
        daemon: Daemon,
        producer: Scripted,
        failed_sync: Callable[[], float | None] = lambda: None,
    ) -> None:
        self._daemon, self._producer = daemon, producer
        self._failed_sync = failed_sync
        self._deadline = time.monotonic() + PATIENCE_SECONDS
        self._logged = 0
        self.ends: list[str] = []
        self.problems: list[str] = []

    def to_the_end(self) -> None:
        """Start, send everything, stop in order; again where the daemon ended in between."""
        try:
            while not self._is_done():
                if self.problems or self._producer.problems:
                    return
                if time.monotonic() > self._deadline:
                    self.problems.append(f"no end in sight, {self._producer.acked} acked")
                    return
        except (TimeoutError, subprocess.TimeoutExpired) as error:
            self.problems.append(f"hangs, {self._producer.acked} of {EVENTS} acked: {error!r}")

    def _is_done(self) -> bool:
        daemon, producer = self._daemon, self._producer
        started = time.monotonic()
        try:
            daemon.start()
        except DidNotStart:
            self._ended()
            return False
        assert daemon.process is not None
        while producer.acked < EVENTS and not producer.problems:
            if time.monotonic() > self._deadline:
                return False
            producer.send(daemon.socket)
            failed = self._failed_sync()
            if failed is not None and started < failed < producer.sent:
                # The kernel may have dropped what it could not write, and not say so again.
                self.problems.append("acked by a process that has seen a sync fail")
            if producer.acked < EVENTS:
                # It may be about to end. If it goes on, a new connection is all that is needed.
                try:
                    daemon.process.wait(_ENDING_SECONDS)
                except subprocess.TimeoutExpired:
                    continue
                self._ended()
                return False
        if daemon.stop() == 0:
            if "Traceback" in daemon.log.read_text(errors="replace"):
                self.problems.append("a traceback in the log")
            return True
        if daemon.process.returncode == -signal.SIGTERM:
            # It was on its way out when it was asked to stop, and heard no signals any more.
            self.ends.append("ended meanwhile")
            self._check_kept()
        else:
            self._ended()
        return False

    def _ended(self) -> None:
        """The daemon has ended: in words, by a name, and with all that was acked in the file."""
        daemon = self._daemon
        assert daemon.process is not None
        text = daemon.log.read_text(errors="replace")
        end, problems = _how_it_ended(daemon.process.returncode, text[self._logged :])
        self._logged = len(text)
        self.ends.append(end)
        self.problems += problems
        self._check_kept()

    def _check_kept(self) -> None:
        database, acked = self._daemon.database, self._producer.acked
        with free_place() as name:
            copy_database(database, Path(name))
            kept = settled(Path(name) / database.name, PRODUCER)
        if kept < acked:
            self.problems.append(f"{acked} were acked, {kept} are in the file")


def _how_it_ended(status: int, said: str) -> tuple[str, list[str]]:
    """Return the name of the end, and what is wrong with it."""
    problems = []
    if "Traceback" in said:
        problems.append("a traceback in the log")
    if status < 0:
        return signal.Signals(-status).name, [*problems, f"ended by {signal.Signals(-status).name}"]
    if status not in _NAMES:
        return str(status), [*problems, f"ended with status {status}, which has no name"]
    if not _IN_WORDS.search(said):
        problems.append(f"ended with status {status} without a line and a hint")
    return _NAMES[status], problems
