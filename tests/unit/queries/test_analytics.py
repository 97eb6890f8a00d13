"""The figures of a period are those that a slower, plainer computation finds."""

from __future__ import annotations

import math
import random
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ggend.queries.analytics import Analytics, analyse
from ggend.queries.summaries import Tally, percentile
from support.version_1 import SCHEMA, make_version_1

UNTIL = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
UNTIL_MS = int(UNTIL.timestamp() * 1000)

#: moment, agent, operation, environment, status, duration_ms, error
Receipt = tuple[datetime, str, str, str | None, str, int, str | None]


@pytest.fixture
def database() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(SCHEMA)
        yield connection


def _written(moment: datetime, rng: random.Random) -> str:
    """One of the notations that are found; each is the same millisecond."""
    text = moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03}"
    abroad = moment.astimezone(timezone(timedelta(hours=rng.choice([-11, -5, 2, 14]))))
    return rng.choice(
        [
            f"{text}Z",
            text,
            text.replace("T", " "),
            f"{text.replace('T', 't')}z",
            abroad.isoformat(timespec="milliseconds"),
            abroad.isoformat(sep=" ", timespec="milliseconds"),
        ]
    )


def _fill(connection: sqlite3.Connection, rng: random.Random, count: int) -> list[Receipt]:
    receipts: list[Receipt] = []
    for number in range(count):
        moment = UNTIL - timedelta(milliseconds=rng.randrange(-3_600_000, 3 * 86_400_000))
        failed = rng.random() < 0.3
        receipt: Receipt = (
            moment,
            rng.choice(["a", "b", "ä"]),
            rng.choice(["validation", "emission"]),
            rng.choice(["dev", None]),
            "failed" if failed else rng.choice(["passed", "partial", "cancelled"]),
            rng.choice([0, 1, 5, 5, rng.randrange(10_000)]),
            rng.choice(["broke", "tore"]) if failed else None,
        )
        receipts.append(receipt)
        connection.execute(
            "INSERT INTO receipts (execution_id, timestamp, agent_id, operation, environment, "
            "status, duration_ms, error_message) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (str(number), _written(moment, rng), *receipt[1:]),
        )
    return receipts


def _rank(values: list[int], share: float) -> int:
    return sorted(values)[math.ceil(len(values) * share) - 1]


def _inside(receipts: list[Receipt], length_ms: int, periods_ago: int = 0) -> list[Receipt]:
    length = timedelta(milliseconds=length_ms)
    end = UNTIL - length * periods_ago
    return [receipt for receipt in receipts if end - length <= receipt[0] < end]


@pytest.mark.parametrize("seed", range(8))
def test_executions_are_summed_up_as_python_would(database: sqlite3.Connection, seed: int) -> None:
    rng = random.Random(seed)
    receipts = _fill(database, rng, 400)
    found = analyse(database, since_ms=UNTIL_MS - DAY_MS, until_ms=UNTIL_MS)
    now, before = _inside(receipts, DAY_MS), _inside(receipts, DAY_MS, 1)
    for summary, expected in ((found.executions, now), (found.before, before)):
        durations = [receipt[5] for receipt in expected]
        statuses = Counter(receipt[4] for receipt in expected)
        assert summary.executions == len(expected)
        assert (summary.passed, summary.failed, summary.partial, summary.cancelled) == tuple(
            statuses[status] for status in ("passed", "failed", "partial", "cancelled")
        )
        assert summary.success_rate == statuses["passed"] / len(expected)
        assert summary.avg_ms == round(sum(durations) / len(durations), 2)
        assert (
            *(summary.p50_ms, summary.p90_ms, summary.p95_ms, summary.p99_ms),
            summary.max_ms,
        ) == (*(_rank(durations, share) for share in (0.5, 0.9, 0.95, 0.99)), max(durations))
    for groups, column in ((found.agents, 1), (found.operations, 2), (found.environments, 3)):
        assert {group.name: group.executions for group in groups} == Counter(
            receipt[column] for receipt in now
        )
    assert {error.name: error.count for error in found.errors} == Counter(
        receipt[6] for receipt in now if receipt[6]
    )


