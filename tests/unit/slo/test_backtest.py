"""Proposed objectives over what is stored: counted once an execution, beside today's."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from ggend.database.upgrade import prepare_database
from ggend.slo.backtest import Tally, backtest
from ggend.slo.objectives import Objectives, Threshold

SLOW = "execution.duration_ms"
STAGE = "stage.μ₃_emit.duration_ms"


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    path = tmp_path / "tier2.db"
    prepare_database(path)
    connection = sqlite3.connect(path, isolation_level=None)
    for number in range(1, 11):
        connection.execute(
            "INSERT INTO receipts "
            "(execution_id, agent_id, operation, status, timestamp, duration_ms) "
            "VALUES (?, 'a', 'generation', 'passed', ?, ?)",
            (f"e{number}", f"2026-01-{number:02}T00:00:00.000Z", 100 * number),
        )
        for _ in range(2):  # ran twice: counted once
            connection.execute(
                "INSERT INTO pipeline_metrics "
                "(execution_id, stage, duration_ms, status, timestamp) "
                "VALUES (?, 'μ₃_emit', ?, 'passed', ?)",
                (f"e{number}", 10 * number, f"2026-01-{number:02}T00:00:00.000Z"),
            )
    yield connection
    connection.close()


def test_both_are_counted_and_the_worst_is_named(connection: sqlite3.Connection) -> None:
    proposed = Objectives([Threshold(SLOW, 500, 800), Threshold(STAGE, warning=90)])
    today = Objectives([Threshold(SLOW, warning=900)])
    assert backtest(connection, proposed, today, since=None) == [
        Tally(SLOW, "critical", 2, 0, 1000, "e10"),
        Tally(SLOW, "warning", 3, 1, 800, "e8"),
        Tally(STAGE, "warning", 1, 0, 100, "e10"),
    ]


def test_where_less_is_worse_the_least_is_the_worst(connection: sqlite3.Connection) -> None:
    proposed = Objectives([Threshold(SLOW, warning=300, below=True)])
    assert backtest(connection, proposed, Objectives([]), since=None) == [
        Tally(SLOW, "warning", 2, 0, 100, "e1")
    ]


def test_rows_before_the_moment_do_not_count(connection: sqlite3.Connection) -> None:
    proposed = Objectives([Threshold(SLOW, warning=1)])
    (tally,) = backtest(connection, proposed, proposed, since="2026-01-08T00:00:00.000Z")
    assert (tally.proposed, tally.today) == (3, 3)


@pytest.mark.parametrize(
    ("written", "counted"),
    [
        ("2026-01-09 00:00:00", 1),
        ("2026-01-09 00:00:00.000", 1),
        ("2026-01-09T00:00:00", 1),
        ("2026-01-09T01:00:00+01:00", 1),
        ("2026-01-08T23:30:00-00:30", 1),
        ("2026-01-09t00:00:00z", 1),
        ("2026-01-09T23:59:60Z", 1),
        ("2026-01-09T00:59:59+01:00", 0),
        ("2026-01-08 23:59:59", 0),
        ("soon", 0),
    ],
)
def test_moments_are_compared_and_not_their_notation(
    connection: sqlite3.Connection, written: str, counted: int
) -> None:
    """Version 1.0.0 wrote them as each program liked."""
    connection.execute("UPDATE receipts SET timestamp = ? WHERE execution_id = 'e3'", (written,))
    proposed = Objectives([Threshold(SLOW, warning=1)])
    (tally,) = backtest(connection, proposed, proposed, since="2026-01-09T00:00:00.000Z")
    assert tally.proposed == 2 + counted


@pytest.mark.parametrize("size", [1, 3, 20])
def test_the_slices_do_not_show(
    connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    proposed = Objectives([Threshold(SLOW, 500, 800), Threshold(STAGE, warning=30)])
    whole = backtest(connection, proposed, Objectives([]), since=None)
    monkeypatch.setattr("ggend.slo.backtest._SLICE_ROWS", size)
    done: list[int] = []
    assert backtest(connection, proposed, Objectives([]), since=None, report=done.append) == whole
    assert done[-1] == 30


def test_nothing_is_written(connection: sqlite3.Connection) -> None:
    before = connection.total_changes
    backtest(connection, Objectives([Threshold(SLOW, warning=1)]), Objectives([]), since=None)
    assert connection.total_changes == before
