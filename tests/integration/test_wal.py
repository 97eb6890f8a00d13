"""The WAL stays bounded: whoever holds it up is named, and nobody but the writer moves it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from support.daemon_process import Daemon
from support.framed_peer import Peer, audit, batch, new_producer
from support.patience import wait_until

#: More than is between two checkpoints in these tests.
_NEVER = 10_000_000

#: Bytes of a WAL that has begun anew: its header, and a frame with the first page.
_ONE_FRAME = 32 + 24 + 4096

#: Reads in a transaction, says so, and holds on until its input ends.
_READER = """
import sqlite3, sys
connection = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True, isolation_level=None)
connection.execute("BEGIN")
connection.execute("SELECT count(*) FROM audit_log").fetchall()
print(flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def reading(database: Path) -> Iterator[int]:
    """A process that never finishes reading."""
    with subprocess.Popen(
        [sys.executable, "-c", _READER, database], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid


def send_large(daemon: Daemon, count: int) -> None:
    """Have events of a megabyte each stored, one a commit."""
    with Peer(daemon.socket) as peer:
        peer.hello(new_producer())
        for number in range(1, count + 1):
            event = audit("agent", operation=f"{number}", context={"text": "x" * 1_000_000})
            peer.send(batch(number, event))
            peer.read_to_ack(number)


def _wal_bytes(daemon: Daemon) -> int:
    return Path(f"{daemon.database}-wal").stat().st_size


def test_a_reader_that_pins_the_wal_is_named_until_it_ends_and_then_the_wal_is_cut_back(
    place: Path,
) -> None:
    with Daemon(place, wal_alarm_mib=4, checkpoint_events=_NEVER) as daemon:
        send_large(daemon, 1)
        with reading(daemon.database) as pid:
            send_large(daemon, 9)
            wait_until(lambda: daemon.status()["wal_pinned_by"])
            status: dict[str, Any] = daemon.status()
            (reader,) = status["wal_pinned_by"]
            assert reader["pid"] == pid
            assert reader["command"] == Path(f"/proc/{pid}/comm").read_text().strip()
            assert status["wal_bytes"] > 8 * 1024 * 1024
            command = [
                sys.executable,
                "-m",
                "ggend",
                "status",
                "--socket",
                os.fspath(daemon.socket),
            ]
            shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            (line,) = (line for line in shown.splitlines() if line.startswith("WAL "))
            assert f"kept from shrinking by {reader['command']} (pid {pid}, for " in line
        wait_until(lambda: _wal_bytes(daemon) <= _ONE_FRAME)
        wait_until(
            lambda: daemon.log.read_text().count("the WAL is no longer blocked by readers") == 1
        )
        assert daemon.status()["wal_pinned_by"] == []
        told = [line for line in daemon.log.read_text().splitlines() if "logger=ggend.wal" in line]
        assert ["level=warning" in line for line in told] == [True, False]
        assert str(pid) in told[0]


def test_nobody_but_the_writer_moves_the_wal(place: Path) -> None:
    """Not a reader when it closes, not a command that reads, and not a commit by itself."""
    with Daemon(place, checkpoint_events=_NEVER) as daemon:
        before = daemon.database.stat().st_mtime_ns
        send_large(daemon, 9)  # by itself, SQLite would begin at 4
        wal = daemon.database.with_name(daemon.database.name + "-wal")
        size = wal.stat().st_size
        assert size > 8 * 1024 * 1024
        with closing(sqlite3.connect(f"file:{daemon.database}?mode=ro", uri=True)) as reader:
            assert reader.execute("SELECT count(*) FROM audit_log").fetchall() == [(9,)]
        command = [sys.executable, "-m", "ggend", "check", os.fspath(daemon.database)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        assert wal.stat().st_size == size
        assert daemon.database.stat().st_mtime_ns == before
