"""Commands: runs random command lines, and judges how they end.

A command ends by itself, without a traceback, with a status that `ggend --help` documents, and says
on standard error what is wrong, in words.
"""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, NamedTuple

from support.daemon_process import Daemon, place_in_memory
from support.fork_server import Before
from support.patience import PATIENCE_SECONDS
from support.processes import Process, start_ggend
from torture.command_lines import CommandLine, command_line
from torture.odd_place import OddPlaces, remove
from torture.odd_values import PLACE

__all__ = ["CommandTrial", "run_commands", "run_lines"]

#: What `ggend --help` documents, and what a shell says of Ctrl-C.
_STATUSES = frozenset({0, 1, 2, 64, 65, 69, 70, 71, 72, 74, 75, 77, 78, 130})

#: Statuses with which a command may say nothing: all is well, or the answer is on standard output.
_ANSWERS = frozenset({0, 1, 130})

#: What no message has: Python's own words.
_PYTHON = re.compile(
    r"Traceback|<class |\[Errno|Error\(|Exception|object at 0x|codec can't|(?<!\w)b'|msgspec"
)

#: Characters of a line of a message at most: it may name three sockets.
_LINE_CHARS = 2_000

#: Characters of an argument or variable that a problem shows.
_LONG_CHARS = 100

_SCRIPT = Path(__file__).parent / "bare.py"

#: Bytes of what a command complained that a problem shows: its end.
_SHOWN_BYTES = 1_500

#: Seconds after which a daemon is told to end, and so is `serve`.
_SERVING_SECONDS = 1.5

_GARBAGE = b"\xff\xfe\x00garbage\n{]\n" * 50
_EVENTS = (
    b'{"type":"audit","agent_id":"a1","operation":"p","status":"completed"}\n'
    b'{"type":"audit","agent_id":7}\n'
)

#: What a person at a terminal types before the end of the input.
_TYPED = {"refusal": b"no\n", "consent": b"y\n"}


class CommandTrial(NamedTuple):
    """One command line, how it ended, and what is wrong with that."""

    line: CommandLine
    status: int | None
    output: bytes
    complaints: bytes
    problems: list[str]

    def __str__(self) -> str:
        line = self.line
        variables = " ".join(f"{name}={_quoted(value)}" for name, value in line.environ.items())
        rows = [
            "; ".join(self.problems),
            f"  env -i {variables}",
            f"  ggend {' '.join(map(_quoted, line.arguments))}",
            f"  stdin {line.stdin}, stdout {line.stdout}"
            + ", beside a daemon" * line.has_daemon
            + ", a user without an entry" * line.is_nobody,
            f"  status {self.status}",
            self.complaints[-_SHOWN_BYTES:].decode(errors="replace"),
        ]
        return "\n".join(rows).encode(errors="backslashreplace").decode()


def run_commands(*, count: int, seed: int, first: int = 0) -> Iterator[CommandTrial]:
    """Run so many random command lines; `first` is the number of the first, to repeat it."""
    return run_lines(command_line(f"{seed}/{number}") for number in range(first, first + count))


def run_lines(lines: Iterable[CommandLine]) -> Iterator[CommandTrial]:
    """Run command lines, each in a directory of its own."""
    with place_in_memory() as name:
        base = Path(name)
        (base / "model").mkdir()
        places = OddPlaces(base / "model")
        for line in lines:
            place = base / "p"
            place.mkdir()
            try:
                yield _run(line, places, place)
            finally:
                remove(place)


def _run(line: CommandLine, places: OddPlaces, place: Path) -> CommandTrial:
    places.make(place)
    with ExitStack() as stack:
        daemon = Daemon(place / "d")
        if line.has_daemon:
            stack.enter_context(daemon)
        status, output, complaints = _ended(line, place)
        log = daemon.log.read_text(errors="replace") if line.has_daemon else ""
    problems = problems_of(line, status, output, complaints.replace(os.fsencode(place), b"@"))
    if "Traceback" in log:
        problems.append(f"the daemon has a traceback: {log[-1500:]}")
    return CommandTrial(line, status, output, complaints, problems)


