"""Each subject of `ggend doctor`, with real files and sockets that are as wrong as they get."""

from __future__ import annotations

import os
import pickle
import shutil
import socket
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import pytest

from ggend.doctor.clock import look_at_clock
from ggend.doctor.configuration import look_at_configuration
from ggend.doctor.conversation import Answer, talk
from ggend.doctor.database_file import Contents, look_at_database, read_contents
from ggend.doctor.diagnosis import Diagnosis, Verdict, failed, first_failure, ok, warning
from ggend.doctor.disk import look_at_disk
from ggend.doctor.examine import examine
from ggend.doctor.installation import Installation, find_installation
from ggend.doctor.permissions import look_at_permissions
from ggend.doctor.reachability import look_at_daemon, look_at_socket, unit_of
from ggend.doctor.rights import Account, closed_directory, nearest_directory
from ggend.doctor.spooled import look_at_spool
from ggend.doctor.sqlite_library import look_at_sqlite
from ggend_schema.migrations import migrations, schema_version
from support.version_1 import make_version_1

T = TypeVar("T")

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
not_root = pytest.mark.skipif(os.geteuid() == 0, reason="root may do everything")


def installation(place: Path, **variables: str) -> Installation:
    """The installation of a user whose home is `place`."""
    return find_installation(
        environ={"HOME": str(place), "XDG_RUNTIME_DIR": str(place)} | variables
    )


def make_database(path: Path, *, version: int | None = None) -> Path:
    with closing(sqlite3.connect(path)) as connection:
        for migration in migrations():
            connection.executescript(migration.sql)
        connection.execute(f"PRAGMA user_version = {version or schema_version()}")
    path.chmod(0o600)
    return path


def judged(place: Path, path: Path) -> Diagnosis:
    """What is said of a database that no daemon has open."""
    found = installation(place, GGEND_DATABASE=str(path))
    return look_at_database(found, Answer(), path, read_contents(path, Answer()))


#: Nobody ever answers there, so that it does not matter how long a test waits.
UNANSWERED_SECONDS = 0.1


@contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    with closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(str(path))
        listener.listen(1)
        yield listener


def everything_below(place: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path): ((found := path.lstat()).st_size, found.st_mtime_ns) for path in place.rglob("*")
    }


def as_another_user(look: Callable[[], T]) -> T:
    """Return what a child finds that has become a user without rights. Only root can."""
    look()  # so that everything is imported that the child may not read
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.setgroups([])
            os.setgid(12345)
            os.setuid(12345)
            os.write(writing, pickle.dumps(look()))
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as found:
        content = found.read()
    os.waitpid(child, 0)
    told: T = pickle.loads(content)  # noqa: S301 - from the child
    return told


# configuration


def test_without_a_file_the_defaults_apply(place: Path) -> None:
    found = look_at_configuration(installation(place))
    assert found.verdict is Verdict.OK
    assert "defaults" in found.detail


def test_the_files_and_variables_that_count_are_named(place: Path) -> None:
    (place / "c.toml").write_text('log_level = "debug"\n')
    settings = {"GGEND_CONFIG": str(place / "c.toml"), "GGEND_BATCH_EVENTS": "7"}
    found = look_at_configuration(installation(place, **settings))
    assert found.detail == f"{place}/c.toml; variables GGEND_BATCH_EVENTS"


@pytest.mark.parametrize(
    "content", [b"log_level = 'loud'", b"nonsense", b"\xff\xfe", b"unknown_key = 1", b"[a]\nb = 1"]
)
def test_a_wrong_file_fails_and_the_rest_is_looked_at(place: Path, content: bytes) -> None:
    (place / "c.toml").write_bytes(content)
    found = installation(place, GGEND_CONFIG=str(place / "c.toml"), GGEND_SOCKET="/x/s")
    told = look_at_configuration(found)
    assert (told.verdict, told.exit_status) == (Verdict.FAILED, os.EX_CONFIG)
    assert told.hint
    assert found.sockets == [Path("/x/s")]


def test_a_configuration_that_is_a_directory_or_missing_fails(place: Path) -> None:
    for path in (place, place / "none.toml"):
        told = look_at_configuration(installation(place, GGEND_CONFIG=str(path)))
        assert told.verdict is Verdict.FAILED


