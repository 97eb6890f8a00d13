"""The watchdog is fed while the writer returns, whatever it returns; only a hang withholds it."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from support.framed_peer import Peer, audit, batch, line_of, new_producer
from support.patience import TEST_SECONDS, wait_until
from support.strace import traced
from support.watchdog_daemon import INTERVAL_SECONDS, WatchdogDaemon


@pytest.fixture
def watched(place: Path) -> Iterator[WatchdogDaemon]:
    daemon = WatchdogDaemon(place)
    with daemon:
        yield daemon


def test_an_idle_daemon_feeds_it_and_proves_that_it_can_write(watched: WatchdogDaemon) -> None:
    """The WAL grows by what the probes write, and no event is counted."""
    wait_until(lambda: len(watched.fed()) >= 4, "the watchdog is not fed")
    wal = watched.database.with_name("tier2.db-wal")
    size = wal.stat().st_size
    wait_until(lambda: wal.stat().st_size > size, "no probe is written")
    assert watched.status()["stored"] == 0
    assert watched.status_lines()[0] == "0 events stored, 0 connections"


def test_a_lock_of_somebody_else_is_no_hang(watched: WatchdogDaemon) -> None:
    """The writer comes back with BUSY again and again, and is fed."""
    with (
        closing(sqlite3.connect(watched.database, isolation_level=None)) as locker,
        Peer(watched.socket) as peer,
    ):
        peer.hello(new_producer())
        locker.execute("BEGIN IMMEDIATE")
        peer.send(batch(1, audit("a")))
        wait_until(lambda: watched.status()["health"] == "degraded", "it is not degraded")
        assert watched.status()["trouble"] == "database is locked (SQLITE_BUSY)"
        since = len(watched.fed())
        wait_until(lambda: len(watched.fed()) >= since + 4, "the watchdog is not fed")
        locker.execute("ROLLBACK")
        peer.read_to_ack(1)


def test_a_call_that_hangs_is_not_fed(watched: WatchdogDaemon) -> None:
    """A sync that does not come back: systemd would restart it; until then `status` says so."""
    inject = f"inject=fdatasync,fsync:delay_enter={int(TEST_SECONDS * 1e6)}:when=1"
    with traced(watched, "-e", "trace=fdatasync,fsync", "-e", inject):
        # The probe, since nobody sends anything: an idle daemon on a dead disk is noticed too.
        wait_until(lambda: watched.status()["health"] == "degraded", "nobody noticed")
        assert "has not returned for" in str(watched.status()["trouble"])
        fed = watched.fed()
        wait_until(lambda: time.monotonic() - fed[-1] > 1.1 * INTERVAL_SECONDS, "no time passes")
        assert watched.fed() == fed
    # It comes back after all, since nothing delays it any more: everything goes on.
    wait_until(lambda: watched.status()["health"] == "ok", "it does not recover")
    wait_until(lambda: len(watched.fed()) > len(fed), "the watchdog is not fed again")
    assert watched.exchange(line_of(audit("after")))
