"""`ggend query` as a person or a script uses it, on what a daemon has stored."""

from __future__ import annotations

import csv
import io
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from ggend.cli.commands.query import query
from ggend.errors import UsageMistake
from support.daemon_process import Daemon, free_place
from support.processes import run_ggend
from support.version_1 import make_version_1

COMMANDS = (
    *("recent", "executions", "agents", "stages", "sessions", "collisions", "violations"),
    *("audit", "memory"),
)

#: A name may hold what is no control character; a text may hold anything.
MARKS = "\u202e\u2066|"
HOSTILE = f"\x1b[31m\x9b\r\n{MARKS}"

ENDLESS = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"

EVENTS = (
    '{"type":"session_started","session_id":"s1","agent_count":2}',
    '{"type":"receipt_emitted","execution_id":"e1","agent_id":"me","operation":"watch",'
    '"status":"passed","duration_ms":9000,"session_id":"s1","receipt":{"n":1},'
    '"timestamp":"2026-01-29T12:00:00Z"}',
    '{"type":"stage_completed","execution_id":"e1","stage":"emit","status":"passed",'
    '"duration_ms":3000,"timestamp":"2026-01-29T12:00:01Z"}',
    '{"type":"stage_completed","execution_id":"early","stage":"emit","status":"passed",'
    '"duration_ms":3}',
    '{"type":"audit","agent_id":"me","operation":"load","status":"failed","execution_id":"e1",'
    '"timestamp":"2026-01-29T12:00:02Z"}',
    '{"type":"collision","session_id":"s1","agent_id_1":"me","agent_id_2":"you",'
    '"collision_type":"file_conflict","description":"both","severity":"info"}',
    '{"type":"memory_saved","agent_id":"me","memory":{"seen":[1,2]}}',
    json.dumps(
        {
            "type": "receipt_emitted",
            "execution_id": f"x{MARKS}",
            "agent_id": f"x{MARKS}",
            "operation": "watch",
            "status": "failed",
            "duration_ms": 1,
            "error_message": HOSTILE,
            "receipt": {HOSTILE: HOSTILE},
        }
    ),
    json.dumps(
        {
            "type": "audit",
            "agent_id": f"x{MARKS}",
            "operation": HOSTILE,
            "status": "failed",
            "error_message": HOSTILE,
            "context": [HOSTILE],
        }
    ),
    json.dumps(
        {
            "type": "collision",
            "session_id": "s1",
            "agent_id_1": "me",
            "agent_id_2": f"x{MARKS}",
            "collision_type": "file_conflict",
            "description": HOSTILE,
            "severity": "info",
        }
    ),
    json.dumps(
        {
            "type": "memory_saved",
            "agent_id": f"x{MARKS}",
            "memory": [HOSTILE],
            "last_error": HOSTILE,
        }
    ),
)


@pytest.fixture(autouse=True)
def stay_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """`query sql` gives way to others: not the process that tests it."""
    monkeypatch.setattr(os, "nice", lambda _: 0)


@pytest.fixture(scope="module")
def stored() -> Iterator[Daemon]:
    """A daemon that has stored the events above and judged them."""
    with free_place() as place, Daemon(Path(place)) as running:
        answer = json.loads(running.exchange("\n".join(EVENTS).encode()))
        assert (answer["stored"], answer["parked"]) == (len(EVENTS), 1), answer
        running.wait_for_hooks()
        yield running


def ask(database: Path, *arguments: str) -> tuple[str, str]:
    """Run `ggend query …` in this process; return what it printed, and what beside it."""
    environ = {"GGEND_DATABASE": os.fspath(database)}
    ran = CliRunner().invoke(query, arguments, env=environ)
    if ran.exception is not None:
        raise ran.exception
    return ran.stdout, ran.stderr


def objects(database: Path, *arguments: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in ask(database, *arguments, "-f", "ndjson")[0].splitlines()]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_rows_in_every_form(name: str, stored: Daemon) -> None:
    whole = json.loads(ask(stored.database, name, "--format", "json")[0])
    assert whole
    assert objects(stored.database, name) == whole
    in_csv = list(csv.reader(io.StringIO(ask(stored.database, name, "--format", "csv")[0])))
    assert in_csv[0] == list(whole[0])
    assert len(in_csv) == len(whole) + 1
    markdown, _ = ask(stored.database, name, "--format", "markdown")
    assert len(markdown.splitlines()) == len(whole) + 2
    assert len(ask(stored.database, name)[0].splitlines()) == len(whole) + 1


@pytest.mark.parametrize("form", ["table", "json", "ndjson", "csv", "markdown"])
@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_prints_what_a_terminal_would_act_on(
    name: str, form: str, stored: Daemon
) -> None:
    wide = [] if name in ("recent", "agents", "stages") else ["--wide"]
    printed, _ = ask(stored.database, name, "--format", form, *wide)
    allowed = {"\n"}
    assert not (set(printed) - allowed) & set(HOSTILE.replace("|", "").replace("[31m", ""))


def test_filters_and_the_next_page(stored: Daemon) -> None:
    assert [row["execution_id"] for row in objects(stored.database, "executions", "--agent", "me")]
    _, beside = ask(stored.database, "executions", "--limit", "1")
    assert "--before 2 shows the next page" in beside
    (row,) = objects(stored.database, "executions", "--limit", "1", "--before", "2")
    assert row["execution_id"] == "e1"
    day = ("--since", "2026-01-29", "--until", "2026-01-30")
    assert [row["execution_id"] for row in objects(stored.database, "executions", *day)] == ["e1"]
    assert [row["operation"] for row in objects(stored.database, "audit", *day)] == ["load"]
    assert objects(stored.database, "collisions", "--text", "BOTH")[0]["agent_id_2"] == "you"
    assert objects(stored.database, "violations", "--severity", "critical", "--execution", "e1")
    assert objects(stored.database, "stages", "--stage", "extract") == []


