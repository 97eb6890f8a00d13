"""One execution: finding it, everything about it, and how it is drawn."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ggend.cli.render.execution_view import as_json, execution_view
from ggend.cli.render.waterfall import Span, waterfall
from ggend.errors import UsageMistake
from ggend.queries.execution import find_execution, load_execution, load_memory
from ggend.queries.run import open_readonly
from support.version_1 import make_version_1

SCHEMA = Path(__file__).parents[3] / "schema" / "schema.sql"

#: What other programs may have stored; of this nothing may reach a terminal as it is.
HOSTILE = "\x1b]0;owned\x07\x9b31m\r\n\t\u202e\u2066\u200f|`\ufeff"
UNSAFE = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(tmp_path / "tier2.db", isolation_level=None)) as connection:
        connection.executescript(SCHEMA.read_text(encoding="utf-8"))
        connection.execute("PRAGMA foreign_keys = OFF")
        for execution in ("abc1", "abc2", "abd1"):
            connection.execute(
                "INSERT INTO receipts (execution_id, agent_id, operation, status, timestamp, "
                "duration_ms, receipt_json, session_id) VALUES (?, 'me', 'watch', 'passed', "
                "'2026-01-29T12:00:00.000Z', 1000, '{\"n\":[1,2]}', 's1')",
                (execution,),
            )
        connection.executemany(
            "INSERT INTO pipeline_metrics (execution_id, stage, duration_ms, status, timestamp, "
            "error_message) VALUES ('abd1', ?, ?, ?, ?, ?)",
            [
                ("μ₃_emit", 500, "failed", "2026-01-29T12:00:00.500Z", "no template"),
                ("μ₁_normalize", 500, "passed", "2026-01-29 12:00:00", None),
                ("μ₅_receipt", 1, "passed", "now", None),
            ],
        )
        connection.executemany(
            "INSERT INTO audit_log (timestamp, agent_id, operation, status, execution_id, "
            "context_json) VALUES (?, ?, ?, 'completed', ?, ?)",
            [
                ("2026-01-29T18:00:00.000Z", "other", "named", "abd1", '{"a":1}'),
                ("2026-01-29T12:00:00.500Z", "me", "in its time", None, None),
                ("2026-01-29 12:00:01", "me", "old notation", None, None),
                ("2026-01-29T12:00:01.001Z", "me", "too late", None, None),
                ("2026-01-29T12:00:00.500Z", "me", "of another", "abc1", None),
                ("2026-01-29T12:00:00.500Z", "other", "of another agent", None, None),
            ],
        )
        connection.execute(
            "INSERT INTO slo_violations (execution_id, metric, target_value, actual_value, "
            "severity, timestamp) VALUES ('abd1', 'm', 1, 2, 'warning', "
            "'2026-01-29T12:00:00.000Z')"
        )
        connection.execute(
            "INSERT INTO workflow_sessions (session_id, start_time, status, agent_count) "
            "VALUES ('s1', '2026-01-29T11:00:00.000Z', 'running', 3)"
        )
        yield connection


@pytest.fixture
def reader(writer: sqlite3.Connection, tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(open_readonly(tmp_path / "tier2.db")) as connection:
        yield connection


@pytest.mark.parametrize("wanted", ["abd1", "abd", "abd…", " abd1 "])
def test_the_beginning_of_an_id_is_enough(wanted: str, reader: sqlite3.Connection) -> None:
    assert find_execution(reader, wanted) == "abd1"


def test_a_whole_id_wins_over_longer_ones(
    writer: sqlite3.Connection, reader: sqlite3.Connection
) -> None:
    writer.execute("UPDATE receipts SET execution_id = 'abc' WHERE execution_id = 'abc1'")
    assert find_execution(reader, "abc") == "abc"


def test_several_that_begin_so_are_listed(reader: sqlite3.Connection) -> None:
    with pytest.raises(UsageMistake, match="'abc' may mean several executions") as caught:
        find_execution(reader, "abc")
    assert caught.value.hint == "give one of abc1, abc2"


@pytest.mark.parametrize("wanted", ["", "…", "%", "ab_1", "ABD1", "\udcff"])
def test_what_fits_none_is_a_mistake(wanted: str, reader: sqlite3.Connection) -> None:
    with pytest.raises(UsageMistake):
        find_execution(reader, wanted)


def test_parked_stages_are_mentioned_where_the_receipt_is_missing(
    writer: sqlite3.Connection, reader: sqlite3.Connection
) -> None:
    writer.executemany(
        "INSERT INTO parked_events (parent_id, parent, arrival_ns, schema_version, events, "
        "payload) VALUES (?, ?, ?, 1, ?, x'')",
        [("waiting", "receipt", 1, 3), ("waiting", "receipt", 2, 2), ("waits", "session", 1, 9)],
    )
    with pytest.raises(UsageMistake, match="waiting has no receipt yet: 5 parked stage events"):
        find_execution(reader, "wait")


def test_orphans_are_mentioned_where_the_receipt_is_missing(
    writer: sqlite3.Connection, reader: sqlite3.Connection
) -> None:
    writer.execute("UPDATE pipeline_metrics SET execution_id = 'orphan'")
    with pytest.raises(UsageMistake, match="orphan has no receipt, but 3 stored stages"):
        find_execution(reader, "orphan")


def test_everything_about_an_execution_is_json(reader: sqlite3.Connection) -> None:
    whole = as_json(load_execution(reader, "abd1"))
    assert whole["execution"]["receipt"] == {"n": [1, 2]}
    assert "receipt_json" not in whole["execution"]
    assert [(stage["stage"], stage["offset_ms"]) for stage in whole["stages"]] == [
        ("μ₁_normalize", 0),
        ("μ₃_emit", 500),
        ("μ₅_receipt", None),
    ]
    assert [entry["operation"] for entry in whole["audit"]] == [
        "named",
        "in its time",
        "old notation",
    ]
    assert whole["audit"][0]["context"] == {"a": 1}
    assert [violation["metric"] for violation in whole["violations"]] == ["m"]
    assert whole["session"]["status"] == "running"


def test_the_audit_entries_are_those_that_the_view_counts(reader: sqlite3.Connection) -> None:
    for execution, counted in reader.execute(
        "SELECT execution_id, audit_entries FROM recent_executions"
    ).fetchall():
        assert len(load_execution(reader, execution).audit.rows) == counted


def test_a_pipe_gets_the_waterfall_as_plain_text(reader: sqlite3.Connection) -> None:
    drawn = execution_view(load_execution(reader, "abd1")).splitlines()
    assert "execution    abd1" in drawn
    assert "session      s1 (running, 3 agents, since 2026-01-29T11:00:00.000Z)" in drawn
    normalize = next(line for line in drawn if line.startswith("μ₁"))
    emit = next(line for line in drawn if line.startswith("μ₃"))
    assert len(normalize) == len(emit) == 100
    left, right = normalize.partition("│")[2], emit.partition("│")[2]
    assert set(left[: len(left) // 2]) == {"█"}
    assert set(right[: len(right) // 2 - 1]) == {" "}
    assert "  no template" in drawn
    assert any(line.startswith("μ₅_receipt") and "invalid time: now" in line for line in drawn)
    assert not any(UNSAFE.search(line) for line in drawn)


def test_an_execution_of_version_1_is_shown(tmp_path: Path) -> None:
    make_version_1(tmp_path / "old.db")
    with closing(open_readonly(tmp_path / "old.db")) as connection:
        found = load_execution(connection, find_execution(connection, "execution-0000038"))
    assert len(found.stages) == 5
    assert len(found.audit.rows) == 3
    assert found.session is None
    assert "environment  production" in execution_view(found)


@pytest.mark.parametrize("terminal", [False, True])
def test_nothing_hostile_leaves_a_portrait(
    terminal: bool,
    writer: sqlite3.Connection,
    reader: sqlite3.Connection,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for table, columns in {
        "receipts": ("agent_id", "error_message", "environment", "manifest_hash", "receipt_json"),
        "pipeline_metrics": ("timestamp", "error_message"),
        "slo_violations": ("metric", "description", "timestamp"),
        "workflow_sessions": ("start_time",),
    }.items():
        for column in columns:
            writer.execute(
                f"UPDATE {table} SET {column} = ? || CAST(x'eda080ff' AS TEXT)", [HOSTILE]
            )
    writer.execute("UPDATE audit_log SET operation = ?, context_json = ?", [HOSTILE, HOSTILE])
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal)
    monkeypatch.setenv("TERM", "dumb")
    found = load_execution(reader, "abd1")
    for printed in (execution_view(found), json.dumps(as_json(found))):
        assert not UNSAFE.search(printed)


def test_the_memory_of_an_agent_is_found(
    writer: sqlite3.Connection, reader: sqlite3.Connection
) -> None:
    writer.execute("INSERT INTO agent_memory (agent_id, memory_json) VALUES ('me', '{}')")
    assert load_memory(reader, "me")["memory_json"] == "{}"
    with pytest.raises(UsageMistake, match="agent you has no stored memory"):
        load_memory(reader, "you")


def test_bars_stand_where_their_time_was() -> None:
    spans = [Span(0, 500), Span(500, 250), Span(750, 250), Span(None, 5), Span(999, 0)]
    assert waterfall(spans, duration_ms=1000, width=20, block="#") == [
        "##########          ",
        "          #####     ",
        "               #####",
        "",
        "                   #",
    ]


def test_what_lies_outside_the_execution_widens_the_scale() -> None:
    bars = waterfall([Span(-1000, 1000), Span(0, 2000)], duration_ms=1000, width=30, block="#")
    assert bars == ["#" * 10 + " " * 20, " " * 10 + "#" * 20]


def test_an_execution_without_time_has_bars() -> None:
    assert waterfall([Span(0, 0)], duration_ms=0, width=1, block="#") == ["#" + " " * 9]
