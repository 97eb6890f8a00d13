"""The socket's file is removed or replaced while the daemon runs, and what clients find then."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ggend_schema.messages import Answer, Request
from support.daemon_process import Daemon
from support.framed_peer import Peer, audit, batch, line_of, new_producer
from support.patience import PATIENCE_SECONDS, wait_until
from support.processes import command_of, run_ggend

BOUND_AGAIN = "the socket file was missing, created it"
GONE = "the socket file is missing, no client can connect"

#: Nobody needs a look at the file so often but who waits for it.
CONSTANTS = {"ggend.server.listener.LOOK_SECONDS": 0.02}


class _Looking(Daemon):
    """A daemon that looks at its socket's file again and again."""

    constants = CONSTANTS


def _reaches(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as peer:
        return peer.connect_ex(os.fspath(path)) == 0


def _status(peer: Peer) -> dict[str, Any]:
    """Ask on a connection that there is: nobody makes a new one now."""
    peer.send(Request(id=1, op="status", arguments={}))
    answer = peer.read()
    assert isinstance(answer, Answer)
    assert isinstance(answer.result, dict)
    return answer.result


def _degraded(peer: Peer) -> str:
    """Wait until it is degraded; return why."""
    wait_until(lambda: _status(peer)["health"] == "degraded", "it does not notice")
    return str(_status(peer)["trouble"])


@contextmanager
def _in_its_place(path: Path) -> Iterator[socket.socket]:
    """Another process's socket, put there at once."""
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(f"{path}.other")
        other.listen()
        Path(f"{path}.other").rename(path)
        yield other


@contextmanager
def _looking_away(daemon: Daemon) -> Iterator[None]:
    """Stop it, so that it sees what is done in more than one step as if it were one."""
    assert daemon.process is not None
    stat_file = Path(f"/proc/{daemon.process.pid}/stat")
    daemon.process.send_signal(signal.SIGSTOP)
    try:
        wait_until(lambda: stat_file.read_text().rpartition(") ")[2][0] == "T", "it goes on")
        yield
    finally:
        daemon.process.send_signal(signal.SIGCONT)


def _told(daemon: Daemon, what: str) -> int:
    return daemon.log.read_text().count(what)


# The configured path


def test_a_socket_whose_file_is_removed_is_bound_again(place: Path) -> None:
    """With its mode, and once; who is connected stays so."""
    with _Looking(place, socket_mode="0660") as daemon, Peer(daemon.socket) as peer:
        peer.hello(new_producer())
        daemon.socket.unlink()
        wait_until(lambda: _reaches(daemon.socket), "it is not bound again")
        assert stat.S_IMODE(daemon.socket.stat().st_mode) == 0o660
        peer.send(batch(1, audit("agent")))
        assert peer.read_to_ack(1) == []
        assert json.loads(daemon.exchange(line_of(audit("agent"))))["stored"] == 1
        assert daemon.status()["health"] == "ok"
        wait_until(lambda: _told(daemon, BOUND_AGAIN), "it is not said")
        assert daemon.stop() == 0
        assert not daemon.socket.exists()


def test_who_waits_at_a_socket_that_is_gone_is_served(place: Path) -> None:
    """There is one place, so that a second one waits at the old socket when the new one is made."""
    with _Looking(place, max_connections=1) as daemon:
        with Peer(daemon.socket) as peer, socket.socket(socket.AF_UNIX) as waits:
            peer.hello(new_producer())
            waits.settimeout(PATIENCE_SECONDS)
            waits.connect(os.fspath(daemon.socket))
            waits.sendall(line_of(audit("agent")))
            waits.shutdown(socket.SHUT_WR)
            daemon.socket.unlink()
            wait_until(daemon.socket.exists, "it is not bound again")
            peer.finish()
            assert json.loads(waits.recv(65536))["stored"] == 1
        assert json.loads(daemon.exchange(line_of(audit("agent"))))["stored"] == 1


def test_a_directory_that_is_removed_is_made_again_as_it_was(place: Path) -> None:
    """And its lock with it: no other daemon takes the socket then."""
    daemon = _Looking(place)
    daemon.socket = place / "run" / "g.sock"
    daemon.socket.parent.mkdir()
    daemon.socket.parent.chmod(0o751)
    with daemon:
        with _looking_away(daemon):
            shutil.rmtree(daemon.socket.parent)
        wait_until(lambda: _reaches(daemon.socket), "it is not bound again")
        assert stat.S_IMODE(daemon.socket.parent.stat().st_mode) == 0o751
        finished = run_ggend(
            "serve",
            environ={
                "GGEND_SOCKET": os.fspath(daemon.socket),
                "GGEND_DATABASE": os.fspath(place / "other.db"),
            },
        )
        assert finished.returncode == os.EX_TEMPFAIL
        assert daemon.status()["health"] == "ok"


def test_a_directory_that_cannot_be_made_again_is_tried_again(place: Path) -> None:
    daemon = _Looking(place)
    daemon.socket = place / "run" / "g.sock"
    with daemon, Peer(daemon.socket) as peer:
        peer.hello()
        with _looking_away(daemon):
            shutil.rmtree(daemon.socket.parent)
            daemon.socket.parent.symlink_to("nowhere/at/all")
        assert str(daemon.socket.parent) in _degraded(peer)
        daemon.socket.parent.unlink()
        wait_until(lambda: _reaches(daemon.socket), "it is not bound again")
        assert daemon.status()["health"] == "ok"
        wait_until(lambda: _told(daemon, BOUND_AGAIN), "it is not said")
        assert (_told(daemon, GONE), _told(daemon, BOUND_AGAIN)) == (1, 1)


def test_a_socket_that_another_process_put_there_is_not_replaced(place: Path) -> None:
    """It is said once; when the other one ends, the socket is bound again."""
    with _Looking(place) as daemon, Peer(daemon.socket) as peer:
        peer.hello()
        with _in_its_place(daemon.socket):
            theirs = daemon.socket.lstat().st_ino
            assert "another process listens" in _degraded(peer)
            assert daemon.socket.lstat().st_ino == theirs
        wait_until(lambda: _told(daemon, BOUND_AGAIN), "it is not bound again")
        assert _reaches(daemon.socket)
        assert (_told(daemon, GONE), _told(daemon, BOUND_AGAIN)) == (1, 1)


def test_a_file_that_another_process_put_there_is_not_replaced_and_not_removed(
    place: Path,
) -> None:
    with _Looking(place) as daemon, Peer(daemon.socket) as peer:
        peer.hello()
        (place / "precious").write_text("precious")
        (place / "precious").rename(daemon.socket)
        assert "not a socket" in _degraded(peer)
        assert daemon.stop() == 0
        assert daemon.socket.read_text() == "precious"


def test_at_the_end_another_process_keeps_its_socket(place: Path) -> None:
    with _Looking(place) as daemon, _in_its_place(daemon.socket):
        assert daemon.stop() == 0
        assert _reaches(daemon.socket)


def test_a_socket_that_somebody_listens_on_is_not_replaced_at_the_start(place: Path) -> None:
    """No lock says that it is used: whoever listens is no ggend, or systemd."""
    with _in_its_place(place / "g.sock"):
        finished = run_ggend(
            "serve",
            environ={
                "GGEND_SOCKET": os.fspath(place / "g.sock"),
                "GGEND_DATABASE": os.fspath(place / "tier2.db"),
            },
        )
        assert finished.returncode == os.EX_OSERR
        assert "another process listens" in finished.stderr
        assert _reaches(place / "g.sock")


# systemd's sockets

_ACTIVATE = (
    "import os, sys; given = sys.argv[2].split();\n"
    "for number, one in enumerate(given): os.dup2(int(one), 100 + number)\n"
    "for number in range(len(given)): os.dup2(100 + number, 3 + number)\n"
    "os.environ['LISTEN_PID'] = sys.argv[1] or str(os.getpid())\n"
    "os.environ['LISTEN_FDS'] = str(len(given))\n"
    "os.execv(sys.argv[3], sys.argv[3:])"
)


def _activate(
    place: Path, *passed: socket.socket, pid: str = "", **settings: str
) -> subprocess.Popen[bytes]:
    """Start a daemon as systemd does, with these as descriptors 3, 4 and so on."""
    descriptors = [one.fileno() for one in passed]
    serve = command_of("serve", constants=CONSTANTS)
    with (place / "log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-IS", "-c", _ACTIVATE, pid, " ".join(map(str, descriptors)), *serve],
            env={
                **{key: value for key, value in os.environ.items() if key[:6] != "GGEND_"},
                "GGEND_SOCKET": os.fspath(place / "own.sock"),
                "GGEND_DATABASE": os.fspath(place / "tier2.db"),
                **settings,
            },
            pass_fds=descriptors,
            stderr=log,
        )


