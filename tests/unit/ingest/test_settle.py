"""Settle: what becomes of each event of a batch, in a real database, without a socket."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ggend.database.sqlite_errors import TryAgain
from ggend.errors import DatabaseReplaced
from ggend.ingest.intake import Call, Outcome, Submission
from ggend.server.requests import stored_answer
from ggend.storage import accounts
from ggend.storage.writer_state import WriterState
from ggend_schema import (
    Event,
    EventCode,
    MemorySaved,
    ReceiptEmitted,
    SessionEnded,
)
from ggend_schema.codec import decode_event, encode_event
from ggend_schema.messages import Request
from support.store_harness import (
    AT,
    LATER,
    MUCH_LATER,
    P1,
    P2,
    P3,
    UNBALANCED,
    StoreHarness,
    audit,
    codes,
    collision,
    counts,
    ended,
    lines,
    memory,
    opened,
    receipt,
    sender,
    stage,
    started,
    submission,
)


@pytest.fixture
async def harness(in_memory: Path) -> AsyncIterator[StoreHarness]:
    """A harness with a fresh database."""
    async with opened(in_memory / "tier2.db") as opened_harness:
        yield opened_harness


# Ids that are there already


@pytest.mark.parametrize(
    ("event", "again", "table", "column"),
    [
        (receipt(receipt={"a": 1, "b": 2}), receipt(receipt={"b": 2.0, "a": 1}), "receipts", ""),
        (started(context=[1]), started(context=[1.0]), "workflow_sessions", "start_"),
    ],
)
async def test_the_same_content_again_is_a_duplicate_whatever_its_timestamp(
    harness: StoreHarness, event: Event, again: Event, table: str, column: str
) -> None:
    """The first one's timestamp stays."""
    assert counts(await harness.settle(event)) == {"stored": 1}
    later = msgspec.structs.replace(again, timestamp=LATER)
    assert counts(await harness.settle(event, later, producer=P2)) == {"duplicate": 2}
    times = await harness.rows(f"SELECT {column}{'time' if column else 'timestamp'} FROM {table}")
    assert times == [(AT,)]
    assert await harness.account(P2) == {"last_sequence": 2, "duplicate": 2}


CHANGES: list[dict[str, Any]] = [
    {"agent_id": "a2"},
    {"operation": "validation"},
    {"status": "failed"},
    {"duration_ms": 1_001},
    {"manifest_hash": "ab"},
    {"ontology_hash": "ab"},
    {"files_generated": 1},
    {"files_modified": 1},
    {"receipt": {"k": True}},
    {"receipt": None},
    {"error_message": ""},
    {"environment": "dev"},
    {"session_id": "s1"},
]


@pytest.mark.parametrize(
    ("event", "other"),
    [
        *(
            (
                receipt(receipt={"k": 1}),
                msgspec.structs.replace(receipt(receipt={"k": 1}), **change),
            )
            for change in CHANGES
        ),
        (started(), started(agent_count=3)),
        (started(), started(context=0)),
    ],
)
async def test_other_content_under_the_same_id_is_a_conflict_and_the_stored_row_stays(
    harness: StoreHarness, event: Event, other: Event
) -> None:
    table = "receipts" if isinstance(event, ReceiptEmitted) else "workflow_sessions"
    await harness.settle(event)
    before = await harness.rows(f"SELECT * FROM {table}")
    outcome = await harness.settle(audit(), other, audit())
    assert codes(outcome) == [(3, EventCode.CONFLICT)]
    assert await harness.rows(f"SELECT * FROM {table}") == before
    assert await harness.count("audit_log") == 2
    assert await harness.account() == {"last_sequence": 4, "stored": 3, "rejected": 1}


async def test_a_rejected_event_is_kept_with_its_bytes_and_where_it_came_from(
    harness: StoreHarness,
) -> None:
    other = receipt(status="failed")
    await harness.settle(receipt(), other)
    ((code, producer, sequence, uid, client, encoding, event),) = await harness.rows(
        "SELECT code, producer, sequence, uid, client, encoding, event FROM rejected_events"
    )
    assert (code, producer, sequence, uid, client) == ("conflict", P1, 2, 1000, "test")
    assert encoding == "msgpack"
    assert decode_event(event) == other


async def test_two_receipts_of_one_id_in_one_batch_are_stored_once(harness: StoreHarness) -> None:
    outcomes = await harness.commit(
        harness.sent(P1, receipt(), receipt(timestamp=LATER)),
        harness.sent(P2, receipt(), receipt(status="failed")),
    )
    assert [counts(outcome) for outcome in outcomes] == [
        {"stored": 1, "duplicate": 1},
        {"duplicate": 1, "rejected": 1},
    ]
    assert codes(outcomes[1]) == [(2, EventCode.CONFLICT)]
    assert await harness.rows("SELECT status, timestamp FROM receipts") == [("passed", AT)]


# Numbers


