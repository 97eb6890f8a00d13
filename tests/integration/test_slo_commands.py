"""Objectives of one's own: from the file to a violation and its explanation, and read again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.daemon_process import Daemon, free_place
from support.patience import wait_until
from support.processes import run_ggend
from support.version_1 import make_version_1

RECEIPT = (
    '{"type":"receipt_emitted","execution_id":"%s","agent_id":"a","operation":"generation",'
    '"status":"passed","duration_ms":900,"timestamp":"2026-01-29T12:00:00Z"}\n'
)


def _objectives(place: Path, warning: object) -> Path:
    path = place / "objectives.toml"
    path.write_text(f'[[threshold]]\nmetric = "execution.duration_ms"\nwarning = {warning}\n')
    return path


def _ggend(*arguments: str, **environ: object) -> subprocess.CompletedProcess[str]:
    return run_ggend(*arguments, environ={key: str(value) for key, value in environ.items()})


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    with free_place() as name:
        place = Path(name)
        with Daemon(place, objectives=_objectives(place, 1000)) as running:
            yield running


def _store(daemon: Daemon, execution_id: str) -> None:
    answer = json.loads(daemon.exchange((RECEIPT % execution_id).encode()))
    assert answer["stored"] == 1
    daemon.wait_for_hooks()


def _reload(daemon: Daemon, line: str) -> None:
    assert daemon.process is not None
    before = daemon.log.read_text().count(line)
    daemon.process.send_signal(signal.SIGHUP)
    wait_until(lambda: daemon.log.read_text().count(line) > before, f"the log does not say {line}")


def _violated(daemon: Daemon) -> list[tuple[object, ...]]:
    return daemon.query("SELECT execution_id, target_value FROM slo_violations ORDER BY id")


def test_objectives_are_read_again_on_sighup(daemon: Daemon) -> None:
    _store(daemon, "before")
    assert _violated(daemon) == []
    _objectives(daemon.place, 500)
    _reload(daemon, "reloaded the objectives")
    _store(daemon, "after")
    assert _violated(daemon) == [("after", 500.0)]


def test_an_invalid_file_keeps_the_old_ones_and_says_why(daemon: Daemon) -> None:
    _objectives(daemon.place, "'none'")
    _reload(daemon, "reload failed, objectives unchanged")
    status = daemon.status()
    assert "threshold 1" in str(status["objectives_error"])
    assert status["health"] == "degraded"
    _store(daemon, "e")
    assert _violated(daemon) == []
    _objectives(daemon.place, 800)
    _reload(daemon, "reloaded the objectives")
    assert daemon.status()["objectives_error"] is None
    _store(daemon, "f")
    assert _violated(daemon) == [("f", 800.0)]


def test_a_command_reloads(daemon: Daemon) -> None:
    _objectives(daemon.place, 500)
    done = _ggend("reload", GGEND_SOCKET=daemon.socket)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "reloaded 1 objectives; they apply from the next row on\n"
    _store(daemon, "e")
    assert _violated(daemon) == [("e", 500.0)]
    (daemon.place / "objectives.toml").unlink()
    os.mkfifo(daemon.place / "objectives.toml")
    refused = _ggend("reload", GGEND_SOCKET=daemon.socket)
    assert refused.returncode == os.EX_CONFIG
    assert "not a regular file" in refused.stderr
    assert "keeps its previous objectives" in refused.stderr


def test_a_violation_is_explained(daemon: Daemon) -> None:
    _objectives(daemon.place, 600)
    _reload(daemon, "reloaded the objectives")
    _store(daemon, "slow")
    shown = _ggend("slo", "explain", "slow", "--database", str(daemon.database))
    assert shown.returncode == 0, shown.stderr
    assert "warning    The execution took 900 ms, over the warning limit of 600 ms." in shown.stdout
    assert "900 > 600: 300 over, 1.50 times the limit" in shown.stdout
    assert "receipts 1: timestamp 2026-01-29T12:00:00.000Z, agent_id a" in shown.stdout
    (breach,) = json.loads(
        _ggend("slo", "explain", "1", "--json", "--database", str(daemon.database)).stdout
    )
    assert (breach["execution_id"], breach["rows"][0]["duration_ms"]) == ("slow", 900)


def test_what_is_unknown_cannot_be_explained(daemon: Daemon) -> None:
    shown = _ggend("slo", "explain", "nobody", "--database", str(daemon.database))
    assert shown.returncode == os.EX_USAGE
    assert "there is no breach with the id or execution 'nobody'" in shown.stderr


def test_a_file_is_checked(tmp_path: Path) -> None:
    valid = _ggend("slo", "check", str(_objectives(tmp_path, 700)))
    assert valid.returncode == 0
    assert "execution.duration_ms" in valid.stdout
    assert "700" in valid.stdout
    invalid = _ggend("slo", "check", str(_objectives(tmp_path, -1)))
    assert invalid.returncode == os.EX_CONFIG
    assert "threshold 1" in invalid.stderr


def test_the_shipped_ones_are_shown_without_a_file() -> None:
    shown = _ggend("slo", "check", "--json")
    assert len(json.loads(shown.stdout)) == 6


def test_a_daemon_does_not_start_with_an_invalid_file() -> None:
    with free_place() as name:
        place = Path(name)
        shown = _ggend(
            "serve",
            GGEND_OBJECTIVES=_objectives(place, "[]"),
            GGEND_SOCKET=place / "g.sock",
            GGEND_DATABASE=place / "tier2.db",
        )
        assert shown.returncode == os.EX_CONFIG
        assert "objectives.toml, threshold 1" in shown.stderr
        assert not (place / "tier2.db").exists()


def test_a_database_of_version_1_has_no_breaches_to_explain(tmp_path: Path) -> None:
    make_version_1(tmp_path / "old.db", executions=5, odd=False)
    shown = _ggend("slo", "explain", "1", "--database", str(tmp_path / "old.db"))
    assert shown.returncode not in (0, 1)
    assert "Traceback" not in shown.stderr
    assert "has schema version 1.0.0, which keeps no reasons of a breach" in shown.stderr
    counted = _ggend(
        "slo",
        "backtest",
        str(_objectives(tmp_path, 0)),
        "--format",
        "json",
        "--database",
        str(tmp_path / "old.db"),
    )
    assert counted.returncode == 0, counted.stderr
    assert json.loads(counted.stdout)[0]["proposed"] > 0