@contextmanager
def _activated(
    place: Path, *passed: socket.socket, **settings: str
) -> Iterator[subprocess.Popen[bytes]]:
    process = _activate(place, *passed, **settings)
    try:
        yield process
    finally:
        process.terminate()
        assert process.wait(PATIENCE_SECONDS) == 0


def _refused(process: subprocess.Popen[bytes]) -> int:
    """The exit status of a daemon that must not start."""
    try:
        return process.wait(PATIENCE_SECONDS)
    finally:
        process.kill()
        process.wait()


def _listening(path: Path) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(os.fspath(path))
    listening.listen()
    return listening


def _exchange(path: Path) -> dict[str, Any]:
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(PATIENCE_SECONDS)
        peer.connect(os.fspath(path))
        peer.sendall(line_of(audit("agent")))
        peer.shutdown(socket.SHUT_WR)
        answer: dict[str, Any] = json.loads(peer.recv(65536))
        return answer


def test_all_sockets_from_systemd_are_served(place: Path) -> None:
    """Also where there is one place for a connection: neither takes it from the other."""
    with (
        _listening(place / "one.sock") as one,
        _listening(place / "two.sock") as two,
        _activated(place, one, two, GGEND_MAX_CONNECTIONS="1"),
    ):
        for name in ("one.sock", "two.sock", "one.sock"):
            assert _exchange(place / name)["stored"] == 1


