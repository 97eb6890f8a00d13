"""The process: what it claims when it starts, what it refuses, and what it leaves behind."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from ggend_schema.messages import Ack, Goodbye
from support.daemon_process import Daemon
from support.framed_peer import (
    Peer,
    audit,
    batch,
    line_of,
    new_producer,
    packed,
    unbalanced_accounts,
)
from support.patience import PATIENCE_SECONDS, wait_until
from support.processes import run_ggend


def _environment(socket_path: Path, database: Path, **settings: str) -> dict[str, str]:
    return {
        **{key: value for key, value in os.environ.items() if key[:6] != "GGEND_"},
        "GGEND_SOCKET": os.fspath(socket_path),
        "GGEND_DATABASE": os.fspath(database),
        **{f"GGEND_{key.upper()}": value for key, value in settings.items()},
    }


def _serve(socket_path: Path, database: Path, **settings: str) -> tuple[int, str]:
    """Run a daemon that must not start; return its exit status and what it says."""
    finished = run_ggend("serve", environ=_environment(socket_path, database, **settings))
    return finished.returncode, " ".join(finished.stderr.split())


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _pid(daemon: Daemon) -> int:
    assert daemon.process is not None
    return daemon.process.pid


def _stored(daemon: Daemon) -> int:
    ((count,),) = daemon.query("SELECT COUNT(*) FROM audit_log")
    assert isinstance(count, int)
    return count


# One daemon a socket, one a database


def test_a_second_daemon_on_the_same_socket_is_refused(daemon: Daemon) -> None:
    """It exits with 75, names the pid, and has not made the database that it was given."""
    other = daemon.place / "other.db"
    status, said = _serve(daemon.socket, other)
    assert status == os.EX_TEMPFAIL
    assert str(_pid(daemon)) in said
    assert not other.exists()


def test_a_second_daemon_on_the_same_database_is_refused(daemon: Daemon) -> None:
    """It exits with 75, names the pid, and leaves no socket."""
    other = daemon.place / "other.sock"
    status, said = _serve(other, daemon.database)
    assert status == os.EX_TEMPFAIL
    assert str(_pid(daemon)) in said
    assert not other.exists()


def test_a_second_daemon_does_not_disturb_the_first(daemon: Daemon) -> None:
    """The socket still leads to the first one, which stores what comes."""
    _serve(daemon.socket, daemon.database)
    daemon.exchange(line_of(audit("agent")))
    assert _stored(daemon) == 1
    assert daemon.status()["pid"] == _pid(daemon)


def test_a_database_reached_by_another_name_is_still_one_database(daemon: Daemon) -> None:
    """A symbolic link to a database in use is refused like the database itself."""
    link = daemon.place / "link.db"
    link.symlink_to(daemon.database)
    status, said = _serve(daemon.place / "other.sock", link)
    assert status == os.EX_TEMPFAIL
    assert str(_pid(daemon)) in said


# What stands at the socket's path


def test_a_stale_socket_file_is_taken_over(place: Path) -> None:
    """A daemon that was killed leaves its socket; the next one replaces it."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(os.fspath(place / "g.sock"))
    with Daemon(place) as daemon:
        daemon.exchange(line_of(audit("agent")))
        assert _stored(daemon) == 1


def test_a_regular_file_at_the_sockets_path_is_not_touched(place: Path) -> None:
    """It is somebody's file: the daemon says what is in the way, and leaves it."""
    file = place / "g.sock"
    file.write_text("precious")
    status, said = _serve(file, place / "tier2.db")
    assert status == os.EX_OSERR
    assert "not a socket" in said
    assert file.read_text() == "precious"
    assert not (place / "tier2.db").exists()


def test_a_symbolic_link_at_the_sockets_path_is_not_touched(place: Path) -> None:
    """Nor is what it leads to."""
    (place / "precious").write_text("precious")
    (place / "g.sock").symlink_to(place / "precious")
    status, _ = _serve(place / "g.sock", place / "tier2.db")
    assert status == os.EX_OSERR
    assert (place / "g.sock").read_text() == "precious"


# The end


def test_sigterm_ends_with_success_and_takes_the_socket_away(daemon: Daemon) -> None:
    """Exit status 0, and nobody finds a socket without a daemon."""
    assert daemon.stop() == 0
    assert not daemon.socket.exists()


