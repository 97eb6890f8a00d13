"""`ggend maintain` and `ggend check --rollups`, by the daemon while it runs and in the file."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ggend.hooks.runner import SLICE_ROWS
from support.daemon_process import Daemon, free_place
from support.patience import wait_until
from support.processes import run_ggend

#: Receipts that are sent: a whole slice is counted, and some are not.
_RECEIPTS = SLICE_ROWS + 100

_FOUND = "ggend maintain --rebuild-rollups"


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    """A daemon whose receipts are counted but for the last."""
    with free_place() as place, Daemon(Path(place)) as running:
        lines = "".join(
            f'{{"type":"receipt_emitted","execution_id":"e{number}","agent_id":"a",'
            f'"operation":"watch","status":"passed","duration_ms":{number}}}\n'
            for number in range(_RECEIPTS)
        )
        assert json.loads(running.exchange(lines.encode()))["stored"] == _RECEIPTS
        _wait_until_counted(running)
        yield running


def _wait_until_counted(daemon: Daemon) -> None:
    counted = "SELECT executions FROM agent_totals WHERE agent_id = 'a'"
    wait_until(lambda: daemon.query(counted), "nothing was counted")


def _ggend(daemon: Daemon, *arguments: str) -> subprocess.CompletedProcess[str]:
    environ = {
        "GGEND_DATABASE": os.fspath(daemon.database),
        "GGEND_SOCKET": os.fspath(daemon.socket),
    }
    return run_ggend(*arguments, environ=environ)


def _spoil(daemon: Daemon) -> None:
    """Replace a counted row, which fires no trigger."""
    with closing(sqlite3.connect(daemon.database)) as connection, connection:
        connection.execute(
            "INSERT OR REPLACE INTO receipts (id, execution_id, agent_id, operation, status, "
            "timestamp, duration_ms) VALUES (5, 'x', 'b', 'watch', 'failed', '2026-01-29', 9)"
        )


def _agents(daemon: Daemon) -> list[tuple[object, ...]]:
    return daemon.query("SELECT agent_id, total_executions FROM agent_performance_summary")


@pytest.mark.parametrize("is_running", [True, False], ids=["by the daemon", "in the file"])
def test_wrong_rollups_are_found_and_counted_again(daemon: Daemon, *, is_running: bool) -> None:
    assert daemon.query("SELECT executions FROM agent_totals") == [(SLICE_ROWS,)]
    assert _agents(daemon) == [("a", _RECEIPTS)]
    assert _ggend(daemon, "check", "--quick", "--rollups").returncode == 0
    _spoil(daemon)
    if not is_running:
        assert daemon.stop() == 0
    spoiled = _ggend(daemon, "check", "--quick", "--rollups")
    assert spoiled.returncode == os.EX_DATAERR
    assert _FOUND in " ".join(spoiled.stdout.split())
    assert _ggend(daemon, "check", "--quick").returncode == 0
    mended = _ggend(daemon, "maintain", "--rebuild-rollups")
    assert mended.returncode == 0, mended.stderr
    assert _ggend(daemon, "check", "--quick", "--rollups").returncode == 0
    assert _agents(daemon) == [("a", _RECEIPTS - 1), ("b", 1)]
    assert daemon.query("SELECT SUM(executions) FROM agent_totals") == [(SLICE_ROWS,)]


def test_maintain_without_a_task_says_what_there_is(daemon: Daemon) -> None:
    ran = _ggend(daemon, "maintain")
    assert ran.returncode == os.EX_USAGE
    assert "--rebuild-rollups" in ran.stderr


def test_another_database_is_not_touched(daemon: Daemon, tmp_path: Path) -> None:
    ran = _ggend(daemon, "maintain", "--rebuild-rollups", "--database", str(tmp_path / "none.db"))
    assert ran.returncode != 0
    assert daemon.query("SELECT executions FROM agent_totals") == [(SLICE_ROWS,)]
