"""`ggend purge` on real databases: by the daemon while it runs, in the file when none does."""

from __future__ import annotations

import json
import os
import pty
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from ggend.database.upgrade import prepare_database
from ggend_client import ask
from ggend_client.errors import RequestRefused
from support.daemon_process import Daemon
from support.patience import PATIENCE_SECONDS
from support.processes import run_ggend
from support.version_1 import make_version_1

OLD = "2020-01-01 00:00:00"

RECEIPT = (
    '{"type":"receipt_emitted","execution_id":"%s","agent_id":"a","operation":"watch",'
    '"status":"%s","duration_ms":9000,"session_id":"s"}'
)
STAGE = (
    '{"type":"stage_completed","execution_id":"%s","stage":"emit","status":"passed",'
    '"duration_ms":9000}'
)
AUDIT = '{"type":"audit","agent_id":"a","operation":"o","status":"completed"}'
STARTED = '{"type":"session_started","session_id":"s","agent_count":1}'
ENDED = '{"type":"session_ended","session_id":"s","status":"completed"}'


def send(daemon: Daemon, *lines: str) -> None:
    """Send lines and wait until they are stored and judged."""
    answer = json.loads(daemon.exchange("".join(line + "\n" for line in lines).encode()))
    assert answer["lines"] == len(lines)


def age(daemon: Daemon) -> None:
    """Make everything that is stored old."""
    with closing(sqlite3.connect(daemon.database)) as connection, connection:
        for table in (
            "receipts",
            "audit_log",
            "workflow_sessions",
            "pipeline_metrics",
            "slo_violations",
            "slo_breaches",
        ):
            connection.execute(f"UPDATE {table} SET created_at = ?", (OLD,))
        connection.execute("UPDATE rejected_events SET received_at = '2020-01-01T00:00:00.000Z'")


def count(daemon: Daemon, table: str) -> object:
    return daemon.query(f"SELECT COUNT(*) FROM {table}")[0][0]