def test_mistakes_are_refused_with_what_is_allowed(stored: Daemon) -> None:
    with pytest.raises(UsageMistake) as caught:
        ask(stored.database, "executions", "--status", "green")
    assert "passed, failed, partial, cancelled" in caught.value.hint
    with pytest.raises(UsageMistake, match="is neither an age nor a time between"):
        ask(stored.database, "audit", "--since", "yesterday")


def test_one_execution_is_shown_drawn_and_as_json(stored: Daemon) -> None:
    drawn, _ = ask(stored.database, "execution", "e1")
    assert "│███" not in drawn.splitlines()[0]
    assert any("μ₃_emit" in line and "█" in line for line in drawn.splitlines())
    assert "audit entries (1)" in drawn
    assert "violations (2)" in drawn
    whole = json.loads(ask(stored.database, "execution", "e1", "--json")[0])
    assert whole["execution"]["receipt"] == {"n": 1}
    assert whole["stages"][0]["offset_ms"] == 1000
    assert whole["session"]["session_id"] == "s1"
    assert json.loads(ask(stored.database, "execution", "e1", "--receipt")[0]) == {"n": 1}


def test_a_stage_that_waits_for_its_receipt_is_mentioned(stored: Daemon) -> None:
    with pytest.raises(UsageMistake, match="early has no receipt yet: 1 parked stage event waits"):
        ask(stored.database, "execution", "earl")


def test_the_memory_of_one_agent_is_printed(stored: Daemon) -> None:
    assert json.loads(ask(stored.database, "memory", "me")[0]) == {"seen": [1, 2]}
    whole = json.loads(ask(stored.database, "memory", "me", "--json")[0])
    assert (whole["agent_id"], whole["memory"]) == ("me", {"seen": [1, 2]})


@pytest.mark.parametrize("name", COMMANDS)
def test_a_database_of_version_1_is_read(name: str, tmp_path: Path) -> None:
    make_version_1(tmp_path / "old.db", executions=5)
    assert objects(tmp_path / "old.db", name)


def test_text_that_is_not_utf8_is_shown_escaped(tmp_path: Path) -> None:
    make_version_1(tmp_path / "old.db", executions=1)
    with closing(sqlite3.connect(tmp_path / "old.db")) as connection, connection:
        connection.execute("UPDATE receipts SET error_message = CAST(x'61eda080ff' AS TEXT)")
    for form in ("table", "json", "ndjson", "csv", "markdown"):
        printed, _ = ask(tmp_path / "old.db", "executions", "--format", form)
        printed.encode()
        assert "xed" in printed


def test_a_statement_without_an_end_is_ended(stored: Daemon) -> None:
    ran = run_ggend(
        *("query", "sql", ENDLESS, "--timeout", "0.5"),
        environ={"GGEND_DATABASE": os.fspath(stored.database)},
    )
    assert ran.returncode == os.EX_TEMPFAIL, ran.stderr
    assert "stopped after 0.5 s" in ran.stderr
    assert "--timeout" in ran.stderr


def test_sql_takes_parameters_and_standard_input(stored: Daemon) -> None:
    sql = "SELECT :text AS text, :number + 1 AS number, :nothing AS missing, :list AS list"
    given = ["-p", "text=a=b", "-p", "number:=41", "-p", "nothing:=null", "-p", "list:=[1]"]
    (row,) = objects(stored.database, "sql", *given, sql)
    assert row == {"text": "a=b", "number": 42, "missing": None, "list": "[1]"}
    ran = run_ggend(
        "query",
        *("sql", "-", "--format", "csv"),
        environ={"GGEND_DATABASE": os.fspath(stored.database)},
        stdin=b"SELECT 1 AS n",
    )
    assert ran.stdout == "n\n1\n"


def test_the_percentile_of_sql_is_that_of_the_reports(stored: Daemon) -> None:
    with closing(sqlite3.connect(stored.database)) as connection:
        durations = sorted(row[0] for row in connection.execute("SELECT duration_ms FROM receipts"))
    for percent in (0, 1, 50, 95, 100):
        sql = f"SELECT percentile(duration_ms, {percent}) AS p FROM receipts"
        (row,) = objects(stored.database, "sql", sql)
        assert row["p"] == durations[max(0, -(-len(durations) * percent // 100) - 1)]
    assert objects(stored.database, "sql", "SELECT percentile(NULL, 50) AS p") == [{"p": None}]
    for wrong in ("1, 101", "1, -1", "'x', 50", "1, 'x'"):
        with pytest.raises(UsageMistake, match="a percent from 0 to 100"):
            ask(stored.database, "sql", f"SELECT percentile({wrong})")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["-p", "x", "SELECT :x"], "'x' is not a parameter"),
        (["-p", "=x", "SELECT :x"], "'=x' is not a parameter"),
        (["-p", "x:=y", "SELECT :x"], "`x` is not JSON: "),
        (["-p", "x=1", "-p", ":x=2", "SELECT :x"], "`x` is given twice"),
        (["-p", "agnet=a", "SELECT :agent"], "no parameter :agnet (did you mean `agent`?)"),
        (["SELECT :x"], "a parameter has no value"),
    ],
)
def test_a_parameter_that_makes_no_sense_is_named(
    more: list[str], said: str, stored: Daemon
) -> None:
    with pytest.raises(UsageMistake) as caught:
        ask(stored.database, "sql", *more)
    assert said in caught.value.message
