"""The commands against a running daemon, as a person or a script uses them."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from support.daemon_process import Daemon
from support.processes import run_ggend


def ggend(daemon: Daemon, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command against this daemon."""
    environ = {
        "GGEND_SOCKET": os.fspath(daemon.socket),
        "GGEND_DATABASE": os.fspath(daemon.database),
        "COLUMNS": "200",
    }
    return run_ggend(*arguments, environ=environ, stdin=stdin.encode())


def test_emit_stores_one_event(daemon: Daemon) -> None:
    ran = ggend(
        daemon,
        "emit",
        "audit",
        "agent_id=me",
        "operation=try it",
        "status=completed",
        'context:={"n": 1}',
    )
    assert ran.returncode == 0, ran.stderr
    assert daemon.query("SELECT agent_id, operation, context_json FROM audit_log") == [
        ("me", "try it", '{"n":1}')
    ]


def test_emit_names_the_field_that_is_wrong_and_stores_nothing(daemon: Daemon) -> None:
    ran = ggend(daemon, "emit", "--strict", "audit", "agent_id=me", "operation=x", "status=none")
    assert ran.returncode == os.EX_DATAERR
    assert "status" in ran.stderr
    assert daemon.query("SELECT count(*) FROM audit_log") == [(0,)]


@pytest.mark.parametrize("strict", [["--strict"], []])
def test_emit_says_that_json_given_as_text_is_stored_as_text(
    daemon: Daemon, strict: list[str]
) -> None:
    event = ["audit", "agent_id=me", "operation=x", "status=completed", 'context={"a": 1}']
    ran = ggend(daemon, "emit", *strict, *event)
    assert ran.returncode == 0
    assert ran.stderr == (
        "ggend: `context` is stored as text\n  hint: context:='{\"a\": 1}' stores JSON\n"
    )
    assert daemon.query("SELECT json_type(context_json), context_json ->> '$' FROM audit_log") == [
        ("text", '{"a": 1}')
    ]


def test_emit_reads_events_from_standard_input(daemon: Daemon) -> None:
    line = '{"type":"audit","agent_id":"me","operation":"x","status":"completed"}\n'
    ran = ggend(daemon, "emit", "--stdin", stdin=line * 50)
    assert ran.returncode == 0, ran.stderr
    assert daemon.query("SELECT count(*) FROM audit_log") == [(50,)]


def test_emit_skips_byte_order_marks_and_nuls_before_lines(daemon: Daemon) -> None:
    line = '{"type":"audit","agent_id":"me","operation":"x","status":"completed"}\n'
    ran = ggend(daemon, "emit", "--strict", "--stdin", stdin=f"\ufeff{line}\0\0{line}\ufeff{line}")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert daemon.query("SELECT count(*) FROM audit_log") == [(3,)]


@pytest.mark.parametrize(("strict", "status"), [([], 0), (["--strict"], os.EX_DATAERR)])
def test_emit_says_once_that_its_input_is_utf_16(
    daemon: Daemon, strict: list[str], status: int
) -> None:
    lines = b"\xff\xfe" + ("{}\n" * 9).encode("utf-16-le")
    environ = {"GGEND_SOCKET": os.fspath(daemon.socket)}
    ran = run_ggend("emit", "--stdin", *strict, environ=environ, stdin=lines)
    assert ran.returncode == status
    assert ran.stderr.count("ggend: ") == 1
    assert "standard input is UTF-16" in ran.stderr
    assert "iconv -f UTF-16 -t UTF-8" in ran.stderr


def test_status_is_json_for_scripts(daemon: Daemon) -> None:
    ran = ggend(daemon, "status", "--json")
    assert ran.returncode == 0
    status = json.loads(ran.stdout)
    assert status["health"] == "ok"
    assert status["pid"] == (daemon.process and daemon.process.pid)


def test_status_without_a_daemon_exits_69(place: Path) -> None:
    assert ggend(Daemon(place), "status").returncode == os.EX_UNAVAILABLE


def test_query_sql_cannot_write(daemon: Daemon) -> None:
    ran = ggend(daemon, "query", "sql", "DELETE FROM audit_log")
    assert ran.returncode != 0
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("name", ["recent", "agents", "stages"])
@pytest.mark.parametrize("form", ["table", "json", "csv"])
def test_each_view_can_be_read_in_each_form(daemon: Daemon, name: str, form: str) -> None:
    ggend(
        daemon,
        "emit",
        "--stdin",
        stdin='{"type":"receipt_emitted","execution_id":"e","agent_id":"me","operation":"watch",'
        '"status":"passed","duration_ms":3}\n'
        '{"type":"stage_completed","execution_id":"e","stage":"emit","status":"passed",'
        '"duration_ms":3}\n',
    )
    ran = ggend(daemon, "query", name, "--format", form)
    assert ran.returncode == 0, ran.stderr
    assert {"recent": "watch", "agents": "me", "stages": "μ₃_emit"}[name] in ran.stdout


def test_config_show_names_unknown_variables() -> None:
    ran = run_ggend("config", "show", environ={"HOME": "/nowhere", "GGEND_SOKET": "/secret"})
    assert ran.returncode == 0
    assert ran.stderr == (
        "ggend: unknown environment variable `GGEND_SOKET`\n  hint: did you mean `GGEND_SOCKET`?\n"
    )


def test_config_show_says_where_each_value_came_from(daemon: Daemon) -> None:
    ran = ggend(daemon, "config", "show", "--json")
    assert ran.returncode == 0, ran.stderr
    assert "GGEND_SOCKET" in ran.stdout
    assert "default" in ran.stdout


def test_init_makes_a_database_once(place: Path) -> None:
    daemon = Daemon(place)
    assert ggend(daemon, "init", os.fspath(daemon.database)).returncode == 0
    first = daemon.query("SELECT id FROM database_identity")
    assert ggend(daemon, "init", os.fspath(daemon.database)).returncode == 0
    assert daemon.query("SELECT id FROM database_identity") == first