def test_a_daemon_that_is_ready_can_be_stopped(place: Path) -> None:
    """READY=1 means all of it: a SIGTERM that follows at once drains, it does not kill."""
    assert [Daemon(place).start().stop() for _ in range(3)] == [0] * 3


def test_sigint_ends_as_sigterm_does(daemon: Daemon) -> None:
    """Ctrl-C in a terminal is an orderly end, too."""
    assert daemon.process is not None
    daemon.process.send_signal(signal.SIGINT)
    assert daemon.process.wait(PATIENCE_SECONDS) == 0
    assert not daemon.socket.exists()


def test_after_an_orderly_end_the_database_is_one_file(daemon: Daemon) -> None:
    """The WAL is emptied into it: it can be copied, and read where nothing can be written."""
    daemon.exchange(line_of(audit("agent")) * 100)
    assert daemon.stop() == 0
    assert not daemon.database.with_name("tier2.db-wal").exists()
    assert not daemon.database.with_name("tier2.db-shm").exists()
    copy = shutil.copy(daemon.database, daemon.place / "copy.db")
    with closing(sqlite3.connect(f"file:{copy}?immutable=1", uri=True)) as connection:
        assert connection.execute("SELECT COUNT(*) FROM audit_log").fetchone() == (100,)


def _flood(daemon: Daemon, end: Callable[[], object]) -> tuple[bytes, int, Goodbye | None]:
    """Send many batches, end the daemon after the first Ack; return producer, last Ack, Goodbye."""
    producer = new_producer()
    acked = 0
    goodbye = None
    with Peer(daemon.socket) as peer:
        peer.hello(producer)
        event = packed(audit("agent", context="c" * 200))
        for number in range(1, 2_001, 100):
            peer.send(batch(number, *[event] * 100))
        while (message := peer.read()) is not None:
            if isinstance(message, Ack):
                if not acked:
                    end()
                acked = message.sequence
            else:
                assert isinstance(message, Goodbye)
                goodbye = message
    return producer, acked, goodbye


def test_everything_acked_is_there_after_sigterm(daemon: Daemon) -> None:
    """In the midst of a flood: what was acked is in the file, and what is in the file adds up."""
    assert daemon.process is not None
    _, acked, goodbye = _flood(daemon, daemon.process.terminate)
    assert daemon.process.wait(PATIENCE_SECONDS) == 0
    assert goodbye is not None
    assert goodbye.code == "draining"
    assert 0 < acked == _stored(daemon)
    assert unbalanced_accounts(daemon) == []


def test_everything_acked_is_there_after_a_kill(daemon: Daemon) -> None:
    """SIGKILL in the midst of a flood, and a start on the same place: no acked row is missing."""
    producer, acked, _ = _flood(daemon, daemon.kill)
    daemon.start()
    with Peer(daemon.socket) as peer:
        settled = peer.hello(producer).last_sequence
    assert 0 < acked <= settled == _stored(daemon)
    assert unbalanced_accounts(daemon) == []


def test_kill_and_restart_again_and_again_stores_each_event_once(daemon: Daemon) -> None:
    """A client that sends again from the last settled number ends with every row once."""
    producer = new_producer()
    settled = 0
    for _ in range(3):
        with Peer(daemon.socket) as peer:
            settled = peer.hello(producer).last_sequence
            peer.send(
                *(
                    batch(number, audit("agent", operation=str(number)))
                    for number in range(settled + 1, settled + 41)
                )
            )
            assert isinstance(peer.read(), Ack)
            daemon.kill()
        daemon.start()
    with Peer(daemon.socket) as peer:
        settled = peer.hello(producer).last_sequence
    assert daemon.query("SELECT operation FROM audit_log ORDER BY id") == [
        (str(number),) for number in range(1, settled + 1)
    ]


def test_a_framed_peer_is_told_of_the_drain(daemon: Daemon) -> None:
    """An idle connection hears Goodbye draining, and its account is as it was acked."""
    assert daemon.process is not None
    with Peer(daemon.socket) as peer:
        peer.hello(new_producer())
        peer.send(batch(1, audit("agent")))
        peer.read_to_ack(1)
        daemon.process.terminate()
        assert peer.read_goodbye().code == "draining"
    assert daemon.process.wait(PATIENCE_SECONDS) == 0


