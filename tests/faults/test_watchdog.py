"""The watchdog is fed while the writer returns, whatever it returns; only a hang withholds it."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from running import PATIENCE_SECONDS
from tracing import traced
from watched import INTERVAL_SECONDS, Watched
from wire import Peer, audit, batch, line_of, new_producer

#: Seconds that a call of the writer hangs.
_HANG_SECONDS = 2.5 * INTERVAL_SECONDS


@pytest.fixture
def watched(place: Path) -> Iterator[Watched]:
    daemon = Watched(place)
    with daemon:
        yield daemon


def _until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)  # polling with a deadline, not hoping


def test_an_idle_daemon_feeds_it_and_proves_that_it_can_write(watched: Watched) -> None:
    """The WAL grows by what the probes write, and no event is counted."""
    _until(lambda: len(watched.fed()) >= 4, "the watchdog is not fed")
    wal = watched.database.with_name("tier2.db-wal")
    size = wal.stat().st_size
    _until(lambda: wal.stat().st_size > size, "no probe is written")
    assert watched.status()["stored"] == 0
    assert watched.status_lines()[0] == "0 events stored, 0 connections"


def test_a_lock_of_somebody_else_is_no_hang(watched: Watched) -> None:
    """The writer comes back with BUSY again and again, and is fed."""
    with (
        closing(sqlite3.connect(watched.database, isolation_level=None)) as locker,
        Peer(watched.socket) as peer,
    ):
        peer.hello(new_producer())
        locker.execute("BEGIN IMMEDIATE")
        peer.send(batch(1, audit("a")))
        _until(lambda: watched.status()["health"] == "degraded", "it is not degraded")
        assert watched.status()["trouble"] == "database is locked (SQLITE_BUSY)"
        since = len(watched.fed())
        _until(lambda: len(watched.fed()) >= since + 4, "the watchdog is not fed")
        locker.execute("ROLLBACK")
        peer.read_to_ack(1)


def test_a_call_that_hangs_is_not_fed(watched: Watched) -> None:
    """A sync that does not come back: systemd would restart it; until then `status` says so."""
    inject = f"inject=fdatasync,fsync:delay_enter={int(_HANG_SECONDS * 1e6)}:when=1"
    with traced(watched, "-e", "trace=fdatasync,fsync", "-e", inject):
        began = time.monotonic()
        # The probe, since nobody sends anything: an idle daemon on a dead disk is noticed too.
        _until(lambda: watched.status()["health"] == "degraded", "nobody noticed")
        assert "has not returned for" in str(watched.status()["trouble"])
        fed = watched.fed()
        assert time.monotonic() - began < _HANG_SECONDS + INTERVAL_SECONDS
        _until(lambda: time.monotonic() - fed[-1] > 1.1 * INTERVAL_SECONDS, "no time passes")
        assert watched.fed() == fed
        # It comes back after all: everything goes on.
        _until(lambda: watched.status()["health"] == "ok", "it does not recover")
        _until(lambda: len(watched.fed()) > len(fed), "the watchdog is not fed again")
        assert watched.exchange(line_of(audit("after")))
