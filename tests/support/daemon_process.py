"""Daemon process: a real daemon on its own socket and database, for tests and benchmarks."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, ClassVar

from ggend_client import ask
from support.patience import PATIENCE_SECONDS, wait_until
from support.processes import Process, start_ggend

__all__ = ["MEMORY", "Daemon", "DidNotStart", "free_place", "place_in_memory"]

#: Seconds between two looks at whether a daemon that starts has ended instead.
LOOK_SECONDS = 0.05

#: Where files are in memory.
MEMORY = next(filter(Path.is_dir, [Path("/dev/shm")]), None)  # noqa: S108


class DidNotStart(AssertionError):
    """The daemon ended, or was ended for being slow, before it said that it listens."""


def free_place() -> tempfile.TemporaryDirectory[str]:
    """Return a directory of its own with a path short enough for a socket (108 bytes)."""
    return tempfile.TemporaryDirectory(prefix="ggend-")


def place_in_memory() -> tempfile.TemporaryDirectory[str]:
    """Return such a directory in memory, where there is that: a sync takes no time there.

    For what commits a thousand times, and is about what is stored and not about when it is safe.
    """
    return tempfile.TemporaryDirectory(prefix="ggend-", dir=MEMORY)


class Daemon:
    """`ggend serve` as a child process. `kill` and `start` again is a crash and a restart."""

    patience_seconds = PATIENCE_SECONDS

    #: Constants of its modules that have other values here, by their full names.
    constants: ClassVar[Mapping[str, float]] = {}

    def __init__(self, place: Path, **settings: object) -> None:
        self.place = place
        self.socket = place / "g.sock"
        self.database = place / "tier2.db"
        self.log = place / "log"
        self._settings = {f"GGEND_{key.upper()}": str(value) for key, value in settings.items()}
        self.process: Process | None = None

    def start(self) -> Daemon:
        """Start it and wait until it says that it listens (sd_notify READY=1)."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
            address = self.place / "notify"
            address.unlink(missing_ok=True)
            ready.bind(os.fspath(address))
            ready.settimeout(LOOK_SECONDS)
            environ = {
                **{key: value for key, value in os.environ.items() if key[:6] != "GGEND_"},
                **self._settings,
                "GGEND_SOCKET": os.fspath(self.socket),
                "GGEND_DATABASE": os.fspath(self.database),
                "NOTIFY_SOCKET": os.fspath(address),
            }
            with self.log.open("ab") as log:
                self.process = self.spawn(environ, log)
            deadline = time.monotonic() + self.patience_seconds
            told = b""
            while b"READY=1" not in told:
                try:
                    told = ready.recv(4096)
                except TimeoutError:
                    if self.process.poll() is None and time.monotonic() < deadline:
                        continue
                    self.process.kill()
                    self.process.wait()
                    raise DidNotStart(f"ggend did not start: {self.log.read_text()}") from None
                # An upgrade asks for patience first.
                deadline = time.monotonic() + self.patience_seconds
        return self

    def spawn(self, environ: dict[str, str], log: IO[bytes]) -> Process:
        """Start the process. A test that wants it in other conditions overrides this."""
        return start_ggend("serve", environ=environ, stderr=log, constants=self.constants)

    def kill(self) -> None:
        """SIGKILL: nothing in the process gets a chance."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(PATIENCE_SECONDS)

    def stop(self) -> int:
        """SIGTERM; return the exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(self.patience_seconds)

    def __enter__(self) -> Daemon:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process is not None and self.process.poll() is None:
            try:
                self.stop()
            except subprocess.TimeoutExpired:
                self.kill()
                raise

    def query(self, sql: str, *parameters: object) -> list[tuple[object, ...]]:
        """Read from the database, as any program may."""
        connection = sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)
        try:
            return connection.execute(sql, parameters).fetchall()
        finally:
            connection.close()

    def status(self) -> dict[str, object]:
        """Ask the daemon how it is."""
        result = ask(self.socket, "status")
        assert isinstance(result, dict)
        return result

    def wait_for_hooks(self) -> None:
        """Wait until all that is committed was judged. The rollups may wait for more rows."""
        newest = "SELECT coalesce(max(id), 0) FROM "

        def are_up_to_date() -> bool:
            seen = self.status()["hook_seen_rows"]
            assert isinstance(seen, dict)
            return all(
                seen.get(f"slo:{table}") == self.query(newest + table)[0][0]
                for table in ("receipts", "pipeline_metrics")
            )

        wait_until(are_up_to_date, "the hooks did not catch up")

    def exchange(self, sent: bytes, *, shut_down: bool = True) -> bytes:
        """Send bytes on a new connection and return everything that comes back."""
        with socket.socket(socket.AF_UNIX) as peer:
            peer.settimeout(PATIENCE_SECONDS)
            peer.connect(os.fspath(self.socket))
            peer.sendall(sent)
            if shut_down:
                peer.shutdown(socket.SHUT_WR)
            received = b""
            while chunk := peer.recv(65536):
                received += chunk
            return received
