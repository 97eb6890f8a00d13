"""A receipt that comes last, and a daemon that dies around it: the tables are the same."""

from __future__ import annotations

import sqlite3
from pathlib import Path

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

_EXECUTION = "e" * 64

#: Durations that break the critical, warning, no, no and critical objective of each stage.
_STAGES = [
    stage(_EXECUTION, "normalize", duration_ms=2_500),
    stage(_EXECUTION, "extract", duration_ms=1_200),
    stage(_EXECUTION, "emit", duration_ms=600),
    stage(_EXECUTION, "canonicalize", duration_ms=300, status="failed", error_message="no"),
    stage(_EXECUTION, "receipt", duration_ms=1_001),
]
_RECEIPT = receipt(_EXECUTION, duration_ms=5_601, receipt={"files": ["a", "b"]})

_EXPECTED_STAGES = [
    ("μ₁_normalize", 2_500, "passed"),
    ("μ₂_extract", 1_200, "passed"),
    ("μ₃_emit", 600, "passed"),
    ("μ₄_canonicalize", 300, "failed"),
    ("μ₅_receipt", 1_001, "passed"),
]
_EXPECTED_VIOLATIONS = [
    ("execution.duration_ms", "critical", 5_000.0, 5_601.0),
    ("stage.μ₁_normalize.duration_ms", "critical", 2_000.0, 2_500.0),
    ("stage.μ₂_extract.duration_ms", "warning", 1_000.0, 1_200.0),
    ("stage.μ₅_receipt.duration_ms", "critical", 1_000.0, 1_001.0),
]


@pytest.fixture
def producer() -> bytes:
    """The id of the client, which is the same after a crash of the daemon."""
    return new_producer()


def _send_stages(daemon: Daemon, producer: bytes) -> None:
    with Peer(daemon.socket) as peer:
        peer.hello(producer)
        peer.send(batch(1, *_STAGES))
        assert peer.read_to_ack(5) == []


def _send_receipt(daemon: Daemon, producer: bytes) -> None:
    with Peer(daemon.socket) as peer:
        assert peer.hello(producer).last_sequence == 5
        peer.send(batch(6, _RECEIPT))
        assert peer.read_to_ack(6) == []


def _send_everything_again(daemon: Daemon, producer: bytes) -> None:
    """As a client does that was killed before it could note the Acks."""
    with Peer(daemon.socket) as peer:
        peer.hello(producer)
        peer.send(batch(1, *_STAGES), batch(6, _RECEIPT))
        assert peer.read_to_ack(6) == []


def _account(daemon: Daemon, producer: bytes) -> list[tuple[object, ...]]:
    return daemon.query(
        "SELECT last_sequence, stored, parked, rejected, lost, replayed FROM producers"
        " WHERE producer = ?",
        producer,
    )


def _assert_complete(daemon: Daemon, producer: bytes, *, replayed: int = 0) -> None:
    """The receipt, its five stages, its violations, and accounts that add up."""
    daemon.wait_for_hooks()
    assert (
        daemon.query(
            "SELECT stage, duration_ms, status FROM pipeline_metrics WHERE execution_id = ?"
            " ORDER BY id",
            _EXECUTION,
        )
        == _EXPECTED_STAGES
    )
    assert daemon.query("SELECT execution_id, duration_ms, receipt_json FROM receipts") == [
        (_EXECUTION, 5_601, '{"files":["a","b"]}')
    ]
    assert _violations(daemon, "slo_violations") == _EXPECTED_VIOLATIONS
    assert _violations(daemon, "slo_breaches") == _EXPECTED_VIOLATIONS
    assert _account(daemon, producer) == [(6, 6, 0, 0, 0, replayed)]
    assert unbalanced_accounts(daemon) == []
    assert daemon.query("PRAGMA foreign_key_check") == []
    assert daemon.query("PRAGMA integrity_check") == [("ok",)]


def _violations(daemon: Daemon, table: str) -> list[tuple[object, ...]]:
    return daemon.query(
        f"SELECT metric, severity, target_value, actual_value FROM {table}"
        " WHERE execution_id = ? ORDER BY metric, severity",
        _EXECUTION,
    )


def _crash(daemon: Daemon) -> None:
    daemon.kill()
    daemon.start()


