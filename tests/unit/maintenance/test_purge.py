"""Purge: what goes and what stays, compared with a model; and what a slice costs.

The model is written from the rules alone, over lists of rows. Databases are random: ages that jump,
times that are none, orphans, receipts with more stages than a slice takes. The purge runs in slices
of random size, some of them rolled back and begun again.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import closing
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ggend.database.migrate import create
from ggend.ingest.intake import Call
from ggend.ingest.open_store import open_store
from ggend.maintenance.purge import _STEPS, Position, purge_slice
from ggend.queries.purgeable import purgeable
from ggend.storage.accounts import Accounts, Sender
from ggend.storage.seen_time import SeenTime
from ggend.storage.writer_state import Bounds, WriterState, open_writer_state

CUTOFF = "2026-01-01 00:00:00"

#: A moment of a row is one of these, old ones most of all.
OLD = ["2025-12-31 23:59:59", "2025-06-01 00:00:00", "2025-12-31T23:59:59Z"]
NOT_OLD = [CUTOFF, "2026-03-01 00:00:00", "2026-01-01T00:00:00.000Z", "", "yesterday", 1700000000]
MOMENTS = st.sampled_from([*OLD * 5, *NOT_OLD])
EXECUTIONS = [f"e{number}" for number in range(6)]
SESSIONS = [f"s{number}" for number in range(4)]
SEVERITY = st.sampled_from(["warning", "critical"])
EXECUTION = st.sampled_from(EXECUTIONS)
METRIC = st.sampled_from(["execution.duration_ms", "stage.emit.duration_ms"])

Row: TypeAlias = dict[str, Any]
Tables: TypeAlias = dict[str, list[Row]]


def rows(most: int, *, unique: Any = None, **columns: st.SearchStrategy[Any]) -> Any:
    """Up to so many rows of a table."""
    return st.lists(st.fixed_dictionaries(columns), max_size=most, unique_by=unique)


DATABASES = st.fixed_dictionaries(
    {
        "receipts": rows(
            6,
            unique=lambda row: row["execution_id"],
            execution_id=EXECUTION,
            session_id=st.sampled_from([*SESSIONS, None]),
            created_at=MOMENTS,
        ),
        "pipeline_metrics": rows(20, execution_id=EXECUTION, created_at=MOMENTS),
        "slo_violations": rows(
            6, execution_id=EXECUTION, metric=METRIC, severity=SEVERITY, created_at=MOMENTS
        ),
        "slo_breaches": rows(
            8,
            unique=lambda row: (row["metric"], row["subject"], row["severity"]),
            metric=METRIC,
            subject=st.sampled_from([*EXECUTIONS, "silent"]),
            severity=SEVERITY,
            created_at=MOMENTS,
        ),
        "collision_detection": rows(6, session_id=st.sampled_from(SESSIONS), created_at=MOMENTS),
        "workflow_sessions": rows(
            4,
            unique=lambda row: row["session_id"],
            session_id=st.sampled_from(SESSIONS),
            status=st.sampled_from(["completed", "completed", "failed", "running"]),
            created_at=MOMENTS,
        ),
        "audit_log": rows(12, created_at=MOMENTS),
        "rejected_events": rows(8, account_id=st.integers(1, 3), received_at=MOMENTS),
    }
)

#: What every row of a table has, whatever the test is about.
FILLER: dict[str, Row] = {
    "receipts": {
        "agent_id": "a",
        "operation": "watch",
        "status": "passed",
        "timestamp": "",
        "duration_ms": 1,
    },
    "pipeline_metrics": {
        "stage": "μ₃_emit",
        "duration_ms": 1,
        "status": "passed",
        "timestamp": "",
    },
    "slo_violations": {"target_value": 1, "actual_value": 2, "timestamp": ""},
    "slo_breaches": {"target_value": 1, "actual_value": 2, "description": "", "timestamp": ""},
    "collision_detection": {
        "agent_id_1": "a",
        "agent_id_2": "b",
        "collision_type": "file_conflict",
        "description": "",
        "severity": "info",
        "timestamp": "",
    },
    "workflow_sessions": {"start_time": "", "agent_count": 1},
    "session_ends": {"duration_given": 0, "successful_given": 0, "failed_given": 0},
    "audit_log": {"timestamp": "", "agent_id": "a", "operation": "o", "status": "completed"},
    "rejected_events": {
        "code": "invalid",
        "message": "",
        "uid": 0,
        "schema_version": 2,
        "encoding": "json",
        "stamp_ns": 0,
        "size_bytes": 0,
        "sha256": b"",
    },
}


def insert(connection: sqlite3.Connection, table: str, row: Row) -> None:
    row = FILLER[table] | row
    connection.execute(
        f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})",
        list(row.values()),
    )


@pytest.fixture(scope="module")
def empty() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        create(connection)
        yield connection


@pytest.fixture
def database(empty: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    with closing(copy_of(empty)) as connection:
        yield connection


def copy_of(empty: sqlite3.Connection) -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    empty.backup(connection)
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def fill(connection: sqlite3.Connection, tables: Tables) -> None:
    """Insert everything, orphans too, and number the rows of the model."""
    for breach in tables["slo_breaches"]:
        breach["execution_id"] = breach["subject"] if breach["subject"] in EXECUTIONS else None
    tables["session_ends"] = [
        {"session_id": row["session_id"]}
        for row in tables["workflow_sessions"]
        if row["status"] != "running"
    ]
    connection.execute("PRAGMA foreign_keys = OFF")
    for table, found in tables.items():
        for number, row in enumerate(found, start=1):
            insert(connection, table, row)
            row["id"] = number
    connection.execute("PRAGMA foreign_keys = ON")
    accounts = Accounts(SeenTime(0, None, 0))
    for number in (1, 2):  # the third was folded: its events are counted on the total
        accounts.of(connection, Sender(uid=number, gid=0, pid=0))


def is_old(row: Row) -> bool:
    moment = row.get("created_at", row.get("received_at"))
    return isinstance(moment, str) and "1970" < moment.replace("T", " ") < CUTOFF


def purged_by_the_rules(tables: Tables) -> Tables:
    """The model: what is left."""

    def before_the_cut(table: str) -> list[Row]:
        return list(takewhile(is_old, left[table]))

    def remove(table: str, gone: list[Row]) -> None:
        left[table] = [row for row in left[table] if row not in gone]

    left = dict(tables)
    receipts = before_the_cut("receipts")
    gone = {row["execution_id"] for row in receipts}
    remove("receipts", receipts)
    found = [row for row in left["slo_violations"] if row["execution_id"] in gone]
    judged = {(row["metric"], row["execution_id"], row["severity"]) for row in found}
    remove("slo_violations", found)
    remove(
        "pipeline_metrics", [row for row in left["pipeline_metrics"] if row["execution_id"] in gone]
    )
    remove(
        "slo_breaches",
        [
            row
            for row in left["slo_breaches"]
            if (row["metric"], row["subject"], row["severity"]) in judged
        ],
    )
    there = {row["execution_id"] for row in left["receipts"]}
    for table in ("pipeline_metrics", "slo_violations", "slo_breaches"):
        remove(table, [row for row in before_the_cut(table) if row["execution_id"] not in there])
    remove("collision_detection", before_the_cut("collision_detection"))
    named = {row["session_id"] for row in left["receipts"] + left["collision_detection"]}
    ended = [
        row
        for row in before_the_cut("workflow_sessions")
        if row["status"] != "running" and row["session_id"] not in named
    ]
    remove("workflow_sessions", ended)
    remove(
        "session_ends",
        [
            {**row, "id": row["id"]}
            for row in left["session_ends"]
            if row["session_id"] in {session["session_id"] for session in ended}
        ],
    )
    remove("audit_log", before_the_cut("audit_log"))
    remove("rejected_events", before_the_cut("rejected_events"))
    return left


def stored(connection: sqlite3.Connection, tables: Tables) -> Tables:
    """The rows of the model that are in the database."""
    keys = {
        table: {
            key
            for (key,) in connection.execute(
                f"SELECT {'session_id' if table == 'session_ends' else 'id'} FROM {table}"
            )
        }
        for table in tables
    }
    return {
        table: [
            row
            for row in found
            if row["session_id" if table == "session_ends" else "id"] in keys[table]
        ]
        for table, found in tables.items()
    }


def purge(
    connection: sqlite3.Connection,
    *,
    limit: int = 1000,
    cutoff: str = CUTOFF,
    kept: Collection[str] = (),
) -> Counter[str]:
    """Purge to the end, in slices of one size."""
    state, deleted = open_writer_state(connection, Bounds(), 2), Counter[str]()
    position: Position | None = None
    while True:
        done = purge_slice(
            connection, state, cutoff=cutoff, position=position, limit=limit, kept=kept
        )
        deleted.update(done.deleted)
        if (position := done.next) is None:
            return deleted


@given(
    tables=DATABASES,
    kept=st.sets(
        st.sampled_from(
            [
                "receipts",
                "pipeline_metrics",
                "slo_breaches",
                "audit_log",
                "collision_detection",
                "workflow_sessions",
                "session_ends",
            ]
        )
    ),
)
def test_tables_that_are_kept_lose_no_row_and_the_preview_says_so(
    empty: sqlite3.Connection, tables: Tables, kept: set[str]
) -> None:
    with closing(copy_of(empty)) as connection:
        fill(connection, tables)
        torn = set(connection.execute("PRAGMA foreign_key_check").fetchall())
        found = purgeable(connection, CUTOFF, kept=kept).tables.rows
        deleted = purge(connection, limit=7, kept=kept)
        assert {row[0]: row[1] for row in found if row[1]} == dict(+deleted)
        left = stored(connection, tables)
        assert all(left[table] == tables[table] for table in kept)
        assert set(connection.execute("PRAGMA foreign_key_check").fetchall()) <= torn


def purged_counts(connection: sqlite3.Connection) -> dict[str, int]:
    return dict(
        connection.execute("SELECT kind || uid, purged FROM producers WHERE purged > 0").fetchall()
    )


@given(
    tables=DATABASES,
    slices=st.lists(st.tuples(st.integers(1, 9), st.sampled_from("ccccrb")), max_size=60),
    last=st.integers(1, 50),
)
def test_any_slices_and_interruptions_leave_what_the_rules_say(
    empty: sqlite3.Connection, tables: Tables, slices: list[tuple[int, str]], last: int
) -> None:
    """And the preview says the same beforehand, and the accounts count it."""
    with closing(copy_of(empty)) as connection:
        fill(connection, tables)
        expected = purged_by_the_rules(tables)
        torn = set(connection.execute("PRAGMA foreign_key_check").fetchall())
        preview = {row[0]: row[1] for row in purgeable(connection, CUTOFF).tables.rows}
        position: Position | None = None
        state = open_writer_state(connection, Bounds(), 2)
        for limit, then in slices:
            connection.execute("BEGIN")
            done = purge_slice(connection, state, cutoff=CUTOFF, position=position, limit=limit)
            # Committed; or rolled back, as by a crash; or committed and begun again.
            connection.execute("ROLLBACK" if then == "r" else "COMMIT")
            position = None if then in "rb" else done.next
        purge(connection, limit=last)
        assert stored(connection, tables) == expected
        removed = {table: len(tables[table]) - len(expected[table]) for table in tables}
        assert preview == removed
        assert set(connection.execute("PRAGMA foreign_key_check").fetchall()) <= torn
        assert not purge(connection)
        counted = Counter(
            f"anonymous{row['account_id']}" if row["account_id"] < 3 else "folded0"
            for row in tables["rejected_events"]
            if row not in expected["rejected_events"]
        )
        counted["folded0"] += sum(removed.values()) - sum(
            removed[table] for table in ("slo_violations", "slo_breaches", "rejected_events")
        )
        assert purged_counts(connection) == dict(+counted)


def plans(connection: sqlite3.Connection) -> list[str]:
    parameters = {"after": 0, "cutoff": CUTOFF, "limit": 10, "doomed": "[1, 2]"}
    return [
        detail
        for step in _STEPS
        for statement in (step.look, *(sql for _, sql in step.deletes))
        for *_, detail in connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
    ]


def test_no_statement_reads_a_whole_table(database: sqlite3.Connection) -> None:
    """What is scanned is the list of the doomed, and a count of at most a slice."""
    scans = [plan for plan in plans(database) if plan.startswith("SCAN")]
    assert [scan for scan in scans if "VIRTUAL TABLE" not in scan and "(subquery" not in scan] == []


def test_the_audit_log_loses_its_beginning_and_no_more(database: sqlite3.Connection) -> None:
    """After a clock that went back, old rows stay behind a younger one."""
    for moment in (OLD[0], OLD[1], NOT_OLD[1], OLD[0]):
        insert(database, "audit_log", {"created_at": moment})
    purge(database)
    assert database.execute("SELECT id FROM audit_log").fetchall() == [(3,), (4,)]


@pytest.mark.parametrize("moment", ["2999-01-01 00:00:00", "yesterday", "", 1700000000])
def test_a_row_whose_time_keeps_all_others_is_named(
    database: sqlite3.Connection, moment: str | int
) -> None:
    for created_at in (OLD[0], moment, OLD[0]):
        insert(database, "audit_log", {"created_at": created_at})
    insert(database, "receipts", {"execution_id": "of today"})
    assert purgeable(database, CUTOFF).obstacles == {"audit_log": 2}


def test_a_receipt_goes_whole_or_not_at_all(database: sqlite3.Connection) -> None:
    """Unless it has more rows than a slice; whoever reads between two slices sees no half."""
    for number in range(4):
        insert(database, "receipts", {"execution_id": f"e{number}", "created_at": OLD[0]})
        for _ in range(5):
            insert(
                database, "pipeline_metrics", {"execution_id": f"e{number}", "created_at": OLD[0]}
            )
    done = purge_slice(
        database, open_writer_state(database, Bounds(), 2), cutoff=CUTOFF, position=None, limit=15
    )
    assert done.deleted == {"receipts": 2, "pipeline_metrics": 10}


def test_a_receipt_with_more_stages_than_a_slice_goes_in_several(
    database: sqlite3.Connection,
) -> None:
    insert(database, "receipts", {"execution_id": "e", "created_at": OLD[0]})
    for _ in range(25):
        insert(database, "pipeline_metrics", {"execution_id": "e", "created_at": OLD[0]})
    sizes = []
    position: Position | None = Position("receipts")
    while position is not None:
        done = purge_slice(
            database,
            open_writer_state(database, Bounds(), 2),
            cutoff=CUTOFF,
            position=position,
            limit=10,
        )
        sizes.append(sum(done.deleted.values()))
        position = done.next
    assert sum(sizes) == 26
    assert max(sizes) <= 10


def test_ids_go_on_after_a_purge_of_everything(database: sqlite3.Connection) -> None:
    """So that a hook's watermark is never ahead of a new row."""
    insert(database, "receipts", {"execution_id": "e1", "created_at": OLD[0]})
    purge(database)
    insert(database, "receipts", {"execution_id": "e2"})
    assert database.execute("SELECT id FROM receipts").fetchall() == [(2,)]


async def test_what_a_purge_changed_counts_for_the_next_checkpoint(tmp_path: Path) -> None:
    """Or the WAL would grow for as long as a purge runs and no events come."""

    def rollback(connection: sqlite3.Connection, _state: WriterState) -> None:
        connection.execute("DELETE FROM audit_log")

    call = Call(rollback, lambda _c, _r: None, lambda _c, _e: None)
    async with open_store(
        tmp_path / "tier2.db", page_cache_mib=1, bounds=Bounds(parked_events=1, rejected_events=1)
    ) as store:
        for moment in OLD[:2]:
            await store.run(partial(insert, table="audit_log", row={"created_at": moment}))
        await store.commit([call])
    assert call.changed_rows == 2


def test_a_position_that_is_none_is_refused(database: sqlite3.Connection) -> None:
    with pytest.raises(LookupError, match="no step 'producers'"):
        purge_slice(
            database,
            open_writer_state(database, Bounds(), 2),
            cutoff=CUTOFF,
            position=Position("producers"),
            limit=1,
        )
