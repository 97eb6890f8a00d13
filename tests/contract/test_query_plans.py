"""Plans: how SQLite finds what the contract and `ggend query` ask for, at any size.

ggend never runs ANALYZE, and without it SQLite plans by the schema alone: the plan of an empty
table is that of ten million rows. What a statement may scan is named here, each with its reason.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from bench.filled import AGENTS, fill, known_execution
from bench.targets import HELD_READS
from ggend.database.readonly import open_readonly
from ggend.database.rollups import progress
from ggend.hooks.rollups import rollup_hooks
from ggend.hooks.runner import Hook
from ggend.hooks.slo import SloHooks
from ggend.queries.execution import find_execution, load_execution, load_memory
from ggend.queries.list_query import Filters, read_listing
from ggend.queries.percentiles import Dimension, percentiles_of
from ggend.queries.run import NAMED, run
from ggend.slo.explain import explain

#: What may be read from end to end: what is no table, is as small as what it counts, or stops at a
#: LIMIT in the order of its ids.
_MAY_SCAN = re.compile(
    r"SCAN (parts|p|w|mark|agents|ids|(new|json_each)( VIRTUAL TABLE.*)?|VIRTUAL TABLE INDEX.*"
    r"|CONSTANT ROW|\d+ CONSTANT ROWS|\(subquery-\d+\)|pragma_\w+.*|agent_totals|stage_totals"
    r"|recent_executions|agent_performance_summary|pipeline_stage_performance)"
)
#: What walks a table in the order of its ids, from the newest, until it has enough rows.
_WALKS = re.compile(
    r"SCAN (receipts|audit_log|pipeline_metrics|collision_detection|slo_violations"
    r"|workflow_sessions|agent_memory)"
)

#: Executions in the database on which the statements are collected.
_EXECUTIONS = 50


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plans") / "tier2.db"
    fill(path, receipts=_EXECUTIONS, report=lambda _: None)
    return path


@contextmanager
def _said(connection: sqlite3.Connection) -> Iterator[list[str]]:
    """Collect what is asked of a connection, with its parameters filled in."""
    said: list[str] = []
    connection.set_trace_callback(said.append)
    try:
        yield said
    finally:
        connection.set_trace_callback(None)


def _plan(connection: sqlite3.Connection, sql: str) -> list[str]:
    nothing = [None] * sql.count("?")
    return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", nothing)]


def _is_a_query(sql: str) -> bool:
    return re.match(r"\s*(WITH|SELECT|INSERT|UPDATE|DELETE)", sql) is not None


def _expect_no_scan(plan: list[str], sql: str) -> None:
    scans = [line for line in plan if line.startswith("SCAN ") and not _MAY_SCAN.fullmatch(line)]
    assert not scans, f"{scans} in\n{sql}\n" + "\n".join(plan)


@pytest.mark.parametrize("name", NAMED)
def test_a_view_reads_no_table_from_end_to_end(filled: Path, name: str) -> None:
    with closing(open_readonly(filled)) as connection:
        plan = _plan(connection, NAMED[name])
    if name == "recent":
        assert "SCAN receipts" in plan  # backwards from the newest, by LIMIT 100
        plan = [line for line in plan if line not in ("SCAN receipts", "SCAN r")]
    _expect_no_scan(plan, name)
    bounded = {"recent": 1, "agents": 3, "stages": 3}  # of as many rows as it shows, or a slice
    assert sum("TEMP B-TREE" in line for line in plan) == bounded[name]


@pytest.mark.parametrize("sql", HELD_READS.values(), ids=HELD_READS)
def test_what_the_contract_times_has_an_index(filled: Path, sql: str) -> None:
    with closing(open_readonly(filled)) as connection:
        plan = _plan(connection, sql)
    if "LIMIT 10000" in sql:
        assert [line.split(" USING")[0] for line in plan] == ["SEARCH receipts"]
        return
    _expect_no_scan(plan, sql)
    assert any("SEARCH" in line for line in plan)
    if "GROUP BY" not in sql:
        assert not any("TEMP B-TREE" in line for line in plan), plan


#: What is listed, and the filters that an index serves.
_LISTINGS: list[tuple[str, Filters]] = [
    ("executions", Filters()),
    ("executions", Filters(agent="agent-1")),
    ("executions", Filters(status="failed")),
    ("executions", Filters(session="session-000000000000")),
    ("executions", Filters(since="2026-06-30T00:00:00.000Z")),
    ("executions", Filters(before=40)),
    ("audit", Filters()),
    ("audit", Filters(agent="agent-1")),
    ("audit", Filters(execution=known_execution(1))),
    ("audit", Filters(since="2026-06-30T00:00:00.000Z")),
    ("collisions", Filters()),
    ("collisions", Filters(session="session-000000000000")),
    ("violations", Filters()),
    ("violations", Filters(severity="critical")),
    ("sessions", Filters()),
    ("sessions", Filters(status="running")),
    ("memory", Filters()),
]


@pytest.mark.parametrize(
    ("name", "filters"), _LISTINGS, ids=[f"{name} {filters}" for name, filters in _LISTINGS]
)
def test_a_listing_walks_from_the_newest_or_goes_by_an_index(
    filled: Path, name: str, filters: Filters
) -> None:
    """The last statement lists; what comes before asks an index which ids there are."""
    with closing(open_readonly(filled)) as connection:
        with _said(connection) as said:
            read_listing(connection, name, filters, limit=20)
        *before, listing = [sql for sql in said if _is_a_query(sql)]
        plan = _plan(connection, listing)
        walks = [line for line in plan if _WALKS.fullmatch(line)]
        assert walks or any("INTEGER PRIMARY KEY" in line for line in plan), plan
        assert not any("TEMP B-TREE" in line for line in plan), plan
        assert "LIMIT" in listing or "ORDER BY id DESC" in listing
        for sql in before:
            _expect_no_scan(_plan(connection, sql), sql)


_LOOKS: dict[str, Callable[[sqlite3.Connection], object]] = {
    "an execution by its beginning": lambda c: find_execution(c, known_execution(3)[:12]),
    "an execution": lambda c: load_execution(c, known_execution(3)),
    "the breaches of an execution": lambda c: explain(c, known_execution(3)),
    "a breach": lambda c: explain(c, "1"),
    "a memory": lambda c: load_memory(c, AGENTS[0]),
    "how far the rollups are": lambda c: progress(c, limit=4096),
    **{
        f"percentiles of {dimension}": lambda c, dimension=dimension: percentiles_of(  # type: ignore[misc]
            c, dimension
        )
        for dimension in Dimension
    },
}


@pytest.mark.parametrize("look", _LOOKS.values(), ids=_LOOKS)
def test_a_look_goes_by_an_index(
    filled: Path, look: Callable[[sqlite3.Connection], object]
) -> None:
    with closing(open_readonly(filled)) as connection:
        with _said(connection) as said:
            look(connection)
        queries = [sql for sql in said if _is_a_query(sql)]
        assert queries
        for sql in queries:
            _expect_no_scan(_plan(connection, sql), sql)


@pytest.mark.parametrize(
    "hook", [*SloHooks().hooks(), *rollup_hooks()], ids=lambda hook: f"{hook.name} of {hook.source}"
)
def test_a_hook_reads_its_slice_only(filled: Path, hook: Hook) -> None:
    with closing(sqlite3.connect(filled, isolation_level=None)) as connection:
        connection.execute("DELETE FROM hook_watermarks")
        hook._at_least = 1
        with _said(connection) as said:
            hook.turn(connection)
        queries = [sql for sql in said if _is_a_query(sql) and "max(id) FROM" not in sql]
        assert len(queries) > 3
        for sql in queries:
            _expect_no_scan(_plan(connection, sql), sql)


def test_a_scan_would_be_seen(filled: Path) -> None:
    with closing(open_readonly(filled)) as connection:
        sql = "SELECT COUNT(*) FROM receipts WHERE duration_ms > 5"
        run(connection, sql, 1)
        with pytest.raises(AssertionError, match="SCAN receipts"):
            _expect_no_scan(_plan(connection, sql), sql)
