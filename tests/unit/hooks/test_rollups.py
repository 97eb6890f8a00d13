"""The rollups: exact at every moment, whatever plain SQL does to the rows."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from ggend.database.migrate import create
from ggend.database.rollups import bucket_width, clear, compare
from ggend.hooks import runner
from ggend.hooks.rollups import rollup_hooks
from ggend.hooks.runner import Hook
from ggend.maintenance.purge import Position, purge_slice
from ggend.storage.writer_state import Bounds, open_writer_state
from ggend_schema.migrations import schema_version
from support.examples import share_of_examples

STAGES = ("μ₁_normalize", "μ₂_extract", "μ₃_emit", "μ₄_canonicalize", "μ₅_receipt")

#: What the views would be without rollups.
NAIVE = {
    "agent_performance_summary": """
        SELECT agent_id, COUNT(*) AS total_executions, COUNT(*) FILTER (WHERE status = 'passed'),
               COUNT(*) FILTER (WHERE status = 'failed'), ROUND(AVG(known), 2),
               MIN(known), MAX(known), SUM(files_generated), MAX(timestamp)
        FROM (SELECT *, iif(duration_source IS NULL, duration_ms, NULL) AS known FROM receipts)
        GROUP BY agent_id ORDER BY total_executions DESC, agent_id""",
    "pipeline_stage_performance": """
        SELECT stage, COUNT(*), ROUND(AVG(known), 2), MIN(known), MAX(known),
               COUNT(*) FILTER (WHERE status = 'passed'), COUNT(*) FILTER (WHERE status = 'failed')
        FROM (SELECT *, iif(duration_source IS NULL, duration_ms, NULL) AS known
              FROM pipeline_metrics)
        GROUP BY stage ORDER BY AVG(known) DESC, stage""",
}

agents = st.sampled_from(["a", "b", "c", ""])
durations = st.one_of(
    st.integers(0, 3_000), st.sampled_from([10**12, 10**12 + 1, -1, 0.25, "soon", 2.5e14])
)
files = st.one_of(st.none(), st.integers(0, 9), st.sampled_from([0.5, "many", 10**13]))
statuses = st.sampled_from(["passed", "failed", "partial"])
moments = st.sampled_from(["2026-01-29T12:34:56.789Z", "2026-01-30 00:00:00", "2026-02-01T00Z"])

#: With an unknown duration comes 0; plain SQL may mark any.
taken = st.one_of(
    st.tuples(durations, st.none()),
    st.just((0, "unknown")),
    st.tuples(durations, st.sampled_from(["unknown", ""])),
)

receipts = st.tuples(agents, statuses, moments, taken, files)
stages = st.tuples(st.sampled_from(STAGES), st.sampled_from(["passed", "failed"]), moments, taken)


def exact(connection: sqlite3.Connection) -> None:
    """Fail unless the views say what the rows say, and the histograms too."""
    for view, naive in NAIVE.items():
        found = connection.execute(f"SELECT * FROM {view}").fetchall()
        assert found == connection.execute(naive).fetchall()
    assert list(compare(connection, lambda _: None)) == []


class _Rows(RuleBasedStateMachine):
    """Rows that come, change and go, and hooks that count them, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        create(self.connection)
        self.state = open_writer_state(self.connection, Bounds(), schema_version())
        self.hooks = rollup_hooks()
        self.executions = 0

    def teardown(self) -> None:
        self.connection.close()

    @initialize()
    def begin_small(self) -> None:
        """Let a slice be a few rows, so that there are many."""
        for hook in self.hooks:
            hook._at_least = 3

    @rule(rows=st.lists(receipts, min_size=1, max_size=9))
    def insert_receipts(self, rows: list[tuple[Any, ...]]) -> None:
        for row in rows:
            self.executions += 1
            self.connection.execute(
                "INSERT INTO receipts (execution_id, operation, created_at, agent_id, status, "
                "timestamp, duration_ms, duration_source, files_generated) "
                "VALUES (?, 'watch', '2026-01-29 00:00:00', ?, ?, ?, ?, ?, ?)",
                (str(self.executions), *row[:3], *row[3], row[4]),
            )

    @precondition(lambda self: self.executions)
    @rule(rows=st.lists(stages, min_size=1, max_size=9))
    def insert_stages(self, rows: list[tuple[Any, ...]]) -> None:
        self.connection.executemany(
            "INSERT INTO pipeline_metrics (execution_id, stage, status, timestamp, duration_ms, "
            f"duration_source) VALUES ({self.executions}, ?, ?, ?, ?, ?)",
            [(*row[:3], *row[3]) for row in rows],
        )

    @rule(slice_rows=st.integers(3, 8))
    def catch_up(self, slice_rows: int) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(runner, "SLICE_ROWS", slice_rows)
            for hook in self.hooks:
                while hook.turn(self.connection):
                    pass

    @rule(source=st.sampled_from(["receipts", "pipeline_metrics"]), share=st.integers(1, 6))
    def delete(self, source: str, share: int) -> None:
        self.connection.execute(f"DELETE FROM {source} WHERE id % ? = 0", (share,))

    @rule(source=st.sampled_from(["receipts", "pipeline_metrics"]), to=durations, at=moments)
    def update(self, source: str, to: object, at: str) -> None:
        self.connection.execute(
            f"UPDATE {source} SET duration_ms = ?, timestamp = ? WHERE id % 3 = 1", (to, at)
        )

    @rule(
        source=st.sampled_from(["receipts", "pipeline_metrics"]),
        to=st.sampled_from([None, "unknown"]),
    )
    def mark(self, source: str, to: str | None) -> None:
        """Say of rows that they were measured, or that they were not."""
        self.connection.execute(f"UPDATE {source} SET duration_source = ? WHERE id % 3 = 2", (to,))

    @rule(agent=agents, to=agents)
    def rename(self, agent: str, to: str) -> None:
        self.connection.execute("UPDATE receipts SET agent_id = ? WHERE agent_id = ?", (to, agent))

    @rule(by=st.sampled_from([-1, 7, 1_000]))
    def move(self, by: int) -> None:
        """Give rows other ids, below the watermark and beyond it."""
        self.connection.execute(
            "UPDATE OR IGNORE pipeline_metrics SET id = id + ? WHERE id % 4 = 0 AND id > 1", (by,)
        )

    @rule(which=st.integers(0, 1), slice_rows=st.integers(3, 8))
    def turn(self, which: int, slice_rows: int) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(runner, "SLICE_ROWS", slice_rows)
            self.hooks[which].turn(self.connection)

    @rule(which=st.integers(0, 1), statement=st.integers(1, 4))
    def fail_in_a_turn(self, which: int, statement: int) -> None:
        """A crash in the middle of a slice: it is taken back, and a new process goes on."""
        hook = self.hooks[which]
        seen = 0

        def interrupt() -> int:
            nonlocal seen
            seen += 1
            return int(seen > 20 * statement)

        self.connection.set_progress_handler(interrupt, 20)
        try:
            hook.turn(self.connection)
        except sqlite3.OperationalError:
            assert not self.connection.in_transaction
        finally:
            self.connection.set_progress_handler(None, 0)
        self.restart()

    @rule()
    def restart(self) -> None:
        self.hooks = rollup_hooks()
        self.begin_small()

    @rule()
    def rebuild(self) -> None:
        self.connection.execute("BEGIN IMMEDIATE")
        clear(self.connection)
        self.connection.execute("COMMIT")

    @rule(limit=st.integers(1, 6))
    def purge(self, limit: int) -> None:
        self.connection.execute("BEGIN IMMEDIATE")
        self.state.accounts.now = "2026-01-30T00:00:00.000Z"
        purge_slice(
            self.connection,
            self.state,
            cutoff="2026-01-30 00:00:00",
            position=Position("receipts"),
            limit=limit,
        )
        self.connection.execute("COMMIT")

    @invariant()
    def is_exact(self) -> None:
        exact(self.connection)


