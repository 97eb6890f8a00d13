"""The report of collisions, beside a count by hand."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from ggend.database.upgrade import prepare_database
from ggend.queries.collisions import Hotspot, Kind, Pair, TrendDay, report_collisions


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    path = tmp_path / "tier2.db"
    prepare_database(path)
    connection = sqlite3.connect(path, isolation_level=None)
    for session in ("s", "t"):
        connection.execute(
            "INSERT INTO workflow_sessions (session_id, start_time, status, agent_count) "
            "VALUES (?, '2026-01-01T00:00:00.000Z', 'running', 3)",
            (session,),
        )
    rows = [
        ("s", "a", "b", "file_conflict", "both write x.rs", "merged", "warning", "01T10"),
        ("s", "b", "a", "file_conflict", "both write x.rs", None, "critical", "01T11"),
        ("t", "a", "c", "file_conflict", "both write x.rs", "", "warning", "02T10"),
        ("t", "a", "b", "semantic_overlap", "same module", "split", "critical", "03T10"),
    ]
    connection.executemany(
        "INSERT INTO collision_detection (session_id, agent_id_1, agent_id_2, collision_type, "
        "description, resolution, severity, timestamp) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, '2026-01-' || ? || ':00:00.000Z')",
        rows,
    )
    yield connection
    connection.close()


def test_all_collisions(connection: sqlite3.Connection) -> None:
    found = report_collisions(connection, session=None, since=None)
    assert (found.collisions, found.resolved, found.sessions) == (4, 2, 2)
    assert found.resolution_rate == 0.5
    assert found.kinds == [
        Kind("file_conflict", "warning", 2, 1),
        Kind("file_conflict", "critical", 1, 0),
        Kind("semantic_overlap", "critical", 1, 1),
    ]
    assert found.pairs == [Pair("a", "b", 3, 2), Pair("a", "c", 1, 0)]
    assert found.hotspots == [Hotspot("both write x.rs", 3, 2), Hotspot("same module", 1, 1)]
    assert found.trend == [
        TrendDay("2026-01-01", 2, 1),
        TrendDay("2026-01-02", 1, 0),
        TrendDay("2026-01-03", 1, 1),
    ]


@pytest.mark.parametrize(
    ("written", "counted"),
    [
        ("2026-01-09 00:00:00", 1),
        ("2026-01-09T00:00:00", 1),
        ("2026-01-09T01:00:00+01:00", 1),
        ("2026-01-08T23:30:00-00:30", 1),
        ("2026-01-09t00:00:00z", 1),
        ("2026-01-09T23:59:60Z", 1),
        ("2026-01-09T00:59:59+01:00", 0),
        ("now", 0),
    ],
)
def test_moments_are_compared_and_not_their_notation(
    connection: sqlite3.Connection, written: str, counted: int
) -> None:
    """Version 1.0.0 wrote them as each program liked."""
    connection.execute("UPDATE collision_detection SET timestamp = ? WHERE id = 1", (written,))
    found = report_collisions(connection, session=None, since="2026-01-09T00:00:00.000Z")
    assert found.collisions == counted


def test_a_session_from_a_moment_on(connection: sqlite3.Connection) -> None:
    since = "2026-01-03T00:00:00.000Z"
    assert report_collisions(connection, session="t", since=None).collisions == 2
    assert report_collisions(connection, session="t", since=since).collisions == 1
    assert report_collisions(connection, session="s", since=since).collisions == 0


def test_where_nothing_collided_there_is_no_rate(connection: sqlite3.Connection) -> None:
    found = report_collisions(connection, session="nobody", since=None)
    assert (found.collisions, found.resolution_rate, found.trend) == (0, None, [])


def test_only_the_first_pairs_are_named(connection: sqlite3.Connection) -> None:
    connection.executemany(
        "INSERT INTO collision_detection (session_id, agent_id_1, agent_id_2, collision_type, "
        "description, severity, timestamp) "
        "VALUES ('s', 'a', ?, 'file_conflict', 'x', 'info', '2026-01-01T00:00:00.000Z')",
        [(f"z{number:02}",) for number in range(20)],
    )
    found = report_collisions(connection, session=None, since=None)
    assert (len(found.pairs), found.pairs_total) == (10, 22)
    assert found.pairs[0] == Pair("a", "b", 3, 2)
