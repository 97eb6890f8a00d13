"""Descriptors run out: others wait, and the daemon has what it needs for itself."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from ggend.runtime.descriptors import RESERVED
from support.daemon_process import Daemon
from support.framed_peer import Peer, audit, batch, line_of, new_producer
from support.patience import PATIENCE_SECONDS, wait_until
from support.processes import SERVE, Process

#: More than the daemon needs for itself, and little more.
FEW = RESERVED + 40

#: More idle connections than that allows.
CROWD = 60

_LIMITED = (
    "import os, resource, sys;"
    "resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[2])));"
    "os.execv(sys.argv[3], sys.argv[3:])"
)


class Limited(Daemon):
    """A daemon that may open so many descriptors."""

    def __init__(self, place: Path, soft: int, hard: int, **settings: object) -> None:
        super().__init__(place, **settings)
        self._limits = (str(soft), str(hard))

    def spawn(self, environ: dict[str, str], log: IO[bytes]) -> Process:
        """Start an interpreter that lowers the limits and becomes the daemon."""
        start = [sys.executable, "-c", _LIMITED, *self._limits, *SERVE]
        return subprocess.Popen(start, env=environ, stderr=log)

    def limits(self) -> tuple[int, int]:
        """The limits that it has by now."""
        assert self.process is not None
        return resource.prlimit(self.process.pid, resource.RLIMIT_NOFILE)


class Crowd:
    """Connections that say nothing. Those that the daemon does not accept wait."""

    def __init__(self, daemon: Daemon, count: int) -> None:
        self._peers = [socket.socket(socket.AF_UNIX) for _ in range(count)]
        for peer in self._peers:
            peer.settimeout(PATIENCE_SECONDS)
            peer.connect(os.fspath(daemon.socket))

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *_: object) -> None:
        for peer in self._peers:
            peer.close()


def _crowded(daemon: Daemon) -> bool:
    return "connection limit reached" in daemon.log.read_text()


def test_the_soft_limit_is_raised_to_the_hard_one(place: Path) -> None:
    daemon = Limited(place, 256, 1024)
    with daemon:
        assert daemon.limits() == (1024, 1024)


def test_fewer_connections_are_allowed_where_descriptors_are_few(place: Path) -> None:
    """The log says so once, `ggend status` always."""
    with Limited(place, FEW, FEW) as daemon:
        allowed = daemon.status()["max_connections"]
        assert isinstance(allowed, int)
        assert 0 < allowed < FEW - RESERVED
        log = daemon.log.read_text()
        assert log.count("fewer connections than configured") == 1
        assert f"max_connections={allowed} configured=4096 descriptors={FEW}" in log


def test_where_descriptors_are_many_there_are_as_many_connections_as_configured(
    place: Path,
) -> None:
    with Limited(place, FEW, FEW, max_connections=3) as daemon:
        assert daemon.status()["max_connections"] == 3
        assert "fewer connections" not in daemon.log.read_text()


def test_idle_connections_take_no_descriptor_that_the_daemon_needs(place: Path) -> None:
    """It tells systemd that it stops, stores, and serves those who waited, when others go."""
    with Limited(place, FEW, FEW) as daemon:
        with Crowd(daemon, CROWD):
            wait_until(lambda: _crowded(daemon), "nobody had to wait")
            assert daemon.process is not None
            descriptors = Path(f"/proc/{daemon.process.pid}/fd")
            assert len(list(descriptors.iterdir())) <= FEW - RESERVED
        assert json.loads(daemon.exchange(line_of(audit("agent"))))["stored"] == 1
        assert daemon.stop() == 0
        assert "Traceback" not in daemon.log.read_text()


def test_that_others_wait_is_said_once_in_a_minute(place: Path) -> None:
    with Daemon(place, max_connections=1) as daemon:
        for _ in range(2):
            with Crowd(daemon, 3):
                wait_until(lambda: _crowded(daemon), "nobody had to wait")
            daemon.exchange(line_of(audit("agent")))  # accepted after all of them
        log = daemon.log.read_text()
        assert log.count("connection limit reached") == 1
        assert "max_connections=1 waiting=" in log


def test_a_process_that_has_no_descriptor_left_goes_on(place: Path) -> None:
    """Who is connected is served, who is not waits, and what cannot be read is left as it was."""
    objectives = place / "objectives.toml"
    objectives.write_text("")
    with Daemon(place, objectives=objectives) as daemon, Peer(daemon.socket) as peer:
        peer.hello(new_producer())
        assert daemon.process is not None
        pid = daemon.process.pid
        _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, hard))
        with Crowd(daemon, 1):
            wait_until(lambda: "cannot accept" in daemon.log.read_text(), "it accepts")
        peer.send(batch(1, audit("agent")))
        assert peer.read_to_ack(1) == []
        daemon.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "objectives unchanged" in daemon.log.read_text(), "it reads nothing")
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (hard, hard))
        assert daemon.status()["stored"] == 1
        assert daemon.stop() == 0
        assert daemon.log.read_text().count("cannot accept") == 1


@pytest.mark.parametrize("limit", range(6, 13, 2))
def test_too_few_descriptors_for_the_daemon_itself_are_a_named_error(
    place: Path, limit: int
) -> None:
    """However far the start comes: no traceback, and what helps is said."""
    finished = subprocess.run(
        [sys.executable, "-c", _LIMITED, str(limit), str(limit), *SERVE],
        env={
            **os.environ,
            "GGEND_SOCKET": os.fspath(place / "g.sock"),
            "GGEND_DATABASE": os.fspath(place / "tier2.db"),
        },
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert finished.returncode != 0
    assert "Traceback" not in finished.stderr
    assert "hint: " in finished.stderr
