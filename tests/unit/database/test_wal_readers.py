"""Who holds up the checkpoints of a WAL, from /proc/locks, and when that is said."""

from __future__ import annotations

import logging
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from ggend.database.wal_readers import Checkpoint, WalMonitor, readers

#: Connects, reads in a transaction if told to, says so, and holds on until its input ends.
_READER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("SELECT * FROM t").fetchall()
if sys.argv[2] == "read":
    connection.execute("BEGIN")
    connection.execute("SELECT * FROM t").fetchall()
open("/proc/self/comm", "wb").write(b"r\\x1b[31m\\n\\xff")
print(flush=True)
sys.stdin.read()
"""


@contextmanager
def other_process(database: Path, what: str) -> Iterator[int]:
    """A process that has the database open, and reads or does not."""
    with subprocess.Popen(
        [sys.executable, "-c", _READER, database, what],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A connection of our own, as the daemon has one."""
    with closing(sqlite3.connect(tmp_path / "x.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL").fetchall()
        connection.execute("PRAGMA wal_autocheckpoint = 0").fetchall()
        connection.execute("CREATE TABLE t (x)")
        yield connection


def checkpoint(connection: sqlite3.Connection) -> Checkpoint:
    ((_, frames, moved),) = connection.execute("PRAGMA wal_checkpoint").fetchall()
    return Checkpoint(frames, moved, 4096)


@pytest.mark.parametrize("everything_was_moved", [False, True], ids=["in the WAL", "in the file"])
def test_a_reader_that_holds_up_the_checkpoint_is_named(
    tmp_path: Path, writer: sqlite3.Connection, everything_was_moved: bool
) -> None:
    """Also one that reads the file alone, on slot 0: no page may change under it."""
    if everything_was_moved:
        assert checkpoint(writer).is_complete
    shm = tmp_path / "x.db-shm"
    with other_process(tmp_path / "x.db", "read") as pid:
        writer.execute("INSERT INTO t VALUES (1)")
        assert not checkpoint(writer).is_complete
        (found,) = readers(shm)
        assert found.pid == pid
        assert found.command == r"r\x1b[31m\n\xff"
    assert readers(shm) == []
    assert checkpoint(writer).is_complete


def test_a_connection_that_reads_nothing_is_not_named(
    tmp_path: Path, writer: sqlite3.Connection
) -> None:
    with other_process(tmp_path / "x.db", "idle"):
        writer.execute("INSERT INTO t VALUES (1)")
        assert checkpoint(writer).is_complete
        assert readers(tmp_path / "x.db-shm") == []


def named(tmp_path: Path, lines: str) -> list[int | None]:
    """The readers that a table of locks names; `shm` stands for device and inode of the file."""
    shm = tmp_path / "shm"
    shm.touch()
    status = shm.stat()
    place = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    elsewhere = f"7f:7f:{status.st_ino}"
    table = tmp_path / "locks"
    text = lines.replace("shm", place).replace("elsewhere", elsewhere)
    table.write_text(text.replace("self", str(os.getpid())))
    return [reader.pid for reader in readers(shm, table)]


@pytest.mark.parametrize(
    ("lines", "pids"),
    [
        ("1: POSIX  ADVISORY  READ 4000001 shm 123 123", [4000001]),
        ("1: POSIX  ADVISORY  READ 4000001 shm 127 128", [4000001]),
        ("1: POSIX  ADVISORY  READ 4000001 shm 0 EOF", [4000001]),
        ("1: POSIX  ADVISORY  READ 4000001 shm 128 128", []),
        ("1: POSIX  ADVISORY  READ 4000001 shm 122 122", []),
        ("1: POSIX  ADVISORY  WRITE 4000001 shm 123 123", []),
        ("1: -> POSIX  ADVISORY  READ 4000001 shm 123 123", []),
        ("1: FLOCK  ADVISORY  READ 4000001 shm 0 EOF", []),
        ("1: POSIX  ADVISORY  READ 4000001 elsewhere 123 123", []),
        ("1: POSIX  ADVISORY  READ self shm 123 123", []),
        (
            "1: POSIX  ADVISORY  READ 0 shm 123 123\n"
            "2: POSIX  ADVISORY  READ -1 shm 124 124\n"
            "3: POSIX  ADVISORY  READ 4000001 shm 123 123\n"
            "4: POSIX  ADVISORY  READ 4000001 shm 125 125",
            [None, 4000001],
        ),
        (
            "1: POSIX  ADVISORY  READ self elsewhere 128 128\n"
            "2: POSIX  ADVISORY  READ 4000001 elsewhere 123 123\n"
            "3: POSIX  ADVISORY  READ 4000002 shm 123 123",
            [4000001],
        ),
    ],
)
def test_the_table_of_locks_is_read_right(
    tmp_path: Path, lines: str, pids: list[int | None]
) -> None:
    """The last: where the kernel shows another device than stat, our own lock tells which."""
    assert named(tmp_path, lines) == pids


def test_the_alarm_is_given_once_again_when_it_has_doubled_and_ends(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    alarm = WalMonitor(tmp_path / "x.db", 10 * 1024 * 1024)
    page = 4096 - 24
    for mib in (1, 9, 11, 12, 21, 22, 43, 44, 45):
        alarm.look(Checkpoint(mib * 256, 1, page))
    assert alarm.is_on
    assert [(record.levelname, record.__dict__["mib"]) for record in caplog.records] == [
        ("WARNING", 11),
        ("WARNING", 22),
        ("WARNING", 44),
    ]
    caplog.clear()
    for _ in range(2):
        alarm.look(Checkpoint(45 * 256, 45 * 256, page))
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert not alarm.is_on
