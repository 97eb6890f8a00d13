"""Very many stages of one receipt: others are committed in between, and a kill loses nothing."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing

import pytest

from support.daemon_process import Daemon
from support.framed_peer import (
    Peer,
    audit,
    batch,
    new_producer,
    receipt,
    stage,
    unbalanced_accounts,
)
from support.patience import wait_until

#: More than five transactions release: each takes some of the rows, of which each batch makes one.
BATCHES = 30
BATCH_EVENTS = 1_000
#: As often at most: a daemon may be killed before its first slice.
KILLS = 3

STAGES = BATCHES * BATCH_EVENTS

PARKED = "SELECT coalesce(SUM(events), 0) FROM parked_events"
NOTED = "SELECT parent, parent_id FROM pending_releases"
ACCOUNT = "SELECT last_sequence, stored, parked, rejected, lost FROM producers WHERE producer = ?"

pytestmark = pytest.mark.slow


@pytest.fixture
def producer(daemon: Daemon) -> bytes:
    """One whose stages wait for the receipt e1."""
    one = new_producer()
    with Peer(daemon.socket) as peer:
        peer.hello(one)
        for number in range(BATCHES):
            first = number * BATCH_EVENTS + 1
            peer.send(batch(first, *[stage("e1")] * BATCH_EVENTS))
            assert peer.read_to_ack(first + BATCH_EVENTS - 1) == []
    assert daemon.query(PARKED) == [(STAGES,)]
    return one


def send_receipt(daemon: Daemon, producer: bytes) -> None:
    with Peer(daemon.socket) as peer:
        peer.hello(producer)
        peer.send(batch(STAGES + 1, receipt("e1")))
        assert peer.read_to_ack(STAGES + 1) == []


def assert_complete(daemon: Daemon, producer: bytes) -> None:
    wait_until(lambda: daemon.query(PARKED) == [(0,)], "not everything was released")
    assert daemon.query(NOTED) == []
    assert daemon.query("SELECT COUNT(*) FROM pipeline_metrics") == [(STAGES,)]
    assert daemon.query(ACCOUNT, producer) == [(STAGES + 1, STAGES + 1, 0, 0, 0)]
    assert unbalanced_accounts(daemon) == []


def test_others_are_committed_between_the_slices(daemon: Daemon, producer: bytes) -> None:
    """Their audit entries see in their own transaction how much is left."""
    with closing(sqlite3.connect(daemon.database, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE seen (parked)")
        connection.execute(
            f"CREATE TRIGGER see AFTER INSERT ON audit_log BEGIN INSERT INTO seen {PARKED}; END"
        )
    is_over = threading.Event()

    def emit() -> None:
        with Peer(daemon.socket) as peer:
            peer.hello(new_producer())
            sequence = 0
            while not is_over.is_set():
                sequence += 1
                peer.send(batch(sequence, audit("a1")))
                peer.read_to_ack(sequence)

    honest = threading.Thread(target=emit)
    honest.start()
    try:
        send_receipt(daemon, producer)
        assert_complete(daemon, producer)
    finally:
        is_over.set()
        honest.join()
    in_between = "SELECT COUNT(DISTINCT parked) FROM seen WHERE parked NOT IN (0, ?)"
    ((seen,),) = daemon.query(in_between, STAGES)
    assert isinstance(seen, int)
    assert seen >= 1


def test_a_daemon_that_is_killed_between_slices_goes_on(daemon: Daemon, producer: bytes) -> None:
    send_receipt(daemon, producer)
    kills = 0
    while kills < KILLS and daemon.query(NOTED) == [("receipt", "e1")]:
        daemon.kill()
        kills += 1
        ((parked,),) = daemon.query(PARKED)
        assert daemon.query(ACCOUNT, producer) == [
            (STAGES + 1, STAGES + 1 - parked, parked, 0, 0)  # type: ignore[operator]
        ]
        daemon.start()
    assert kills >= 1
    send_receipt(daemon, producer)
    assert_complete(daemon, producer)