def test_an_ndjson_peer_gets_its_answer_early_in_a_drain(daemon: Daemon) -> None:
    """`lines` says how far the daemon got; half a line is not among them."""
    assert daemon.process is not None
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(PATIENCE_SECONDS)
        peer.connect(os.fspath(daemon.socket))
        line = line_of(audit("agent"))
        peer.sendall(line * 3 + line[:20])
        wait_until(lambda: _stored(daemon) == 3)
        daemon.process.terminate()
        answer = json.loads(peer.recv(65536))
    assert (answer["lines"], answer["stored"]) == (3, 3)
    assert daemon.process.wait(PATIENCE_SECONDS) == 0


def test_a_silent_peer_does_not_delay_the_end(daemon: Daemon) -> None:
    """A connection that never said anything is simply closed."""
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(PATIENCE_SECONDS)
        peer.connect(os.fspath(daemon.socket))
        wait_until(lambda: daemon.status()["connections"] == 2)
        assert daemon.stop() == 0
        assert peer.recv(1) == b""


# Configuration


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("batch_events", "0"),
        ("batch_events", "many"),
        ("socket_mode", "rw"),
        ("log_level", "loud"),
        ("drain_timeout_seconds", "-1"),
        ("drain_timeout_seconds", "nan"),
        ("config", "/nonexistent/config.toml"),
    ],
)
def test_a_bad_setting_stops_the_start_before_anything_is_touched(
    place: Path, setting: str, value: str
) -> None:
    """Exit status 78, the setting is named, and there is no file and no directory."""
    status, said = _serve(place / "run" / "g.sock", place / "data" / "tier2.db", **{setting: value})
    assert status == os.EX_CONFIG
    assert setting in said.lower()
    assert list(place.iterdir()) == []


def test_an_unknown_variable_is_logged_with_the_nearest_and_without_its_value(place: Path) -> None:
    with Daemon(place, loglevel="secret") as daemon:
        assert daemon.status()["health"] == "ok"
    (line,) = [one for one in daemon.log.read_text().splitlines() if "GGEND_LOGLEVEL" in one]
    assert 'level=warning logger=ggend.config msg="unknown environment variable"' in line
    assert line.endswith('variable=GGEND_LOGLEVEL hint="did you mean `GGEND_LOG_LEVEL`?"')
    assert "secret" not in daemon.log.read_text()


def test_a_bad_setting_leaves_an_existing_database_alone(daemon: Daemon) -> None:
    """A mistake in the configuration at a restart costs nothing of the backlog."""
    daemon.exchange(line_of(audit("agent")))
    daemon.kill()
    before = _bytes(daemon.place, "tier2.db")
    status, _ = _serve(daemon.socket, daemon.database, intake_mib="0")
    assert status == os.EX_CONFIG
    assert _bytes(daemon.place, "tier2.db") == before


# systemd's socket


@contextmanager
def _activated(
    place: Path, *, pid: str | None = None, before: str = "pass"
) -> Iterator[socket.socket]:
    """Run a daemon as systemd does: with a listening socket as descriptor 3."""
    start = (
        "import os, sys; os.dup2(int(sys.argv[1]), 3);"
        "os.environ['LISTEN_PID'] = sys.argv[2] or str(os.getpid());"
        f"{before};"
        "os.execv(sys.executable, [sys.executable, '-m', 'ggend', 'serve'])"
    )
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.fspath(place / "systemd.sock"))
        listening.listen()
        process = subprocess.Popen(
            [sys.executable, "-c", start, str(listening.fileno()), pid or ""],
            env={
                **_environment(place / "own.sock", place / "tier2.db"),
                "LISTEN_FDS": "1",
                "LISTEN_FDNAMES": "ggend.socket",
            },
            pass_fds=[listening.fileno()],
            stderr=subprocess.DEVNULL,
        )
        try:
            yield listening
        finally:
            process.terminate()
            assert process.wait(PATIENCE_SECONDS) == 0


def _tell(path: Path, sent: bytes) -> dict[str, Any]:
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(PATIENCE_SECONDS)
        peer.connect(os.fspath(path))
        peer.sendall(sent)
        peer.shutdown(socket.SHUT_WR)
        answer: dict[str, Any] = json.loads(peer.recv(65536))
        return answer


def test_a_socket_from_systemd_is_used(place: Path) -> None:
    """What connects before the daemon runs waits in the backlog, and is served."""
    with _activated(place):
        assert _tell(place / "systemd.sock", line_of(audit("agent")))["stored"] == 1
        assert not (place / "own.sock").exists()