def ggend(daemon: Daemon, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_ggend(
        *arguments,
        environ={
            "GGEND_SOCKET": os.fspath(daemon.socket),
            "GGEND_DATABASE": os.fspath(daemon.database),
        },
    )


@contextmanager
def another_user() -> Iterator[None]:
    """What connects meanwhile is of user `nobody`."""
    if os.geteuid() != 0:
        pytest.skip("only root can be another user")
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_the_daemon_purges_what_is_old_and_keeps_what_is_not(daemon: Daemon) -> None:
    send(daemon, RECEIPT % ("old", "passed"), STAGE % "old", AUDIT)
    daemon.wait_for_hooks()
    age(daemon)
    send(daemon, RECEIPT % ("new", "passed"), STAGE % "new", AUDIT)
    ran = ggend(daemon, "purge", "--older-than", "30d", "--yes", "--format", "json")
    assert ran.returncode == 0, ran.stderr
    assert {row["table"]: row["purged"] for row in json.loads(ran.stdout) if row["purged"]} == {
        "receipts": 1,
        "pipeline_metrics": 1,
        "slo_violations": 2,
        "slo_breaches": 2,
        "audit_log": 1,
    }
    assert daemon.query("SELECT execution_id FROM receipts") == [("new",)]
    assert daemon.query("SELECT kind, stored, purged FROM producers ORDER BY kind") == [
        ("anonymous", 6, 0),
        ("folded", 0, 3),
    ]


def test_a_dry_run_shows_what_would_go_and_changes_nothing(daemon: Daemon) -> None:
    send(daemon, RECEIPT % ("e", "passed"), AUDIT)
    age(daemon)
    ran = ggend(daemon, "purge", "--older-than", "30d", "--dry-run")
    assert ran.returncode == 0, ran.stderr
    assert f"{OLD}  {OLD}" in ran.stdout
    assert (count(daemon, "receipts"), count(daemon, "audit_log")) == (1, 1)


def test_where_nobody_can_be_asked_it_is_refused_without_yes(daemon: Daemon) -> None:
    send(daemon, AUDIT)
    age(daemon)
    ran = ggend(daemon, "purge", "--older-than", "30d")
    assert ran.returncode == os.EX_USAGE
    assert "--yes" in ran.stderr
    assert count(daemon, "audit_log") == 1


def test_on_a_terminal_it_asks_and_takes_no_for_an_answer(daemon: Daemon) -> None:
    send(daemon, AUDIT)
    age(daemon)
    leader, terminal = pty.openpty()
    try:
        os.write(leader, b"n\n")
        ran = subprocess.run(
            [sys.executable, "-m", "ggend", "purge", "--older-than", "30d"],
            env={**os.environ, "GGEND_DATABASE": os.fspath(daemon.database)},
            stdin=terminal,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
        )
    finally:
        os.close(leader)
        os.close(terminal)
    assert ran.returncode == 1
    assert "Delete 1 row permanently?" in ran.stderr
    assert count(daemon, "audit_log") == 1


def test_without_a_daemon_the_file_itself_is_purged(place: Path) -> None:
    with Daemon(place) as daemon:
        send(daemon, AUDIT, AUDIT)
        age(daemon)
    ran = ggend(daemon, "purge", "--older-than", "2024-01-01", "--yes")
    assert ran.returncode == 0, ran.stderr
    assert count(daemon, "audit_log") == 0


def test_a_database_of_version_1_is_refused_and_kept(place: Path) -> None:
    daemon = Daemon(place)
    make_version_1(daemon.database, executions=1)
    ran = ggend(daemon, "purge", "--older-than", "0d", "--yes")
    assert ran.returncode == os.EX_DATAERR
    assert "ggend init" in ran.stderr
    assert count(daemon, "receipts") == 1


def test_a_moment_in_the_future_is_refused(daemon: Daemon) -> None:
    ran = ggend(daemon, "purge", "--older-than", "2999-01-01", "--yes")
    assert ran.returncode == os.EX_USAGE
    with pytest.raises(RequestRefused, match="is in the future"):
        ask(daemon.socket, "purge", {"cutoff": "2999-01-01 00:00:00"})


def test_the_daemon_that_is_asked_must_be_the_one_that_has_the_database(daemon: Daemon) -> None:
    """Not the one that happens to listen on the configured socket."""
    send(daemon, AUDIT)
    age(daemon)
    beside = daemon.place / "beside"
    beside.mkdir()
    with Daemon(beside) as other:
        send(other, AUDIT)
        age(other)
        ran = ggend(
            other, "purge", "--older-than", "30d", "--yes", "--database", str(daemon.database)
        )
        assert ran.returncode == os.EX_TEMPFAIL
        assert "--socket" in ran.stderr
        assert (count(daemon, "audit_log"), count(other, "audit_log")) == (1, 1)


def test_another_user_may_not_have_rows_removed(place: Path) -> None:
    place.chmod(0o711)
    with Daemon(place, socket_mode="0666") as daemon:
        send(daemon, AUDIT)
        age(daemon)
        arguments = {"cutoff": "2024-01-01 00:00:00"}
        with another_user(), pytest.raises(RequestRefused) as refused:
            ask(daemon.socket, "purge", arguments)
        assert refused.value.code == "not_allowed"
        assert count(daemon, "audit_log") == 1
        assert ask(daemon.socket, "purge", arguments)["deleted"] == {"audit_log": 1}


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"cutoff": "yesterday"},
        {"cutoff": OLD, "limit": 0},
        {"cutoff": OLD, "limit": 10**9},
        {"cutoff": OLD, "position": {"table": "producers"}},
        {"cutoff": OLD, "position": {"table": "receipts", "after": 2**63}},
        {"cutoff": OLD, "dry_run": True},
    ],
)
def test_arguments_that_are_none_are_refused_and_the_daemon_goes_on(
    daemon: Daemon, arguments: dict[str, object]
) -> None:
    with pytest.raises(RequestRefused):
        ask(daemon.socket, "purge", arguments)
    assert daemon.status()["health"] == "ok"


def test_a_purge_makes_room_in_the_quarantine(place: Path) -> None:
    with Daemon(place, rejected_max_events=1) as daemon:
        send(daemon, "{}", "{}")
        assert count(daemon, "rejected_events") == 1
        age(daemon)
        ask(daemon.socket, "purge", {"cutoff": "2024-01-01 00:00:00"})
        assert daemon.query("SELECT kind, rejected, purged FROM producers") == [("anonymous", 2, 1)]
        send(daemon, "{}")
        assert count(daemon, "rejected_events") == 1


