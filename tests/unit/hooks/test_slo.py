"""Objectives, and the hook that writes down what breaks them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ggend.database.upgrade import prepare_database
from ggend.hooks.runner import Hook
from ggend.hooks.slo import SloHooks
from ggend.slo import breaches
from ggend.slo.evaluate import Thresholds
from ggend.slo.objectives import (
    EXECUTION_DURATION,
    SHIPPED,
    STAGE_DURATIONS,
    Objectives,
    Threshold,
)


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    path = tmp_path / "tier2.db"
    prepare_database(path)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA foreign_keys = ON")
    yield connection
    connection.close()


def _receipt(connection: sqlite3.Connection, execution_id: str, duration_ms: int = 0) -> None:
    connection.execute(
        "INSERT INTO receipts (execution_id, agent_id, operation, status, timestamp, duration_ms) "
        "VALUES (?, 'a', 'generation', 'passed', '2026-01-29T12:00:00.000Z', ?)",
        (execution_id, duration_ms),
    )


def _stage(
    connection: sqlite3.Connection,
    duration_ms: int,
    *,
    stage: str = "μ₂_extract",
    timestamp: str = "2026-01-29T12:00:00.000Z",
) -> None:
    connection.execute(
        "INSERT INTO pipeline_metrics (execution_id, stage, duration_ms, status, timestamp) "
        "VALUES ('e', ?, ?, 'passed', ?)",
        (stage, duration_ms, timestamp),
    )


def _judge(connection: sqlite3.Connection, hooks: list[Hook] | None = None) -> None:
    for hook in hooks or SloHooks().hooks():
        while hook.turn(connection):
            pass


def _violations(connection: sqlite3.Connection) -> list[tuple[object, ...]]:
    columns = "execution_id, metric, severity, target_value, actual_value, timestamp"
    violations = connection.execute(
        f"SELECT {columns}, description FROM slo_violations ORDER BY metric, severity, execution_id"
    ).fetchall()
    breaches = connection.execute(
        f"SELECT {columns}, description FROM slo_breaches ORDER BY metric, severity, execution_id"
    ).fetchall()
    assert violations == breaches
    return [row[1:5] for row in violations]


@pytest.mark.parametrize(
    ("actual", "severity"),
    [(2000, None), (2001, "warning"), (5000, "warning"), (5001, "critical")],
)
def test_a_value_is_judged_strictly_above_its_limits(actual: int, severity: str | None) -> None:
    breach = EXECUTION_DURATION.judge(actual)
    assert (breach and breach.severity) == severity


def test_a_breach_reads_as_a_sentence() -> None:
    breach = STAGE_DURATIONS["μ₂_extract"].judge(3210)
    assert breach is not None
    assert breach.description == (
        "Stage μ₂_extract took 3,210 ms, over the critical limit of 2,500 ms."
    )


def test_above_critical_there_is_only_the_critical_row(connection: sqlite3.Connection) -> None:
    _receipt(connection, "e", 6000)
    _judge(connection)
    assert _violations(connection) == [("execution.duration_ms", "critical", 5000.0, 6000.0)]


@pytest.mark.parametrize("stage", STAGE_DURATIONS)
def test_every_stage_has_its_own_limits(connection: sqlite3.Connection, stage: str) -> None:
    objective = STAGE_DURATIONS[stage]
    _receipt(connection, "e")
    _stage(connection, int(objective.first), stage=stage)
    _judge(connection)
    assert _violations(connection) == []
    _stage(connection, int(objective.first) + 1, stage=stage)
    _judge(connection)
    assert _violations(connection) == [
        (f"stage.{stage}.duration_ms", "warning", objective.first, objective.first + 1)
    ]


@pytest.mark.parametrize("order", [(1100, 1300, 1200), (1300, 1100, 1200), (1200, 1100, 1300)])
@pytest.mark.parametrize("together", [True, False], ids=["one look", "a look each"])
def test_of_repeated_stages_the_worst_stands(
    connection: sqlite3.Connection, order: tuple[int, ...], together: bool
) -> None:
    """One row a metric, execution and severity, the same for any order of arrival."""
    hooks = SloHooks().hooks()
    _receipt(connection, "e")
    for duration_ms in order:
        _stage(connection, duration_ms, timestamp=f"2026-01-29T12:00:0{duration_ms % 7}.000Z")
        if not together:
            _judge(connection, hooks)
    _judge(connection, hooks)
    assert _violations(connection) == [("stage.μ₂_extract.duration_ms", "warning", 1000.0, 1300.0)]


def test_looking_again_from_the_start_changes_nothing(connection: sqlite3.Connection) -> None:
    """A crash may lose the watermark, and nothing else."""
    for number in range(50):
        _receipt(connection, f"e{number}", 1000 + 100 * number)
    _judge(connection)
    before = _violations(connection)
    assert len(before) == 39
    connection.execute("DELETE FROM hook_watermarks")
    _judge(connection)
    assert _violations(connection) == before


def test_a_backlog_is_looked_at_in_slices(
    connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ggend.hooks.runner.SLICE_ROWS", 10)
    for number in range(35):
        _receipt(connection, f"e{number}", 9000)
    hook = SloHooks().hooks()[0]
    assert [hook.turn(connection) for _ in range(4)] == [25, 15, 5, 0]
    assert len(_violations(connection)) == 35


def test_the_new_rows_are_found_by_indexes(connection: sqlite3.Connection) -> None:
    """No statement of the hook scans a table of the contract."""
    thresholds = Thresholds(SHIPPED)
    executions, limits = thresholds.of_executions
    stages, stage_limits = thresholds.of_stages
    rows = {"rows": "[]", "direction": 1}
    statements: list[tuple[str, Any]] = [
        (executions, (0, 1, *limits)),
        (stages, (0, 1, *stage_limits)),
        (breaches._WORSE_VIOLATIONS, rows),
        (breaches._NEW_VIOLATIONS, rows),
        (breaches._BREACHES, rows),
    ]
    for sql, parameters in statements:
        plan = connection.execute(f"EXPLAIN QUERY PLAN {sql}", parameters).fetchall()
        assert [
            row[3] for row in plan if row[3].startswith("SCAN") and "VIRTUAL" not in row[3]
        ] == []


def _judged_by(connection: sqlite3.Connection, *thresholds: Threshold) -> None:
    _judge(connection, SloHooks(Objectives(thresholds)).hooks())


def test_the_first_threshold_that_fits_judges(connection: sqlite3.Connection) -> None:
    _receipt(connection, "e", 900)
    _judged_by(
        connection,
        Threshold("execution.duration_ms", warning=1_000, operation="generation"),
        Threshold("execution.duration_ms", warning=10),
    )
    assert _violations(connection) == []


def test_a_threshold_of_another_operation_does_not_judge(connection: sqlite3.Connection) -> None:
    _receipt(connection, "e", 900)
    _judged_by(
        connection,
        Threshold("execution.duration_ms", warning=1, operation="validation"),
        Threshold("execution.duration_ms", warning=800, environment="production"),
        Threshold("execution.duration_ms", critical=800),
    )
    assert _violations(connection) == [("execution.duration_ms", "critical", 800.0, 900.0)]


@pytest.mark.parametrize("order", [(70, 30, 50), (30, 70, 50), (50, 70, 30)])
@pytest.mark.parametrize("together", [True, False], ids=["one look", "a look each"])
def test_where_less_is_worse_the_least_stands(
    connection: sqlite3.Connection, order: tuple[int, ...], together: bool
) -> None:
    metric = "stage.μ₂_extract.output_size_bytes"
    hooks = SloHooks(Objectives([Threshold(metric, warning=100, critical=10, below=True)])).hooks()
    _receipt(connection, "e")
    for size in order:
        _stage(connection, 1)
        connection.execute(
            "UPDATE pipeline_metrics SET output_size_bytes = ? WHERE output_size_bytes IS NULL",
            (size,),
        )
        if not together:
            _judge(connection, hooks)
    _judge(connection, hooks)
    assert _violations(connection) == [(metric, "warning", 100.0, 30.0)]
    (description,) = connection.execute("SELECT description FROM slo_violations").fetchone()
    assert description == "Stage μ₂_extract wrote 30 bytes, under the warning limit of 100 bytes."


def test_a_stage_is_narrowed_by_its_execution(connection: sqlite3.Connection) -> None:
    _receipt(connection, "e")
    _stage(connection, 500)
    _judged_by(connection, Threshold("stage.μ₂_extract.duration_ms", warning=1, operation="watch"))
    assert _violations(connection) == []
    connection.execute("DELETE FROM hook_watermarks")
    _judged_by(
        connection, Threshold("stage.μ₂_extract.duration_ms", warning=1, operation="generation")
    )
    assert _violations(connection) == [("stage.μ₂_extract.duration_ms", "warning", 1.0, 500.0)]


def test_without_objectives_nothing_is_judged(connection: sqlite3.Connection) -> None:
    _receipt(connection, "e", 9_000_000)
    _stage(connection, 9_000_000)
    _judged_by(connection)
    assert _violations(connection) == []
