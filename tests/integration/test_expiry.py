"""A running daemon gives up what was parked too long, and puts back what was rejected."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ggend_client import RequestRefused, ask
from support.daemon_process import Daemon
from support.framed_peer import Peer, batch, new_producer, receipt, stage, unbalanced_accounts
from support.patience import wait_until

#: 0.9 seconds.
DAYS = 0.00001

ACCOUNT = "SELECT last_sequence, stored, parked, rejected FROM producers WHERE producer = ?"


@contextmanager
def another_user() -> Iterator[None]:
    """Be somebody else for a while, which only root can."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(0)


def wait_for_orphans(daemon: Daemon) -> list[tuple[object, ...]]:
    """Return id, code and message of what was rejected, as soon as something is."""
    rejected = "SELECT id, code, message FROM rejected_events ORDER BY id"
    wait_until(lambda: daemon.query(rejected), "nothing was given up")
    return daemon.query(rejected)


def test_a_stage_without_a_receipt_is_given_up_and_can_be_put_back(place: Path) -> None:
    """Also one that was parked by a daemon that has ended since."""
    producer = new_producer()
    with Daemon(place) as daemon, Peer(daemon.socket) as peer:
        peer.hello(producer)
        peer.send(batch(1, stage("e1")))
        assert peer.read_to_ack(1) == []
    with Daemon(place, parked_max_age_days=DAYS) as daemon:
        assert wait_for_orphans(daemon) == [
            (1, "orphaned", "its receipt 'e1' did not arrive within 1e-05 days")
        ]
        assert daemon.query(ACCOUNT, producer) == [(1, 0, 0, 1)]
        with Peer(daemon.socket) as peer:
            assert peer.hello(producer).last_sequence == 1
            peer.send(batch(2, receipt("e1")))
            assert peer.read_to_ack(2) == []
        assert ask(daemon.socket, "requeue", {"ids": [1, 1, 2]}) == [
            {"id": 1, "outcome": "stored", "code": None, "message": None},
            {"id": 2, "outcome": "gone", "code": None, "message": None},
        ]
        assert daemon.query(ACCOUNT, producer) == [(2, 2, 0, 0)]
        assert daemon.query("SELECT execution_id FROM pipeline_metrics") == [("e1",)]
        assert unbalanced_accounts(daemon) == []


@pytest.mark.parametrize("op", ["requeue", "purge_rejected"])
def test_another_user_may_not_change_what_is_rejected(place: Path, op: str) -> None:
    place.chmod(0o711)
    with Daemon(place, socket_mode="0666") as daemon:
        daemon.exchange(b'{"type":"audit"}\n')
        with another_user(), pytest.raises(RequestRefused) as refused:
            ask(daemon.socket, op, {"ids": [1]})
        assert refused.value.code == "not_allowed"
        assert daemon.query("SELECT id FROM rejected_events") == [(1,)]
        ask(daemon.socket, op, {"ids": [1]})
        assert len(daemon.query("SELECT id FROM rejected_events")) == (op == "requeue")