def test_an_unknown_variable_is_a_warning_with_the_nearest_name(place: Path) -> None:
    told = look_at_configuration(installation(place, GGEND_SOKET="/x"))
    assert told.verdict is Verdict.WARNING
    assert "GGEND_SOKET" in told.detail
    assert "GGEND_SOCKET" in told.hint


# socket


def socket_of(place: Path, path: Path) -> Diagnosis:
    found = installation(place, GGEND_SOCKET=str(path))
    return look_at_socket(found, talk(found.sockets, 0.1))


def test_a_socket_that_does_not_exist_is_named_with_its_source(place: Path) -> None:
    told = socket_of(place, place / "none")
    assert (told.verdict, told.exit_status) == (Verdict.FAILED, os.EX_UNAVAILABLE)
    assert f"{place}/none (GGEND_SOCKET)" in told.detail


def test_without_a_choice_all_default_places_are_named(place: Path) -> None:
    found = installation(place)
    told = look_at_socket(found, Answer())
    assert all(str(path) in told.detail for path in found.sockets)
    assert len(found.sockets) == 3


def test_a_file_where_the_socket_should_be_is_called_what_it_is(place: Path) -> None:
    (place / "file").touch()
    assert "is a regular file, not a socket" in socket_of(place, place / "file").detail
    assert "is a directory, not a socket" in socket_of(place, place).detail
    os.mkfifo(place / "fifo")
    assert "is a FIFO, not a socket" in socket_of(place, place / "fifo").detail
    (place / "link").symlink_to(place / "none")
    assert "a symbolic link to nothing" in socket_of(place, place / "link").detail


def test_a_socket_that_a_dead_daemon_left_is_recognised(place: Path) -> None:
    with listening(place / "s"):
        pass
    told = socket_of(place, place / "s")
    assert "nobody listens" in told.detail
    assert "start the daemon" in told.hint


def test_a_path_that_is_too_long_for_a_socket_is_wrong_configuration(place: Path) -> None:
    found = installation(place, XDG_RUNTIME_DIR=f"{place}/{'x' * 120}")
    told = look_at_socket(found, talk(found.sockets, 0.1))
    assert (told.verdict, told.exit_status) == (Verdict.FAILED, os.EX_CONFIG)


def test_a_socket_for_every_user_is_a_warning_only_where_all_may_come(place: Path) -> None:
    with listening(place / "s"):
        (place / "s").chmod(0o666)
        place.chmod(0o700)
        found = installation(place, GGEND_SOCKET=str(place / "s"))
        answer = Answer(socket=place / "s", status={})
        assert look_at_socket(found, answer).verdict is Verdict.OK
        place.chmod(0o755)
        assert look_at_socket(found, answer).verdict is Verdict.WARNING


@not_root
def test_a_directory_that_this_user_may_not_enter_is_named(place: Path) -> None:
    (place / "closed").mkdir(mode=0o000)
    told = socket_of(place, place / "closed" / "s")
    assert (told.verdict, told.exit_status) == (Verdict.FAILED, os.EX_NOPERM)
    assert f"may not enter {place}/closed" in told.detail


# daemon


def test_what_listens_and_says_nothing_does_not_answer(place: Path) -> None:
    with listening(place / "s"):
        found = installation(place, GGEND_SOCKET=str(place / "s"))
        answer = talk(found.sockets, 0.1)
        assert answer.socket == place / "s"
        told = look_at_daemon(found, answer, place / "d.db")
    assert (told.verdict, told.exit_status) == (Verdict.FAILED, os.EX_UNAVAILABLE)
    assert "does not answer" in told.detail


@pytest.mark.parametrize(
    ("status", "verdict", "words"),
    [
        ({"health": "ok", "version": "0.1.0"}, Verdict.OK, "healthy"),
        ({"health": "ok", "version": "9.9"}, Verdict.WARNING, "this ggend is"),
        ({"trouble": "the disk is full"}, Verdict.FAILED, "degraded: the disk is full"),
        ({"hook_errors": {"slo": "no"}}, Verdict.WARNING, "slo: no"),
        ({"health": "degraded", "objectives_error": "x"}, Verdict.WARNING, "degraded: x"),
        ({}, Verdict.WARNING, "no reason"),
        (
            {"pid": "x", "uptime_seconds": "y", "hook_errors": 7, "database": 1},
            Verdict.WARNING,
            "x",
        ),
        ({"pid": 10**30, "uptime_seconds": 1e300}, Verdict.WARNING, "no reason"),
        (
            {"health": "ok", "version": "0.1.0", "connections": 5, "max_connections": 5},
            Verdict.WARNING,
            "all 5 connections",
        ),
    ],
)
def test_the_answer_of_a_daemon_is_judged_whatever_it_holds(
    place: Path, status: dict[str, object], verdict: Verdict, words: str
) -> None:
    answer = Answer(socket=place / "s", status=status)
    told = look_at_daemon(installation(place), answer, place / "d.db")
    assert told.verdict is verdict
    assert words in told.detail


