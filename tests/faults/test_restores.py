"""Whatever is done to the files of a database: no ack into a damaged one, no silent undo.

The long form, with random deeds in random order, is `./dev torture restore`.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from ggend.database.restore import restore_file
from ggend.database.wal_record import record_path
from ggend.errors import DatabaseUnusable
from support.daemon_process import Daemon, DidNotStart, free_place
from support.framed_peer import audit, line_of
from support.patience import PATIENCE_SECONDS, wait_until
from support.processes import run_ggend
from torture.restores import restore_round

#: Events that make a WAL of some frames, and many pages of the file.
_EVENTS = 300


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory for a daemon, and for copies of its files."""
    with free_place() as name:
        yield Path(name)


def _fill(daemon: Daemon, agent: str) -> None:
    lines = (line_of(audit(agent, operation=f"{number:0200}")) for number in range(_EVENTS))
    assert daemon.exchange(b"".join(lines))


def _agents(daemon: Daemon) -> dict[object, object]:
    rows = daemon.query("SELECT agent_id, count(*) FROM audit_log GROUP BY 1")
    return dict(rows)  # type: ignore[arg-type]


def _backup(daemon: Daemon, name: str = "backup.db") -> Path:
    """Make a backup as SQLite does it, while the daemon runs."""
    backup = daemon.place / name
    with (
        closing(sqlite3.connect(daemon.database)) as source,
        closing(sqlite3.connect(backup)) as to,
    ):
        source.backup(to)
    return backup


