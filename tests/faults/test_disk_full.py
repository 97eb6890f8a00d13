"""A full disk stops acks, not the daemon; what was sent meanwhile is stored when there is room."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from ggend_client import Audit, Client
from support.daemon_process import Daemon
from support.framed_peer import Peer, audit, batch, new_producer
from support.patience import PATIENCE_SECONDS, wait_until
from support.processes import run_ggend
from support.watchdog_daemon import WatchdogDaemon

#: Bytes of the disk, and of the file that fills nearly all of what an empty database leaves.
_DISK_BYTES = 6 * 1024 * 1024
_LEFT_BYTES = 256 * 1024

#: Events that do not fit into what is left.
_EVENTS = 3_000


@pytest.fixture
def small_disk(place: Path) -> Iterator[Path]:
    """A file system of its own that is soon full."""
    disk = place / "disk"
    disk.mkdir()
    options = f"size={_DISK_BYTES}"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "ggend-test", disk], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", disk], check=True)


def _fill(disk: Path) -> Path:
    """Leave room for little; return the file that takes the rest."""
    filler = disk / "filler"
    used = sum(file.stat().st_size for file in disk.iterdir())
    filler.write_bytes(bytes(_DISK_BYTES - used - _LEFT_BYTES))
    return filler


def test_a_full_disk_is_waited_out(small_disk: Path) -> None:
    daemon = WatchdogDaemon(small_disk)
    with daemon, Client(daemon.socket) as client:
        client.emit(Audit(agent_id="a", operation="first", status="completed"))
        assert client.flush(PATIENCE_SECONDS)
        filler = _fill(small_disk)
        for number in range(_EVENTS):
            assert client.emit(Audit(agent_id="a", operation=f"{number}", status="completed"))
        wait_until(lambda: daemon.status()["health"] != "ok", "the disk was never full")
        assert not client.flush(0)
        assert "full" in str(daemon.status()["trouble"])
        fed = len(daemon.fed())
        wait_until(
            lambda: any(
                "degraded: database or disk is full" in told for told in daemon.status_lines()
            ),
            "the service manager does not hear of it",
        )
        wait_until(lambda: len(daemon.fed()) >= fed + 4, "the watchdog is not fed")
        filler.unlink()
        assert client.flush(PATIENCE_SECONDS)
        assert daemon.status()["health"] == "ok"
        assert daemon.query("SELECT count(*), count(DISTINCT operation) FROM audit_log") == [
            (_EVENTS + 1, _EVENTS + 1)
        ]
        assert daemon.stop() == 0


def test_a_stop_does_not_wait_for_room(small_disk: Path) -> None:
    """What was not stored was not acked either, and is sent again to the next daemon."""
    daemon = Daemon(small_disk, drain_timeout_seconds=0.3)
    producer = new_producer()
    events = [audit("a", operation=f"{number}") for number in range(_EVENTS)]
    with daemon, Peer(daemon.socket) as peer:
        filler = _fill(small_disk)
        peer.hello(producer)
        peer.send(batch(1, *events))
        wait_until(lambda: daemon.status()["health"] != "ok", "the disk was never full")
        assert daemon.stop() == 0
    assert "stopped without storing" in daemon.log.read_text()
    filler.unlink()
    with daemon, Peer(daemon.socket) as peer:
        assert peer.hello(producer).last_sequence == 0
        peer.send(batch(1, *events))
        peer.read_to_ack(_EVENTS)
        assert daemon.query("SELECT count(*) FROM audit_log") == [(_EVENTS,)]


#: Old receipts that a purge is to delete: as many as two slices take.
_OLD_RECEIPTS = 700


def _fill_to_the_last_byte(disk: Path) -> Path:
    """Leave room for nothing; return the file that takes it."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
    return filler