def test_a_late_receipt_completes_its_execution(daemon: Daemon, producer: bytes) -> None:
    """Five stages, then the receipt in a later batch: all are there, and judged."""
    _send_stages(daemon, producer)
    assert daemon.query("SELECT COUNT(*) FROM pipeline_metrics") == [(0,)]
    assert _account(daemon, producer) == [(5, 0, 5, 0, 0, 0)]
    _send_receipt(daemon, producer)
    _assert_complete(daemon, producer)


def test_released_stages_are_there_with_their_receipt(daemon: Daemon, producer: bytes) -> None:
    """When the receipt is acked, so are the rows that waited for it: one transaction."""
    _send_stages(daemon, producer)
    _send_receipt(daemon, producer)
    assert daemon.query("SELECT COUNT(*) FROM pipeline_metrics") == [(5,)]
    assert daemon.query("SELECT COUNT(*) FROM parked_events") == [(0,)]


def test_a_crash_between_the_stages_and_the_receipt_changes_nothing(
    daemon: Daemon, producer: bytes
) -> None:
    """Parked events are durable: the receipt finds them after a restart."""
    _send_stages(daemon, producer)
    _crash(daemon)
    assert daemon.status()["parked"] == 5
    _send_receipt(daemon, producer)
    _assert_complete(daemon, producer)


def test_a_crash_right_after_the_receipts_ack_changes_nothing(
    daemon: Daemon, producer: bytes
) -> None:
    """The hooks may not have looked yet: they do after the restart, and write nothing twice."""
    _send_stages(daemon, producer)
    _send_receipt(daemon, producer)
    _crash(daemon)
    _assert_complete(daemon, producer)


def test_both_crashes_change_nothing(daemon: Daemon, producer: bytes) -> None:
    """Between stages and receipt, and again right after the receipt's ack."""
    _send_stages(daemon, producer)
    _crash(daemon)
    _send_receipt(daemon, producer)
    _crash(daemon)
    _assert_complete(daemon, producer)


def test_crashes_after_the_hooks_double_no_violation(daemon: Daemon, producer: bytes) -> None:
    """However often the hooks look again at what they have judged, it is there once."""
    _send_stages(daemon, producer)
    _send_receipt(daemon, producer)
    _assert_complete(daemon, producer)
    for _ in range(2):
        _crash(daemon)
        _assert_complete(daemon, producer)


def test_a_hook_that_starts_from_nothing_doubles_no_violation(place: Path, producer: bytes) -> None:
    """Its watermark is saved lazily: even if it were lost, looking again is harmless."""
    with Daemon(place) as daemon:
        _send_stages(daemon, producer)
        _send_receipt(daemon, producer)
        _assert_complete(daemon, producer)
        daemon.stop()
        _forget_watermarks(daemon)
        daemon.start()
        _assert_complete(daemon, producer)


def _forget_watermarks(daemon: Daemon) -> None:
    connection = sqlite3.connect(daemon.database)
    with connection:
        connection.execute("DELETE FROM hook_watermarks")
    connection.close()


def test_a_client_that_sends_again_after_the_crash_doubles_nothing(
    daemon: Daemon, producer: bytes
) -> None:
    """Everything is recognised as replayed: same rows, same violations, same counts."""
    _send_stages(daemon, producer)
    _crash(daemon)
    _send_everything_again(daemon, producer)
    _assert_complete(daemon, producer, replayed=5)
    _crash(daemon)
    _send_everything_again(daemon, producer)
    _assert_complete(daemon, producer, replayed=11)


def test_stages_and_receipt_of_different_producers_meet(daemon: Daemon, producer: bytes) -> None:
    """The counts move in the account of who sent the stages, also over a crash."""
    other = new_producer()
    _send_stages(daemon, producer)
    with Peer(daemon.socket) as peer:
        peer.hello(other)
        peer.send(batch(1, audit("other")))
        peer.read_to_ack(1)
    _crash(daemon)
    with Peer(daemon.socket) as peer:
        peer.hello(other)
        peer.send(batch(2, _RECEIPT))
        assert peer.read_to_ack(2) == []
    assert _account(daemon, producer) == [(5, 5, 0, 0, 0, 0)]
    assert _account(daemon, other) == [(2, 2, 0, 0, 0, 0)]
    assert daemon.query("SELECT COUNT(*) FROM pipeline_metrics") == [(5,)]
