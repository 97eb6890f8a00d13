"""Triggers of users in the tables of a running daemon: what they refuse, and what goes on."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
from contextlib import closing

import pytest

from support.daemon_process import Daemon
from support.patience import wait_until
from support.processes import run_ggend

RECEIPT = (
    '{"type":"receipt_emitted","execution_id":"%s","agent_id":"a","operation":"generation",'
    '"status":"passed","duration_ms":9000}'
)
AUDIT = '{"type":"audit","agent_id":"a","operation":"%s","status":"completed"}'

HOWS = ["ABORT", "FAIL", "ROLLBACK"]


def change(daemon: Daemon, statement: str) -> None:
    with closing(sqlite3.connect(daemon.database)) as connection, connection:
        connection.execute(statement)


def refuse(daemon: Daemon, on: str, how: str) -> None:
    change(
        daemon,
        f"CREATE TRIGGER refusing BEFORE {on} BEGIN SELECT RAISE({how}, 'not today'); END",
    )


def send(daemon: Daemon, *lines: str) -> dict[str, object]:
    answer: dict[str, object] = json.loads(
        daemon.exchange("".join(line + "\n" for line in lines).encode())
    )
    return answer


def ggend(daemon: Daemon, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_ggend(
        *arguments,
        environ={
            "GGEND_SOCKET": os.fspath(daemon.socket),
            "GGEND_DATABASE": os.fspath(daemon.database),
        },
    )


@pytest.mark.parametrize("how", HOWS)
def test_a_refused_row_goes_to_quarantine_and_its_neighbours_are_stored(
    daemon: Daemon, how: str
) -> None:
    refuse(daemon, "INSERT ON receipts WHEN new.execution_id = 'bad'", how)
    answer = send(daemon, AUDIT % "one", RECEIPT % "bad", AUDIT % "two", RECEIPT % "good")
    assert (answer["stored"], answer["rejected"]) == (3, 1)
    assert answer["errors"] == [
        {"line": 2, "code": "refused_by_database", "message": "receipts: not today"}
    ]
    assert daemon.query("SELECT execution_id FROM receipts") == [("good",)]
    assert daemon.query("SELECT code FROM rejected_events") == [("refused_by_database",)]
    change(daemon, "DROP TRIGGER refusing")
    requeued = ggend(daemon, "rejected", "requeue", "1")
    assert requeued.returncode == 0, requeued.stderr
    assert daemon.query("SELECT execution_id FROM receipts ORDER BY id") == [("good",), ("bad",)]


@pytest.mark.parametrize("how", HOWS)
def test_a_hook_that_is_refused_is_seen_in_the_status_and_catches_up_later(
    daemon: Daemon, how: str
) -> None:
    refuse(daemon, "INSERT ON slo_violations", how)
    assert send(daemon, RECEIPT % "e1")["stored"] == 1

    def is_told() -> bool:
        errors = daemon.status()["hook_errors"]
        assert isinstance(errors, dict)
        return errors.get("slo:receipts") == "not today"

    wait_until(is_told, "the status does not tell what the trigger says")
    assert daemon.status()["health"] == "degraded"
    assert send(daemon, RECEIPT % "e2")["stored"] == 1
    assert daemon.query("SELECT COUNT(*) FROM slo_violations") == [(0,)]
    change(daemon, "DROP TRIGGER refusing")
    assert send(daemon, RECEIPT % "e3")["stored"] == 1
    daemon.wait_for_hooks()
    assert daemon.query("SELECT DISTINCT execution_id FROM slo_violations ORDER BY 1") == [
        ("e1",),
        ("e2",),
        ("e3",),
    ]
    assert daemon.status()["health"] == "ok"
    # Lines are written by a thread of their own; the last line says that all came.
    daemon.stop()
    assert daemon.log.read_text().count("hook failed") == 1
