"""The programs in `examples/` run as they stand, and store what they say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.daemon_process import Daemon
from support.framed_peer import unbalanced_accounts
from support.patience import PATIENCE_SECONDS
from support.tools import need

EXAMPLES = Path(__file__).parents[2] / "examples"

#: For each example a question to the database afterwards, and its answer.
STORED = {
    "stage.py": (
        "SELECT stage, status FROM pipeline_metrics ORDER BY id",
        [("μ₂_extract", "passed"), ("μ₃_emit", "passed")],
    ),
    "agent_with_memory.py": (
        "SELECT agent_id, memory_json FROM agent_memory",
        [("example-agent", '{"runs":1}')],
    ),
    "async_agents.py": (
        "SELECT agent_id, count(*) FROM audit_log GROUP BY 1 ORDER BY 1",
        [("agent-0", 2), ("agent-1", 2), ("agent-2", 2)],
    ),
    "prefork_server.py": (
        "SELECT operation FROM audit_log ORDER BY operation",
        [("start",), ("worker 0",), ("worker 1",), ("worker 2",)],
    ),
    "emit.sh": ("SELECT agent_id, files_generated FROM receipts", [("builder", 1)]),
    "emit.pl": (
        "SELECT operation, status FROM audit_log ORDER BY id",
        [("begin", "started"), ("end", "completed")],
    ),
}


def test_every_example_is_run() -> None:
    programs = {path.name for path in EXAMPLES.iterdir() if path.is_file()}
    assert programs - {"README.md"} == set(STORED)


@pytest.mark.parametrize("name", STORED)
def test_an_example_stores_its_events(daemon: Daemon, place: Path, name: str) -> None:
    command = [sys.executable] if name.endswith(".py") else []
    if name.endswith(".pl"):
        perl = need("perl")
        if subprocess.run([perl, "-MJSON::PP", "-e1"], capture_output=True).returncode:
            pytest.skip("perl is not installed with its modules")
    environ = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": os.fspath(place),
        "GGEND_SOCKET": os.fspath(daemon.socket),
    }
    ran = subprocess.run(
        [*command, EXAMPLES / name],
        env=environ,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    question, answer = STORED[name]
    assert daemon.query(question) == answer
    assert unbalanced_accounts(daemon) == []
