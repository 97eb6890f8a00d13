"""Listings: filters, pages and summaries, of databases of this version and of 1.0.0."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ggend.errors import UsageMistake
from ggend.queries import list_query
from ggend.queries.list_definitions import LISTINGS
from ggend.queries.list_query import Filters, read_listing
from ggend.queries.result import Result
from ggend.queries.run import NAMED, open_readonly, run
from support.version_1 import make_version_1

SCHEMA = Path(__file__).parents[3] / "schema" / "schema.sql"

RECEIPT = """
INSERT INTO receipts (execution_id, agent_id, operation, status, timestamp, duration_ms,
                      environment, session_id, error_message, receipt_json)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""

#: The same second in the notations of version 1.0.0, and what is no time at all.
NOON = "2026-01-29T12:00:00.000Z"
NOTATIONS = {
    "milliseconds": NOON,
    "seconds": "2026-01-29T12:00:00Z",
    "space": "2026-01-29 12:00:00",
    "offset": "2026-01-30T01:30:00+13:30",
    "negative": "2026-01-29T00:00:00-12:00",
    "small": "2026-01-29t12:00:00z",
}
NO_TIMES = {"now": "now", "number": "2461070.0", "empty": "", "clock": "12:00:00", "word": "noon"}


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A fresh database with six executions, e1 the oldest."""
    with closing(sqlite3.connect(tmp_path / "tier2.db", isolation_level=None)) as connection:
        connection.executescript(SCHEMA.read_text(encoding="utf-8"))
        day = "2026-01-2{}T00:00:00.000Z"
        connection.executemany(
            RECEIPT,
            [
                ("e1", "a", "watch", "passed", day.format(1), 10, "dev", "s1", None, '{"x":1}'),
                ("e2", "b", "watch", "failed", day.format(2), 20, "dev", "s1", "It BROKE", None),
                ("e3", "a", "receipt", "passed", day.format(3), 30, "staging", None, None, None),
                ("e4", "a", "receipt", "failed", day.format(4), 40, None, None, "100%", None),
                ("e5", "b", "dry_run", "partial", day.format(5), 50, None, "s2", "1_0", None),
                ("e6", "c", "dry_run", "passed", day.format(6), 60, None, None, "\\", None),
            ],
        )
        connection.executemany(
            "INSERT INTO workflow_sessions (session_id, start_time, status, agent_count) "
            "VALUES (?, ?, ?, 2)",
            [("s1", day.format(1), "running"), ("s2", day.format(5), "failed")],
        )
        connection.executemany(
            "INSERT INTO collision_detection (session_id, agent_id_1, agent_id_2, collision_type, "
            "description, severity, timestamp) VALUES (?, ?, ?, ?, ?, ?, ?)",
            [
                ("s1", "a", "b", "file_conflict", "both write", "info", day.format(1)),
                ("s2", "b", "c", "semantic_overlap", "same words", "critical", day.format(5)),
            ],
        )
        connection.executemany(
            "INSERT INTO slo_violations (execution_id, metric, target_value, actual_value, "
            "severity, timestamp) VALUES (?, ?, 1, 2, ?, ?)",
            [("e1", "m1", "warning", day.format(1)), ("e5", "m5", "critical", day.format(5))],
        )
        connection.executemany(
            "INSERT INTO audit_log (timestamp, agent_id, operation, status, execution_id, "
            "session_id) VALUES (?, ?, ?, ?, ?, ?)",
            [
                (day.format(1), "a", "load", "completed", "e1", "s1"),
                (day.format(5), "b", "save", "failed", "e5", None),
            ],
        )
        connection.executemany(
            "INSERT INTO pipeline_metrics (execution_id, stage, duration_ms, status, timestamp) "
            "VALUES (?, ?, ?, ?, ?)",
            [
                ("e1", "μ₃_emit", 5, "passed", day.format(1)),
                ("e5", "μ₃_emit", 7, "failed", day.format(5)),
                ("e5", "μ₂_extract", 9, "passed", day.format(5)),
            ],
        )
        connection.executemany(
            "INSERT INTO agent_memory (agent_id, memory_json, updated_at) VALUES (?, ?, ?)",
            [("a", '{"k":"μ"}', "2026-01-21 00:00:00.000"), ("b", "[]", "2026-01-25 00:00:00.000")],
        )
        yield connection


@pytest.fixture
def reader(writer: sqlite3.Connection, tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(open_readonly(tmp_path / "tier2.db")) as connection:
        yield connection


def rows(result: Result) -> list[dict[str, Any]]:
    return [dict(zip(result.columns, row, strict=True)) for row in result.rows]


def found(reader: sqlite3.Connection, name: str, column: str, **filters: Any) -> list[Any]:
    """Read a listing both ways, by an index and by walking the table: they must agree."""
    result = read_listing(reader, name, Filters(**filters), limit=100)
    few, list_query._FEW = list_query._FEW, 0
    try:
        assert read_listing(reader, name, Filters(**filters), limit=100) == result
    finally:
        list_query._FEW = few
    return [row[column] for row in rows(result)]


@pytest.mark.parametrize(
    ("filters", "executions"),
    [
        ({}, "e6 e5 e4 e3 e2 e1"),
        ({"agent": "a"}, "e4 e3 e1"),
        ({"agent": "A"}, ""),
        ({"status": "failed"}, "e4 e2"),
        ({"agent": "a", "status": "failed"}, "e4"),
        ({"operation": "dry_run"}, "e6 e5"),
        ({"environment": "dev"}, "e2 e1"),
        ({"session": "s1"}, "e2 e1"),
        ({"since": "2026-01-25T00:00:00.000Z"}, "e6 e5"),
        ({"until": "2026-01-22T00:00:00.000Z"}, "e1"),
        ({"since": "2026-01-22T00:00:00.000Z", "until": "2026-01-24T00:00:00.000Z"}, "e3 e2"),
        ({"until": "9999-12-31T23:59:59.999Z"}, "e6 e5 e4 e3 e2 e1"),
        ({"agent": "a", "since": "2026-01-22T00:00:00.000Z"}, "e4 e3"),
        ({"text": "broke"}, "e2"),
        ({"text": "0%"}, "e4"),
        ({"text": "_"}, "e5"),
        ({"text": "\\"}, "e6"),
        ({"text": '"x"'}, "e1"),
        ({"text": "%"}, "e4"),
        ({"before": 3}, "e2 e1"),
        ({"agent": "'; DROP TABLE receipts; --"}, ""),
    ],
)
def test_each_filter_lets_through_what_it_says(
    filters: dict[str, Any], executions: str, reader: sqlite3.Connection
) -> None:
    assert found(reader, "executions", "execution_id", **filters) == executions.split()


@pytest.mark.parametrize(
    ("name", "column", "filters", "expected"),
    [
        ("sessions", "session_id", {}, ["s2", "s1"]),
        ("sessions", "session_id", {"status": "running"}, ["s1"]),
        ("sessions", "session_id", {"since": "2026-01-25T00:00:00.000Z"}, ["s2"]),
        ("collisions", "session_id", {"agent": "b"}, ["s2", "s1"]),
        ("collisions", "session_id", {"agent": "c"}, ["s2"]),
        ("collisions", "session_id", {"type": "file_conflict"}, ["s1"]),
        ("collisions", "session_id", {"severity": "critical"}, ["s2"]),
        ("collisions", "session_id", {"session": "s1"}, ["s1"]),
        ("collisions", "session_id", {"text": "WORDS"}, ["s2"]),
        ("violations", "metric", {}, ["m5", "m1"]),
        ("violations", "metric", {"severity": "critical"}, ["m5"]),
        ("violations", "metric", {"agent": "a"}, ["m1"]),
        ("violations", "metric", {"session": "s2"}, ["m5"]),
        ("violations", "metric", {"execution": "e1"}, ["m1"]),
        ("audit", "operation", {"execution": "e"}, ["save", "load"]),
        ("audit", "operation", {"execution": "e5"}, ["save"]),
        ("audit", "operation", {"session": "s1"}, ["load"]),
        ("audit", "operation", {"status": "failed"}, ["save"]),
        ("audit", "operation", {"operation": "load"}, ["load"]),
        ("audit", "operation", {"agent": "b", "since": "2026-01-25T00:00:00.000Z"}, ["save"]),
        ("audit", "operation", {"until": "2026-01-25T00:00:00.000Z"}, ["load"]),
        ("memory", "agent_id", {}, ["b", "a"]),
        ("memory", "memory_bytes", {"text": "μ"}, [10]),
        ("memory", "agent_id", {"since": "2026-01-25T00:00:00.000Z"}, ["b"]),
        ("agents", "agent_id", {"since": "2026-01-24T00:00:00.000Z"}, ["a", "b", "c"]),
        ("agents", "total_executions", {"agent": "a"}, [3]),
        ("agents", "avg_duration_ms", {"environment": "dev", "session": "s1"}, [10.0, 20.0]),
        ("stages", "stage", {"agent": "b"}, ["μ₂_extract", "μ₃_emit"]),
        ("stages", "executions", {"stage": "emit"}, [2]),
        ("stages", "failed", {"since": "2026-01-25T00:00:00.000Z"}, [0, 1]),
        ("stages", "stage", {"session": "s1"}, ["μ₃_emit"]),
        ("stages", "stage", {"status": "failed"}, ["μ₃_emit"]),
    ],
)
def test_each_listing_has_its_filters(
    name: str,
    column: str,
    filters: dict[str, Any],
    expected: list[Any],
    reader: sqlite3.Connection,
) -> None:
    assert found(reader, name, column, **filters) == expected


def test_a_time_is_found_in_every_notation_of_it(
    writer: sqlite3.Connection, reader: sqlite3.Connection
) -> None:
    for name, timestamp in {**NOTATIONS, **NO_TIMES}.items():
        writer.execute(
            RECEIPT, (name, name, "watch", "passed", timestamp, 1, None, None, None, None)
        )
    after = "2026-01-29T12:00:00.001Z"
    noon = found(reader, "executions", "execution_id", since=NOON, until=after)
    assert sorted(noon) == sorted(NOTATIONS)
    assert found(reader, "executions", "execution_id", since=after) == []
    before = found(reader, "executions", "execution_id", until=NOON)
    assert before == ["e6", "e5", "e4", "e3", "e2", "e1"]
    one = found(reader, "executions", "execution_id", agent="offset", since=NOON, until=after)
    assert one == ["offset"]


def test_pages_follow_each_other_without_a_gap(reader: sqlite3.Connection) -> None:
    seen: list[str] = []
    before = None
    while True:
        page = read_listing(reader, "executions", Filters(before=before), limit=4)
        seen += [row["execution_id"] for row in rows(page)]
        if not page.has_more:
            break
        before = rows(page)[-1]["id"]
        assert page.next_page == f"--before {before} shows the next page"
    assert seen == ["e6", "e5", "e4", "e3", "e2", "e1"]
    assert page.next_page == ""


def test_wide_is_every_column_of_the_table(reader: sqlite3.Connection) -> None:
    result = read_listing(reader, "executions", Filters(), limit=1, wide=True)
    columns = read_listing(reader, "executions", Filters(), limit=1).columns
    assert result.columns[: len(columns)] == columns
    assert {"receipt_json", "manifest_hash", "created_at"} <= set(result.columns)
    assert len(set(result.columns)) == len(result.columns)


@pytest.mark.parametrize("name", ["agents", "stages"])
def test_a_filtered_summary_has_the_rows_of_the_view(name: str, reader: sqlite3.Connection) -> None:
    everything = read_listing(reader, name, Filters(since="1970-01-01T00:00:00.000Z"), limit=100)
    assert everything == run(reader, NAMED[name], 100)


@pytest.mark.parametrize(
    ("name", "filters", "named"),
    [
        ("executions", {"status": "running"}, "passed, failed, partial, cancelled"),
        ("executions", {"operation": "dance"}, "validation, generation"),
        ("sessions", {"status": "passed"}, "running, completed, failed, cancelled"),
        ("collisions", {"type": "x"}, "file_conflict, memory_conflict"),
        ("collisions", {"severity": "x"}, "info, warning, critical"),
        ("violations", {"severity": "info"}, "warning, critical"),
        ("audit", {"status": "passed"}, "started, completed, failed, skipped"),
        ("stages", {"stage": "x"}, "normalize, extract, emit"),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_those_that_can(
    name: str, filters: dict[str, Any], named: str, reader: sqlite3.Connection
) -> None:
    with pytest.raises(UsageMistake) as caught:
        read_listing(reader, name, Filters(**filters), limit=1)
    assert named in caught.value.hint


def test_a_filter_that_a_listing_has_not_is_refused(reader: sqlite3.Connection) -> None:
    with pytest.raises(UsageMistake, match="no filter `stage`"):
        read_listing(reader, "executions", Filters(stage="emit"), limit=1)


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    path = tmp_path_factory.mktemp("old") / "old.db"
    make_version_1(path)
    with closing(open_readonly(path)) as connection:
        yield connection


@pytest.mark.parametrize("name", LISTINGS)
def test_a_database_of_version_1_is_listed(name: str, old: sqlite3.Connection) -> None:
    filters = [Filters(), Filters(since="2026-01-29T00:00:00.000Z", until="2026-01-30T00:00:00Z")]
    for chosen in filters:
        assert read_listing(old, name, chosen, limit=5).rows or name == "memory"


@pytest.mark.parametrize(
    ("name", "filters"),
    [
        ("executions", {"session": "s1"}),
        ("agents", {"session": "s1"}),
        ("stages", {"session": "s1"}),
        ("violations", {"session": "s1"}),
        ("audit", {"session": "s1"}),
        ("audit", {"execution": "e"}),
    ],
)
def test_a_filter_that_version_1_has_no_column_for_is_refused(
    name: str, filters: dict[str, Any], old: sqlite3.Connection
) -> None:
    with pytest.raises(UsageMistake, match=r"of version 1\.0\.0") as caught:
        read_listing(old, name, Filters(**filters), limit=1)
    assert "ggend init" in caught.value.hint


def statements(reader: sqlite3.Connection, name: str, **filters: Any) -> list[str]:
    """Return what a listing runs, apart from looking at which columns there are."""
    ran: list[str] = []
    reader.set_trace_callback(ran.append)
    read_listing(reader, name, Filters(**filters), limit=5)
    reader.set_trace_callback(None)
    return [sql for sql in ran if "table_info" not in sql and not sql.startswith("--")]


@pytest.mark.parametrize(
    ("name", "filters"),
    [
        ("executions", {"agent": "a"}),
        ("executions", {"status": "failed"}),
        ("executions", {"session": "s1"}),
        ("executions", {"since": NOON}),
        ("executions", {"agent": "a", "since": NOON, "until": NOON}),
        ("audit", {"agent": "a"}),
        ("audit", {"status": "failed"}),
        ("audit", {"execution": "e"}),
        ("audit", {"since": NOON}),
        ("violations", {"execution": "e"}),
        ("violations", {"severity": "critical"}),
        ("collisions", {"session": "s1"}),
        ("collisions", {"severity": "critical"}),
        ("sessions", {"status": "running"}),
        ("stages", {"since": NOON}),
    ],
)
def test_a_common_filter_never_scans_a_table(
    name: str, filters: dict[str, Any], reader: sqlite3.Connection
) -> None:
    """Ids come from an index; without them the table is walked by id until the page is full."""
    *paths, listing = statements(reader, name, **filters)
    for sql in paths:
        plan = [row[3] for row in reader.execute(f"EXPLAIN QUERY PLAN {sql}")]
        scans = {step for step in plan if step.startswith("SCAN")}
        assert scans <= {"SCAN agents", "SCAN ids", "SCAN CONSTANT ROW"}, plan
    plan = [row[3] for row in reader.execute(f"EXPLAIN QUERY PLAN {listing}")]
    assert any("USING INTEGER PRIMARY KEY (rowid=?)" in step for step in plan), plan
    if LISTINGS[name].summary is None:
        assert not any("TEMP B-TREE" in step for step in plan), plan


def test_the_plain_listing_is_walked_by_id(reader: sqlite3.Connection) -> None:
    (listing,) = statements(reader, "executions")
    plan = [row[3] for row in reader.execute(f"EXPLAIN QUERY PLAN {listing}")]
    assert plan == ["SCAN receipts"]