def test_a_daemon_with_another_database_than_the_commands_is_a_warning(place: Path) -> None:
    status = {"health": "ok", "version": "0.1.0", "database": "/srv/other.db"}
    answer = Answer(socket=place / "s", status=status)
    found = installation(place, GGEND_DATABASE=str(place / "mine.db"))
    told = look_at_daemon(found, answer, place / "mine.db")
    assert told.verdict is Verdict.WARNING
    assert "/srv/other.db" in told.detail


@pytest.mark.parametrize(
    ("cgroup", "unit"),
    [
        ("0::/system.slice/ggend.service\n", "ggend.service"),
        (
            "0::/user.slice/user-1000.slice/user@1000.service/app.slice/ggend.service\n",
            "ggend.service",
        ),
        ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/app-x.scope\n", ""),
        ("0::/user.slice/user-1000.slice/session-3.scope\n", ""),
        ("0::/\n", ""),
        ("", ""),
    ],
)
def test_the_unit_of_a_daemon_is_read_from_its_control_group(cgroup: str, unit: str) -> None:
    assert unit_of(cgroup) == unit


# database


def test_a_sound_database_is_read_without_a_trace(place: Path) -> None:
    path = make_database(place / "tier2.db")
    before = everything_below(place)
    told = judged(place, path)
    assert told.verdict is Verdict.OK
    assert f"schema version {schema_version()}" in told.detail
    assert everything_below(place) == before


def test_a_database_that_does_not_exist_is_a_warning(place: Path) -> None:
    told = judged(place, place / "no" / "tier2.db")
    assert told.verdict is Verdict.WARNING
    assert "does not exist yet" in told.detail
    assert not (place / "no").exists()


def test_versions_decide(place: Path) -> None:
    newer = judged(place, make_database(place / "new.db", version=99))
    assert (newer.verdict, newer.exit_status) == (Verdict.FAILED, os.EX_DATAERR)
    make_version_1(place / "old.db", executions=2, odd=False)
    older = judged(place, place / "old.db")
    assert older.verdict is Verdict.WARNING
    assert "schema version 1" in older.detail


def test_what_is_no_database_fails(place: Path) -> None:
    (place / "text").write_text("not a database" * 100)
    assert "is not an SQLite database" in judged(place, place / "text").detail
    with closing(sqlite3.connect(place / "other.db")) as connection:
        connection.execute("CREATE TABLE t (x)")
    assert "not a tier 2 database" in judged(place, place / "other.db").detail
    os.mkfifo(place / "fifo")
    assert "is a FIFO" in judged(place, place / "fifo").detail
    assert "is a directory" in judged(place, place).detail


def test_a_database_that_was_cut_off_is_damaged(place: Path) -> None:
    path = make_database(place / "tier2.db")
    os.truncate(path, 3 * 4096 + 100)
    told = judged(place, path)
    assert (told.verdict, told.exit_status) == (Verdict.FAILED, os.EX_DATAERR)
    assert "ggend check" in told.hint


def test_an_empty_file_and_a_lost_file_are_told_apart(place: Path) -> None:
    path = place / "tier2.db"
    path.touch()
    assert judged(place, path).verdict is Verdict.WARNING
    path.unlink()
    (place / "tier2.db-wal").write_bytes(b"x")
    assert "its WAL is still there" in judged(place, path).detail


def test_a_file_that_was_set_aside_is_shown(place: Path) -> None:
    path = make_database(place / "tier2.db")
    shutil.copy(path, place / "tier2.db.corrupt-20260101T000000Z")
    told = judged(place, path)
    assert told.verdict is Verdict.WARNING
    assert "tier2.db.corrupt-20260101T000000Z" in told.detail


def test_a_fifo_beside_a_database_holds_nobody_up(place: Path) -> None:
    for end in ("-wal", ".wal-record", ".lock"):
        path = make_database(place / f"db{end}.db")
        os.mkfifo(f"{path}{end}")
        assert judged(place, path).subject == "database"


