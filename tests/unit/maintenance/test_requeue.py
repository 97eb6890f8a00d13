"""Requeue: rejected events that are tried again or thrown away, in a real database."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ggend.database.lock import hold_lock
from ggend.errors import AlreadyRunning
from ggend.ingest.intake import Call, Submission
from ggend.ingest.open_store import open_store
from ggend.maintenance.requeue import (
    REQUEUED_IDS,
    Requeued,
    purge_rejected,
    purge_rejected_file,
    requeue,
    requeue_file,
)
from ggend.server.decode import line_entry
from ggend.server.requests import stored_answer
from ggend.storage.writer_state import Bounds, WriterState
from ggend_schema import Event, EventCode
from ggend_schema.codec import encode_event_line
from ggend_schema.messages import Request
from support.store_harness import (
    LATER,
    P1,
    P2,
    STAMP_NS,
    StoreHarness,
    audit,
    call,
    collision,
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

#: What the trigger refuses, until it is dropped.
BAD: list[tuple[str, Event]] = [
    ("audit_log", audit("bad")),
    ("receipts", receipt("bad", agent_id="bad")),
    ("workflow_sessions", started("bad", agent_count=13)),
    ("agent_memory", memory(1, agent_id="bad")),
]
CONDITIONS = {
    "audit_log": "new.agent_id = 'bad'",
    "receipts": "new.agent_id = 'bad'",
    "agent_memory": "new.agent_id = 'bad'",
    "workflow_sessions": "new.agent_count = 13",
    "pipeline_metrics": "new.error_message = 'bad'",
}


@pytest.fixture
async def harness(in_memory: Path) -> AsyncIterator[StoreHarness]:
    """A harness with a fresh database."""
    async with opened(in_memory / "tier2.db") as opened_harness:
        yield opened_harness


async def refuse(harness: StoreHarness, *tables: str, how: str = "ABORT") -> None:
    """Make the database refuse what is bad in these tables."""
    for table in tables:
        await harness.rows(
            f"CREATE TRIGGER refuse_{table} BEFORE INSERT ON {table} WHEN {CONDITIONS[table]} "
            f"BEGIN SELECT RAISE({how}, 'not here'); END"
        )


async def repair(harness: StoreHarness) -> None:
    """Let the database take everything again."""
    for (trigger,) in await harness.rows("SELECT name FROM sqlite_schema WHERE type = 'trigger'"):
        await harness.rows(f"DROP TRIGGER {trigger}")


async def requeued(harness: StoreHarness, *ids: int) -> list[tuple[int, str, EventCode | None]]:
    done = await harness.ask(lambda connection, state: requeue(connection, state, ids))
    return [(one.id, one.outcome, one.code) for one in done]


async def rejected(harness: StoreHarness) -> list[tuple[Any, ...]]:
    return await harness.rows("SELECT id, code FROM rejected_events ORDER BY id")


# Put back


@pytest.mark.parametrize("how", ["ABORT", "ROLLBACK"])
@pytest.mark.parametrize(("table", "bad"), BAD, ids=lambda value: value)
async def test_after_a_repair_a_refused_event_is_stored_and_its_count_moves(
    harness: StoreHarness, table: str, bad: Event, how: str
) -> None:
    await refuse(harness, table, how=how)
    await harness.settle(audit(), bad)
    assert await requeued(harness, 1) == [(1, "rejected", EventCode.REFUSED_BY_DATABASE)]
    assert await harness.account() == {"last_sequence": 2, "stored": 1, "rejected": 1}
    await repair(harness)
    assert await requeued(harness, 1) == [(1, "stored", None)]
    assert await harness.account() == {"last_sequence": 2, "stored": 2}
    assert await harness.count(table) == 1 + (table == "audit_log")


async def test_a_second_requeue_finds_it_gone_and_nothing_is_stored_twice(
    harness: StoreHarness,
) -> None:
    await refuse(harness, "audit_log")
    await harness.settle(audit("bad"))
    await repair(harness)
    both = await requeued(harness, 1, 1, 7)
    assert both == [(1, "stored", None), (7, "gone", None)]
    assert await requeued(harness, 1) == [(1, "gone", None)]
    assert (await harness.count("audit_log"), await harness.account()) == (
        1,
        {"last_sequence": 1, "stored": 1},
    )


async def test_the_event_sent_again_beside_its_requeue_is_a_replay(harness: StoreHarness) -> None:
    await refuse(harness, "audit_log")
    await harness.settle(audit("bad"))
    await repair(harness)
    again = submission(P1, 1, [audit("bad")])
    await harness.store.commit([again, call(lambda c, b: requeue(c, b, [1])), again])
    await harness.check()
    assert await harness.account() == {"last_sequence": 1, "stored": 1, "replayed": 2}
    assert await harness.count("audit_log") == 1


async def test_an_event_is_stored_with_the_stamp_that_it_came_with(harness: StoreHarness) -> None:
    await refuse(harness, "audit_log")
    await harness.settle(audit("bad"))
    await repair(harness)
    await requeued(harness, 1)
    assert await harness.value("SELECT timestamp FROM audit_log") == "2026-01-29T12:34:56.789Z"


async def test_lines_are_put_back_like_frames(harness: StoreHarness) -> None:
    """Numbered ones and those of a user; what was kept as JSON is read as JSON."""
    line = encode_event_line(audit(operation="x" * 20_000))[:-1]
    entry = line_entry(line, STAMP_NS)
    numbered = Submission(sender(), [entry], lambda _s, _o: None, size=0, first_sequence=1)
    await harness.commit(numbered, lines(receipt(), receipt(status="failed")))
    # As if the limit had been lower then.
    assert await harness.rows("SELECT encoding FROM rejected_events") == [("json",), ("msgpack",)]
    repaired = encode_event_line(audit("repaired"))[:-1]
    await harness.rows(
        "UPDATE rejected_events SET event = ?, size_bytes = ? WHERE id = 1", repaired, len(line)
    )
    await harness.rows("DELETE FROM receipts")
    assert await requeued(harness, 2, 1) == [(2, "stored", None), (1, "stored", None)]
    assert await harness.rows("SELECT agent_id FROM audit_log") == [("repaired",)]
    assert await harness.rows(
        "SELECT kind, last_sequence, stored FROM producers ORDER BY kind"
    ) == [
        ("anonymous", 2, 2),
        ("producer", 1, 1),
    ]


async def test_a_line_that_was_rejected_for_its_byte_order_mark_is_put_back(
    harness: StoreHarness,
) -> None:
    """As versions before this one kept it."""
    await harness.commit(lines(receipt(), receipt(status="failed")))
    kept = b"\xef\xbb\xbf" + encode_event_line(audit())[:-1]
    await harness.rows("UPDATE rejected_events SET encoding = 'json', event = ?", kept)
    assert await requeued(harness, 1) == [(1, "stored", None)]


async def test_what_is_rejected_again_keeps_its_id_and_says_why_now(harness: StoreHarness) -> None:
    await refuse(harness, "receipts")
    await harness.settle(receipt(agent_id="bad"), audit(operation=""))
    await repair(harness)
    await harness.settle(receipt(), producer=P2)
    assert await requeued(harness, 2, 1) == [
        (2, "rejected", EventCode.CONFLICT),
        (1, "rejected", EventCode.INVALID),
    ]
    assert await rejected(harness) == [(1, "invalid"), (2, "conflict")]
    assert "the stored row is kept" in await harness.value(
        "SELECT message FROM rejected_events WHERE code = 'conflict'"
    )
    assert await harness.account() == {"last_sequence": 2, "rejected": 2}


async def test_what_has_come_otherwise_meanwhile_is_a_duplicate(harness: StoreHarness) -> None:
    await refuse(harness, "receipts")
    await harness.settle(receipt(agent_id="bad"))
    await repair(harness)
    await harness.settle(receipt(agent_id="bad"), producer=P2)
    assert await requeued(harness, 1) == [(1, "duplicate", None)]
    assert await harness.account() == {"last_sequence": 1, "duplicate": 1}
    assert await rejected(harness) == []


@pytest.mark.parametrize(
    ("meanwhile", "outcome", "value"), [(LATER, "superseded", "2"), (None, "stored", "1")]
)
async def test_a_memory_put_back_does_not_replace_a_later_one(
    harness: StoreHarness, meanwhile: str | None, outcome: str, value: str
) -> None:
    await refuse(harness, "agent_memory")
    await harness.settle(memory(1, agent_id="bad"))
    await repair(harness)
    other = memory(2, meanwhile or "2026-01-01T00:00:00Z", agent_id="bad")
    await harness.settle(other, producer=P2)
    assert await requeued(harness, 1) == [(1, outcome, None)]
    assert await harness.account() == {"last_sequence": 1, outcome: 1}
    assert await harness.value("SELECT memory_json FROM agent_memory") == value


async def test_of_two_memories_of_one_moment_the_number_decides_as_it_did_then(
    harness: StoreHarness,
) -> None:
    await refuse(harness, "agent_memory")
    await harness.settle(memory(1, agent_id="bad"), memory(2, agent_id="bad"))
    await repair(harness)
    assert await requeued(harness, 2, 1) == [(2, "stored", None), (1, "superseded", None)]
    assert await harness.value("SELECT memory_json FROM agent_memory") == "2"
    assert await harness.account() == {"last_sequence": 2, "stored": 1, "superseded": 1}


async def test_results_come_in_the_order_that_was_asked_for(harness: StoreHarness) -> None:
    await refuse(harness, "audit_log")
    await harness.settle(*(audit("bad", operation=f"{number}") for number in range(1, 5)))
    await repair(harness)
    await requeued(harness, 3, 1, 4, 2)
    stored = await harness.rows("SELECT operation FROM audit_log ORDER BY id")
    assert stored == [("3",), ("1",), ("4",), ("2",)]


# Parents and children


async def test_a_stage_put_back_waits_for_its_receipt_and_takes_its_place_with_it(
    in_memory: Path,
) -> None:
    async with opened(in_memory / "tier2.db", parked=1) as harness:
        await harness.settle(stage(), stage("e2"))
        assert await requeued(harness, 1) == [(1, "rejected", EventCode.PARKED_FULL)]
        await harness.settle(receipt(), producer=P2)
        assert await requeued(harness, 1) == [(1, "parked", None)]
        assert await harness.account() == {"last_sequence": 2, "stored": 1, "parked": 1}
        await harness.settle(receipt("e2"), producer=P2)
        await harness.check()
        assert await harness.account() == {"last_sequence": 2, "stored": 2}


async def test_a_receipt_put_back_brings_in_what_waits_for_it(harness: StoreHarness) -> None:
    await refuse(harness, "receipts")
    await harness.settle(receipt(agent_id="bad"), stage(), stage(error_message="bad"))
    await repair(harness)
    await refuse(harness, "pipeline_metrics")
    assert await requeued(harness, 1) == [(1, "stored", None)]
    assert await harness.account() == {"last_sequence": 3, "stored": 2, "rejected": 1}
    assert [code for _, code in await rejected(harness)] == ["refused_by_database"]


async def test_parents_come_first_whatever_the_order_of_the_ids(in_memory: Path) -> None:
    async with opened(in_memory / "tier2.db", parked=0) as harness:
        await refuse(harness, "workflow_sessions")
        await harness.settle(collision("bad"), ended("bad"), started("bad", agent_count=13))
        await repair(harness)
        ids = [row[0] for row in await rejected(harness)]
        assert {outcome for _, outcome, _ in await requeued(harness, *ids)} == {"stored"}
        assert await harness.account() == {"last_sequence": 3, "stored": 3}


# Producers that are done


async def test_the_counts_of_a_folded_producer_move_in_the_total(harness: StoreHarness) -> None:
    await refuse(harness, "audit_log")
    await harness.settle(audit("bad"), audit("bad"), audit(operation=""))
    await harness.finish()
    await repair(harness)
    await requeued(harness, 2, 1)
    assert await harness.total() == {"last_sequence": 3, "stored": 1, "rejected": 2}


async def test_what_waits_for_a_folded_producer_is_released_in_the_total(in_memory: Path) -> None:
    path = in_memory / "tier2.db"
    async with opened(path, parked=0) as harness:
        await harness.settle(stage())
        await harness.finish()
    async with opened(path) as harness:
        assert await requeued(harness, 1) == [(1, "parked", None)]
        assert await harness.total() == {"last_sequence": 1, "parked": 1}
        await harness.settle(receipt(), producer=P2)
        await harness.check()
        assert await harness.total() == {"last_sequence": 1, "stored": 1}


async def test_a_producer_that_is_folded_by_its_own_requeue_keeps_every_count(
    harness: StoreHarness,
) -> None:
    """Its receipt releases the last of its parked events, and with that it is forgotten."""
    await refuse(harness, "receipts")
    await harness.settle(receipt(agent_id="bad"), stage())
    await harness.finish()
    await repair(harness)
    assert await requeued(harness, 1) == [(1, "stored", None)]
    assert await harness.total() == {"last_sequence": 2, "stored": 2}


async def test_what_waits_anew_beside_that_is_not_orphaned_by_it(in_memory: Path) -> None:
    path = in_memory / "tier2.db"
    async with opened(path, parked=1) as harness:
        await refuse(harness, "receipts")
        await harness.settle(stage(), receipt(agent_id="bad"), stage("e2"))
        await harness.finish()
        await repair(harness)
    async with opened(path) as harness:
        outcomes = {outcome for _, outcome, _ in await requeued(harness, 1, 2)}
        assert outcomes == {"stored", "parked"}
        await harness.settle(receipt("e2"), producer=P2)
        await harness.check()
        assert await harness.total() == {"last_sequence": 3, "stored": 3}


# What cannot be put back


async def test_of_what_was_not_kept_nothing_is_put_back(in_memory: Path) -> None:
    bounds = Bounds(undecodable_bytes=0, rejected_bytes=40)
    async with open_store(in_memory / "tier2.db", page_cache_mib=1, bounds=bounds) as store:
        harness = StoreHarness(store)
        half = Submission(
            sender(),
            [line_entry(b'{"type":', STAMP_NS)],
            lambda _s, _o: None,
            size=0,
            first_sequence=1,
        )
        await harness.commit(half)
        await harness.commit(submission(P1, 2, [audit(operation="")]))
        assert await harness.rows(
            "SELECT code, size_bytes, length(sha256), event FROM rejected_events"
        ) == [
            ("malformed", 8, 32, None),
            ("invalid", len(msgspec.msgpack.encode(audit(operation=""))), 32, None),
        ]
        assert await requeued(harness, 1, 2) == [(1, "not_kept", None), (2, "not_kept", None)]
        assert await harness.account() == {"last_sequence": 2, "rejected": 2}


async def test_room_in_the_quarantine_is_free_again(in_memory: Path) -> None:
    """Of what is put back and of what is thrown away; over the limit it is counted, not kept."""
    async with opened(in_memory / "tier2.db", rejected=2) as harness:
        await refuse(harness, "audit_log")
        await harness.settle(audit("bad"), audit("bad"), audit("bad"))
        assert await harness.account() == {"last_sequence": 3, "rejected": 3}
        await repair(harness)
        await harness.store.commit([call(lambda c, b: requeue(c, b, [1]))])
        await harness.store.commit([call(lambda c, b: purge_rejected(c, b, [2]))])
        assert harness.store._state.quarantine.count == 0
        await harness.settle(audit(operation=""), audit(operation=""))
        assert await harness.count("rejected_events") == 2
        assert await harness.account() == {"last_sequence": 5, "stored": 1, "rejected": 4}


# Thrown away


async def test_what_is_thrown_away_is_counted_as_purged(harness: StoreHarness) -> None:
    """Beside the sum: it was rejected, and its row is no longer there."""
    await harness.settle(*[audit(operation="")] * 2)
    await harness.settle(audit(operation=""), producer=P2)
    await harness.finish(P2)
    (deleted,) = await harness.store.commit([call(lambda c, b: purge_rejected(c, b, [1, 1, 3, 9]))])
    assert deleted == 2
    assert await rejected(harness) == [(2, "invalid")]
    purged = await harness.rows("SELECT kind, rejected, purged FROM producers ORDER BY kind")
    assert purged == [("folded", 1, 1), ("producer", 2, 1)]
    (again,) = await harness.store.commit([call(lambda c, b: purge_rejected(c, b, [1, 3]))])
    assert again == 0


# Transactions


def failing_after(
    function: Callable[[sqlite3.Connection, WriterState], object], error: Exception
) -> Call:
    def fail(connection: sqlite3.Connection, state: WriterState) -> None:
        function(connection, state)
        raise error

    return call(fail)


@pytest.mark.parametrize("error", [LookupError("no"), sqlite3.OperationalError("the disk")])
async def test_a_requeue_that_fails_has_not_happened(
    harness: StoreHarness, error: Exception
) -> None:
    """Neither in the file nor in what the writer remembers, its neighbours or not."""
    await refuse(harness, "receipts")
    await harness.settle(receipt(agent_id="bad"), stage(), stage("e2"), audit(operation=""))
    await repair(harness)
    before = await rejected(harness), await harness.account()

    def all_of_it(connection: sqlite3.Connection, state: WriterState) -> None:
        requeue(connection, state, [1, 2])
        purge_rejected(connection, state, [1, 2])

    batch: list[Submission | Call] = [harness.sent(P2, audit()), failing_after(all_of_it, error)]
    if isinstance(error, LookupError):
        _, failed = await harness.store.commit(batch)
        assert failed is error
    else:
        with pytest.raises(Exception, match="the disk"):
            await harness.store.commit(batch)
        await harness.store.commit(batch[:1])
    await harness.check()
    assert (await rejected(harness), await harness.account()) == before
    assert await harness.account(P2) == {"last_sequence": 1, "stored": 1}
    assert (await requeued(harness, 1, 2)) != []
    assert (await harness.account())["stored"] == 2


# Who may ask, and without a daemon


@pytest.mark.parametrize("op", ["requeue", "purge_rejected"])
@pytest.mark.parametrize(
    "arguments",
    [{}, {"ids": []}, {"ids": [1] * (REQUEUED_IDS + 1)}, {"ids": ["1"]}, {"ids": [1], "all": 1}],
)
def test_a_request_without_ids_is_no_request(op: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(Exception, match=f"invalid arguments of {op}"):
        stored_answer(Request(id=1, op=op, arguments=arguments), 0)


@pytest.mark.parametrize("op", ["requeue", "purge_rejected"])
def test_another_user_may_not_ask(op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(Exception, match="the daemon's user") as refused:
        stored_answer(Request(id=1, op=op, arguments={"ids": [1]}), 1001)
    assert getattr(refused.value, "code", "") == "not_allowed"
    stored_answer(Request(id=1, op=op, arguments={"ids": [1]}), 1000)


async def test_without_a_daemon_the_file_is_changed_itself(
    in_memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In transactions of some ids each."""
    monkeypatch.setattr("ggend.maintenance.requeue.REQUEUED_IDS", 2)
    path = in_memory / "tier2.db"
    async with opened(path) as harness:
        await refuse(harness, "audit_log")
        await harness.settle(*[audit("bad")] * 5, audit(operation=""))
        await repair(harness)
        ids: Sequence[int] = [row[0] for row in await rejected(harness)]
    done = requeue_file(path, [*ids, 77])
    assert sorted(one.outcome for one in done) == ["gone", "rejected"] + ["stored"] * 5
    assert all(isinstance(one, Requeued) for one in done)
    assert purge_rejected_file(path, ids) == 1
    async with opened(path) as harness:
        assert await harness.rows("SELECT stored, rejected, purged FROM producers") == [(5, 1, 1)]
        assert await harness.count("audit_log") == 5


def test_a_file_that_a_daemon_has_open_is_left_alone(in_memory: Path) -> None:
    path = in_memory / "tier2.db"
    with hold_lock(path, what="database"):
        for change in (requeue_file, purge_rejected_file):
            with pytest.raises(AlreadyRunning):
                change(path, [1])


async def test_in_the_file_itself_a_row_that_takes_the_transaction_back_harms_no_other(
    in_memory: Path,
) -> None:
    path = in_memory / "tier2.db"
    async with opened(path) as harness:
        await refuse(harness, "audit_log")
        await refuse(harness, "receipts", how="ROLLBACK")
        await harness.settle(audit("bad"), receipt("bad", agent_id="bad"), audit("bad"))
        await harness.rows("DROP TRIGGER refuse_audit_log")
    assert {one.id: one.outcome for one in requeue_file(path, [1, 2, 3])} == {
        1: "stored",
        2: "stored",
        3: "rejected",
    }
    async with opened(path) as harness:
        await harness.check()
        assert await harness.count("audit_log") == 2
        assert await harness.account() == {"last_sequence": 3, "stored": 2, "rejected": 1}