def _restore(daemon: Daemon, *arguments: str) -> str:
    done = run_ggend("restore", "-d", os.fspath(daemon.database), *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _refused(daemon: Daemon) -> str:
    """Start it; return why it did not, after nothing of the files has changed."""
    before = _contents(daemon)
    with pytest.raises(DidNotStart) as refused:
        daemon.start()
    assert daemon.process is not None
    assert daemon.process.wait(PATIENCE_SECONDS) == os.EX_DATAERR
    assert _contents(daemon) == before
    if record_path(daemon.database).exists():  # else it may be a copy that is only to be read
        read = run_ggend("stats", "-d", os.fspath(daemon.database))
        assert read.returncode in (os.EX_DATAERR, os.EX_NOINPUT)
    return str(refused.value)


def _contents(daemon: Daemon) -> list[bytes]:
    files = (Path(f"{daemon.database}{suffix}") for suffix in ("", "-wal"))
    return [file.read_bytes() for file in files if file.exists()]


def _is_ended_by(daemon: Daemon, deed: Callable[[], object]) -> str:
    """Do something to the files of a running daemon; return what it said at its end."""
    deed()
    with suppress(ConnectionError):
        assert daemon.exchange(line_of(audit("after"))) == b""
    assert daemon.process is not None
    assert daemon.process.wait(PATIENCE_SECONDS) == os.EX_OSFILE
    return daemon.log.read_text()


@pytest.mark.parametrize("in_place", [False, True], ids=["moved there", "written over"])
def test_a_backup_put_under_a_running_daemon(place: Path, *, in_place: bool) -> None:
    """It ends by name, the next start opens nothing, and the choice that is made counts."""
    with Daemon(place) as daemon:
        _fill(daemon, "old")
        backup = _backup(daemon)
        _fill(daemon, "new")
        put = shutil.copyfile if in_place else shutil.move
        said = _is_ended_by(daemon, lambda: put(backup, daemon.database))
        assert ("overwritten" if in_place else "another file") in said
        assert ("overwritten" if in_place else "another file") in _refused(daemon)
        said = _restore(daemon, "--without-wal")
        assert "-wal" in said
        daemon.start()
        assert _agents(daemon) == {"old": _EVENTS}
        _fill(daemon, "later")
        assert _agents(daemon) == {"old": _EVENTS, "later": _EVENTS}
    assert run_ggend("check", os.fspath(daemon.database)).returncode == 0


@pytest.mark.parametrize("name", ["base.db", "backup.db"])
def test_a_copy_written_over_after_a_crash(place: Path, name: str) -> None:
    """Also the very file on which the WAL was begun: recovering it would undo what was restored."""
    with Daemon(place) as daemon:
        _fill(daemon, "old")
    shutil.copyfile(daemon.database, place / "base.db")
    with daemon:
        _fill(daemon, "new")
        _backup(daemon)
        daemon.kill()
        shutil.copyfile(place / name, daemon.database)
        assert "overwritten" in _refused(daemon)
        _restore(daemon, "--without-wal")
        daemon.start()
        assert _agents(daemon) == {"old": _EVENTS} | (
            {"new": _EVENTS} if name == "backup.db" else {}
        )


def test_a_copy_of_file_and_wal_is_asked_for(place: Path) -> None:
    """Only a person knows whether the two belong together; the daemon takes their word."""
    with Daemon(place) as daemon:
        _fill(daemon, "old")
        daemon.kill()
    there = Daemon(place / "there")
    there.place.mkdir()
    for suffix in ("", "-wal", ".wal-record"):
        shutil.copy2(f"{daemon.database}{suffix}", there.place)
    assert "another file" in _refused(there)
    _restore(there, "--with-wal")
    with there:
        assert _agents(there) == {"old": _EVENTS}


def test_a_wal_of_another_file_is_not_taken_for_its_own(place: Path) -> None:
    """`--with-wal` believes no one: both together must be a sound database."""
    with Daemon(place, checkpoint_events=10**7) as daemon:
        for number in range(10):
            _fill(daemon, f"{number}")
        backup = _backup(daemon)
        with closing(sqlite3.connect(backup)) as connection:
            connection.execute("DELETE FROM audit_log")
            connection.commit()
            connection.execute("VACUUM")
        daemon.kill()
    shutil.move(backup, daemon.database)
    before = _contents(daemon)
    done = run_ggend("restore", "-d", os.fspath(daemon.database), "--with-wal")
    assert done.returncode == os.EX_DATAERR
    assert "do not belong together" in done.stderr
    assert _contents(daemon) == before


@pytest.mark.parametrize(
    ("deed", "why"),
    [
        (lambda daemon: record_path(daemon.database).unlink(), "no record of the file"),
        (lambda daemon: Path(f"{daemon.database}-wal").unlink(), "its WAL is missing"),
        (lambda daemon: os.truncate(f"{daemon.database}-wal", 20_000), "is truncated"),
        (lambda daemon: daemon.database.unlink(), "it is missing"),
        (lambda daemon: os.truncate(daemon.database, 50), "overwritten"),
    ],
    ids=["no record", "no WAL", "half a WAL", "no file", "half a file"],
)
def test_what_is_missing_after_a_crash(
    place: Path, deed: Callable[[Daemon], object], why: str
) -> None:
    """It is not opened without a word: what was acked would be gone."""
    with Daemon(place) as daemon:
        _fill(daemon, "old")
        daemon.kill()
    deed(daemon)
    assert why in _refused(daemon)


@pytest.mark.parametrize("suffix", ["-wal", "-shm"])
@pytest.mark.parametrize("deed", ["removed", "replaced", "cut short"])
def test_a_wal_that_is_touched_under_a_running_daemon(place: Path, suffix: str, deed: str) -> None:
    """What would be written into it would be lost."""
    with Daemon(place) as daemon:
        _fill(daemon, "old")
        file = Path(f"{daemon.database}{suffix}")
        if deed == "removed":
            file.unlink()
        elif deed == "replaced":
            shutil.copyfile(file, place / "copy")
            shutil.move(place / "copy", file)
        elif suffix == "-wal":
            os.truncate(file, 4_000)
        else:
            pytest.skip("the kernel ends a process whose mapped file becomes shorter (SIGBUS)")
        _is_ended_by(daemon, lambda: None)


def test_the_checkpoint_of_another_program_is_none_of_that(place: Path) -> None:
    """Somebody may write beside the daemon with plain SQL, and SQLite moves the WAL then."""
    with Daemon(place) as daemon:
        for number in range(3):
            _fill(daemon, f"before {number}")
            with closing(sqlite3.connect(daemon.database)) as connection:
                connection.execute(
                    "INSERT INTO agent_memory (agent_id, memory_json) VALUES (?, '{}')", (number,)
                )
                connection.commit()
                assert connection.execute("PRAGMA wal_checkpoint").fetchone()[0] == 0
                connection.execute(f"CREATE INDEX theirs_{number} ON audit_log (operation)")
            _fill(daemon, f"after {number}")
        daemon.kill()
        daemon.start()
        assert set(_agents(daemon).values()) == {_EVENTS}
    assert len(_agents(daemon)) == 6


@pytest.mark.parametrize("mode", ["PASSIVE", "RESTART", "TRUNCATE"])
@pytest.mark.parametrize("deed", ["CREATE INDEX theirs ON audit_log (operation)", "VACUUM", ""])
def test_what_another_program_does_to_schema_and_wal_asks_nobody(
    place: Path, deed: str, mode: str
) -> None:
    """The daemon goes on, and so does the next one, after a stop in order."""
    with Daemon(place) as daemon:
        _fill(daemon, "before")
        with closing(sqlite3.connect(daemon.database)) as connection:
            if deed:
                connection.execute(deed)
            connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()
        _fill(daemon, "after")
        daemon.stop()
        daemon.start()
        assert _agents(daemon) == {"before": _EVENTS, "after": _EVENTS}


def test_a_wal_that_is_gone_is_missed_also_after_the_checkpoint_of_another(place: Path) -> None:
    with Daemon(place, checkpoint_events=10**7) as daemon:
        _fill(daemon, "old")
        with closing(sqlite3.connect(daemon.database)) as connection:
            connection.execute("PRAGMA wal_checkpoint").fetchall()
        _fill(daemon, "new")
        daemon.kill()
    Path(f"{daemon.database}-wal").unlink()
    assert "its WAL is missing" in _refused(daemon)


def test_a_restore_that_cannot_set_aside_changes_nothing(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a file system without hard links."""
    with Daemon(place) as daemon:
        _fill(daemon, "old")
        backup = _backup(daemon)
        daemon.kill()

        def refuse(*_: object) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(os, "link", refuse)
        with pytest.raises(DatabaseUnusable, match="cannot be restored"):
            restore_file(daemon.database, backup, lambda _: None)
        daemon.start()
        assert _agents(daemon) == {"old": _EVENTS}


def test_a_program_that_read_after_a_crash_has_moved_the_wal(place: Path) -> None:
    """SQLite deletes the WAL when the last connection closes; the start finds all in the file."""
    with Daemon(place) as daemon:
        _fill(daemon, "old")
        daemon.kill()
        with closing(sqlite3.connect(daemon.database)) as connection:
            connection.execute("SELECT count(*) FROM audit_log").fetchall()
        assert not Path(f"{daemon.database}-wal").exists()
        daemon.start()
        assert _agents(daemon) == {"old": _EVENTS}


def test_a_restore_keeps_everything_that_was_there(place: Path) -> None:
    """The file and its WAL, under a name of their own, and together still a database."""
    with Daemon(place) as daemon:
        _fill(daemon, "old")
        backup = _backup(daemon)
        _fill(daemon, "new")
        refused = run_ggend("restore", "-d", os.fspath(daemon.database), os.fspath(backup))
        assert refused.returncode == os.EX_TEMPFAIL
        daemon.kill()
        said = _restore(daemon, os.fspath(backup))
        aside = Path(said.strip().rpartition(" ")[2])
        with closing(sqlite3.connect(aside)) as connection:
            assert connection.execute("SELECT count(*) FROM audit_log").fetchone() == (2 * _EVENTS,)
        assert backup.exists()
        assert daemon.database.stat().st_mode & 0o777 == 0o600
        daemon.start()
        assert _agents(daemon) == {"old": _EVENTS}
        _fill(daemon, "later")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_restores_belongs_to_the_daemons_user(place: Path) -> None:
    with Daemon(place) as daemon:
        _fill(daemon, "old")
        backup = _backup(daemon)
    record_path(daemon.database).unlink()
    os.chown(daemon.database, 1234, 1234)
    daemon.database.chmod(0o640)
    _restore(daemon, os.fspath(backup))
    for path in (daemon.database, record_path(daemon.database)):
        assert (path.stat().st_uid, path.stat().st_gid) == (1234, 1234)
    assert daemon.database.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in place.glob("*.partial*")] == []


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "no backup"),
        (b"", "not a tier 2 database"),
        (b"text" * 2000, "not an SQLite database"),
    ],
)
def test_what_is_no_backup_changes_nothing(place: Path, content: bytes | None, why: str) -> None:
    """It is looked at first."""
    with Daemon(place) as daemon:
        _fill(daemon, "old")
    if content is not None:
        (place / "backup.db").write_bytes(content)
    before = _contents(daemon)
    done = run_ggend("restore", "-d", os.fspath(daemon.database), os.fspath(place / "backup.db"))
    assert done.returncode == os.EX_DATAERR
    assert why in done.stderr
    assert _contents(daemon) == before
    with daemon:
        assert _agents(daemon) == {"old": _EVENTS}


def test_three_deeds_at_random_break_no_promise() -> None:
    """The long form is `./dev torture restore`."""
    done = restore_round(count=3, seed=1)
    assert done.problems == []
    assert done.started + done.refused == 3


def test_a_daemon_that_stops_leaves_the_wal_empty_and_starts_again(place: Path) -> None:
    """And a file that was moved with nothing in its WAL asks nobody."""
    with Daemon(place) as daemon:
        _fill(daemon, "old")
        wait_until(lambda: daemon.status()["queued_events"] == 0, "it did not settle")
    moved = Daemon(place / "there")
    moved.place.mkdir()
    shutil.move(daemon.database, moved.database)
    with moved:
        assert _agents(moved) == {"old": _EVENTS}