# permissions


def test_a_private_database_is_fine(place: Path) -> None:
    told = look_at_permissions(Answer(), make_database(place / "tier2.db"))
    assert told.verdict is Verdict.OK


def test_what_every_user_may_write_to_is_a_warning(place: Path) -> None:
    path = make_database(place / "tier2.db")
    path.chmod(0o666)
    told = look_at_permissions(Answer(), path)
    assert (told.verdict, told.hint) == (Verdict.WARNING, f"chmod o-w {path}")
    path.chmod(0o600)
    place.chmod(0o777)
    assert look_at_permissions(Answer(), path).verdict is Verdict.WARNING
    place.chmod(0o1777)
    assert look_at_permissions(Answer(), path).verdict is Verdict.OK


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_wal_of_root_beside_the_database_of_another_user_fails(place: Path) -> None:
    path = make_database(place / "tier2.db")
    (place / "tier2.db-wal").write_bytes(b"")
    (place / "tier2.db-wal").chmod(0o600)
    os.chown(path, 12345, 12345)
    os.chown(place, 12345, 12345)
    told = look_at_permissions(Answer(), path)
    assert (told.verdict, told.exit_status) == (Verdict.FAILED, os.EX_NOPERM)
    assert f"uid 12345 may not write to {path}-wal" in told.detail
    os.chown(place, 0, 0)
    assert "SQLite makes files in it" in look_at_permissions(Answer(), path).detail


def test_a_mode_is_read_as_the_kernel_reads_it(place: Path) -> None:
    place.chmod(0o070)
    found = place.stat()
    assert Account(0, ()).may_write(found)
    assert not Account(found.st_uid or 1, ()).may_write(found) or found.st_uid == 0
    assert Account(999_999, {found.st_gid}).may_write(found)
    assert not Account(999_999, ()).may_write(found)
    place.chmod(0o700)


def test_the_way_to_a_path_ends_where_nothing_exists(place: Path) -> None:
    assert closed_directory(place / "a" / "b" / "c") is None
    assert nearest_directory(place / "a" / "b" / "c") == place
    (place / "file").touch()
    assert nearest_directory(place / "file" / "c") == place


# spool


def test_a_spool_that_does_not_exist_is_empty_and_is_not_made(place: Path) -> None:
    assert look_at_spool(installation(place)).verdict is Verdict.OK
    assert list(place.iterdir()) == []


def test_a_spool_that_clients_refuse_fails(place: Path) -> None:
    place.chmod(0o777)
    told = look_at_spool(installation(place, GGEND_SPOOL_DIR=str(place)))
    assert (told.verdict, told.exit_status) == (Verdict.FAILED, os.EX_NOPERM)
    assert told.hint == f"chmod 700 {place}"
    place.chmod(0o700)
    (place / "file").touch()
    told = look_at_spool(installation(place, GGEND_SPOOL_DIR=str(place / "file")))
    assert "is a regular file, not a directory" in told.detail


def test_files_set_aside_are_a_warning(place: Path) -> None:
    (place / f"{'ab' * 16}-{1:020}.segment.corrupt").write_bytes(b"x")
    told = look_at_spool(installation(place, GGEND_SPOOL_DIR=str(place)))
    assert told.verdict is Verdict.WARNING
    assert "set aside" in told.detail


# disk


def test_a_disk_with_room_is_fine_or_says_why_not(place: Path) -> None:
    told = look_at_disk(place / "no" / "tier2.db", place / "s", None)
    assert told.subject == "disk"
    assert told.verdict is Verdict.OK or told.hint


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"f_bavail": 10}, "the disk is full"),
        ({"f_favail": 0, "f_files": 100}, "no free inode"),
        ({"f_flag": os.ST_RDONLY}, "mounted read-only"),
    ],
)
def test_a_disk_that_takes_nothing_fails(
    place: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, int], words: str
) -> None:
    real = os.statvfs(place)

    class Found:
        f_bavail, f_frsize, f_flag, f_fsid = 10**9, 4096, 0, real.f_fsid
        f_files, f_favail, f_blocks, f_bfree = 100, 100, 10**9, 10**9

    for name, value in change.items():
        setattr(Found, name, value)
    monkeypatch.setattr("os.statvfs", lambda _: Found)
    told = look_at_disk(place / "tier2.db", place / "s", None)
    assert (told.verdict, told.exit_status) == (Verdict.FAILED, os.EX_IOERR)
    assert words in told.detail