async def test_what_is_sent_again_is_counted_as_replayed_and_stored_once(
    harness: StoreHarness,
) -> None:
    events = [audit(operation=f"step {number}") for number in range(1, 6)]
    await harness.commit(submission(P1, 1, events[:3]))
    (partly,) = await harness.commit(submission(P1, 2, events[1:]))
    assert (counts(partly), partly.last_sequence) == ({"stored": 2, "replayed": 2}, 5)
    (wholly,) = await harness.commit(submission(P1, 1, events[:2]))
    assert (counts(wholly), wholly.last_sequence) == ({"replayed": 2}, 5)
    assert await harness.rows("SELECT operation FROM audit_log ORDER BY id") == [
        (event.operation,) for event in events
    ]
    assert await harness.account() == {"last_sequence": 5, "stored": 5, "replayed": 4}


async def test_a_rejected_number_that_comes_again_is_replayed_too(harness: StoreHarness) -> None:
    bad = audit(operation="")
    assert codes(await harness.settle(bad)) == [(1, EventCode.INVALID)]
    (again,) = await harness.commit(submission(P1, 1, [bad]))
    assert (counts(again), again.rejects) == ({"replayed": 1}, [])
    assert await harness.count("rejected_events") == 1


async def test_a_gap_settles_nothing_and_harms_no_neighbour(harness: StoreHarness) -> None:
    gap, neighbour = await harness.commit(
        submission(P1, 3, [audit()], lost=1), harness.sent(P2, audit(), audit())
    )
    assert (gap.failure, gap.last_sequence, counts(gap)) == (EventCode.GAP, 0, {})
    assert counts(neighbour) == {"stored": 2}
    assert await harness.account() == {}


async def test_lost_numbers_fill_a_gap_and_are_ignored_where_settled(harness: StoreHarness) -> None:
    await harness.settle(audit(), audit())
    (outcome,) = await harness.commit(submission(P1, 6, [audit()], lost=5))
    assert (outcome.failure, outcome.last_sequence) == (None, 6)
    assert await harness.account() == {"last_sequence": 6, "stored": 3, "lost": 3}
    await harness.commit(submission(P1, 9, [], lost=2))
    assert await harness.account() == {"last_sequence": 8, "stored": 3, "lost": 5}


async def test_shed_is_a_running_total(harness: StoreHarness) -> None:
    for shed in (5, 3, 7, 0):
        await harness.commit(harness.sent(P1, audit(), shed=shed))
    assert await harness.account() == {"last_sequence": 4, "stored": 4, "shed": 7}


async def test_a_producer_belongs_to_the_user_that_used_it_first(harness: StoreHarness) -> None:
    await harness.settle(audit())
    stranger = harness.sent(P1, audit())
    stranger.sender = sender(P1, uid=1001)
    (outcome,) = await harness.commit(stranger)
    assert outcome.failure is EventCode.NOT_YOURS
    assert await harness.account() == {"last_sequence": 1, "stored": 1}


async def test_unnumbered_lines_go_to_one_account_of_their_user(harness: StoreHarness) -> None:
    await harness.commit(lines(audit(), stage()), lines(audit()), lines(audit(), uid=7))
    await harness.commit(lines(receipt()))
    assert await harness.rows(
        "SELECT kind, uid, last_sequence, stored, parked FROM producers ORDER BY uid"
    ) == [("anonymous", 7, 1, 1, 0), ("anonymous", 1000, 4, 4, 0)]


