"""Watchdog daemon: a running daemon whose service manager takes down what it is told, and when."""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

from support.daemon_process import Daemon
from support.processes import Process

__all__ = ["INTERVAL_SECONDS", "WatchdogDaemon"]

#: Seconds of the watchdog's interval. Half of it is longer than the wait for a lock.
INTERVAL_SECONDS = 1.2


class WatchdogDaemon(Daemon):
    """A daemon under a watchdog."""

    def __init__(self, place: Path, **settings: object) -> None:
        super().__init__(place, **settings)
        self.told: list[tuple[float, str]] = []

    def spawn(self, environ: dict[str, str], log: IO[bytes]) -> Process:
        """Start it with a listener in between, which hands on what it hears."""
        address, onward = self.place / "manager", environ["NOTIFY_SOCKET"]
        address.unlink(missing_ok=True)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        listening.bind(os.fspath(address))
        process = super().spawn(
            {
                **environ,
                "NOTIFY_SOCKET": os.fspath(address),
                "WATCHDOG_USEC": str(int(INTERVAL_SECONDS * 1e6)),
            },
            log,
        )
        self._listener = threading.Thread(target=self._listen, args=(listening, process, onward))
        self._listener.start()
        return process

    def kill(self) -> None:
        """SIGKILL, and the listener ends."""
        super().kill()
        self._listener.join(INTERVAL_SECONDS)

    def stop(self) -> int:
        """SIGTERM, and the listener ends."""
        status = super().stop()
        self._listener.join(INTERVAL_SECONDS)
        return status

    def _listen(self, listening: socket.socket, process: Process, onward: str) -> None:
        with listening:
            listening.settimeout(0.05)  # expected to run out: then the process is looked at
            while process.poll() is None:
                with suppress(TimeoutError):
                    told = listening.recv(4096)
                    self.told.append((time.monotonic(), told.decode()))
                    with suppress(OSError):  # the test has heard that it is ready
                        listening.sendto(told, onward)

    def fed(self) -> list[float]:
        """When WATCHDOG=1 came."""
        return [when for when, told in list(self.told) if "WATCHDOG=1" in told]

    def status_lines(self) -> list[str]:
        """What STATUS= said, from the first on."""
        return [
            line.removeprefix("STATUS=")
            for _, told in list(self.told)
            for line in told.splitlines()
            if line.startswith("STATUS=")
        ]