def test_a_socket_from_systemd_is_used_where_the_standard_streams_are_closed(place: Path) -> None:
    """They are taken by the null device, and descriptor 3 stays what it is."""
    with _activated(place, before="os.closerange(0, 3)"):
        assert _tell(place / "systemd.sock", line_of(audit("agent")))["stored"] == 1
        assert not (place / "own.sock").exists()


def test_a_socket_from_systemd_stays_when_the_daemon_ends(place: Path) -> None:
    """It is systemd's: the next daemon gets it again."""
    with _activated(place):
        assert _tell(place / "systemd.sock", line_of(audit("agent")))["stored"] == 1
    assert (place / "systemd.sock").is_socket()


def test_a_socket_that_was_passed_to_another_process_is_not_used(place: Path) -> None:
    """LISTEN_PID names somebody else: the daemon binds its own path."""
    with _activated(place, pid="1"):
        wait_until((place / "own.sock").exists)
        wait_until(lambda: _connects(place / "own.sock"))
        assert _tell(place / "own.sock", line_of(audit("agent")))["stored"] == 1


def _connects(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as peer:
        return peer.connect_ex(os.fspath(path)) == 0


# Files that are not this ggend's database


def _bytes(place: Path, name: str) -> dict[str, bytes]:
    """A database file and what SQLite keeps beside it; a -shm is memory, not contents."""
    return {
        file.name: file.read_bytes()
        for file in place.iterdir()
        if re.fullmatch(re.escape(name) + "(-wal|-journal)?", file.name)
    }


def _make(path: Path, *statements: str, wal: bool = False) -> None:
    """Create a database by SQL; with `wal`, as a crash leaves it, with commits in its -wal."""
    source = path.with_name("source.db")
    with closing(sqlite3.connect(source, isolation_level=None)) as connection:
        if wal:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA wal_autocheckpoint = 0")
        for statement in statements:
            connection.executescript(statement)
        shutil.copy(source, path)
        if wal:
            shutil.copy(f"{source}-wal", f"{path}-wal")
            assert Path(f"{path}-wal").stat().st_size > 0
    source.unlink()


def _version_1() -> str:
    sql = resources.files("ggend_schema").joinpath("sql", "0001_tier2.sql")
    return sql.read_text(encoding="utf-8")


def _newer() -> tuple[str, ...]:
    files = sorted(
        file.name
        for file in resources.files("ggend_schema").joinpath("sql").iterdir()
        if file.name.endswith(".sql")
    )
    return (
        *(
            resources.files("ggend_schema").joinpath("sql", name).read_text(encoding="utf-8")
            for name in files
        ),
        f"PRAGMA application_id = {0x67676E64}",
        f"PRAGMA user_version = {int(files[-1][:4]) + 1}",
    )


_NOTES = "CREATE TABLE notes (text); INSERT INTO notes VALUES ('precious');"

#: What makes the file, and what the message must name.
_FOREIGN: dict[str, tuple[Callable[[Path], object], str]] = {
    "another application's": (
        lambda path: _make(path, _NOTES, "PRAGMA application_id = 77"),
        "another application",
    ),
    "an application's without an id": (lambda path: _make(path, _NOTES), "another application"),
    "an application's with a version": (
        lambda path: _make(path, _NOTES, "PRAGMA user_version = 2"),
        "another application",
    ),
    "another application's, still without tables": (
        lambda path: _make(path, "PRAGMA application_id = 77"),
        "another application",
    ),
    "another application's after a crash": (
        lambda path: _make(path, _NOTES, "PRAGMA application_id = 77", wal=True),
        "another application",
    ),
    "version 1.0.0": (lambda path: _make(path, _version_1()), "1.0.0"),
    "version 1.0.0 after a crash": (lambda path: _make(path, _version_1(), wal=True), "1.0.0"),
    "a newer ggend's": (lambda path: _make(path, *_newer()), "upgrade ggend"),
    "a newer ggend's after a crash": (
        lambda path: _make(path, *_newer(), wal=True),
        "upgrade ggend",
    ),
    "a text": (lambda path: path.write_text("hello\n"), "SQLite"),
    "garbage": (lambda path: path.write_bytes(bytes(range(256)) * 64), "SQLite"),
    "a header and garbage": (
        lambda path: path.write_bytes(b"SQLite format 3\0" + bytes(range(256)) * 64),
        "SQLite",
    ),
}


@pytest.mark.parametrize(("make", "named"), _FOREIGN.values(), ids=_FOREIGN.keys())
def test_a_file_that_is_not_ours_is_refused_untouched(
    place: Path, make: Callable[[Path], object], named: str
) -> None:
    """Exit status 65, a reason, and every byte is where it was; no socket is left."""
    database = place / "tier2.db"
    make(database)
    before = _bytes(place, database.name)
    status, said = _serve(place / "g.sock", database, upgrade="false")
    assert status == os.EX_DATAERR
    assert named in said
    assert _bytes(place, database.name) == before
    assert not (place / "g.sock").exists()


def test_an_empty_file_becomes_the_database(place: Path) -> None:
    """`touch tier2.db` and `mktemp` make no database of another application."""
    (place / "tier2.db").touch()
    with Daemon(place) as daemon:
        daemon.exchange(line_of(audit("agent")))
        assert _stored(daemon) == 1


def test_a_directory_is_no_database(place: Path) -> None:
    """It cannot be opened, and the daemon says so."""
    (place / "tier2.db").mkdir()
    status, said = _serve(place / "g.sock", place / "tier2.db")
    assert status == os.EX_DATAERR
    assert "tier2.db" in said


# Who may read


@pytest.fixture
def permissive() -> Iterator[None]:
    """A umask that forbids nobody anything."""
    previous = os.umask(0)
    yield
    os.umask(previous)


@pytest.mark.usefixtures("permissive")
def test_files_are_private_whatever_the_umask(place: Path) -> None:
    """Socket, database, WAL and locks are 0600: events are not everybody's business."""
    with Daemon(place) as daemon:
        daemon.exchange(line_of(audit("agent")))
        names = ("g.sock", "tier2.db", "tier2.db-wal", "tier2.db-shm", "tier2.db.lock")
        assert {name: oct(_mode(place / name)) for name in names} == dict.fromkeys(names, "0o600")


@pytest.mark.usefixtures("permissive")
def test_directories_that_are_made_are_private(place: Path) -> None:
    """The daemon makes the directories that are missing, for its user alone."""
    daemon = Daemon(place)
    daemon.socket = place / "run" / "g.sock"
    daemon.database = place / "data" / "ggend" / "tier2.db"
    with daemon:
        assert [oct(_mode(place / name)) for name in ("run", "data", "data/ggend")] == ["0o700"] * 3


def test_the_sockets_mode_can_be_chosen(place: Path) -> None:
    """`socket_mode` opens the socket to a group, and nothing else."""
    with Daemon(place, socket_mode="0660") as daemon:
        daemon.exchange(line_of(audit("agent")))
        assert oct(_mode(daemon.socket)) == "0o660"
        assert oct(_mode(daemon.database)) == "0o600"


def test_a_database_path_need_not_be_utf8(place: Path) -> None:
    """A path is bytes: the daemon starts, answers and stops with any of them."""
    odd = Path(os.fsdecode(os.fsencode(place) + b"/x\xff"))
    odd.mkdir()
    daemon = Daemon(place)
    daemon.database = odd / "tier2.db"
    with daemon:
        assert daemon.status()["database"] == f"{place}/x\\xff/tier2.db"
    assert daemon.process is not None
    assert daemon.process.returncode == 0
    with daemon:  # and once more, now that the file is there
        assert daemon.status()["health"] == "ok"


def test_a_database_that_is_taken_away_ends_the_daemon(daemon: Daemon) -> None:
    """Nothing is acknowledged that would go into a file without a name."""
    assert daemon.process is not None
    daemon.exchange(line_of(audit("agent")))
    daemon.database.unlink()
    with suppress(ConnectionError):  # it may have noticed before this arrives, or before it is read
        assert daemon.exchange(line_of(audit("agent"))) == b""
    assert daemon.process.wait(PATIENCE_SECONDS) == os.EX_OSFILE
    assert "was removed" in daemon.log.read_text()


@pytest.mark.parametrize("flag", ["--database", "--socket"])
@pytest.mark.parametrize("value", ["/", "", "."])
def test_a_path_without_a_name_is_a_bad_value(place: Path, flag: str, value: str) -> None:
    ran = run_ggend("serve", flag, value, environ={"HOME": os.fspath(place)}, directory=place)
    assert ran.returncode == os.EX_CONFIG
    assert "Traceback" not in ran.stderr