async def test_accounts_of_a_batch_are_not_forgotten_within_it(
    harness: StoreHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where more producers send at once than are remembered."""
    monkeypatch.setattr(accounts, "_REMEMBERED", 1)
    for _ in range(2):
        producers = (P1, P2, P3, P1, P2, P3)
        outcomes = await harness.commit(
            *(harness.sent(producer, audit()) for producer in producers)
        )
        assert [outcome.failure for outcome in outcomes] == [None] * 6
    for producer in (P1, P2, P3):
        assert await harness.account(producer) == {"last_sequence": 4, "stored": 4}


KINDS = "SELECT kind, last_sequence, stored, rejected, shed FROM producers ORDER BY kind DESC, id"


def goodbye(producer: bytes) -> Call:
    def finish(connection: sqlite3.Connection, state: WriterState) -> None:
        state.accounts.finish(connection, sender(producer))

    return Call(finish, lambda _c, _r: None, lambda _c, _e: None)


async def test_a_finished_producer_is_folded_when_nothing_of_it_is_parked(
    harness: StoreHarness,
) -> None:
    await harness.commit(harness.sent(P1, stage(), audit(operation=""), shed=3))
    await harness.store.commit([goodbye(P1)])
    assert await harness.rows(KINDS) == [("producer", 2, 0, 1, 3)]
    await harness.settle(receipt(), producer=P2)
    assert await harness.rows(KINDS) == [("producer", 1, 1, 0, 0), ("folded", 2, 1, 1, 3)]
    await harness.store.commit([goodbye(P2)])
    assert await harness.rows(KINDS) == [("folded", 3, 2, 1, 3)]


async def test_a_producer_that_comes_back_is_not_folded_before_its_next_goodbye(
    harness: StoreHarness,
) -> None:
    await harness.settle(stage())
    await harness.store.commit([goodbye(P1)])
    await harness.settle(audit())
    await harness.settle(receipt(), producer=P2)
    assert await harness.account() == {"last_sequence": 2, "stored": 2}
    assert counts(await harness.settle(audit())) == {"stored": 1}
    await harness.store.commit([goodbye(P1), goodbye(P2)])
    assert await harness.rows(KINDS) == [("folded", 4, 4, 0, 0)]


# Parking


async def test_children_wait_for_their_parent_and_take_their_place_with_it(
    harness: StoreHarness,
) -> None:
    first = await harness.settle(stage(stage="normalize"), collision(), ended(), stage())
    assert counts(first) == {"parked": 4}
    assert harness.store.parked == 4
    assert counts(await harness.settle(started(), receipt(), producer=P2)) == {"stored": 2}
    assert await harness.account() == {"last_sequence": 4, "stored": 4}
    assert (await harness.count("parked_events"), harness.store.parked) == (0, 0)
    assert await harness.rows("SELECT stage FROM pipeline_metrics ORDER BY id") == [
        ("μ₁_normalize",),
        ("μ₃_emit",),
    ]
    assert await harness.value("SELECT status FROM workflow_sessions") == "completed"
    assert await harness.count("collision_detection") == 1


async def test_a_stamp_stays_with_an_event_that_waits(harness: StoreHarness) -> None:
    """A parked stage is stored as it would have been at once: its stamp is its end."""
    await harness.settle(stage(timestamp=None), stage("e2", timestamp=None))
    await harness.settle(receipt(), receipt("e2"), stage(timestamp=None), producer=P2)
    assert await harness.rows("SELECT DISTINCT timestamp FROM pipeline_metrics") == [
        ("2026-01-29T12:34:56.689Z",)
    ]


async def test_over_the_limit_what_would_wait_is_rejected(in_memory: Path) -> None:
    async with opened(in_memory / "tier2.db", parked=2) as harness:
        outcome = await harness.settle(stage(), stage("e2"), stage("e3"), audit(), collision())
        assert counts(outcome) == {"stored": 1, "parked": 2, "rejected": 2}
        assert codes(outcome) == [(3, EventCode.PARKED_FULL), (5, EventCode.PARKED_FULL)]
        assert await harness.rows("SELECT code FROM rejected_events") == [("parked_full",)] * 2
        await harness.settle(receipt())
        assert counts(await harness.settle(stage("e4"))) == {"parked": 1}


async def test_the_limits_hold_over_a_restart(in_memory: Path) -> None:
    path = in_memory / "tier2.db"
    async with opened(path, parked=2, rejected=1) as harness:
        await harness.settle(stage(), stage("e2"), audit(operation=""))
    async with opened(path, parked=2, rejected=1) as harness:
        assert harness.store.parked == 2
        outcome = await harness.settle(stage("e3"), audit(operation=""), producer=P2)
        assert counts(outcome) == {"rejected": 2}
        assert await harness.count("rejected_events") == 1


async def test_a_full_quarantine_still_counts_and_tells(in_memory: Path) -> None:
    async with opened(in_memory / "tier2.db", rejected=1) as harness:
        outcome = await harness.settle(audit(operation=""), audit(), audit(operation=""))
        assert codes(outcome) == [(1, EventCode.INVALID), (3, EventCode.INVALID)]
        assert await harness.account() == {"last_sequence": 3, "stored": 1, "rejected": 2}
        assert await harness.count("rejected_events") == 1


async def test_a_parked_event_can_still_turn_out_a_duplicate_or_a_conflict(
    harness: StoreHarness,
) -> None:
    await harness.settle(ended())
    await harness.settle(ended(timestamp=MUCH_LATER), producer=P2)
    await harness.settle(ended(status="failed"), producer=P3)
    await harness.settle(started())
    assert await harness.account(P1) == {"last_sequence": 2, "stored": 2}
    assert await harness.account(P2) == {"last_sequence": 1, "duplicate": 1}
    assert await harness.account(P3) == {"last_sequence": 1, "rejected": 1}
    assert await harness.rows("SELECT code, producer, sequence, uid FROM rejected_events") == [
        ("conflict", P3, 1, 1000)
    ]
    assert await harness.rows("SELECT status, end_time FROM workflow_sessions") == [
        ("completed", LATER)
    ]


# Sessions

ENDS = """
    SELECT status, end_time, total_duration_ms, successful_operations, failed_operations
    FROM workflow_sessions"""


async def test_the_end_of_a_session_is_derived_from_its_start_and_receipts(
    harness: StoreHarness,
) -> None:
    await harness.settle(
        receipt("e1", session_id="s1"),
        receipt("e2", session_id="s1", status="failed"),
        receipt("e3", session_id="s1", status="partial"),
        receipt("e4", session_id="s1", status="cancelled"),
        receipt("e5", session_id="s2"),
        receipt("e6"),
    )
    await harness.settle(started())
    assert await harness.rows(ENDS) == [("running", None, None, 0, 0)]
    await harness.settle(ended(), receipt("e7", session_id="s1"))
    assert await harness.rows(ENDS) == [("completed", LATER, 5_250, 2, 1)]


async def test_receipts_after_the_end_are_derived_too_and_duplicates_are_not(
    harness: StoreHarness,
) -> None:
    await harness.settle(started(), ended())
    late = receipt("e1", session_id="s1")
    await harness.settle(late, receipt("e2", session_id="s1", status="failed"))
    await harness.settle(late, late, receipt("e3", session_id="s1"), producer=P2)
    assert await harness.rows(ENDS) == [("completed", LATER, 5_250, 2, 1)]


async def test_given_fields_of_an_end_stay(harness: StoreHarness) -> None:
    await harness.settle(started(), ended(total_duration_ms=7, failed_operations=0))
    await harness.settle(
        receipt("e1", session_id="s1"), receipt("e2", session_id="s1", status="failed")
    )
    assert await harness.rows(ENDS) == [("completed", LATER, 7, 1, 0)]


async def test_an_end_before_its_start_lasts_no_time(harness: StoreHarness) -> None:
    """Clocks of two hosts, or one that was set back."""
    await harness.settle(started(timestamp=MUCH_LATER), ended())
    assert await harness.rows(ENDS) == [("completed", LATER, 0, 0, 0)]


@pytest.mark.parametrize(
    "other",
    [
        ended(status="failed"),
        ended(total_duration_ms=9),
        ended(successful_operations=2),
        ended(total_duration_ms=7, successful_operations=2, failed_operations=0),
    ],
)
async def test_another_end_of_a_session_is_a_conflict(
    harness: StoreHarness, other: SessionEnded
) -> None:
    """Also one that gives the very value that was derived: it said something else."""
    await harness.settle(started(), ended(total_duration_ms=7, successful_operations=1))
    outcome = await harness.settle(receipt("e1", session_id="s1"), other)
    assert codes(outcome) == [(4, EventCode.CONFLICT)]
    assert await harness.rows(ENDS) == [("completed", LATER, 7, 1, 0)]


async def test_the_same_end_of_a_session_again_is_a_duplicate(harness: StoreHarness) -> None:
    """Also when a late receipt has changed what was derived meanwhile."""
    end = ended(failed_operations=3)
    await harness.settle(started(), end)
    await harness.settle(receipt("e1", session_id="s1"))
    again = msgspec.structs.replace(end, timestamp=MUCH_LATER)
    assert counts(await harness.settle(end, again)) == {"duplicate": 2}
    assert await harness.rows(ENDS) == [("completed", LATER, 5_250, 1, 3)]


async def test_a_session_that_has_ended_can_be_started_again_as_a_duplicate(
    harness: StoreHarness,
) -> None:
    await harness.settle(started(), ended())
    assert counts(await harness.settle(started(timestamp=LATER))) == {"duplicate": 1}
    assert await harness.value("SELECT status FROM workflow_sessions") == "completed"


async def test_an_end_that_waited_comes_before_one_in_the_batch_of_its_start(
    harness: StoreHarness,
) -> None:
    """The first one's timestamp stays, and the account of the second says duplicate."""
    await harness.settle(ended())
    outcomes = await harness.commit(
        harness.sent(P2, started(), ended(timestamp=MUCH_LATER)),
    )
    assert await harness.rows("SELECT end_time FROM workflow_sessions") == [(LATER,)]
    assert counts(outcomes[0]) == {"stored": 1, "duplicate": 1}


async def test_a_session_of_version_1_that_has_ended_keeps_its_end(harness: StoreHarness) -> None:
    """Nobody knows what was given there: all of it was."""
    await harness.rows(
        """
        INSERT INTO workflow_sessions (
            session_id, start_time, end_time, status, agent_count, total_duration_ms,
            successful_operations, failed_operations)
        VALUES ('s1', ?, ?, 'completed', 2, 1, 2, 3)""",
        AT,
        LATER,
    )
    await harness.settle(receipt("e1", session_id="s1"))
    whole = ended(total_duration_ms=1, successful_operations=2, failed_operations=3)
    assert counts(await harness.settle(whole)) == {"duplicate": 1}
    assert codes(await harness.settle(ended())) == [(3, EventCode.CONFLICT)]
    assert await harness.rows(ENDS) == [("completed", LATER, 1, 2, 3)]


# Memory


async def test_the_later_memory_wins_and_the_older_is_superseded(harness: StoreHarness) -> None:
    await harness.settle(memory({"v": 2}, LATER))
    outcome = await harness.settle(
        memory({"v": 1}, AT), memory({"v": 3}, MUCH_LATER), memory({"v": 2}, LATER)
    )
    assert counts(outcome) == {"stored": 1, "superseded": 2}
    assert await harness.rows("SELECT memory_json, updated_at FROM agent_memory") == [
        ('{"v":3}', "2026-01-29 12:01:00.000")
    ]
    assert await harness.account() == {"last_sequence": 4, "stored": 2, "superseded": 2}


async def test_memories_of_one_moment_are_ordered_by_producer_and_then_sequence(
    harness: StoreHarness,
) -> None:
    assert counts(await harness.settle(memory(2), producer=P2)) == {"stored": 1}
    assert counts(await harness.settle(memory(1), producer=P1)) == {"superseded": 1}
    assert counts(await harness.settle(memory(3), memory(4), producer=P2)) == {"stored": 2}
    assert await harness.value("SELECT memory_json FROM agent_memory") == "4"
    assert counts(await harness.settle(memory(5), producer=P3)) == {"stored": 1}
    (anonymous,) = await harness.commit(lines(memory(6)))
    assert counts(anonymous) == {"superseded": 1}
    assert await harness.value("SELECT memory_json FROM agent_memory") == "5"


async def test_memories_are_ordered_by_microseconds(harness: StoreHarness) -> None:
    """More than updated_at can show."""
    await harness.settle(memory(2, "2026-01-29T12:00:00.000002Z"))
    outcome = await harness.settle(memory(1, "2026-01-29T12:00:00.000001Z"))
    assert counts(outcome) == {"superseded": 1}


async def test_a_memory_replaces_the_whole_row(harness: StoreHarness) -> None:
    full = MemorySaved(
        agent_id="a1",
        memory=1,
        collision_history=[{"with": "a2"}],
        retry_count=3,
        last_error="no",
        timestamp=AT,
    )
    await harness.settle(full)
    columns = "SELECT memory_json, collision_history, retry_count, last_error FROM agent_memory"
    assert await harness.rows(columns) == [("1", '[{"with":"a2"}]', 3, "no")]
    await harness.settle(memory(2, LATER))
    assert await harness.rows(columns) == [("2", None, 0, None)]


async def test_the_order_of_memories_holds_over_a_restart(in_memory: Path) -> None:
    path = in_memory / "tier2.db"
    async with opened(path) as harness:
        await harness.settle(memory(2), producer=P2)
    async with opened(path) as harness:
        assert counts(await harness.settle(memory(1), producer=P1)) == {"superseded": 1}


@pytest.mark.parametrize(
    ("updated_at", "expected"),
    [
        ("2026-01-29 12:00:01", {"superseded": 1}),
        ("2026-01-29 11:59:59", {"stored": 1}),
        (1_769_690_096, {"stored": 1}),
        ("once upon a time", {"stored": 1}),
    ],
)
async def test_a_memory_that_ggend_did_not_write_is_ordered_by_its_updated_at(
    harness: StoreHarness, updated_at: object, expected: dict[str, int]
) -> None:
    """What is no time at all is older than anything."""
    await harness.rows(
        "INSERT INTO agent_memory (agent_id, memory_json, updated_at) VALUES ('a1', '0', ?)",
        updated_at,
    )
    assert counts(await harness.settle(memory(1))) == expected


# Rows that are refused, and rows that are strange

REFUSING = {
    "receipts": ("INSERT", "new.agent_id = 'bad'"),
    "pipeline_metrics": ("INSERT", "new.error_message = 'bad'"),
    "audit_log": ("INSERT", "new.agent_id = 'bad'"),
    "workflow_sessions": ("INSERT", "new.session_id = 'bad'"),
    "collision_detection": ("INSERT", "new.agent_id_1 = 'bad'"),
    "agent_memory": ("INSERT", "new.agent_id = 'bad'"),
}


#: What a trigger may do about a row: undo the statement, stop in it, take the transaction back.
HOWS = ["ABORT", "FAIL", "ROLLBACK"]


async def refuse(
    harness: StoreHarness, table: str, *, when: str = "", on: str = "", how: str = "ABORT"
) -> None:
    """Make the database refuse certain rows of a table."""
    event, condition = REFUSING.get(table, ("INSERT", "true"))
    await harness.rows(
        f"""
        CREATE TRIGGER refuse_{table} BEFORE {on or event} ON {table} WHEN {when or condition}
        BEGIN
            SELECT RAISE({how}, 'not here');
        END"""
    )


GOOD_AND_BAD: list[tuple[str, Event]] = [
    ("receipts", receipt("bad", agent_id="bad")),
    ("pipeline_metrics", stage(error_message="bad")),
    ("audit_log", audit("bad")),
    ("workflow_sessions", started("bad")),
    ("collision_detection", collision(agent_id_1="bad")),
    ("agent_memory", memory(0, agent_id="bad")),
]


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize(("table", "bad"), GOOD_AND_BAD, ids=lambda value: value)
async def test_a_row_that_the_database_refuses_does_not_fail_its_batch(
    harness: StoreHarness, table: str, bad: Event, how: str
) -> None:
    await refuse(harness, table, how=how)
    good: list[Event] = [
        receipt(),
        stage(),
        audit(),
        started(),
        collision(),
        memory(1),
        stage("e9"),
        audit(operation=""),
        ended(),
    ]
    refused, neighbour = await harness.commit(
        harness.sent(P1, *good, bad, *good), harness.sent(P2, audit(), receipt("e2"))
    )
    assert codes(refused) == [
        (8, EventCode.INVALID),
        (18, EventCode.INVALID),
        (10, EventCode.REFUSED_BY_DATABASE),
    ]
    assert [message for sequence, _, message in refused.rejects if sequence == 10] == [
        f"{table}: not here"
    ]
    assert counts(refused) == {"stored": 11, "parked": 2, "duplicate": 3, "rejected": 3}
    assert counts(neighbour) == {"stored": 2}
    assert await harness.value(
        "SELECT event FROM rejected_events WHERE code = 'refused_by_database'"
    ) == encode_event(bad)
    assert await harness.account() == {
        "last_sequence": 19,
        "stored": 11,
        "parked": 2,
        "duplicate": 3,
        "rejected": 3,
    }


@pytest.mark.parametrize("how", HOWS)
async def test_an_end_that_the_database_refuses_does_not_fail_its_batch(
    harness: StoreHarness, how: str
) -> None:
    await refuse(harness, "workflow_sessions", on="UPDATE", when="new.session_id = 'bad'", how=how)
    outcome = await harness.settle(
        started(), started("bad"), ended("bad"), ended(), audit(), receipt("e1", session_id="s1")
    )
    assert codes(outcome) == [(3, EventCode.REFUSED_BY_DATABASE)]
    assert await harness.rows("SELECT session_id, status FROM workflow_sessions ORDER BY id") == [
        ("s1", "completed"),
        ("bad", "running"),
    ]
    await harness.rows("DROP TRIGGER refuse_workflow_sessions")
    assert counts(await harness.settle(ended("bad", status="failed"))) == {"stored": 1}


@pytest.mark.parametrize("how", HOWS)
async def test_a_late_receipt_is_refused_where_its_session_may_not_be_changed(
    harness: StoreHarness, how: str
) -> None:
    """What a row changes in other tables belongs to it."""
    await harness.settle(started(), ended())
    await refuse(harness, "workflow_sessions", on="UPDATE", when="true", how=how)
    outcome = await harness.settle(receipt(session_id="s1"), audit(), receipt("e2"))
    assert codes(outcome) == [(3, EventCode.REFUSED_BY_DATABASE)]
    assert await harness.rows("SELECT execution_id FROM receipts") == [("e2",)]


@pytest.mark.parametrize("how", HOWS)
async def test_a_parent_is_refused_where_what_waits_for_it_may_not_leave(
    harness: StoreHarness, how: str
) -> None:
    await harness.settle(stage(), stage())
    await refuse(harness, "parked_events", on="DELETE", when="true", how=how)
    outcome = await harness.settle(receipt(), audit(), receipt("e2"))
    assert codes(outcome) == [(3, EventCode.REFUSED_BY_DATABASE)]
    await harness.check()
    assert harness.store.parked == 2
    await harness.rows("DROP TRIGGER refuse_parked_events")
    assert counts(await harness.settle(receipt())) == {"stored": 1}
    assert (await harness.count("pipeline_metrics"), harness.store.parked) == (2, 0)


async def test_rows_that_take_the_transaction_back_are_each_tried_once_more_at_most(
    harness: StoreHarness,
) -> None:
    """Nothing of the batch is stored before all of it is, and nothing is stored twice."""
    await refuse(harness, "audit_log", how="ROLLBACK")
    await refuse(harness, "receipts", how="ROLLBACK")
    begun: list[str] = []
    await harness.store.run(
        lambda connection: connection.set_trace_callback(
            lambda sql: begun.append(sql) if sql.startswith("BEGIN") else None
        )
    )
    bad: list[Event] = [audit("bad"), receipt("bad", agent_id="bad"), audit("bad")]
    outcomes = await harness.commit(
        harness.sent(P1, audit(), *bad, stage("bad")),
        harness.sent(P2, audit("bad"), receipt(), stage()),
    )
    await harness.store.run(lambda connection: connection.set_trace_callback(None))
    assert len(begun) == 2 + 4
    assert [counts(outcome) for outcome in outcomes] == [
        {"stored": 1, "rejected": 3, "parked": 1},
        {"stored": 2, "rejected": 1},
    ]
    await harness.check()
    assert (await harness.count("audit_log"), await harness.count("rejected_events")) == (1, 4)


async def test_what_takes_the_transaction_back_is_asked_again_in_the_next_batch(
    harness: StoreHarness,
) -> None:
    await refuse(harness, "audit_log", how="ROLLBACK")
    assert counts(await harness.settle(audit("bad"))) == {"rejected": 1}
    assert harness.store.was_taken_back
    await harness.rows("DROP TRIGGER refuse_audit_log")
    assert counts(await harness.settle(audit("bad"))) == {"stored": 1}
    assert not harness.store.was_taken_back


async def test_children_of_a_refused_parent_wait(harness: StoreHarness) -> None:
    await refuse(harness, "receipts")
    outcome = await harness.settle(receipt("bad", agent_id="bad"), stage("bad"), stage("bad"))
    assert counts(outcome) == {"parked": 2, "rejected": 1}
    await harness.rows("DROP TRIGGER refuse_receipts")
    await harness.settle(receipt("bad", agent_id="bad"))
    assert await harness.account() == {"last_sequence": 4, "stored": 3, "rejected": 1}


async def test_a_receipt_behind_a_refused_one_of_its_id_has_its_own_chance(
    harness: StoreHarness,
) -> None:
    """What is not stored cannot be in conflict."""
    await refuse(harness, "receipts")
    outcome = await harness.settle(receipt(agent_id="bad"), receipt(), receipt(agent_id="bad"))
    assert codes(outcome)[0] == (1, EventCode.REFUSED_BY_DATABASE)
    assert await harness.rows("SELECT agent_id FROM receipts") == [("a1",)]
    assert counts(outcome) == {"stored": 1, "rejected": 2}


@pytest.mark.parametrize("how", HOWS)
async def test_a_parked_event_that_the_database_refuses_is_rejected_in_its_account(
    harness: StoreHarness, how: str
) -> None:
    await refuse(harness, "pipeline_metrics", how=how)
    await harness.settle(stage(), stage(error_message="bad"), stage())
    assert counts(await harness.settle(receipt(), producer=P2)) == {"stored": 1}
    assert await harness.account() == {"last_sequence": 3, "stored": 2, "rejected": 1}
    assert (await harness.count("parked_events"), harness.store.parked) == (0, 0)
    assert await harness.rows("SELECT code, producer, sequence FROM rejected_events") == [
        ("refused_by_database", P1, 2)
    ]


@pytest.mark.parametrize("stored", ["not JSON", "", "[" * 5_000, "{'a': 1}", "\ud7ff[1"])
async def test_a_stored_text_that_is_no_json_is_other_content(
    harness: StoreHarness, stored: str
) -> None:
    """A row of version 1.0.0, whose columns have no check."""
    await harness.settle(receipt(receipt={}), started(context={}))
    await harness.rows("UPDATE receipts SET receipt_json = ?", stored)
    await harness.rows("UPDATE workflow_sessions SET context_json = ?", stored)
    outcome = await harness.settle(receipt(receipt={}), audit(), started(context={}))
    assert sorted(codes(outcome)) == [(3, EventCode.CONFLICT), (5, EventCode.CONFLICT)]


@pytest.mark.parametrize("column", ["receipt_json", "error_message", "agent_id"])
async def test_a_stored_text_that_is_not_utf8_is_other_content(
    harness: StoreHarness, column: str
) -> None:
    """SQLite does not look at the bytes of a text; other programs may have written them."""
    await harness.settle(receipt(receipt={}))
    await harness.rows(f"UPDATE receipts SET {column} = CAST(x'5bff' AS TEXT)")
    outcome = await harness.settle(receipt(receipt={}), audit())
    assert codes(outcome) == [(2, EventCode.CONFLICT)]


async def test_an_end_of_a_session_whose_start_is_no_time_has_no_duration(
    harness: StoreHarness,
) -> None:
    await harness.settle(started())
    await harness.rows("UPDATE workflow_sessions SET start_time = 'once upon a time'")
    assert counts(await harness.settle(ended())) == {"stored": 1}
    assert await harness.rows(ENDS) == [("completed", LATER, None, 0, 0)]


# A transaction that fails

STATE = """
    SELECT (SELECT COUNT(*) FROM receipts), (SELECT COUNT(*) FROM audit_log),
           (SELECT coalesce(SUM(events), 0) FROM parked_events),
           (SELECT COUNT(*) FROM rejected_events),
           (SELECT COUNT(*) FROM producers)"""


async def test_a_batch_that_the_full_disk_refused_succeeds_later_with_the_same_counts(
    harness: StoreHarness,
) -> None:
    await harness.settle(stage("e1"), audit(operation=""), memory(1))
    before = await harness.rows(STATE), await harness.account()
    pages = await harness.value("PRAGMA page_count")
    await harness.rows(f"PRAGMA max_page_count = {pages + 4}")

    large = [audit(context="x" * 20_000) for _ in range(3)]
    batch = [
        harness.sent(P1, receipt("e1"), stage("e2"), *large, audit(operation="")),
        harness.sent(P2, audit(), memory(2, LATER), stage("e1"), shed=4),
        lines(audit(), stage("e9")),
    ]
    for _ in range(3):
        with pytest.raises(TryAgain, match="full"):
            await harness.store.commit([*batch])
        assert (await harness.rows(STATE), await harness.account()) == before
        assert harness.store.parked == 1

    await harness.rows("PRAGMA max_page_count = 1000000")
    outcomes = await harness.commit(*batch)
    assert [counts(outcome) for outcome in outcomes] == [
        {"stored": 4, "parked": 1, "rejected": 1},
        {"stored": 3},
        {"stored": 1, "parked": 1},
    ]
    assert harness.store.parked == 2
    assert await harness.account() == {
        "last_sequence": 9,
        "stored": 6,
        "parked": 1,
        "rejected": 2,
    }
    assert await harness.account(P2) == {"last_sequence": 3, "stored": 3, "shed": 4}
    assert await harness.rows(STATE) == [(1, 5, 2, 2, 3)]


async def test_a_locked_database_refuses_the_batch_and_nothing_is_forgotten(
    in_memory: Path,
) -> None:
    """Somebody's plain SQL holds the lock: the writer tries the same batch again."""
    async with opened(in_memory / "tier2.db") as harness:
        await harness.rows("PRAGMA busy_timeout = 0")
        other = sqlite3.connect(in_memory / "tier2.db", isolation_level=None)
        try:
            other.execute("BEGIN IMMEDIATE")
            batch = harness.sent(P1, stage(), audit())
            with pytest.raises(TryAgain, match="locked"):
                await harness.store.commit([batch])
            other.execute("ROLLBACK")
        finally:
            other.close()
        (outcome,) = await harness.commit(batch)
        assert counts(outcome) == {"stored": 1, "parked": 1}
        assert harness.store.parked == 1


@pytest.mark.parametrize(
    "stored",
    [
        "'not JSON'",
        "''",
        "x'ff'",
        "CAST(x'5bff' AS TEXT)",
        "replace(hex(zeroblob(5000)), '0', '[')",
    ],
)
async def test_a_request_for_a_memory_that_is_no_json_fails_alone(
    harness: StoreHarness, stored: str
) -> None:
    await harness.rows(f"INSERT INTO agent_memory (agent_id, memory_json) VALUES ('a1', {stored})")
    answer = stored_answer(Request(id=1, op="load_memory", arguments={"agent_id": "a1"}), 1000)
    call = Call(answer, lambda _c, _r: None, lambda _c, _e: None)
    results = await harness.store.commit([harness.sent(P1, audit()), call])
    assert isinstance(results[1], Exception)
    assert await harness.account() == {"last_sequence": 1, "stored": 1}


async def test_a_call_that_fails_harms_no_event_of_its_batch(harness: StoreHarness) -> None:
    def fail(_connection: sqlite3.Connection, _state: WriterState) -> None:
        raise LookupError("nothing there")

    call = Call(fail, lambda _c, _r: None, lambda _c, _e: None)
    results = await harness.store.commit(
        [harness.sent(P1, audit()), call, harness.sent(P1, audit())]
    )
    assert isinstance(results[1], LookupError)
    assert await harness.account() == {"last_sequence": 2, "stored": 2}


async def test_a_producer_that_lies_about_its_losses_cannot_overflow_the_total(
    harness: StoreHarness,
) -> None:
    """It keeps its own row, and the next honest one is still folded."""
    await harness.commit(harness.sent(P1, audit()), harness.sent(P2, audit()))
    await harness.store.commit([goodbye(P1)])
    await harness.rows(
        "UPDATE producers SET last_sequence = ?, lost = ? WHERE kind = 'folded'",
        2**62 - 10**15,
        2**62 - 10**15 - 1,
    )
    await harness.rows(
        "UPDATE producers SET last_sequence = ?, lost = ? WHERE producer = ?",
        10**15,
        10**15 - 1,
        P2,
    )
    await harness.store.commit([goodbye(P2)])
    assert await harness.rows("SELECT kind, finished FROM producers ORDER BY id") == [
        ("producer", 1),
        ("folded", 0),
    ]


async def test_a_call_that_the_database_refuses_fails_alone(harness: StoreHarness) -> None:
    """Its neighbours in the batch are stored, and what it did before is undone."""

    def refused(connection: sqlite3.Connection, _state: WriterState) -> None:
        connection.execute("DELETE FROM producers")
        connection.execute("INSERT INTO audit_log (agent_id) VALUES ('a')")

    call = Call(refused, lambda _c, _r: None, lambda _c, _e: None)
    outcome, error = await harness.store.commit([harness.sent(P1, audit()), call])
    assert isinstance(outcome, Outcome)
    assert isinstance(error, sqlite3.IntegrityError)
    assert (await harness.count("audit_log"), await harness.count("producers")) == (1, 1)


@pytest.mark.parametrize("how", HOWS)
async def test_a_call_that_a_trigger_refuses_fails_alone(harness: StoreHarness, how: str) -> None:
    """Also if the trigger takes back all that the batch has done."""
    await refuse(harness, "audit_log", on="DELETE", when="old.agent_id = 'kept'", how=how)
    await harness.settle(audit("kept"))

    def delete(connection: sqlite3.Connection, _state: WriterState) -> int:
        return connection.execute("DELETE FROM audit_log").rowcount

    def count(connection: sqlite3.Connection, _state: WriterState) -> object:
        return connection.execute("SELECT COUNT(*) FROM audit_log").fetchone()[0]

    calls = [Call(run, lambda _c, _r: None, lambda _c, _e: None) for run in (delete, count)]
    outcome, error, counted = await harness.store.commit([harness.sent(P1, audit()), *calls])
    assert isinstance(outcome, Outcome)
    assert isinstance(error, sqlite3.IntegrityError)
    assert "not here" in str(error)
    assert (counts(outcome), counted) == ({"stored": 1}, 2)
    await harness.check()


# What comes while the transaction is open


async def test_what_is_taken_in_late_is_settled_with_the_rest(harness: StoreHarness) -> None:
    batch: list[Submission | Call] = [harness.sent(P1, receipt("e1"))]
    later: list[list[Submission | Call]] = [
        [],
        [harness.sent(P2, stage("e1"))],
        [harness.sent(P1, audit())],
    ]
    results = await harness.store.commit(batch, lambda: later.pop())
    assert [outcome.stored for outcome in results if isinstance(outcome, Outcome)] == [1, 1, 1]
    assert len(batch) == 3
    assert await harness.rows(UNBALANCED) == []


async def test_nothing_is_taken_into_a_wal_that_is_gone_meanwhile(in_memory: Path) -> None:
    path = in_memory / "tier2.db"
    with suppress(DatabaseReplaced):  # the store says it once more when it is closed
        async with opened(path) as harness:
            late = [harness.sent(P2, audit())]

            def more() -> list[Submission | Call]:
                """It was sent when the WAL was gone."""
                Path(f"{path}-wal").unlink(missing_ok=True)
                return [late.pop()] if late else []

            with pytest.raises(DatabaseReplaced, match="was removed"):
                await harness.store.commit([harness.sent(P1, audit())], more)
