"""`ggend init`, `ggend check` and the upgrade at the start of `ggend serve`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from ggend_schema.migrations import APPLICATION_ID
from support.daemon_process import Daemon
from support.framed_peer import audit, line_of
from support.patience import PATIENCE_SECONDS
from support.processes import run_ggend, start_ggend
from support.version_1 import make_version_1


def ggend(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return run_ggend(*arguments)


def test_init_makes_verifies_and_reports(tmp_path: Path) -> None:
    path = tmp_path / "new" / "tier2.db"
    ran = ggend("init", path, "--log", tmp_path / "init.log")
    assert ran.returncode == 0, ran.stderr
    for looked_at in ("directory", "free space", "WAL-reset bug", "columns", "CHECKs", "self test"):
        assert looked_at in ran.stdout
    assert "failed" not in ran.stdout
    logged = (tmp_path / "init.log").read_text().splitlines()
    assert any("ok self test" in line for line in logged)
    assert all(line.startswith("20") for line in logged)


def test_init_again_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "tier2.db"
    assert ggend("init", path).returncode == 0
    content = path.read_bytes()
    again = ggend("init", path)
    assert again.returncode == 0
    assert "nothing was changed" in again.stdout
    assert path.read_bytes() == content


def test_init_upgrades_and_says_what_it_left(tmp_path: Path) -> None:
    path = tmp_path / "tier2.db"
    make_version_1(path)
    ran = ggend("init", path, "--json")
    assert ran.returncode == 0, ran.stderr
    report = json.loads(ran.stdout)
    assert "upgraded from version 1.0.0" in report["done"]
    assert (tmp_path / "tier2.db.1.0.0.backup").exists()
    assert report["rows"]["receipts"] == 50
    odd = [one["detail"] for one in report["findings"] if one["what"] == "odd rows"]
    assert "slo_violations: 3 rows without a parent in receipts, left as they were" in odd


def test_init_without_leave_upgrades_nothing(tmp_path: Path) -> None:
    path = tmp_path / "tier2.db"
    make_version_1(path)
    content = path.read_bytes()
    ran = ggend("init", path, "--no-upgrade")
    assert ran.returncode == os.EX_DATAERR
    assert "hint" in ran.stderr
    assert path.read_bytes() == content


def test_init_beside_a_daemon_is_refused(daemon: Daemon) -> None:
    assert ggend("init", daemon.database).returncode == os.EX_TEMPFAIL


def test_check_reads_beside_a_running_daemon(daemon: Daemon) -> None:
    daemon.exchange(line_of(audit("agent")))
    ran = ggend("check", daemon.database, "--json")
    assert ran.returncode == 0, ran.stderr
    report = json.loads(ran.stdout)
    assert report["rows"]["audit_log"] == 1
    assert {one["verdict"] for one in report["findings"]} == {"ok"}


def test_check_reads_a_database_of_version_1(tmp_path: Path) -> None:
    path = tmp_path / "tier2.db"
    make_version_1(path)
    ran = ggend("check", path)
    assert ran.returncode == 0, ran.stderr
    assert "1.0.0" in ran.stdout
    assert "pipeline_metrics: 2 rows without a parent in receipts" in ran.stdout


def test_check_finds_a_damaged_page(tmp_path: Path) -> None:
    path = tmp_path / "tier2.db"
    make_version_1(path, executions=500, wal=False)
    content = bytearray(path.read_bytes())
    content[4096 * 20 : 4096 * 22] = bytes(2 * 4096)
    path.write_bytes(content)
    ran = ggend("check", path)
    assert ran.returncode == os.EX_DATAERR
    assert "failed" in ran.stdout
    assert "Traceback" not in ran.stderr


def test_check_names_a_check_constraint_that_lost_a_value(tmp_path: Path) -> None:
    path = tmp_path / "tier2.db"
    assert ggend("init", path).returncode == 0
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(
            "UPDATE sqlite_schema SET sql = replace(sql, '''partial'', ', '') "
            "WHERE name = 'receipts'"
        )
    ran = ggend("check", path, "--quick")
    assert ran.returncode == os.EX_DATAERR
    assert "receipts.status refuses 'partial'" in ran.stdout


def test_serve_upgrades_by_itself_and_the_old_rows_are_there(place: Path) -> None:
    daemon = Daemon(place)
    make_version_1(daemon.database)
    with daemon:
        daemon.exchange(line_of(audit("agent")))
        assert daemon.query("SELECT count(*) FROM receipts") == [(50,)]
        assert daemon.query("SELECT count(*) FROM audit_log") == [(154,)]
        # What was judged long ago is not judged again.
        daemon.wait_for_hooks()
        assert daemon.query("SELECT count(*) FROM slo_breaches") == [(0,)]
    assert "tier2.db.1.0.0.backup" in daemon.log.read_text()


def test_serve_without_leave_refuses_an_old_database(place: Path) -> None:
    path = place / "tier2.db"
    make_version_1(path)
    content = path.read_bytes()
    ran = ggend("serve", "--no-upgrade", "--database", path, "--socket", place / "g.sock")
    assert ran.returncode == os.EX_DATAERR
    assert "upgrades are turned off" in ran.stderr
    assert path.read_bytes() == content


def test_systemd_is_asked_for_patience_during_an_upgrade(place: Path) -> None:
    """EXTEND_TIMEOUT_USEC and STATUS before READY, or a large database would be killed half-way."""
    make_version_1(place / "tier2.db")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(os.fspath(place / "notify"))
        listener.settimeout(PATIENCE_SECONDS)
        environ = {
            **os.environ,
            "GGEND_SOCKET": os.fspath(place / "g.sock"),
            "GGEND_DATABASE": os.fspath(place / "tier2.db"),
            "NOTIFY_SOCKET": os.fspath(place / "notify"),
        }
        process = start_ggend("serve", environ=environ, stderr=subprocess.DEVNULL)
        heard: list[str] = []
        try:
            while not heard or not heard[-1].startswith("READY=1"):
                heard.append(listener.recv(4096).decode())
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE_SECONDS) == 0
        finally:
            process.kill()
    assert len(heard) > 3
    assert all(message.startswith("EXTEND_TIMEOUT_USEC=60000000\n") for message in heard[:-1])
    assert any("STATUS=upgrading the database: copying" in message for message in heard)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of version 1.0.0 that takes a while to copy. It is only read."""
    path = tmp_path_factory.mktemp("large") / "tier2.db"
    make_version_1(path, executions=20_000)
    return path


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_middle_of_an_upgrade_leaves_the_old_database_or_the_new_one(
    place: Path, large: Path, how: signal.Signals
) -> None:
    """And, as far as the process could still act, no half copy."""
    path = place / "tier2.db"
    shutil.copy(large, path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(os.fspath(place / "notify"))
        listener.settimeout(PATIENCE_SECONDS)
        environ = {
            **os.environ,
            "GGEND_SOCKET": os.fspath(place / "g.sock"),
            "GGEND_DATABASE": os.fspath(path),
            "NOTIFY_SOCKET": os.fspath(place / "notify"),
        }
        with (place / "log").open("wb") as log:
            process = start_ggend("serve", environ=environ, stderr=log)
        try:
            while b"copying" not in listener.recv(4096):
                pass
            process.send_signal(how)
            status = process.wait(PATIENCE_SECONDS)
        finally:
            process.kill()
    assert "Traceback" not in (place / "log").read_text()
    if how is signal.SIGINT:
        assert status == 128 + signal.SIGINT
        assert list(place.glob("*.partial*")) == []
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("SELECT count(*) FROM receipts").fetchone() == (20_000,)


def test_a_daemon_goes_on_with_a_dump_that_was_read_back(place: Path) -> None:
    """`.dump` loses two pragmas; what waits and what is in quarantine is not lost with them."""
    stage = (
        b'{"type":"stage_completed","execution_id":"e","stage":"emit","status":"passed",'
        b'"duration_ms":1}\n'
    )
    receipt = (
        b'{"type":"receipt_emitted","execution_id":"e","agent_id":"a","operation":"watch",'
        b'"status":"passed","duration_ms":1}\n'
    )
    with Daemon(place) as daemon:
        daemon.exchange(stage + b'{"type":"audit"}\n')
        database = daemon.database
        database_id = daemon.query("SELECT id FROM database_identity")
    with closing(sqlite3.connect(database)) as connection:
        script = "\n".join(connection.iterdump())
    database.unlink()
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript(script)
    with Daemon(place) as daemon:
        assert daemon.query("PRAGMA application_id") == [(APPLICATION_ID,)]
        assert daemon.query("SELECT id FROM database_identity") == database_id
        assert json.loads(daemon.exchange(receipt))["stored"] == 1
        assert daemon.query("SELECT COUNT(*) FROM pipeline_metrics") == [(1,)]
        assert daemon.query("SELECT code FROM rejected_events") == [("invalid",)]
        assert daemon.query("SELECT stored, rejected FROM producers WHERE kind = 'anonymous'") == [
            (2, 1)
        ]


def test_everything_that_is_made_is_for_its_user_alone(place: Path) -> None:
    """From the first moment, whatever the umask says; also the copy before an upgrade."""
    make_version_1(place / "old.db", executions=20, odd=False)
    (place / "old.db").chmod(0o640)
    before = os.umask(0)
    try:
        for name in ("tier2.db", "old.db"):
            assert run_ggend("init", place / name).returncode == 0
        with closing(sqlite3.connect(place / "tier2.db")) as connection:
            connection.execute("BEGIN IMMEDIATE")
            modes = {path.name: path.stat().st_mode & 0o777 for path in place.iterdir()}
    finally:
        os.umask(before)
    assert modes.pop("old.db") == modes.pop("old.db.1.0.0.backup") == 0o640
    assert set(modes.values()) == {0o600}, modes
    assert "tier2.db-wal" in modes