def _with_old_receipts(disk: Path, daemon: Daemon) -> None:
    """Store receipts with stages, and make them old."""
    with daemon:
        lines = "".join(
            f'{{"type":"receipt_emitted","execution_id":"{number}","agent_id":"a{number % 7}",'
            '"operation":"generation","status":"passed","duration_ms":1}\n'
            f'{{"type":"stage_completed","execution_id":"{number}","stage":"emit",'
            '"status":"passed","duration_ms":1}\n'
            for number in range(_OLD_RECEIPTS)
        )
        assert json.loads(daemon.exchange(lines.encode()))["stored"] == 2 * _OLD_RECEIPTS
    with closing(sqlite3.connect(disk / daemon.database.name)) as connection, connection:
        connection.execute("UPDATE receipts SET created_at = '2020-01-01 00:00:00'")
    with closing(sqlite3.connect(disk / daemon.database.name)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _purge(daemon: Daemon) -> subprocess.CompletedProcess[str]:
    return run_ggend(
        *("purge", "--older-than", "30d", "--yes"),
        environ={
            "GGEND_SOCKET": os.fspath(daemon.socket),
            "GGEND_DATABASE": os.fspath(daemon.database),
        },
    )


def test_a_purge_says_at_once_that_it_has_no_room(small_disk: Path) -> None:
    """It does not wait, nothing is deleted by half, and it works when there is room."""
    daemon = Daemon(small_disk)
    _with_old_receipts(small_disk, daemon)
    with daemon:
        filler = _fill_to_the_last_byte(small_disk)
        done = _purge(daemon)
        assert done.returncode == os.EX_IOERR, done
        assert f"the disk of {daemon.database} is full" in done.stderr
        assert "KiB" in done.stderr
        assert "free about" in done.stderr
        assert daemon.query("SELECT count(*) FROM receipts") == [(_OLD_RECEIPTS,)]
        filler.unlink()
        assert _purge(daemon).returncode == 0
        assert daemon.query("SELECT count(*) FROM receipts") == [(0,)]
        assert daemon.stop() == 0


def test_a_purge_goes_before_what_waits_for_room(small_disk: Path) -> None:
    """It writes over the WAL that is there, where the file need not grow for what is in it."""
    daemon = Daemon(small_disk)
    _with_old_receipts(small_disk, daemon)
    producer = new_producer()
    with daemon, Peer(daemon.socket) as peer:
        peer.hello(producer)
        peer.send(batch(1, *(audit("a", operation=f"{number}") for number in range(2_000))))
        peer.read_to_ack(2_000)
        with closing(sqlite3.connect(daemon.database)) as connection:
            connection.execute("PRAGMA wal_checkpoint(FULL)").fetchall()
        filler = _fill_to_the_last_byte(small_disk)
        peer.send(batch(2_001, *(audit("b", context="x" * 400) for _ in range(_EVENTS))))
        wait_until(lambda: daemon.status()["health"] != "ok", "the disk was never full")
        done = _purge(daemon)
        assert done.returncode == 0, done
        assert daemon.query("SELECT count(*) FROM receipts") == [(0,)]
        filler.unlink()
        peer.read_to_ack(2_000 + _EVENTS)
        wait_until(lambda: daemon.status()["health"] == "ok", "it does not recover")
        assert daemon.stop() == 0


@pytest.mark.parametrize(("left_kib", "is_enough"), [(0, False), (64, False), (400, True)])
def test_a_purge_without_a_daemon_takes_smaller_slices(
    small_disk: Path, left_kib: int, is_enough: bool
) -> None:
    """One of 1,000 rows would take more than 400 KiB."""
    daemon = Daemon(small_disk)
    _with_old_receipts(small_disk, daemon)
    filler = _fill_to_the_last_byte(small_disk)
    os.truncate(filler, filler.stat().st_size - left_kib * 1024)
    done = _purge(daemon)
    assert done.returncode == (0 if is_enough else os.EX_IOERR), done
    filler.unlink()
    with closing(sqlite3.connect(daemon.database)) as connection:
        (left,) = connection.execute("SELECT count(*) FROM receipts").fetchone()
    assert left == (0 if is_enough else _OLD_RECEIPTS)
    assert is_enough or "hint: free " in done.stderr