def test_what_a_session_counted_stays_and_a_late_receipt_adds_itself(daemon: Daemon) -> None:
    send(daemon, STARTED, RECEIPT % ("e1", "passed"), RECEIPT % ("e2", "failed"), ENDED)
    with closing(sqlite3.connect(daemon.database)) as connection, connection:
        connection.execute("UPDATE receipts SET created_at = ?", (OLD,))
    done = ask(daemon.socket, "purge", {"cutoff": "2024-01-01 00:00:00"})
    assert done["deleted"]["receipts"] == 2
    counts = "SELECT successful_operations, failed_operations FROM workflow_sessions"
    assert daemon.query(counts) == [(1, 1)]
    send(daemon, RECEIPT % ("e3", "passed"))
    assert daemon.query(counts) == [(2, 1)]


def test_hooks_go_on_after_everything_is_gone(daemon: Daemon) -> None:
    send(daemon, RECEIPT % ("e1", "passed"), STAGE % "e1")
    age(daemon)
    ask(daemon.socket, "purge", {"cutoff": "2024-01-01 00:00:00"})
    send(daemon, RECEIPT % ("e2", "passed"), STAGE % "e2")
    daemon.wait_for_hooks()
    assert daemon.status()["health"] == "ok"
    assert daemon.query("SELECT DISTINCT execution_id FROM slo_violations") == [("e2",)]


def test_a_damaged_database_is_refused_in_words(place: Path) -> None:
    path = place / "tier2.db"
    prepare_database(path)
    with closing(sqlite3.connect(path)) as connection, connection:
        (root,) = connection.execute(
            "SELECT rootpage FROM sqlite_schema WHERE name = 'audit_log'"
        ).fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    content = bytearray(path.read_bytes())
    content[(root - 1) * size : root * size] = b"\xab" * size
    path.write_bytes(content)
    ran = ggend(Daemon(place), "purge", "--older-than", "1d", "--dry-run")
    assert ran.returncode == os.EX_DATAERR
    assert "malformed" in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("how", ["ABORT", "ROLLBACK"])
@pytest.mark.parametrize("is_running", [True, False], ids=["daemon", "file"])
def test_a_table_that_a_trigger_keeps_is_named_and_can_be_left_out(
    place: Path, how: str, *, is_running: bool
) -> None:
    with Daemon(place) as daemon:
        send(daemon, RECEIPT % ("old", "passed"), AUDIT)
        daemon.wait_for_hooks()
        age(daemon)
        with closing(sqlite3.connect(daemon.database)) as connection, connection:
            connection.execute(
                "CREATE TRIGGER kept BEFORE DELETE ON audit_log "
                f"BEGIN SELECT RAISE({how}, 'audit_log is append-only'); END"
            )
        if not is_running:
            daemon.stop()
        ran = ggend(daemon, "purge", "--older-than", "30d", "--yes")
        assert ran.returncode == 65
        assert ran.stderr.startswith(
            "ggend: rows of audit_log cannot be deleted: audit_log is append-only; no row of this "
            "slice was deleted\n"
        )
        assert "run it again" not in ran.stderr
        assert "--except" in ran.stderr
        assert (count(daemon, "receipts"), count(daemon, "audit_log")) == (1, 1)
        arguments = ("purge", "--older-than", "30d", "--except", "audit_log", "--yes")
        ran = ggend(daemon, *arguments, "--format", "json")
        assert ran.returncode == 0, ran.stderr
        assert {row["table"]: row["purged"] for row in json.loads(ran.stdout)}["audit_log"] == 0
        assert (count(daemon, "receipts"), count(daemon, "audit_log")) == (0, 1)
        if is_running:
            send(daemon, AUDIT)


def test_a_table_that_no_purge_looks_at_cannot_be_left_out(daemon: Daemon) -> None:
    ran = ggend(daemon, "purge", "--older-than", "30d", "--except", "agent_memory", "--yes")
    assert ran.returncode == 64
    assert "'agent_memory' is not a table that is purged" in ran.stderr
