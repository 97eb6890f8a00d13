"""Durations that nobody recorded: stored as a marked 0, and in no figure of durations."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from ggend.cli.render.execution_view import as_json, execution_view
from ggend.database.migrate import apply
from ggend.database.readonly import open_readonly
from ggend.database.rollups import compare
from ggend.database.upgrade import prepare_database
from ggend.hooks import runner
from ggend.hooks.rollups import rollup_hooks
from ggend.hooks.runner import Hook
from ggend.hooks.slo import SloHooks
from ggend.importers.ggen_log import LogReader
from ggend.importers.merge.equality import differing_columns
from ggend.queries.analytics import analyse
from ggend.queries.execution import load_execution
from ggend.queries.export import ExportForm, encode, exports
from ggend.queries.list_query import Filters, read_listing
from ggend.queries.percentiles import Dimension, percentiles_of
from ggend.slo.backtest import backtest
from ggend.slo.objectives import Objectives, Threshold
from ggend_schema.codec import decode_event, encode_event
from ggend_schema.codes import EventCode
from ggend_schema.errors import InvalidEvent
from ggend_schema.migrations import migrations
from ggend_schema.rows import row_of
from ggend_schema.timestamps import parse_us
from support.store_harness import (
    AT,
    P1,
    P2,
    STAMP_NS,
    StoreHarness,
    codes,
    counts,
    opened,
    receipt,
    stage,
)

STAGE = "μ₃_emit"

DAY_MS = 86_400_000


@pytest.fixture
def path(in_memory: Path) -> Path:
    """A database with three executions and stages of 100, 200 and an unknown number of ms."""
    path = in_memory / "tier2.db"
    prepare_database(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        _fill(connection)
        for number in (1, 2, 3):
            # By plain SQL it need not be 0.
            _mark(connection, number, "unknown" if number == 3 else None)
    return path


@pytest.fixture
def old(in_memory: Path) -> Path:
    """A database of version 4, which knows of no unknown duration."""
    path = in_memory / "old.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL").fetchall()
        connection.execute("BEGIN")
        apply(connection, [found for found in migrations() if found.version <= 4])
        _fill(connection)
    return path


@pytest.fixture
def reader(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(open_readonly(path)) as connection:
        yield connection


@pytest.fixture
async def harness(in_memory: Path) -> AsyncIterator[StoreHarness]:
    async with opened(in_memory / "harness.db") as opened_harness:
        yield opened_harness


def _fill(connection: sqlite3.Connection) -> None:
    connection.execute(
        "INSERT INTO workflow_sessions (session_id, start_time, status, agent_count, "
        "total_duration_ms) VALUES ('s', ?, 'completed', 1, 400)",
        (AT,),
    )
    for number, took in enumerate((100, 200, 1), 1):
        connection.execute(
            "INSERT INTO receipts (execution_id, agent_id, operation, status, timestamp, "
            "duration_ms, session_id) VALUES (?, 'a', 'watch', 'passed', ?, ?, 's')",
            (f"e{number}", AT, took),
        )
        connection.execute(
            "INSERT INTO pipeline_metrics (execution_id, stage, status, timestamp, duration_ms) "
            "VALUES (?, ?, 'passed', ?, ?)",
            (f"e{number}", STAGE, AT, took),
        )


def _mark(connection: sqlite3.Connection, number: int, source: str | None) -> None:
    for table in ("receipts", "pipeline_metrics"):
        connection.execute(
            f"UPDATE {table} SET duration_source = ? WHERE execution_id = ?",
            (source, f"e{number}"),
        )


def _all_turns(connection: sqlite3.Connection, found: list[Hook]) -> None:
    for hook in found:
        while hook.turn(connection):
            pass


# What comes in


def test_it_is_stored_as_0_and_begins_when_it_ends() -> None:
    event = receipt(duration_ms=500, duration_source="unknown", timestamp=None)
    assert row_of(event, STAMP_NS)[4:15:5] == ("2026-01-29T12:34:56.789Z", 0, "unknown")
    of_stage = stage(duration_ms=500, duration_source="unknown", timestamp=None)
    assert row_of(of_stage, STAMP_NS)[2::5] == (0, "2026-01-29T12:34:56.789Z")
    assert row_of(of_stage, STAMP_NS)[-1] == "unknown"
    measured = row_of(receipt(duration_ms=500, timestamp=None), STAMP_NS)
    assert measured[4:15:5] == ("2026-01-29T12:34:56.289Z", 500, None)


@pytest.mark.parametrize("source", ["", "measured", "Unknown", 0, False])
@pytest.mark.parametrize("event", [receipt(), stage()])
def test_another_source_is_rejected_by_name(event: object, source: object) -> None:
    fields = msgspec.to_builtins(event) | {"duration_source": source}
    with pytest.raises(InvalidEvent, match=r"\$\.duration_source"):
        decode_event(msgspec.msgpack.encode(fields))


def test_null_is_measured() -> None:
    fields = msgspec.to_builtins(receipt()) | {"duration_source": None}
    assert decode_event(msgspec.msgpack.encode(fields)) == receipt()
    assert b"duration_source" not in encode_event(receipt())


async def test_the_same_unknown_duration_again_is_a_duplicate(harness: StoreHarness) -> None:
    event = receipt(duration_ms=0, duration_source="unknown")
    assert counts(await harness.settle(event, event)) == {"stored": 1, "duplicate": 1}
    assert counts(await harness.settle(event, producer=P2)) == {"duplicate": 1}


async def test_a_measured_duration_is_another_content_than_an_unknown_one(
    harness: StoreHarness,
) -> None:
    await harness.settle(receipt(duration_ms=0, duration_source="unknown"))
    assert codes(await harness.settle(receipt(duration_ms=0))) == [(2, EventCode.CONFLICT)]
    await harness.settle(receipt("e2", duration_ms=7))
    unknown = receipt("e2", duration_source="unknown")
    assert codes(await harness.settle(unknown)) == [(4, EventCode.CONFLICT)]


async def test_what_an_earlier_version_stored_as_0_is_the_same(harness: StoreHarness) -> None:
    """It had no mark. The stored row stays as it is."""
    await harness.settle(receipt(duration_ms=0))
    again = receipt(duration_ms=0, duration_source="unknown")
    assert counts(await harness.settle(again, producer=P2)) == {"duplicate": 1}
    assert await harness.rows("SELECT duration_ms, duration_source FROM receipts") == [(0, None)]


async def test_a_log_that_an_earlier_version_imported_adds_nothing(harness: StoreHarness) -> None:
    """By the same user it is replayed; by another one it is a duplicate."""
    record = {
        "chain_hash_hex": f"{1:064x}",
        "prev_chain_hash_hex": "0" * 64,
        "payload_hash_hex": "ab" * 32,
        "andon": "Green",
    }
    text = json.dumps({"record": record, "payload": {}}).encode()
    log = LogReader(agent="ggen-sync", modified_ns=STAMP_NS)
    (line,) = [*log.feed(text), *log.finish()]
    event = line.events[0]
    before = msgspec.structs.replace(event, duration_source=None)
    assert counts(await harness.settle(before, producer=line.producer)) == {"stored": 1}
    harness._numbers.clear()
    assert counts(await harness.settle(event, producer=line.producer)) == {"replayed": 1}
    assert counts(await harness.settle(event, producer=P1)) == {"duplicate": 1}
    assert await harness.count("receipts") == 1


def test_merging_takes_an_unmarked_0_for_the_same() -> None:
    marked = row_of(receipt(duration_ms=0, duration_source="unknown"), 0)
    plain = row_of(receipt(duration_ms=0), 0)
    assert differing_columns(marked, plain, has_session=True) == []
    assert differing_columns(plain, marked, has_session=True) == []
    longer = row_of(receipt(duration_ms=7), 0)
    told = differing_columns(marked, longer, has_session=True)
    assert told == ["duration_ms", "duration_source"]


# What is told


def test_objectives_never_judge_it(path: Path) -> None:
    """Neither from above nor, as with 0, from below."""
    objectives = Objectives(
        [
            Threshold("execution.duration_ms", warning=0.5),
            Threshold(f"stage.{STAGE}.duration_ms", warning=50, below=True),
        ]
    )
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DELETE FROM hook_watermarks")
        _all_turns(connection, SloHooks(objectives).hooks())
        found = connection.execute("SELECT execution_id FROM slo_violations ORDER BY 1").fetchall()
    assert found == [("e1",), ("e2",)]


def test_a_backtest_leaves_it_out(path: Path, old: Path) -> None:
    proposed = Objectives([Threshold("execution.duration_ms", warning=50, below=True)])
    for database, broken in ((path, 0), (old, 1)):
        with closing(open_readonly(database)) as connection:
            tallies = backtest(connection, proposed, Objectives([]), since=None)
            assert sum(tally.proposed for tally in tallies) == broken


@pytest.mark.parametrize("slice_rows", [1, 4_096])
def test_percentiles_leave_it_out(path: Path, old: Path, slice_rows: int) -> None:
    """Whether it is rolled up or not."""
    with (
        pytest.MonkeyPatch.context() as patch,
        closing(sqlite3.connect(path, isolation_level=None)) as connection,
    ):
        patch.setattr(runner, "SLICE_ROWS", slice_rows)
        _all_turns(connection, rollup_hooks())
        for dimension in Dimension:
            ((_, runs, *figures),) = percentiles_of(connection, dimension).rows
            assert (runs, *figures) == (2, 100, 200, 200, 200)
    with closing(open_readonly(old)) as connection:
        ((_, runs, *_),) = percentiles_of(connection, Dimension.STAGE).rows
        assert runs == 3


def test_analytics_count_it_and_leave_it_out_of_the_figures(reader: sqlite3.Connection) -> None:
    until_ms = parse_us(AT) // 1000 + 1
    found = analyse(reader, since_ms=until_ms - DAY_MS, until_ms=until_ms)
    assert (found.executions.executions, found.executions.unknown_durations) == (3, 1)
    assert (found.executions.avg_ms, found.executions.p50_ms) == (150.0, 100)
    (of_stage,) = found.stages
    assert (of_stage.runs, of_stage.unknown_durations, of_stage.avg_ms) == (3, 1, 150.0)


def test_analytics_of_unknown_durations_alone_have_no_figures(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for number in (1, 2):
            _mark(connection, number, "unknown")
        found = analyse(
            connection,
            since_ms=parse_us(AT) // 1000 + 1 - DAY_MS,
            until_ms=parse_us(AT) // 1000 + 1,
        )
    assert found.executions.success_rate == 1
    assert (found.executions.avg_ms, found.executions.max_ms) == (None, None)
    (of_stage,) = found.stages
    assert (of_stage.avg_ms, of_stage.p95_ms, of_stage.max_ms, of_stage.share) == (*[None] * 3, 0)


@pytest.mark.parametrize("name", ["agents", "stages"])
def test_summaries_leave_it_out(name: str, reader: sqlite3.Connection) -> None:
    found = read_listing(reader, name, Filters(since="2026-01-01T00:00:00.000Z"), limit=9)
    row = dict(zip(found.columns, found.rows[0], strict=True))
    assert row["total_executions" if name == "agents" else "executions"] == 3
    figures = (row["avg_duration_ms"], row["min_duration_ms"], row["max_duration_ms"])
    assert figures == (150.0, 100, 200)


def test_a_list_shows_no_duration(reader: sqlite3.Connection) -> None:
    found = read_listing(reader, "executions", Filters(), limit=9)
    shown = [found.columns.index(column) for column in ("duration_ms", "duration_source")]
    assert [tuple(row[at] for at in shown) for row in found.rows] == [
        (None, "unknown"),
        (200, None),
        (100, None),
    ]
    sessions = read_listing(reader, "sessions", Filters(), limit=9)
    assert sessions.rows[0][sessions.columns.index("unknown_durations")] == 1


def test_an_execution_says_that_it_is_unknown(reader: sqlite3.Connection) -> None:
    found = load_execution(reader, "e3")
    drawn = execution_view(found).splitlines()
    assert "duration     unknown" in drawn
    assert any(line.startswith(f"{STAGE}  passed  unknown") for line in drawn)
    assert any("400 ms, 1 executions of unknown duration)" in line for line in drawn)
    whole = as_json(found)
    assert (whole["execution"]["duration_ms"], whole["stages"][0]["duration_ms"]) == (None, None)
    assert whole["execution"]["duration_source"] == "unknown"
    assert whole["session"]["unknown_durations"] == 1
    assert "duration     100 ms" in execution_view(load_execution(reader, "e1")).splitlines()


@pytest.mark.parametrize("table", ["receipts", "pipeline_metrics"])
def test_an_export_carries_the_mark(table: str, reader: sqlite3.Connection) -> None:
    (export,) = exports(reader, table, since=None, until=None)
    text = b"".join(encode(export, export.blocks(reader), ExportForm.NDJSON)).decode()
    marks = [json.loads(line)["duration_source"] for line in text.splitlines()]
    assert marks == [None, None, "unknown"]


# Databases of version 4


@pytest.mark.parametrize("name", ["executions", "sessions", "agents", "stages"])
def test_a_database_without_the_mark_is_listed(name: str, old: Path) -> None:
    with closing(open_readonly(old)) as connection:
        found = read_listing(connection, name, Filters(), limit=9)
        assert found.rows
        assert not {"duration_source", "unknown_durations"} & set(found.columns)


def test_an_execution_without_the_mark_is_shown(old: Path) -> None:
    with closing(open_readonly(old)) as connection:
        found = load_execution(connection, "e3")
        assert "duration     1 ms" in execution_view(found).splitlines()
        assert analyse(
            connection,
            since_ms=parse_us(AT) // 1000 + 1 - DAY_MS,
            until_ms=parse_us(AT) // 1000 + 1,
        ).executions.avg_ms == pytest.approx(100.33)


def test_the_upgrade_keeps_what_was_counted(old: Path) -> None:
    """All of it was measured, as far as anybody knows; and rows can be marked then."""
    views = ("agent_performance_summary", "pipeline_stage_performance")
    counted = [
        "INSERT INTO agent_totals VALUES ('a', 2, 2, 0, 300, 2, 0)",
        f"INSERT INTO stage_totals VALUES ('{STAGE}', 2, 2, 0, 300)",
        *(
            f"INSERT INTO duration_histograms VALUES ('{dimension}', '{name}', '2026-01-29', "
            f"{took}, 1)"
            for dimension, name in (("agent", "a"), ("operation", "watch"), ("stage", STAGE))
            for took in (100, 200)
        ),
        "INSERT INTO hook_watermarks VALUES ('rollups', 'receipts', 2)",
        "INSERT INTO hook_watermarks VALUES ('rollups', 'pipeline_metrics', 2)",
    ]
    with closing(sqlite3.connect(old, isolation_level=None)) as connection:
        for statement in counted:
            connection.execute(statement)
        connection.execute("ALTER TABLE receipts ADD COLUMN team TEXT DEFAULT 'x'")
        assert list(compare(connection, lambda _: None)) == []
        before = [connection.execute(f"SELECT * FROM {view}").fetchall() for view in views]
    prepare_database(old)
    with closing(sqlite3.connect(old, isolation_level=None)) as connection:
        after = [connection.execute(f"SELECT * FROM {view}").fetchall() for view in views]
        assert after == before
        assert list(compare(connection, lambda _: None)) == []
        _mark(connection, 1, "unknown")
        assert list(compare(connection, lambda _: None)) == []
        for view in views:
            figures = f"SELECT avg_duration_ms, min_duration_ms, max_duration_ms FROM {view}"
            assert connection.execute(figures).fetchall() == [(100.5, 1, 200)]
        marks = connection.execute("SELECT team, duration_source FROM receipts").fetchall()
    assert marks == [("x", "unknown"), ("x", None), ("x", None)]


async def test_what_was_imported_before_is_marked_as_the_documentation_says(
    harness: StoreHarness,
) -> None:
    """And nothing else: neither what was measured, nor a 0 ms of others."""
    text = (Path(__file__).parents[3] / "docs" / "OPERATING.md").read_text(encoding="utf-8")
    begin = text.index("UPDATE receipts SET duration_source")
    statement = text[begin : text.index(";", begin)]
    line = {"record": {"chain_hash_hex": "e1"}}
    await harness.settle(
        receipt("e1", duration_ms=0, receipt=line),
        receipt("e2", duration_ms=0, receipt=line),
        receipt("e3", duration_ms=0),
        receipt("e4", duration_ms=7, receipt={"record": {"chain_hash_hex": "e4"}}),
    )
    await harness.rows("UPDATE receipts SET receipt_json = 'no JSON' WHERE execution_id = 'e3'")
    await harness.rows(statement)
    marked = "SELECT execution_id FROM receipts WHERE duration_source = 'unknown'"
    assert await harness.rows(marked) == [("e1",)]
