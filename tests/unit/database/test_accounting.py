"""Balance on real databases: what adds up, what does not, and what stands beside the accounts."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from ggend.database.check.accounting import audit_accounts
from ggend.database.findings import Verdict
from ggend.database.readonly import open_readonly
from ggend.database.upgrade import prepare_database
from support.version_1 import make_version_1

OK, WARNING, FAILED = Verdict.OK, Verdict.WARNING, Verdict.FAILED

ACCOUNT = """
    INSERT INTO producers (
        id, kind, producer, uid, first_seen, last_seen, last_sequence, stored, parked, rejected,
        lost, purged)
    VALUES (?, ?, ?, 0, '', '', ?, ?, ?, ?, ?, ?)"""
AUDIT = """
    INSERT INTO audit_log (timestamp, agent_id, operation, status)
    VALUES ('2026-01-29T12:34:56.789Z', 'a', 'o', 'completed')"""
PARKED = """
    INSERT INTO parked_events (parent_id, parent, arrival_ns, schema_version, events, payload)
    VALUES (?, 'receipt', 1, 2, ?, ?)"""
REJECTED = """
    INSERT INTO rejected_events (
        received_at, code, message, account_id, uid, schema_version, encoding, stamp_ns,
        size_bytes, sha256)
    VALUES ('2026-01-29T12:34:56.789Z', 'invalid', '', ?, 0, 2, 'json', 0, 0, x'00')"""
STAGE = {"type": "stage_completed", "execution_id": "e", "stage": "emit"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Two producers and the folded total: 6 stored, 3 parked, 4 rejected of which 1 is purged."""
    path = tmp_path / "tier2.db"
    prepare_database(path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany(
            ACCOUNT,
            [
                (1, "producer", b"1" * 16, 6, 2, 2, 2, 0, 1),
                (2, "producer", b"2" * 16, 1003, 2, 1, 0, 1000, 0),
                (3, "folded", None, 4, 2, 0, 2, 0, 1),
            ],
        )
        connection.executemany(AUDIT, [()] * 5)  # and one that was purged
        park(connection, "e1", 1, 2)
        park(connection, "e2", 1)
        connection.executemany(REJECTED, [(1,), (7,), (8,)])  # 7 and 8 are folded
    return path


@pytest.fixture
def writer(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        yield connection


def park(connection: sqlite3.Connection, parent_id: str, *accounts: int) -> None:
    payload = msgspec.msgpack.encode([[account, 1, 1, STAGE] for account in accounts])
    connection.execute(PARKED, (parent_id, len(accounts), payload))


def verdicts(path: Path) -> dict[str, tuple[Verdict, str]]:
    with closing(open_readonly(path)) as connection:
        return {one.what: (one.verdict, one.detail) for one in audit_accounts(connection)}


def test_accounts_that_add_up_are_verified(path: Path) -> None:
    assert verdicts(path) == {
        "accounts": (OK, "3 accounts add up"),
        "parked": (OK, "the accounts count all 3 parked events"),
        "rejected": (OK, "3 of 4 rejected events are kept; no account has too many"),
        "stored": (OK, "all 6 stored events have their rows or were purged"),
    }


def test_an_empty_database_is_verified(tmp_path: Path) -> None:
    prepare_database(tmp_path / "tier2.db")
    assert {verdict for verdict, _ in verdicts(tmp_path / "tier2.db").values()} == {OK}


@pytest.mark.parametrize(
    ("harm", "what", "said"),
    [
        ("UPDATE producers SET lost = lost - 1 WHERE id = 2", "accounts", "account 2 does not add"),
        (
            "UPDATE producers SET parked = 1 - parked / 2, stored = stored + 1 WHERE id < 3",
            "parked",
            "account 1 counts 0 parked events, but 2 are parked",
        ),
        (
            "DELETE FROM parked_events WHERE parent_id = 'e2'",
            "parked",
            "counts 2 parked events, but 1",
        ),
        ("UPDATE parked_events SET events = 5", "parked", "counts 5 events but holds 2"),
        ("UPDATE parked_events SET payload = x'c1'", "parked", "cannot be read"),
        (
            "UPDATE producers SET rejected = 1, stored = 3 WHERE id = 1",
            "rejected",
            "account 1 counts 1 rejected events, but 1 are kept and 1 were purged",
        ),
        ("UPDATE producers SET rejected = 1 WHERE id = 3", "rejected", "account 3 counts 1"),
        (
            "UPDATE rejected_events SET account_id = 2 WHERE id = 1",
            "rejected",
            "account 2 counts 0",
        ),
        (
            "DELETE FROM audit_log WHERE id < 4",
            "stored",
            "3 of 6 stored events have no row and were not purged",
        ),
    ],
)
def test_what_does_not_add_up_is_found(
    harm: str, what: str, said: str, path: Path, writer: sqlite3.Connection
) -> None:
    writer.execute(harm)
    verdict, detail = verdicts(path)[what]
    assert verdict is FAILED
    assert said in detail


def test_two_accounts_that_swapped_their_parked_events_are_told_apart(
    path: Path, writer: sqlite3.Connection
) -> None:
    """The sum over all accounts would not tell."""
    writer.execute("DELETE FROM parked_events")
    park(writer, "e1", 1, 2)
    park(writer, "e2", 2)
    verdict, detail = verdicts(path)["parked"]
    assert verdict is FAILED
    assert detail == (
        "account 1 counts 2 parked events, but 1 are parked; "
        "account 2 counts 1 parked events, but 2 are parked"
    )


def test_rows_of_plain_sql_are_a_note(path: Path, writer: sqlite3.Connection) -> None:
    writer.executemany(AUDIT, [()] * 3)
    verdict, detail = verdicts(path)["stored"]
    assert verdict is WARNING
    assert detail.startswith("at least 3 rows are in no account")


def test_rows_of_version_1_are_a_note(tmp_path: Path) -> None:
    make_version_1(tmp_path / "old.db", executions=5)
    prepare_database(tmp_path / "old.db")
    found = verdicts(tmp_path / "old.db")
    assert found.pop("stored")[0] is WARNING
    assert {verdict for verdict, _ in found.values()} == {OK}


def test_saves_of_one_memory_are_many_events_and_one_row(
    path: Path, writer: sqlite3.Connection
) -> None:
    writer.execute("UPDATE producers SET stored = 100, last_sequence = 104 WHERE id = 1")
    assert verdicts(path)["stored"][0] is FAILED
    writer.execute("INSERT INTO memory_order VALUES ('a', 1, x'', 1)")
    assert verdicts(path)["stored"] == (OK, "6 rows for 104 stored events, and no row too many")
