"""Merging: which rows of another database are sent here, between two real files, no daemon."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from ggend.database.upgrade import prepare_database
from ggend.importers.merge.merge import Merge, Tally
from ggend.storage.tables import AUDITS, COLLISIONS, METRICS, RECEIPTS, SESSIONS
from ggend_schema.events import (
    Audit,
    Collision,
    Event,
    MemorySaved,
    ReceiptEmitted,
    SessionEnded,
    SessionStarted,
    StageCompleted,
)
from ggend_schema.rows import row_of
from support.version_1 import make_version_1

TABLE_OF = {
    ReceiptEmitted: RECEIPTS,
    StageCompleted: METRICS,
    Collision: COLLISIONS,
    Audit: AUDITS,
    SessionStarted: SESSIONS,
}
AT = "2026-01-29T12:00:00.000Z"


class Place:
    """A database here, one there, and what a merge says."""

    def __init__(self, directory: Path) -> None:
        self.own, self.other = directory / "own.db", directory / "other.db"
        self.said: list[str] = []
        self.sent: list[Event] = []

    def merge(self, *, at_most: int = 10**9) -> dict[str, Tally]:
        """Merge; what is sent is stored, up to so many events: then it is cut short."""
        self.said, self.sent = [], []
        with (
            closing(sqlite3.connect(self.other)) as there,
            closing(sqlite3.connect(self.own)) as here,
            closing(sqlite3.connect(self.own, isolation_level=None)) as writer,
        ):
            writer.execute("PRAGMA synchronous = OFF")

            def send(event: Event, size: int) -> None:
                if len(self.sent) >= at_most:
                    raise InterruptedError
                self.sent.append(event)
                store(writer, event)

            merge = Merge(
                there,
                here,
                send=send,
                flush=lambda: 0,
                tell=self.said.append,
                advance=lambda _: None,
            )
            return {tally.table: tally for tally in merge.run()}

    def rows(self, sql: str) -> list[tuple[object, ...]]:
        """Read from the database here."""
        with closing(sqlite3.connect(self.own)) as connection:
            return connection.execute(sql).fetchall()


def store(connection: sqlite3.Connection, event: Event) -> None:
    """Store an event as the daemon would, whose parent is there."""
    row = row_of(event, 0)
    if type(event) in TABLE_OF:
        TABLE_OF[type(event)].insert(connection, [row])
    elif isinstance(event, SessionEnded):
        connection.execute(
            "UPDATE workflow_sessions SET end_time = ?, status = ?, total_duration_ms = ?, "
            "successful_operations = ?, failed_operations = ? WHERE session_id = ?",
            (*row[1:], row[0]),
        )
    else:
        connection.execute(
            "INSERT OR REPLACE INTO agent_memory (agent_id, memory_json, collision_history, "
            "retry_count, last_error, updated_at) VALUES (?, ?, ?, ?, ?, ?)",
            row[:6],
        )
        connection.execute(
            "INSERT OR REPLACE INTO memory_order (agent_id, timestamp_us, producer, sequence) "
            "VALUES (?, ?, x'', 1)",
            (row[0], row[6]),
        )


def fill(path: Path, events: Sequence[Event]) -> None:
    """Make a current database with these events, or add them."""
    prepare_database(path)
    with closing(sqlite3.connect(path)) as connection:
        for event in events:
            store(connection, event)
        connection.commit()


def execute(path: Path, sql: str, *parameters: object) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(sql, parameters)


def audit(operation: str = "plan", **changes: object) -> Audit:
    return Audit(
        **{"agent_id": "a", "operation": operation, "status": "completed", "timestamp": AT}
        | changes  # type: ignore[arg-type]
    )


def receipt(execution_id: str, **changes: object) -> ReceiptEmitted:
    return ReceiptEmitted(
        **{
            "execution_id": execution_id,
            "agent_id": "a",
            "operation": "generation",
            "status": "passed",
            "duration_ms": 5,
            "timestamp": AT,
        }
        | changes  # type: ignore[arg-type]
    )


def stage(execution_id: str, duration_ms: int = 1) -> StageCompleted:
    return StageCompleted(
        execution_id=execution_id,
        stage="μ₃_emit",
        duration_ms=duration_ms,
        status="passed",
        timestamp=AT,
    )


def memory(value: object, timestamp: str = AT) -> MemorySaved:
    return MemorySaved(agent_id="a", memory=value, timestamp=timestamp)


@pytest.fixture
def two(place: Path) -> Place:
    """Two databases; the one here is empty."""
    both = Place(place)
    fill(both.own, [])
    return both


def counts(tallies: dict[str, Tally], table: str) -> dict[str, int]:
    """The counts of one table that are not zero."""
    return {
        name: value
        for name in Tally.__struct_fields__[1:]
        if (value := getattr(tallies[table], name))
    }


def test_a_database_of_version_1_0_0_comes_over_whole_and_once(two: Place) -> None:
    make_version_1(two.other, executions=40, odd=False)
    first = two.merge()
    assert {tally.table: tally.new for tally in first.values()} == {
        "workflow_sessions": 4,
        "receipts": 40,
        "pipeline_metrics": 200,
        "collision_detection": 4,
        "audit_log": 120,
        "agent_memory": 7,
    }
    assert two.said == []
    again = two.merge()
    assert two.sent == []
    assert all(tally.already_there == tally.rows for tally in again.values())


def test_a_merge_that_was_cut_short_at_any_event_is_completed(two: Place) -> None:
    make_version_1(two.other, executions=20, odd=False)
    for at_most in (1, 3, 30, 100):
        with pytest.raises(InterruptedError):
            two.merge(at_most=at_most)
    two.merge()
    assert two.rows(
        "SELECT (SELECT count(*) FROM receipts), (SELECT count(*) FROM pipeline_metrics), "
        "(SELECT count(*) FROM audit_log), (SELECT count(*) FROM collision_detection)"
    ) == [(20, 100, 60, 2)]
    two.merge()
    assert two.sent == []


def test_of_equal_rows_as_many_are_here_as_there_were_there(two: Place) -> None:
    fill(two.own, [audit()])
    fill(two.other, [audit(), audit("other"), audit(), audit()])
    assert counts(two.merge(), "audit_log") == {"rows": 4, "new": 3, "already_there": 1}
    two.merge()
    assert two.sent == []


def test_equal_rows_are_counted_across_chunks(two: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ggend.importers.merge.merge._CHUNK_ROWS", 2)
    fill(two.own, [audit()])
    fill(two.other, [audit() for _ in range(7)])
    assert counts(two.merge(), "audit_log") == {"rows": 7, "new": 6, "already_there": 1}


def test_rows_of_an_upgraded_database_are_recognised_in_any_notation(place: Path) -> None:
    """Here as version 1.0.0 wrote them, there as ggend does, and the other way round."""
    two = Place(place)
    make_version_1(two.own, executions=30, odd=False)
    prepare_database(two.own)
    make_version_1(two.other, executions=30, odd=False)
    two.merge()
    assert two.sent == []
    two.other = place / "merged.db"
    fill(two.other, [])
    back = Place(place)
    back.own, back.other = two.other, two.own
    back.merge()
    assert len(back.sent) > 200
    two.merge()
    assert two.sent == []


def test_an_audit_entry_with_an_offset_is_the_one_in_utc(two: Place) -> None:
    fill(two.own, [])
    execute(
        two.own,
        "INSERT INTO audit_log (timestamp, agent_id, operation, status, context_json) "
        "VALUES ('2026-01-29T14:00:00+02:00', 'a', 'plan', 'completed', '{\"b\": 1, \"a\": 2}')",
    )
    fill(two.other, [audit(context={"a": 2, "b": 1})])
    assert counts(two.merge(), "audit_log") == {"rows": 1, "already_there": 1}


def test_a_backup_copy_of_the_database_adds_nothing(place: Path) -> None:
    two = Place(place)
    make_version_1(two.own, executions=10)
    prepare_database(two.own)
    with closing(sqlite3.connect(two.own)) as own, closing(sqlite3.connect(two.other)) as copy:
        own.backup(copy)
    tallies = two.merge()
    assert two.sent == []
    assert two.said == []
    assert all(tally.already_there == tally.rows for tally in tallies.values())


def test_a_receipt_with_other_content_is_a_conflict_and_its_stages_stay(two: Place) -> None:
    fill(two.own, [receipt("e1"), stage("e1")])
    fill(
        two.other,
        [
            receipt("e1", status="failed", error_message="no"),
            receipt("e2"),
            stage("e1"),
            stage("e1", 7),
            stage("e2"),
        ],
    )
    tallies = two.merge()
    assert counts(tallies, "receipts") == {"rows": 2, "new": 1, "conflicts": 1}
    assert counts(tallies, "pipeline_metrics") == {"rows": 3, "new": 1, "skipped": 2}
    assert two.said == ["receipts, id 1: 'e1' exists here with different status, error_message"]


def test_a_receipt_that_differs_in_its_timestamp_alone_is_there(two: Place) -> None:
    fill(two.own, [receipt("e1", receipt={"a": 1, "b": 2})])
    fill(two.other, [receipt("e1", timestamp="2020-01-01", receipt={"b": 2, "a": 1.0})])
    assert counts(two.merge(), "receipts") == {"rows": 1, "already_there": 1}


def test_orphans_stay_where_they_are(two: Place) -> None:
    fill(two.other, [])
    with closing(sqlite3.connect(two.other)) as connection:
        store(connection, stage("nowhere"))
        connection.commit()
    fill(two.own, [])
    assert counts(two.merge(), "pipeline_metrics") == {"rows": 1, "orphans": 1}
    assert two.sent == []


def test_a_stage_goes_where_its_receipt_is_here_alone(two: Place) -> None:
    fill(two.own, [receipt("e1")])
    fill(two.other, [stage("e1")])
    assert counts(two.merge(), "pipeline_metrics") == {"rows": 1, "new": 1}


@pytest.mark.parametrize(
    ("table", "columns", "values"),
    [
        ("audit_log", "timestamp, agent_id, operation, status", ("", "a", "o", "started")),
        ("audit_log", "timestamp, agent_id, operation, status", (AT, "a\x1b", "o", "started")),
        (
            "audit_log",
            "timestamp, agent_id, operation, status, duration_ms",
            (AT, "a", "o", "failed", -1),
        ),
        (
            "audit_log",
            "timestamp, agent_id, operation, status, context_json",
            (AT, "a", "o", "failed", "{"),
        ),
        ("agent_memory", "agent_id, memory_json", ("a\0b", "{}")),
        (
            "receipts",
            "execution_id, agent_id, operation, status, timestamp, duration_ms, manifest_hash",
            ("e", "a", "watch", "passed", AT, 1, "not hex"),
        ),
        (
            "workflow_sessions",
            "session_id, start_time, status, agent_count",
            ("s", AT, "completed", 1),
        ),
    ],
    ids=range(7),
)
def test_a_row_that_no_event_may_hold_is_reported_and_stays(
    two: Place, table: str, columns: str, values: tuple[object, ...]
) -> None:
    fill(two.other, [])
    marks = ", ".join("CAST(? AS TEXT)" if isinstance(value, bytes) else "?" for value in values)
    execute(two.other, f"INSERT INTO {table} ({columns}) VALUES ({marks})", *values)
    assert counts(two.merge(), table) == {"rows": 1, "unreadable": 1}
    assert two.said[0].startswith(f"{table}, id 1: ")
    assert two.sent == []


def session(status: str | None = None, agents: int = 2, **numbers: int) -> list[Event]:
    events: list[Event] = [SessionStarted(session_id="s", agent_count=agents, timestamp=AT)]
    if status is not None:
        end = {"total_duration_ms": 9, "successful_operations": 3, "failed_operations": 1}
        events.append(
            SessionEnded(
                session_id="s",
                status=status,  # type: ignore[arg-type]
                timestamp="2026-01-29T12:00:09.000Z",
                **end | numbers,
            )
        )
    return events


@pytest.mark.parametrize(
    ("own", "other", "outcome"),
    [
        ([], session("completed"), "new"),
        (session(), session("completed"), "new"),
        (session("completed"), session(), "already_there"),
        (session("completed"), session("completed"), "already_there"),
        (session("completed"), session("failed"), "conflicts"),
        (session("completed"), session("completed", failed_operations=2), "conflicts"),
        (session(), session(agents=3), "conflicts"),
    ],
    ids=range(7),
)
def test_a_session_is_compared_by_its_start_and_its_end(
    two: Place, own: list[Event], other: list[Event], outcome: str
) -> None:
    fill(two.own, own)
    fill(two.other, other)
    assert counts(two.merge(), "workflow_sessions") == {"rows": 1, outcome: 1}
    if outcome == "new":
        assert two.rows("SELECT status, successful_operations FROM workflow_sessions") == [
            ("completed", 3)
        ]


@pytest.mark.parametrize(
    ("own", "other", "outcome"),
    [
        ([], memory(1), "new"),
        ([memory(1)], memory(2, "2026-01-29T12:00:00.000001Z"), "new"),
        ([memory(1, "2026-01-29T12:00:00.000001Z")], memory(2), "superseded"),
        ([memory(1)], memory(1), "already_there"),
        ([memory(1)], memory(2), "conflicts"),
    ],
    ids=range(5),
)
def test_the_later_memory_wins_to_the_microsecond(
    two: Place, own: list[Event], other: Event, outcome: str
) -> None:
    fill(two.own, own)
    fill(two.other, [other])
    assert counts(two.merge(), "agent_memory") == {"rows": 1, outcome: 1}
    two.merge()
    assert two.sent == []


def test_audit_entries_of_an_execution_and_without_one_are_told_apart(two: Place) -> None:
    fill(two.own, [audit()])
    fill(two.other, [audit(), audit(execution_id="e"), audit(execution_id="e")])
    assert counts(two.merge(), "audit_log") == {"rows": 3, "new": 2, "already_there": 1}
    two.merge()
    assert two.sent == []


def test_what_no_message_carries_is_spelled_out_and_merged_once(two: Place) -> None:
    """As `portable` says it: other programs may have written it."""
    fill(two.other, [])
    insert = (
        "INSERT INTO audit_log (timestamp, agent_id, operation, status, context_json) "
        "VALUES (?, 'a', CAST(? AS TEXT), 'started', CAST(? AS TEXT))"
    )
    execute(two.other, insert, AT, b"write caf\xe9.rs", b'{"seed":%d,"path":"caf\xe9"}' % 2**64)
    assert counts(two.merge(), "audit_log") == {"rows": 1, "new": 1}
    (sent,) = two.sent
    assert isinstance(sent, Audit)
    assert sent.operation == r"write caf\xe9.rs"
    assert sent.context == {"seed": str(2**64), "path": r"caf\xe9"}
    assert counts(two.merge(), "audit_log") == {"rows": 1, "already_there": 1}


@pytest.mark.parametrize("stored", ["soon", b"\x01", 2**62, -1])
def test_an_order_key_that_is_no_moment_does_not_count(two: Place, stored: object) -> None:
    fill(two.other, [memory(1)])
    execute(two.other, "UPDATE memory_order SET timestamp_us = ?", stored)
    assert counts(two.merge(), "agent_memory") == {"rows": 1, "new": 1}
    two.merge()
    assert two.sent == []