TestRows = _Rows.TestCase
TestRows.settings = settings(max_examples=share_of_examples(0.8), stateful_step_count=30)


@pytest.fixture
def database() -> Iterator[sqlite3.Connection]:
    """A current database."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        create(connection)
        yield connection


def _receipts(connection: sqlite3.Connection, count: int, **columns: object) -> None:
    row: dict[str, object] = {"agent_id": "a", "duration_ms": 7, "duration_source": None}
    row |= {"status": "passed", "timestamp": "2026-01-29"} | columns
    connection.executemany(
        "INSERT INTO receipts (execution_id, agent_id, operation, status, timestamp, duration_ms, "
        "duration_source) VALUES (hex(randomblob(8)), :agent_id, 'watch', :status, :timestamp, "
        ":duration_ms, :duration_source)",
        [row] * count,
    )


def _catch_up(connection: sqlite3.Connection) -> list[Hook]:
    found = rollup_hooks()
    for hook in found:
        while hook.turn(connection):
            pass
    return found


def test_a_slice_is_counted_only_when_it_is_full(database: sqlite3.Connection) -> None:
    _receipts(database, runner.SLICE_ROWS - 1)
    assert _catch_up(database)[0].seen == 0
    exact(database)
    _receipts(database, 1)
    assert _catch_up(database)[0].seen == runner.SLICE_ROWS
    exact(database)


def test_a_gap_of_ids_takes_one_turn(database: sqlite3.Connection) -> None:
    _receipts(database, 1)
    database.execute("UPDATE receipts SET id = 1000000000000")
    _receipts(database, runner.SLICE_ROWS)
    hook = rollup_hooks()[0]
    turns = 1
    while hook.turn(database):
        turns += 1
    assert turns <= 2
    exact(database)


@pytest.mark.parametrize("last", ["moved", "deleted"])
def test_ids_that_are_given_again_are_counted(database: sqlite3.Connection, last: str) -> None:
    """What AUTOINCREMENT prevents, but for those who empty sqlite_sequence, or change ids."""
    _receipts(database, runner.SLICE_ROWS)
    if last == "moved":
        database.execute("UPDATE receipts SET id = id + 1000 WHERE id = ?", (runner.SLICE_ROWS,))
    _catch_up(database)
    _receipts(database, 5)
    database.execute("DELETE FROM receipts WHERE id % 2 = 0")
    database.execute("DELETE FROM sqlite_sequence")
    _receipts(database, 3, agent_id="b")
    exact(database)
    database.execute("DELETE FROM receipts")
    database.execute("DELETE FROM sqlite_sequence")
    _receipts(database, runner.SLICE_ROWS, agent_id="c")
    exact(database)
    _catch_up(database)
    exact(database)


def test_what_is_inserted_below_the_watermark_is_found_and_cured(
    database: sqlite3.Connection,
) -> None:
    _receipts(database, runner.SLICE_ROWS)
    _catch_up(database)
    database.execute(
        "INSERT OR REPLACE INTO receipts (id, execution_id, agent_id, operation, status, "
        "timestamp, duration_ms) VALUES (5, 'x', 'b', 'watch', 'failed', '2026-01-29', 9)"
    )
    told = " ".join(compare(database, lambda _: None))
    assert "agent_totals" in told
    assert "b, 1, 0, 1, 1, 9" in told
    database.execute("BEGIN")
    clear(database)
    database.execute("COMMIT")
    exact(database)
    _catch_up(database)
    exact(database)


@pytest.mark.parametrize(
    ("duration_ms", "files_generated"),
    [(0.1, 1), ("soon", 1), (-1, 1), (10**12 + 1, 1), (2**60, 1), (7, 0.1), (7, "many"), (7, -1)],
)
def test_what_no_sum_takes_back_exactly_is_counted_by_the_views(
    database: sqlite3.Connection, duration_ms: object, files_generated: object
) -> None:
    _receipts(database, runner.SLICE_ROWS)
    database.execute(
        "UPDATE receipts SET duration_ms = ?, files_generated = ? WHERE id % 1000 = 0",
        (duration_ms, files_generated),
    )
    _catch_up(database)
    odd = database.execute("SELECT row_id FROM rollup_exceptions").fetchall()
    assert odd == [(1000,), (2000,), (3000,), (4000,)]
    assert database.execute("SELECT executions FROM agent_totals").fetchall() == [(4092,)]
    database.execute("DELETE FROM receipts WHERE id IN (1000, 2000)")
    exact(database)


def test_unknown_durations_count_as_executions_and_in_no_sum(database: sqlite3.Connection) -> None:
    _receipts(database, runner.SLICE_ROWS - 3)
    _receipts(database, 3, duration_ms=0, duration_source="unknown")
    _receipts(database, 2, duration_ms=0, duration_source="unknown", agent_id="b")
    _catch_up(database)
    exact(database)
    totals = database.execute("SELECT executions, durations, duration_ms FROM agent_totals")
    assert totals.fetchall() == [(runner.SLICE_ROWS, runner.SLICE_ROWS - 3, 7 * 4093)]
    view = "SELECT total_executions, avg_duration_ms, min_duration_ms, max_duration_ms"
    found = database.execute(f"{view} FROM agent_performance_summary").fetchall()
    assert found == [(runner.SLICE_ROWS, 7.0, 7, 7), (2, None, None, None)]
    counted = "SELECT DISTINCT from_ms FROM duration_histograms"
    assert database.execute(counted).fetchall() == [(7,)]
    # One that is found out later, and one that goes.
    database.execute("UPDATE receipts SET duration_source = NULL, duration_ms = 0 WHERE id = 4094")
    database.execute("DELETE FROM receipts WHERE id = 4095")
    exact(database)


def test_the_smallest_known_duration_is_found_beside_many_unknown(
    database: sqlite3.Connection,
) -> None:
    """Of rows with 0 ms, those that were measured have an index of their own."""
    steps = []
    for _ in range(2):
        before = database.execute("SELECT ifnull(max(id), 0) FROM receipts").fetchone()
        for agent in ("a", "none is known"):
            _receipts(
                database,
                runner.SLICE_ROWS,
                agent_id=agent,
                duration_ms=0,
                duration_source="unknown",
            )
        _receipts(database, 2 * runner.SLICE_ROWS)
        database.execute(
            "INSERT INTO pipeline_metrics (execution_id, stage, status, timestamp, duration_ms, "
            "duration_source) SELECT execution_id, iif(agent_id = 'a', 'μ₃_emit', 'μ₂_extract'), "
            "status, timestamp, duration_ms, duration_source FROM receipts WHERE id > ?",
            before,
        )
        _catch_up(database)
        exact(database)
        steps.append([_steps(database, f"SELECT * FROM {view}") for view in NAIVE])
    assert all(after <= first + 3 for first, after in zip(*steps, strict=True)), steps


def test_a_row_that_gets_an_id_below_the_watermark_is_counted(
    database: sqlite3.Connection,
) -> None:
    _receipts(database, runner.SLICE_ROWS)
    _catch_up(database)
    database.execute("DELETE FROM receipts WHERE id = 5")
    _receipts(database, 1, duration_ms=11)
    database.execute("UPDATE receipts SET id = 5 WHERE id = (SELECT max(id) FROM receipts)")
    exact(database)


def test_the_views_look_at_no_more_rows_than_are_uncounted(tmp_path: Path) -> None:
    """Steps of SQLite's machine: as many at 40,000 receipts as at 20,000."""
    steps = []
    with closing(sqlite3.connect(tmp_path / "t.db", isolation_level=None)) as connection:
        create(connection)
        for _ in range(2):
            connection.execute("BEGIN")
            _receipts(connection, 5 * runner.SLICE_ROWS)
            connection.execute(
                "INSERT INTO pipeline_metrics (execution_id, stage, duration_ms, status, timestamp)"
                " SELECT execution_id, 'μ₃_emit', id % 5000, 'passed', timestamp FROM receipts"
                " ORDER BY id DESC LIMIT ?",
                (5 * runner.SLICE_ROWS,),
            )
            connection.execute("COMMIT")
            _catch_up(connection)
            steps.append({view: _steps(connection, f"SELECT * FROM {view}") for view in NAIVE})
            steps[-1]["recent"] = _steps(connection, "SELECT * FROM recent_executions")
    assert steps[0].keys() == steps[1].keys()
    for view, before in steps[0].items():
        assert steps[1][view] <= before + 3, view


