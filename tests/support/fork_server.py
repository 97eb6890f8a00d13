"""Fork server: starts `ggend` as a process of its own, without the time that its imports take.

One process has imported the command and all that it uses, and each start is a fork of it:

    tests ── request, descriptors ──▶ server ── fork ──▶ keeper ── fork ──▶ ggend
      ▲                                                     │ waits for its end
      └──────────── a pipe: its pid, its exit status ◀──────┘

What runs is a process like any other: it has its own pid, environment, directory and standard
streams, it can be killed, and it ends as an interpreter ends. Only what a new interpreter does is
missing: it reads no PYTHON* variable, no locale and no time zone, and imports nothing. Where these
differ from the server's, `fits` says no, and the caller starts a real one.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import io
import os
import random
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

__all__ = ["Before", "ForkServer", "ForkedProcess"]

#: What `ggend` imports, at the latest when a command needs it.
_MODULES = ("ggend.__main__", "ggend.cli.app", "ggend.topology", "anyio._backends._asyncio")

#: Bytes of a request at most: an environment and a command line.
_REQUEST_BYTES = 1 << 20

#: Its descriptors at most: three streams, the keeper's pipe, and one for what is done before.
_DESCRIPTORS = 5

#: What a keeper says: a pid, and later a status as os.waitpid() gives it.
_NUMBER = struct.Struct("<i")


class _Request(msgspec.Struct, frozen=True):
    arguments: list[bytes]
    environ: list[tuple[bytes, bytes]]
    directory: bytes
    umask: int
    constants: dict[str, float]
    before: bytes


class Before(NamedTuple):
    """What is done in the process first: `prepare(descriptor)` of a script.

    As a program, the script prepares and becomes the command that follows the descriptor.
    """

    script: Path
    descriptor: int


class ForkedProcess:
    """One process that was forked: the methods of `subprocess.Popen` that tests use."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe
        self._reading = threading.Lock()
        self.returncode: int | Any = None
        self.pid = self._read()

    def __del__(self) -> None:
        os.close(self._pipe)

    def poll(self) -> int | None:
        """Return the exit status, or None while it runs."""
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; return its exit status. Raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            poller = select.poll()
            poller.register(self._pipe, select.POLLIN)
            if not poller.poll(None if timeout is None else timeout * 1000):
                raise subprocess.TimeoutExpired("ggend", timeout or 0)
            with self._reading:  # two threads may wait
                if self.returncode is None:
                    self.returncode = os.waitstatus_to_exitcode(self._read())
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _read(self) -> int:
        said = os.read(self._pipe, _NUMBER.size)
        if not said:
            raise AssertionError("the fork server has ended")
        number: int = _NUMBER.unpack(said)[0]
        return number


class ForkServer:
    """The tests' end of it. Starts nothing before the first request."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None

    def fits(self, environ: Mapping[str, str]) -> bool:
        """Whether an interpreter with this environment would begin as the server did."""
        return _of_interpreter(environ) == _of_interpreter(os.environ)

    def start(
        self,
        arguments: Sequence[str],
        environ: Mapping[str, str],
        streams: Sequence[int],
        *,
        directory: Path | None = None,
        constants: Mapping[str, float] | None = None,
        before: Before | None = None,
    ) -> ForkedProcess:
        """Start `ggend` with these arguments, and descriptors for its three standard streams.

        `constants` of its modules are set first, by their full names.
        """
        if self._socket is None:
            self._socket = self._begin()
        reading, writing = os.pipe()
        umask = os.umask(0o077)
        os.umask(umask)
        request = _Request(
            arguments=[os.fsencode(argument) for argument in arguments],
            environ=[(os.fsencode(key), os.fsencode(value)) for key, value in environ.items()],
            directory=os.fsencode(directory or Path.cwd()),
            umask=umask,
            constants=dict(constants or {}),
            before=os.fsencode(before.script) if before else b"",
        )
        descriptors = [*streams, writing, *([before.descriptor] if before else [])]
        socket.send_fds(self._socket, [msgspec.msgpack.encode(request)], descriptors)
        os.close(writing)
        return ForkedProcess(reading)

    def _begin(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _REQUEST_BYTES)
        with theirs:
            # It ends when the last descriptor of `ours` is closed: nobody waits for it.
            subprocess.Popen(
                [sys.executable, os.fspath(Path(__file__)), str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            ).returncode = 0
        return ours


def _of_interpreter(environ: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in environ.items()
        if name.startswith(("PYTHON", "LC_", "LD_")) or name in {"LANG", "LANGUAGE", "TZ"}
    }


def _serve(requests: socket.socket) -> None:
    """Fork for each request. Returns in the server at its end, and in each forked `ggend`."""
    for name in _MODULES:
        importlib.import_module(name)
    _warm_up()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for keepers
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.collect()
    gc.freeze()
    while True:
        said, descriptors, _, _ = socket.recv_fds(requests, _REQUEST_BYTES, _DESCRIPTORS)
        if not said:
            return
        if os.fork() == 0:
            requests.close()
            streams, pipe, given = descriptors[:3], descriptors[3], descriptors[4:]
            if _keep([*streams, *given], pipe):
                _become(msgspec.msgpack.decode(said, type=_Request), streams, given)
                return
        for descriptor in descriptors:
            os.close(descriptor)


def _warm_up() -> None:
    """Import every command, and run one: the first imports the rest of the libraries."""
    commands = sys.modules["ggend.cli.common.command"]
    list(commands.leaves(sys.modules["ggend.cli.app"].app, "ggend"))
    sys.argv[1:] = ["status", "--socket", os.devnull]
    complaints, sys.stderr = sys.stderr, io.StringIO()
    try:
        sys.modules["ggend.__main__"].main()
    except SystemExit:
        pass
    finally:
        sys.stderr = complaints


def _keep(given: list[int], pipe: int) -> bool:
    """Fork once more, and tell of it; returns, True, in the child alone."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if pid == 0:
        os.close(pipe)
        return True
    for descriptor in given:
        os.close(descriptor)
    with suppress(BrokenPipeError):  # the tests have ended
        os.write(pipe, _NUMBER.pack(pid))
        os.write(pipe, _NUMBER.pack(os.waitpid(pid, 0)[1]))
    os._exit(0)


def _become(request: _Request, streams: list[int], given: list[int]) -> None:
    """Be as a process that was started with this request."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdout.reconfigure(line_buffering=os.isatty(1))  # type: ignore[union-attr]
    os.chdir(request.directory)
    os.umask(request.umask)
    os.environ.clear()
    os.environb.update(dict(request.environ))
    sys.argv[1:] = [os.fsdecode(argument) for argument in request.arguments]
    random.seed()
    for name, value in request.constants.items():
        module, _, constant = name.rpartition(".")
        assert hasattr(sys.modules[module], constant), name
        setattr(sys.modules[module], constant, value)
    if request.before:
        spec = importlib.util.spec_from_file_location("before", os.fsdecode(request.before))
        assert spec is not None
        assert spec.loader is not None
        script = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(script)
        script.prepare(*given)
    sys.modules["ggend.__main__"].main()


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