@pytest.mark.parametrize(
    ("length_ms", "step_ms"),
    [
        (DAY_MS, HOUR_MS),
        (5 * HOUR_MS + 1, HOUR_MS),
        (7 * DAY_MS, DAY_MS),
        (90 * DAY_MS, DAY_MS),
        (500 * DAY_MS, 30 * DAY_MS),
    ],
)
def test_the_trend_has_each_execution_in_one_step(
    database: sqlite3.Connection, length_ms: int, step_ms: int
) -> None:
    receipts = _inside(_fill(database, random.Random(9), 300), length_ms)
    found = analyse(database, since_ms=UNTIL_MS - length_ms, until_ms=UNTIL_MS)
    since = UNTIL - timedelta(milliseconds=length_ms)
    step = timedelta(milliseconds=step_ms)
    expected = Counter((receipt[0] - since) // step for receipt in receipts)
    assert [bucket.executions for bucket in found.trend] == [
        expected[number] for number in range(-(-length_ms // step_ms))
    ]


def test_one_agent_is_what_all_agents_are_without_the_others(
    database: sqlite3.Connection,
) -> None:
    receipts = _inside(_fill(database, random.Random(3), 300), DAY_MS)
    found = analyse(database, since_ms=UNTIL_MS - DAY_MS, until_ms=UNTIL_MS, agent="ä")
    assert found.executions.executions == sum(receipt[1] == "ä" for receipt in receipts)
    assert [group.name for group in found.agents] == ["ä"]


def test_the_other_tables_are_counted_in_the_period_alone(database: sqlite3.Connection) -> None:
    inside, outside = "2026-03-01 10:00:00", "2026-02-20T10:00:00Z"
    for number, (moment, agent) in enumerate([(inside, "a"), (inside, "b"), (outside, "a")]):
        database.executescript(
            f"""
            INSERT INTO receipts (execution_id, agent_id, operation, status, timestamp, duration_ms)
            VALUES ('e{number}', '{agent}', 'watch', 'passed', '{moment}', 9);
            INSERT INTO pipeline_metrics (execution_id, stage, duration_ms, status, timestamp,
                error_message)
            VALUES ('e{number}', 'μ₃_emit', {30 + number}, 'failed', '{moment}', 'no room'),
                   ('e{number}', 'μ₂_extract', 10, 'passed', '{moment}', NULL);
            INSERT INTO audit_log (timestamp, agent_id, operation, status, error_message)
            VALUES ('{moment}', '{agent}', 'x', 'failed', 'no room'),
                   ('{moment}', '{agent}', 'x', 'started', NULL);
            INSERT INTO workflow_sessions (session_id, start_time, status, agent_count)
            VALUES ('s{number}', '{moment}', 'running', 1);
            INSERT INTO collision_detection (session_id, agent_id_1, agent_id_2, collision_type,
                description, severity, timestamp)
            VALUES ('s{number}', 'z', '{agent}', 'file_conflict', '', 'info', '{moment}');
            INSERT INTO slo_violations (execution_id, metric, target_value, actual_value, severity,
                timestamp)
            VALUES ('e{number}', 'm', 1, 2, 'warning', '{moment}');
            """
        )
    for whom, count in ((None, 2), ("b", 1)):
        found: Analytics = analyse(
            database, since_ms=UNTIL_MS - DAY_MS, until_ms=UNTIL_MS, agent=whom
        )
        assert {stage.stage: (stage.runs, stage.failed) for stage in found.stages} == {
            "μ₂_extract": (count, 0),
            "μ₃_emit": (count, count),
        }
        assert sum(stage.share for stage in found.stages) == pytest.approx(1)
        assert found.audits == {"started": count, "completed": 0, "failed": count, "skipped": 0}
        assert [(each.name, each.count) for each in found.collisions] == [("file_conflict", count)]
        assert [(each.name, each.count) for each in found.violations] == [("m", count)]
        assert [(each.name, each.count) for each in found.errors] == [("no room", 2 * count)]


def test_a_period_without_anything_has_no_rates(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    make_version_1(path)
    with closing(sqlite3.connect(path)) as connection:
        found = analyse(connection, since_ms=UNTIL_MS - 7 * DAY_MS, until_ms=UNTIL_MS)
    assert found.executions.executions == 0
    assert found.executions.success_rate is None
    assert found.stages == []


@given(st.lists(st.integers(0, 10**12), min_size=1), st.integers(1, 100))
def test_a_percentile_is_the_smallest_value_not_below_that_share(
    values: list[int], percent: int
) -> None:
    found = percentile(Counter(values), percent)
    assert found in values
    assert sum(value <= found for value in values) * 100 >= percent * len(values)
    assert sum(value < found for value in values) * 100 < percent * len(values)


@given(st.lists(st.tuples(st.sampled_from(["passed", "failed"]), st.integers(0, 10**12))))
def test_a_tally_loses_no_execution(executions: list[tuple[str, int]]) -> None:
    tally = Tally()
    for status, duration_ms in executions:
        tally.add(status, duration_ms)
    summary = tally.summary()
    assert summary.passed + summary.failed == summary.executions == len(executions)