def problems_of(
    line: CommandLine, status: int | None, output: bytes, complaints: bytes
) -> list[str]:
    """Return what is wrong with how a command line ended."""
    if status is None:
        return ["it does not end"]
    said = complaints.decode(errors="replace")
    problems = []
    if status not in _STATUSES:
        problems.append(f"status {status} is not documented")
    if status == os.EX_SOFTWARE:
        problems.append("an internal error")
    if found := _PYTHON.search(said):
        problems.append(f"it says {found[0]!r}")
    is_help = status == 2 and said.startswith("Usage: ")
    # What `doctor` finds is its output.
    is_report = line.command == "doctor" and re.search(rb"failed", output) is not None
    if (
        status not in _ANSWERS
        and not is_help
        and not is_report
        and not re.search("(^|: )ggend: .", said, re.MULTILINE)
    ):
        problems.append("it does not say why")
    if "SQLite refused the query" in said and line.command != "query sql":
        problems.append("its own query is refused")
    if any(len(row) > _LINE_CHARS for row in said.splitlines()):
        problems.append("a line is too long to read")
    if not said.replace("\n", "").isprintable():
        problems.append("it says what cannot be printed")
    is_shown = status == 0 and b"Usage: " in output
    if line.asks_for_help and line.stdout in {"pipe", "terminal"} and not is_shown:
        problems.append("its help is not shown")
    return problems


def _ended(line: CommandLine, place: Path) -> tuple[int | None, bytes, bytes]:
    """Run it; return its status, None if it did not end, and what it wrote."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(("PYTHON", "LC_", "LD_")) or name in {"LANG", "LANGUAGE", "TZ", "PATH"}
    }
    environ = {**kept, **{name: _at(value, place) for name, value in line.environ.items()}}
    wanted = {
        "place": os.fspath(place),
        "closed": [n for n, kind in enumerate((line.stdin, line.stdout)) if kind == "closed"],
        "is_nobody": line.is_nobody,
    }
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as complained:
        with ExitStack() as stack:  # at its end, what a terminal was shown is in the file
            descriptor = stack.enter_context(_pipe_with(json.dumps(wanted).encode()))
            typed = _TYPED.get(line.stdin, b"")
            is_there = typed or line.stdout == "terminal"
            terminal = stack.enter_context(_terminal(said, typed)) if is_there else -1
            outputs: dict[str, IO[bytes]] = {
                "full": stack.enter_context(Path("/dev/full").open("wb", buffering=0))
            }
            given = stack.enter_context(_input(line.stdin))
            process = start_ggend(
                *[_at(word, place) for word in line.arguments],
                environ=environ,
                directory=place,
                stdin=terminal if typed else given,
                stdout=outputs.get(line.stdout, said),
                stderr=complained,
                before=Before(_SCRIPT, descriptor),
            )
            status = _status_of(process, serves=line.command == "serve")
        said.seek(0)
        complained.seek(0)
        return status, said.read(), complained.read()


def _status_of(process: Process, *, serves: bool) -> int | None:
    """Wait for its end, which a daemon is told; return None if it does not come."""
    try:
        if serves:
            with suppress(subprocess.TimeoutExpired):
                process.wait(_SERVING_SECONDS)
            process.terminate()
        status = process.wait(PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return None
    return 0 if serves and status == -signal.SIGTERM else status  # before it could listen


@contextmanager
def _pipe_with(content: bytes) -> Iterator[int]:
    reading, writing = os.pipe()
    os.write(writing, content)
    os.close(writing)
    try:
        yield reading
    finally:
        os.close(reading)


def _at(text: str, place: Path) -> str:
    return text.replace(PLACE, os.fspath(place)).replace("\0", "")


def _input(kind: str) -> IO[bytes]:
    file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    file.write({"garbage": _GARBAGE, "events": _EVENTS}.get(kind, b""))
    file.seek(0)
    return file


@contextmanager
def _terminal(said: IO[bytes], typed: bytes) -> Iterator[int]:
    """A terminal, at which somebody has typed; what it shows goes into a file."""
    ours, theirs = pty.openpty()
    os.write(ours, typed + b"\x04\x04\x04")

    def copy() -> None:
        with suppress(OSError):  # EIO: nobody has it open any more
            while shown := os.read(ours, 65_536):
                said.write(shown)

    copying = threading.Thread(target=copy)
    copying.start()
    try:
        yield theirs
    finally:
        os.close(theirs)
        copying.join(PATIENCE_SECONDS)
        said.flush()
        os.close(ours)


def _quoted(word: str) -> str:
    return shlex.quote(word if len(word) <= _LONG_CHARS else f"{word[:_LONG_CHARS]}…")