def _steps(connection: sqlite3.Connection, sql: str) -> int:
    """Return how many hundreds of instructions a statement takes."""
    count = 0

    def step() -> int:
        nonlocal count
        count += 1
        return 0

    connection.set_progress_handler(step, 100)
    connection.execute(sql).fetchall()
    connection.set_progress_handler(None, 0)
    return count


@pytest.mark.parametrize("exponent", range(13))
def test_a_duration_is_in_the_bucket_that_holds_it(
    database: sqlite3.Connection, exponent: int
) -> None:
    """SQL says where a bucket begins and Python how wide it is: at most 2.5 % of it."""
    took = sorted(
        {
            min(10**12, max(0, factor * 10**exponent + near))
            for factor in (1, 2, 4, 5, 9)
            for near in (-1, 0, 1)
        }
    )
    for duration_ms in took:
        _receipts(database, 1, duration_ms=duration_ms)
    _receipts(database, runner.SLICE_ROWS - len(took), agent_id="other")
    _catch_up(database)
    buckets = [
        row[0]
        for row in database.execute(
            "SELECT from_ms FROM duration_histograms, json_each('[' || "
            "rtrim(replace(printf('%.*c', durations, '1'), '1', '1,'), ',') || ']') "
            "WHERE dimension = 'agent' AND name = 'a' ORDER BY 1"
        )
    ]
    assert len(buckets) == len(took)
    for duration_ms, from_ms in zip(took, buckets, strict=True):
        width = bucket_width(from_ms)
        assert from_ms <= duration_ms < from_ms + width
        assert width == 1 or width <= from_ms / 40
        assert from_ms % width == 0