# clock


def test_a_receipt_from_the_future_is_a_warning() -> None:
    later = (NOW + timedelta(hours=3)).strftime("%Y-%m-%d %H:%M:%S.000")
    told = look_at_clock(Contents(newest=later), NOW, synchronized=True)
    assert told.verdict is Verdict.WARNING
    assert "3:00:00 ahead" in told.detail


@pytest.mark.parametrize("newest", [None, "2026-11-29 11:00:00", "nonsense", "9" * 50])
def test_a_clock_with_older_rows_is_fine(newest: str | None) -> None:
    assert look_at_clock(Contents(newest=newest), NOW, synchronized=True).verdict is Verdict.OK


def test_a_clock_that_nothing_keeps_right_is_a_warning() -> None:
    assert look_at_clock(None, NOW, synchronized=False).verdict is Verdict.WARNING
    assert look_at_clock(None, NOW, synchronized=None).verdict is Verdict.OK
    after_boot = datetime(1970, 1, 1, tzinfo=UTC)
    assert look_at_clock(None, after_boot, synchronized=None).verdict is Verdict.WARNING


# another user


@root_only
def test_another_user_is_told_which_directory_is_closed(place: Path) -> None:
    path = make_database(place / "tier2.db")

    def look() -> list[Diagnosis]:
        found = installation(place, GGEND_SOCKET=str(place / "s"), GGEND_DATABASE=str(path))
        return examine(found, timeout=UNANSWERED_SECONDS)

    with listening(place / "s"):
        place.chmod(0o700)
        told = {one.subject: one for one in as_another_user(look)}
    assert told["configuration"].exit_status == os.EX_CONFIG
    assert told["socket"].exit_status == told["database"].exit_status == os.EX_NOPERM
    for subject in ("socket", "database", "permissions"):
        assert f"may not enter {place}" in told[subject].detail
    assert "may not connect" in told["daemon"].detail
    assert told["spool"].verdict is Verdict.FAILED
    assert not [one for one in told.values() if "cannot be examined" in one.detail]


@root_only
def test_another_user_is_told_the_mode_of_a_socket_and_the_way_in(place: Path) -> None:
    found = installation(place, GGEND_SOCKET=str(place / "s"))
    place.chmod(0o755)
    with listening(place / "s"):
        os.chown(place / "s", 0, 54321)
        (place / "s").chmod(0o660)
        told = as_another_user(lambda: look_at_socket(found, talk(found.sockets, 0.1)))
    assert (told.verdict, told.exit_status) == (Verdict.FAILED, os.EX_NOPERM)
    assert "mode 0660" in told.detail
    assert told.hint.endswith("`sudo usermod -aG 54321 12345`")


@root_only
def test_another_user_reads_a_readable_database_without_a_trace(place: Path) -> None:
    path = make_database(place / "tier2.db")
    path.chmod(0o644)
    place.chmod(0o777)
    (place / "tier2.db.lock").touch(mode=0o600)
    (place / "tier2.db.wal-record").touch(mode=0o600)
    before = everything_below(place)
    assert as_another_user(lambda: judged(place, path)).verdict is Verdict.OK
    assert everything_below(place) == before


# SQLite, and all together


def test_sqlite_and_python_are_named() -> None:
    told = look_at_sqlite()
    assert sqlite3.sqlite_version in told.detail
    assert told.verdict is not Verdict.FAILED


def test_all_subjects_are_told_in_order_and_nothing_is_made(place: Path) -> None:
    told = examine(installation(place), timeout=UNANSWERED_SECONDS)
    assert [one.subject for one in told] == [
        "configuration",
        "socket",
        "daemon",
        "database",
        "permissions",
        "spool",
        "disk",
        "clock",
        "SQLite",
    ]
    assert all(bool(one.hint) == (one.verdict is not Verdict.OK) for one in told)
    assert all(bool(one.exit_status) == (one.verdict is Verdict.FAILED) for one in told)
    assert list(place.iterdir()) == []


def test_the_first_failure_decides_the_exit_status() -> None:
    told = [ok("a", ""), warning("b", "", "h"), failed("c", "", "h", 77), failed("d", "", "h", 65)]
    assert first_failure(told) == 77
    assert first_failure(told[:2]) == 0
