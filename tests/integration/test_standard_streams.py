"""Standard streams of a daemon: nobody reads them, the reader is gone, they are closed."""

from __future__ import annotations

import fcntl
import os
import pty
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, TypeAlias

import pytest

from support.daemon_process import Daemon
from support.framed_peer import audit, line_of
from support.patience import PATIENCE_SECONDS, wait_until
from support.processes import SERVE, Process, start_ggend

#: As small as a pipe can be.
PIPE_BYTES = 4096

#: A length that no frame has: the daemon says so, ends the connection, and logs one line.
NONSENSE = b"\xff\xff\xff\xff"

#: Such lines that are more than the pipe, or what a terminal holds, takes.
MANY = 300


class Told(Daemon):
    """A daemon that writes its log to a descriptor."""

    def __init__(self, place: Path, descriptor: int) -> None:
        super().__init__(place)
        self._descriptor = descriptor

    def spawn(self, environ: dict[str, str], log: IO[bytes]) -> Process:  # noqa: ARG002
        """Start it; the log goes elsewhere."""
        return start_ggend("serve", environ=environ, stderr=self._descriptor)


class Closed(Daemon):
    """A daemon that a shell starts with closed descriptors."""

    def __init__(self, place: Path, redirections: str) -> None:
        super().__init__(place)
        self._redirections = redirections

    def spawn(self, environ: dict[str, str], log: IO[bytes]) -> Process:  # noqa: ARG002
        """Start a shell that becomes it."""
        shell = ["sh", "-c", f'exec "$@" {self._redirections}', "sh", *SERVE]
        return subprocess.Popen(shell, env=environ)


def log_much(daemon: Daemon) -> None:
    for _ in range(MANY):
        assert daemon.exchange(NONSENSE)


@contextmanager
def held_pipe() -> Iterator[tuple[int, int]]:
    """A pipe that nobody reads: both its ends."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    yield reading, writing
    for end in (reading, writing):
        os.close(end)


@contextmanager
def held_terminal() -> Iterator[tuple[int, int]]:
    """A terminal after Ctrl-S: the end of the person, and that of the program."""
    person, program = pty.openpty()
    termios.tcflow(program, termios.TCOOFF)
    yield person, program
    for end in (person, program):
        os.close(end)


Held: TypeAlias = Callable[[], AbstractContextManager[tuple[int, int]]]


@pytest.mark.parametrize("held", [held_pipe, held_terminal])
def test_a_log_that_nobody_reads_stops_nobody(held: Held, place: Path) -> None:
    """All clients are served, and SIGTERM ends the daemon in order."""
    with held() as (_, writing), Told(place, writing) as daemon:
        log_much(daemon)
        assert b'"stored":1' in daemon.exchange(line_of(audit("agent")))
        assert daemon.status()["health"] == "ok"
        assert daemon.stop() == 0
        assert daemon.query("SELECT COUNT(*) FROM audit_log") == [(1,)]


def test_a_log_that_is_read_late_is_whole_and_in_order(place: Path) -> None:
    """What waited comes first, and the last line is that of the end."""
    with held_pipe() as (reading, writing), Told(place, writing) as daemon:
        log_much(daemon)
        lines: list[bytes] = []

        def read() -> None:
            with os.fdopen(os.dup(reading), "rb") as log:
                while b"msg=stopped" not in b"".join(lines[-1:]):
                    lines.append(log.readline())

        reader = threading.Thread(target=read)
        reader.start()
        assert daemon.status()["log_lines_dropped"] == 0
        assert daemon.stop() == 0
        reader.join()
    assert b"msg=listening" in lines[0]
    assert sum(b"code=frame_too_large" in line for line in lines) == MANY
    assert b"msg=stopped" in lines[-1]


def test_a_log_whose_reader_is_gone_is_counted(place: Path) -> None:
    """The daemon goes on, and `status` says how many lines nobody will read."""
    reading, writing = os.pipe()
    with Told(place, writing) as daemon:
        os.close(writing)
        os.close(reading)
        daemon.exchange(NONSENSE)
        wait_until(lambda: daemon.status()["log_lines_dropped"], "nothing was counted")
        assert b'"stored":1' in daemon.exchange(line_of(audit("agent")))
        assert daemon.stop() == 0


def test_an_error_at_the_start_does_not_wait_for_a_reader(daemon: Daemon) -> None:
    """A second daemon ends with its status, though its standard error takes nothing."""
    with held_pipe() as (_, writing):
        os.write(writing, bytes(PIPE_BYTES))
        environ = {**os.environ, "GGEND_SOCKET": os.fspath(daemon.socket)}
        environ["GGEND_DATABASE"] = os.fspath(daemon.database)
        second = start_ggend("serve", environ=environ, stderr=writing)
        try:
            assert second.wait(PATIENCE_SECONDS) == os.EX_TEMPFAIL
        finally:
            second.kill()


def test_strict_emit_says_that_its_input_is_closed(daemon: Daemon) -> None:
    """Its status is that of a mistake, not of events that are all stored."""
    command = [sys.executable, "-m", "ggend", "emit", "--strict", "--stdin", "-s"]
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" <&-', "sh", *command, daemon.socket],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert done.returncode == os.EX_USAGE
    assert "standard input cannot be read: Bad file descriptor" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"])
def test_nothing_of_the_daemon_gets_the_number_of_a_closed_stream(closed: str, place: Path) -> None:
    """The null device has it: what is printed there by mistake is in no file and on no socket."""
    with Closed(place, closed) as daemon:
        assert daemon.process is not None
        descriptors = Path(f"/proc/{daemon.process.pid}/fd")
        for number, text in enumerate(("<&-", ">&-", "2>&-")):
            if text in closed.split():
                assert (descriptors / str(number)).readlink() == Path(os.devnull)
        assert b'"stored":1' in daemon.exchange(line_of(audit("agent")))
        daemon.exchange(NONSENSE)
        assert daemon.stop() == 0
        assert daemon.query("PRAGMA integrity_check") == [("ok",)]