@pytest.mark.parametrize("kind", ["datagram", "stream"])
def test_a_descriptor_from_systemd_that_cannot_be_served_stops_the_start(
    place: Path, kind: str
) -> None:
    """Whoever connects to it would wait for ever: it is named."""
    types = {"datagram": socket.SOCK_DGRAM, "stream": socket.SOCK_STREAM}
    with (
        _listening(place / "one.sock") as one,
        socket.socket(socket.AF_UNIX, types[kind]) as two,
    ):
        two.bind(os.fspath(place / "two.sock"))
        assert _refused(_activate(place, one, two)) == os.EX_OSERR
    said = (place / "log").read_text()
    assert "descriptor 4 from systemd is" in said
    assert "Traceback" not in said
    assert not (place / "tier2.db").exists()


def test_a_socket_that_was_passed_to_a_script_around_the_daemon_is_not_replaced(
    place: Path,
) -> None:
    """The script did not exec, so that the daemon may not take it: it says so and ends."""
    with _listening(place / "own.sock") as one:
        before = (place / "own.sock").lstat().st_ino
        assert _refused(_activate(place, one, pid="1")) == os.EX_OSERR
        assert (place / "own.sock").lstat().st_ino == before
    said = (place / "log").read_text()
    assert "its sockets to process 1" in said
    assert "exec ggend serve" in said


def test_a_socket_of_systemd_whose_file_is_removed_is_told_and_not_bound(place: Path) -> None:
    path = place / "systemd.sock"
    with _listening(path) as one, _activated(place, one), Peer(path) as peer:
        peer.hello()
        path.unlink()
        assert "systemctl restart ggend.socket" in _degraded(peer)
        assert not path.exists()
    assert (place / "log").read_text().count(GONE) == 1
