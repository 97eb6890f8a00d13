"""Processes: starts `ggend`, by a fork server in tests and as a new interpreter elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Protocol

from support.fork_server import Before, ForkServer
from support.patience import PATIENCE_SECONDS

__all__ = ["SERVE", "Process", "command_of", "run_ggend", "start_ggend", "use_fork_server"]


class Process(Protocol):
    """What runs, or ran."""

    pid: int
    returncode: int | Any

    def poll(self) -> int | None:
        """Return the exit status, or None while it runs."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end. Raises subprocess.TimeoutExpired."""

    def send_signal(self, sig: int, /) -> None:
        """Send a signal."""

    def terminate(self) -> None:
        """Send SIGTERM."""

    def kill(self) -> None:
        """Send SIGKILL."""


#: A daemon as a new interpreter, for what wraps it.
SERVE = (sys.executable, "-m", "ggend", "serve")

_server: ForkServer | None = None


def use_fork_server() -> None:
    """From now on `ggend` is forked where that makes no difference: in tests."""
    global _server
    _server = ForkServer()


def command_of(*arguments: str, constants: Mapping[str, float] | None = None) -> list[str]:
    """Return what runs `ggend` as a new interpreter.

    `constants` of its modules, by their full names, are set to other values first: a test waits
    for a look at something that nobody else needs so often.
    """
    if not constants:
        return [sys.executable, "-m", "ggend", *arguments]
    lines = [
        f"import {name.rpartition('.')[0]}; {name}; {name} = {value!r}"
        for name, value in constants.items()
    ]
    return [
        sys.executable,
        "-c",
        "\n".join([*lines, "from ggend.__main__ import main; main()"]),
        *arguments,
    ]


def start_ggend(
    *arguments: str,
    environ: Mapping[str, str],
    directory: Path | None = None,
    stdin: int | IO[bytes] | None = None,
    stdout: int | IO[bytes] | None = None,
    stderr: int | IO[bytes] | None = None,
    constants: Mapping[str, float] | None = None,
    before: Before | None = None,
) -> Process:
    """Start `ggend`; a stream that is not given is this process's own.

    `constants` are those of `command_of`.
    """
    if _server is None or not _server.fits(environ):
        command = command_of(*arguments, constants=constants)
        if before is not None:
            script, descriptor = before
            command = [sys.executable, "-IS", os.fspath(script), str(descriptor), *command]
        return subprocess.Popen(
            command,
            env=environ,
            cwd=directory,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            pass_fds=[before.descriptor] if before else [],
        )
    with Path(os.devnull).open("r+b", buffering=0) as nothing:
        streams = [
            number if given is None else nothing if given == subprocess.DEVNULL else given
            for number, given in enumerate((stdin, stdout, stderr))
        ]
        descriptors = [one if isinstance(one, int) else one.fileno() for one in streams]
        return _server.start(
            arguments,
            environ,
            descriptors,
            directory=directory,
            constants=constants,
            before=before,
        )


def run_ggend(
    *arguments: str | os.PathLike[str],
    environ: Mapping[str, str] | None = None,
    directory: Path | None = None,
    stdin: bytes | int = b"",
    stdout: int | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, and return what it wrote.

    `environ` is added to this process's own environment. `stdin` is what it reads, or a descriptor.
    """
    with (
        tempfile.TemporaryFile() as said,
        tempfile.TemporaryFile() as complained,
        tempfile.TemporaryFile() as read,
    ):
        if isinstance(stdin, bytes):
            read.write(stdin)
            read.seek(0)
        process = start_ggend(
            *[os.fspath(argument) for argument in arguments],
            environ={**os.environ, **(environ or {})},
            directory=directory,
            stdin=read if isinstance(stdin, bytes) else stdin,
            stdout=said if stdout is None else stdout,
            stderr=complained,
        )
        try:
            status = process.wait(PATIENCE_SECONDS)
        finally:
            process.kill()
        said.seek(0)
        complained.seek(0)
        return subprocess.CompletedProcess(
            ["ggend", *arguments], status, said.read().decode(), complained.read().decode()
        )
