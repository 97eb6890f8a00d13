"""Trace: what a daemon asked the kernel for, file by file and socket by socket, in one order.

strace(1) runs beside the daemon (`-D`: the daemon stays the child of the test) and writes down,
with all data, each write, sync, truncation, creation and unlink of the database, its WAL and its
journal, each sync of their directory, and what came and went on its sockets. Changes nothing.

A call counts when it has returned, except for a send: what it sends may be with the peer as soon
as it has begun.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from msgspec import Struct

from support.daemon_process import Daemon
from support.moved_database import FILES
from support.patience import PATIENCE_SECONDS
from support.processes import SERVE

__all__ = ["Call", "TracedDaemon", "read_calls", "why_not_traced"]

_CALLS = (
    "openat,pwrite64,write,pwritev,writev,fsync,fdatasync,sync_file_range,ftruncate,truncate,"
    "fallocate,unlink,unlinkat,rename,renameat,renameat2,sendto,sendmsg,recvfrom"
)

#: Bytes of data kept of a call: more than a page, and than the answers that one send carries.
_DATA_BYTES = 16_384

#: Seconds between two looks at whether strace has written its last line.
_LOOK_SECONDS = 0.01

_WHOLE = re.compile(r"(\d+) +(\w+)\((.*)\)\s+= (\?|-?\d+)", re.DOTALL)
_BEGUN = re.compile(r"(\d+) +(\w+)\((.*?) ?<unfinished \.\.\.>$", re.DOTALL)
_RESUMED = re.compile(r"(\d+) +<\.\.\. (\w+) resumed>(.*)$", re.DOTALL)
_DESCRIPTOR = re.compile(r"\d+<([^>]*)>(\(deleted\))?")
_TEXT = re.compile(r'"([^"]*)"(\.\.\.)?')

#: Changes to a file that SQLite does not make where this was written, and that are not understood.
_FOREIGN = {
    "write",
    "pwritev",
    "writev",
    "sync_file_range",
    "truncate",
    "fallocate",
    "unlinkat",
    "rename",
    "renameat",
    "renameat2",
}


class Call(Struct, frozen=True):
    """One system call. `result` is None when the process was killed in it."""

    name: str
    #: A path, or `socket:[inode]`.
    on: str
    data: bytes
    #: Offset of a write, length of a truncation.
    number: int
    result: int | None


class TracedDaemon(Daemon):
    """A daemon whose every life leaves a trace."""

    def __init__(self, place: Path, **settings: object) -> None:
        super().__init__(place, **settings)
        self.traces: list[Path] = []

    def spawn(self, environ: dict[str, str], log: IO[bytes]) -> subprocess.Popen[bytes]:
        """Start it under strace."""
        self.traces.append(self.place / f"trace{len(self.traces)}")
        command = [*_strace(self.traces[-1], _CALLS), *SERVE]
        return subprocess.Popen(command, env=environ, stderr=log)

    def wait_for_trace(self) -> Path:
        """Wait until the trace of the life that has ended is complete, and return it."""
        assert self.process is not None
        last = re.compile(rf"^{self.process.pid} +\+\+\+ (exited|killed)".encode(), re.MULTILINE)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            with self.traces[-1].open("rb") as trace:
                trace.seek(max(0, os.fstat(trace.fileno()).st_size - 4096))
                if last.search(trace.read()):
                    return self.traces[-1]
            time.sleep(_LOOK_SECONDS)  # polling with a deadline, not hoping
        raise AssertionError("strace did not end")


def why_not_traced() -> str | None:
    """Say why no process can be traced here; None when it can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    tried = subprocess.run(
        [*_strace(Path(os.devnull), "fsync"), "true"], check=False, capture_output=True, text=True
    )
    return f"strace may not trace here: {tried.stderr.strip()}" if tried.stderr else None


def read_calls(trace: Path, database: Path) -> Iterator[Call]:
    """Return what concerns the database's files, their directory, and the sockets, in order."""
    begun: dict[str, tuple[int, str, str]] = {}
    calls: list[tuple[int, Call]] = []
    with trace.open() as lines:
        for number, line in enumerate(lines):
            begin = number
            text = line.rstrip("\n")
            if (match := _BEGUN.match(text)) is not None:
                begun[match[1]] = (number, match[2], match[3])
                continue
            if (match := _RESUMED.match(text)) is not None:
                begin, name, head = begun.pop(match[1])
                text = f"{match[1]} {name}({head}{match[3]}"
            if (match := _WHOLE.match(text)) is not None:
                result = None if match[4] == "?" else int(match[4])
                _keep(calls, begin, number, database, match[2], match[3], result)
    for begin, name, arguments in begun.values():  # killed in it
        _keep(calls, begin, number, database, name, arguments, None)
    calls.sort(key=lambda found: found[0])
    for _, call in calls:
        yield call


def _keep(
    calls: list[tuple[int, Call]],
    begin: int,
    end: int,
    database: Path,
    name: str,
    arguments: str,
    result: int | None,
) -> None:
    if result is not None and result < 0:
        return
    descriptor = None if name == "openat" else _DESCRIPTOR.match(arguments)
    text = _TEXT.search(arguments)
    if descriptor is not None:
        on = os.fsdecode(_unescaped(descriptor[1]))
    elif text is not None:
        on = os.fsdecode(_unescaped(text[1]))
    else:
        return
    is_file = on in {f"{database}{suffix}" for suffix in FILES}
    if is_file and name in _FOREIGN:
        raise AssertionError(f"{name} on {on}: this test does not know what that does")
    if name == "openat":
        wanted = is_file and "O_CREAT" in arguments
    else:
        wanted = is_file or on == os.fspath(database.parent) or on.startswith("socket:")
    if not wanted or (descriptor is not None and descriptor[2]):
        return
    data = _unescaped(text[1]) if text is not None and descriptor is not None else b""
    if text is not None and text[2] and name not in ("recvfrom", "sendto"):
        raise AssertionError(f"{name} on {on}: more than {_DATA_BYTES} bytes")
    number = arguments.rpartition(", ")[2] if name in ("pwrite64", "ftruncate") else "0"
    call = Call(name, on, data, int(number), result)
    calls.append((begin if name in ("sendto", "sendmsg") else end, call))


def _strace(trace: Path, calls: str) -> list[str]:
    return [
        *("strace", "-D", "-f", "-q", "-y", "-xx", "-s", str(_DATA_BYTES)),
        *("--seccomp-bpf", "-e", f"trace={calls}", "-o", os.fspath(trace)),
    ]


def _unescaped(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))
