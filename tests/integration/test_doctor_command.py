"""`ggend doctor` beside a real daemon, and what it prints on 80 columns."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ggend.cli.render.diagnoses import report_lines
from ggend.doctor.diagnosis import failed, ok, warning
from ggend_client import Client
from support.daemon_process import Daemon
from support.processes import run_ggend

#: What an e-mail or a terminal shows in a line.
COLUMNS = 80


def environ(place: Path, **variables: str) -> dict[str, str]:
    ours = ("GGEND_", "XDG_")
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(ours)},
        "HOME": str(place / "home"),
        "GGEND_SOCKET": str(place / "g.sock"),
        "GGEND_DATABASE": str(place / "tier2.db"),
        **variables,
    }


def doctor(place: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return run_ggend("doctor", *arguments, environ=environ(place, **variables))


def findings(place: Path, **variables: str) -> dict[str, dict[str, Any]]:
    told = json.loads(doctor(place, "--json", **variables).stdout)
    return {one["subject"]: one for one in told["findings"]}


def names(place: Path) -> dict[str, int]:
    """Everything that is there, with its size."""
    return {str(path): path.lstat().st_size for path in place.rglob("*")}


def test_a_healthy_installation_has_no_failure(daemon: Daemon) -> None:
    before = names(daemon.place)
    done = doctor(daemon.place)
    assert done.returncode == 0, done.stdout
    assert "failed  " not in done.stdout
    assert daemon.process is not None
    assert f"pid {daemon.process.pid}" in done.stdout
    assert names(daemon.place).keys() == before.keys()


def test_a_killed_daemon_is_told_and_its_files_stay_as_they_are(daemon: Daemon) -> None:
    daemon.exchange(b'{"type":"session_started","session_id":"s","agent_count":1}\n')
    daemon.kill()
    before = names(daemon.place)
    done = doctor(daemon.place)
    assert done.returncode == os.EX_UNAVAILABLE
    assert re.search("^failed +socket +nobody listens", done.stdout, re.MULTILINE)
    assert "WAL that a daemon left" in " ".join(done.stdout.split())
    assert names(daemon.place) == before


def test_a_daemon_that_is_stopped_is_told_with_its_pid(daemon: Daemon) -> None:
    assert daemon.process is not None
    daemon.process.send_signal(signal.SIGSTOP)
    try:
        done = doctor(daemon.place, "--timeout", "0.2")
    finally:
        daemon.process.send_signal(signal.SIGCONT)
    assert done.returncode == os.EX_UNAVAILABLE
    assert f"(pid {daemon.process.pid})" in done.stdout


def test_a_daemon_on_another_socket_is_found_by_its_lock(daemon: Daemon) -> None:
    found = findings(daemon.place, GGEND_SOCKET=str(daemon.place / "other.sock"))
    assert daemon.process is not None
    assert found["daemon"]["verdict"] == "failed"
    assert f"pid {daemon.process.pid}" in found["daemon"]["detail"]
    assert found["database"]["verdict"] == "ok"


def test_the_database_of_the_daemon_is_looked_at_unless_another_is_named(daemon: Daemon) -> None:
    found = findings(daemon.place, GGEND_DATABASE="")
    assert f"{daemon.database} (the daemon's)" in found["database"]["detail"]
    found = findings(daemon.place, GGEND_DATABASE=str(daemon.place / "mine.db"))
    assert found["daemon"]["verdict"] == "warning"
    assert found["database"]["verdict"] == "warning"


def test_events_that_wait_in_the_spool_are_counted(place: Path) -> None:
    spool = place / "spool"
    client = Client(socket=place / "g.sock", spool_dir=spool)
    for number in range(3):
        client.session_started(session_id=f"s{number}", agent_count=1)
    client.close()
    found = findings(place, GGEND_SPOOL_DIR=str(spool))["spool"]
    assert found["verdict"] == "warning"
    assert "3 events of ended programs wait" in found["detail"]
    assert "ggend spool replay" in found["hint"]


def test_the_first_failed_subject_decides_the_exit_status(place: Path) -> None:
    assert doctor(place).returncode == os.EX_UNAVAILABLE
    assert doctor(place, GGEND_LOG_LEVEL="loud").returncode == os.EX_CONFIG


def test_a_damaged_database_behind_a_running_daemon_is_told(daemon: Daemon) -> None:
    with closing(sqlite3.connect(daemon.place / "other.db")) as connection:
        connection.execute("CREATE TABLE t (x)")
    found = findings(daemon.place, GGEND_DATABASE=str(daemon.place / "other.db"))
    assert (found["database"]["verdict"], found["database"]["exit_status"]) == ("failed", 65)


@pytest.mark.parametrize("length", [1, 60, 200])
def test_no_line_is_wider_than_80_columns_and_nothing_is_cut(place: Path, length: int) -> None:
    path = place / ("d" * length) / "tier2.db"
    done = doctor(place, GGEND_DATABASE=str(path), GGEND_LOG_LEVEL="loud", GGEND_SOKET="x")
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= COLUMNS
    joined = re.sub(r"\s+", "", done.stdout)
    assert str(path) in joined
    assert "`log_level`cannotbe" in joined
    assert all(subject in done.stdout for subject in ("socket", "daemon", "disk", "SQLite"))


def test_a_wide_or_hostile_text_stays_in_its_columns() -> None:
    told = [
        ok("socket", "漢" * 100),
        warning("spool", "x\x1b[31m\n" + "y" * 200, "a " * 90),
        failed("daemon", "short", "", 69),
    ]
    lines = list(report_lines(told, COLUMNS))
    assert all(len(line) + line.count("漢") <= COLUMNS for line in lines)
    assert "".join(lines).count("漢") == 100
    assert "".join(lines).count("y") == 200
    assert "\x1b" not in "".join(lines)
    assert lines[-1] == "1 failed, 1 warning. Begin with the first: daemon."
