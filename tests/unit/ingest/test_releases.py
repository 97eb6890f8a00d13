"""What waits for one parent is released in slices where it is much, and bounded for each parent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import closing
from functools import partial
from pathlib import Path

import anyio
import pytest

from ggend.database.check.accounting import audit_accounts
from ggend.database.findings import Verdict
from ggend.database.readonly import open_readonly
from ggend.ingest import releases
from ggend.ingest.intake import Call, Intake, Submission
from ggend.ingest.releases import Releases, release_slice
from ggend.maintenance.expiry import give_up_parked
from ggend.maintenance.requeue import requeue, requeue_file
from ggend_schema import Event, EventCode, StageCompleted
from support.store_harness import (
    P1,
    P2,
    P3,
    StoreHarness,
    audit,
    call,
    codes,
    collision,
    counts,
    ended,
    opened,
    receipt,
    started,
)
from support.store_harness import stage as a_stage

#: Events that one transaction releases here.
FEW = 3

#: Later than everything that is parked here.
FUTURE_S = 2**40

NOTED = "SELECT parent, parent_id FROM pending_releases ORDER BY parent, parent_id"
STORED = "SELECT duration_ms FROM pipeline_metrics ORDER BY id"


def stages(count: int, execution_id: str = "e1", *, first: int = 1) -> list[StageCompleted]:
    """Stages whose durations tell in which order they came."""
    return [a_stage(execution_id, duration_ms=first + number) for number in range(count)]


@pytest.fixture
async def harness(in_memory: Path) -> AsyncIterator[StoreHarness]:
    """A harness in which one transaction releases few events."""
    async with opened(in_memory / "tier2.db", released_events=FEW) as opened_harness:
        yield opened_harness


async def park(harness: StoreHarness, *events: Event, producer: bytes = P1) -> None:
    """Each in a batch and so in a row of its own."""
    for event in events:
        assert counts(await harness.settle(event, producer=producer)) == {"parked": 1}


async def a_slice(harness: StoreHarness) -> bool:
    return await harness.ask(release_slice)


async def all_slices(harness: StoreHarness) -> int:
    """Run slices until nothing is left; return how many."""
    slices = 1
    while not await a_slice(harness):
        slices += 1
    return slices


def found(path: Path) -> tuple[Verdict, str]:
    """What `ggend check` says of the parked events."""
    with closing(open_readonly(path)) as connection:
        (finding,) = (one for one in audit_accounts(connection) if one.what == "parked")
    return finding.verdict, finding.detail


def fail(_connection: object, _state: object) -> None:
    raise ZeroDivisionError


async def test_much_is_released_in_slices_in_order_of_arrival(harness: StoreHarness) -> None:
    """In the transaction of the parent as much as in each later one."""
    await park(harness, *stages(10))
    assert counts(await harness.settle(receipt(), producer=P2)) == {"stored": 1}
    await harness.check()
    assert await harness.account() == {"last_sequence": 10, "stored": 3, "parked": 7}
    assert await harness.rows(NOTED) == [("receipt", "e1")]
    assert not await a_slice(harness)
    assert await harness.account() == {"last_sequence": 10, "stored": 6, "parked": 4}
    assert await all_slices(harness) == 2
    assert await harness.account() == {"last_sequence": 10, "stored": 10}
    assert await harness.rows(STORED) == [(number,) for number in range(1, 11)]
    assert await harness.rows(NOTED) == []


async def test_the_stages_of_an_execution_are_released_with_its_receipt(in_memory: Path) -> None:
    """However many receipts come in one batch."""
    async with opened(in_memory / "tier2.db", released_events=10) as harness:
        for number in range(8):
            await harness.settle(*stages(3, f"e{number}"))
            await harness.settle(*stages(2, f"e{number}", first=4), producer=P2)
        await harness.settle(*stages(9, "much"), producer=P3)
        await harness.settle(*(receipt(f"e{number}") for number in range(8)), receipt("much"))
        assert await harness.rows(NOTED) == [("receipt", "much")]
        assert await harness.count("pipeline_metrics") == 40
        assert harness.store.parked == 9
        await all_slices(harness)
        assert await harness.count("pipeline_metrics") == 49


async def test_a_row_is_released_whole(harness: StoreHarness) -> None:
    await harness.settle(*stages(5))
    await harness.settle(*stages(5, first=6))
    await harness.settle(receipt(), producer=P2)
    assert await harness.account() == {"last_sequence": 10, "stored": 5, "parked": 5}
    assert await a_slice(harness)
    assert await harness.account() == {"last_sequence": 10, "stored": 10}


async def test_large_events_are_released_in_slices_as_well(
    in_memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ggend.storage.parking.RELEASED_BYTES", 25_000)
    async with opened(in_memory / "tier2.db") as harness:
        await park(harness, *(a_stage(error_message="x" * 10_000) for _ in range(5)))
        await harness.settle(receipt(), producer=P2)
        assert await harness.account() == {"last_sequence": 5, "stored": 3, "parked": 2}
        assert await a_slice(harness)
        assert await harness.account() == {"last_sequence": 5, "stored": 5}


async def test_what_comes_in_between_is_stored_at_once(harness: StoreHarness) -> None:
    await park(harness, *stages(7))
    await harness.settle(receipt(), producer=P2)
    assert counts(await harness.settle(a_stage(duration_ms=99), producer=P2)) == {"stored": 1}
    assert counts(await harness.settle(receipt(), producer=P2)) == {"duplicate": 1}
    await all_slices(harness)
    await harness.check()
    assert await harness.rows(STORED) == [(1,), (2,), (3,), (99,), (4,), (5,), (6,), (7,)]


async def test_what_is_left_to_a_slice_takes_room_until_then(in_memory: Path) -> None:
    """The limit counts what is in the table, whether its parent is stored or not."""
    async with opened(in_memory / "tier2.db", released_events=FEW, parked=6) as harness:
        await park(harness, *stages(5))
        outcome = await harness.settle(receipt(), *stages(5, "e2"), producer=P2)
        assert counts(outcome) == {"stored": 1, "parked": 4, "rejected": 1}
        assert codes(outcome) == [(6, EventCode.PARKED_FULL)]
        await harness.check()
        assert await a_slice(harness)
        await park(harness, *stages(2, "e2"), producer=P3)


async def test_a_slice_tells_duplicates_and_conflicts(harness: StoreHarness) -> None:
    await park(harness, *(collision() for _ in range(4)))
    await park(harness, ended(), producer=P2)
    await park(harness, ended(status="failed"), producer=P3)
    await harness.settle(started(), producer=P3)
    await all_slices(harness)
    await harness.check()
    assert await harness.account(P2) == {"last_sequence": 1, "stored": 1}
    assert await harness.account(P3) == {"last_sequence": 2, "stored": 1, "rejected": 1}
    assert await harness.rows("SELECT code FROM rejected_events") == [("conflict",)]


async def test_slices_go_on_after_a_restart(in_memory: Path) -> None:
    path = in_memory / "tier2.db"
    async with opened(path, released_events=FEW) as harness:
        await park(harness, *stages(10))
        await harness.settle(receipt(), producer=P2)
    verdict, detail = found(path)
    assert verdict is Verdict.OK
    assert "7 of them are being released: 1 parents arrived" in detail
    async with opened(path, released_events=FEW) as harness:
        assert harness.store.noted_releases == 1
        await all_slices(harness)
        assert await harness.account() == {"last_sequence": 10, "stored": 10}
    assert found(path)[0] is Verdict.OK


async def test_what_nothing_releases_is_found(in_memory: Path) -> None:
    path = in_memory / "tier2.db"
    async with opened(path, released_events=FEW) as harness:
        await park(harness, *stages(10))
        await harness.settle(receipt(), producer=P2)
        await harness.rows("DELETE FROM pending_releases")
    assert found(path) == (
        Verdict.FAILED,
        "7 events are parked for receipt 'e1', which is stored, but nothing releases them",
    )


@pytest.mark.parametrize("by_a_parent", [True, False])
async def test_a_release_that_is_taken_back_leaves_everything_as_it_was(
    harness: StoreHarness, by_a_parent: bool
) -> None:
    await park(harness, *stages(10))
    arrived = harness.sent(P2, receipt())
    if not by_a_parent:
        await harness.commit(arrived)
    before = await harness.rows(NOTED), await harness.account()
    batch: list[Submission | Call] = [arrived if by_a_parent else call(release_slice)]
    with pytest.raises(ZeroDivisionError):
        await harness.store.commit([*batch, call(fail)])
    await harness.check()
    assert (await harness.rows(NOTED), await harness.account()) == before
    await harness.store.commit(batch)
    await all_slices(harness)
    assert await harness.account() == {"last_sequence": 10, "stored": 10}
    assert await harness.count("pipeline_metrics") == 10


async def test_what_is_to_be_released_is_not_given_up(harness: StoreHarness) -> None:
    await park(harness, *stages(5), a_stage("e2"))
    await harness.settle(receipt(), producer=P2)
    await harness.ask(partial(give_up_parked, before_s=FUTURE_S, days=7, after=None))
    assert await harness.rows("SELECT code FROM rejected_events") == [("orphaned",)]
    await all_slices(harness)
    assert await harness.account() == {"last_sequence": 6, "stored": 5, "rejected": 1}


async def test_much_is_given_up_in_slices_as_well(harness: StoreHarness) -> None:
    """However few rows it is in."""
    for number in range(4):
        await harness.settle(*stages(2, f"e{number}"))
    expire = partial(give_up_parked, before_s=FUTURE_S, days=7)
    place = await harness.ask(partial(expire, after=None))
    assert await harness.account() == {"last_sequence": 8, "parked": 4, "rejected": 4}
    assert await harness.ask(partial(expire, after=place)) is None
    assert await harness.account() == {"last_sequence": 8, "rejected": 8}


async def test_where_the_parent_was_purged_the_rest_waits_for_another(
    harness: StoreHarness,
) -> None:
    await park(harness, *stages(10))
    await harness.settle(receipt(), producer=P2)
    await harness.rows("DELETE FROM pipeline_metrics")
    await harness.rows("DELETE FROM receipts")
    assert await a_slice(harness)
    assert await harness.rows(NOTED) == []
    assert await harness.account() == {"last_sequence": 10, "stored": 3, "parked": 7}
    await harness.settle(receipt(), producer=P2)
    await all_slices(harness)
    assert await harness.account() == {"last_sequence": 10, "stored": 10}


async def test_a_finished_producer_is_forgotten_with_the_last_slice(harness: StoreHarness) -> None:
    await park(harness, *stages(7))
    await harness.finish()
    await harness.settle(receipt(), producer=P2)
    await a_slice(harness)
    assert await harness.account() == {"last_sequence": 7, "stored": 6, "parked": 1}
    await a_slice(harness)
    assert await harness.total() == {"last_sequence": 7, "stored": 7}


async def test_a_requeued_receipt_releases_in_slices_with_and_without_a_daemon(
    in_memory: Path,
) -> None:
    path = in_memory / "tier2.db"
    refuse = "CREATE TRIGGER no BEFORE INSERT ON receipts BEGIN SELECT RAISE(ABORT, 'no'); END"
    async with opened(path, released_events=FEW) as harness:
        await park(harness, *stages(10), *stages(10, "e2"))
        await harness.rows(refuse)
        await harness.settle(receipt(), receipt("e2"), producer=P2)
        await harness.rows("DROP TRIGGER no")
        await harness.ask(lambda c, b: requeue(c, b, [1]))
        assert harness.store.parked == 17
        await all_slices(harness)
        assert harness.store.parked == 10
    (done,) = requeue_file(path, [2])
    assert done.outcome == "stored"
    async with opened(path) as harness:
        assert (harness.store.parked, harness.store.noted_releases) == (0, 0)
        await harness.check()


# Too much for one parent


async def test_no_more_than_so_many_wait_for_one_parent(in_memory: Path) -> None:
    """Whatever waits for others; the code is that of a full parking, and the message says more."""
    async with opened(in_memory / "tier2.db", parked_each=3) as harness:
        await park(harness, a_stage(), a_stage("e2"), collision("e1"))
        outcome = await harness.settle(*stages(4), a_stage("e2"), collision("e1"))
        assert counts(outcome) == {"parked": 4, "rejected": 2}
        assert [(number, code) for number, code, _ in outcome.rejects] == [
            (6, EventCode.PARKED_FULL),
            (7, EventCode.PARKED_FULL),
        ]
        assert outcome.rejects[0][2] == (
            "its receipt 'e1' is not stored, and 3 events, the limit for one receipt, "
            "wait for it already"
        )
        assert counts(await harness.settle(a_stage(), producer=P2)) == {"rejected": 1}
        await harness.settle(receipt(), producer=P3)
        assert await harness.count("pipeline_metrics") == 3
        assert counts(await harness.settle(a_stage("e2"), producer=P2)) == {"parked": 1}
        assert counts(await harness.settle(a_stage("e2"), producer=P2)) == {"rejected": 1}


async def test_the_bound_holds_for_what_is_remembered_and_after_a_restart(
    in_memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ggend.storage.parking._MANY_EVENTS", 1)
    path = in_memory / "tier2.db"
    async with opened(path, parked_each=4) as harness:
        await harness.settle(*stages(3))
        await park(harness, a_stage("e2"), a_stage())
        for _ in range(2):
            assert counts(await harness.settle(a_stage())) == {"rejected": 1}
        with pytest.raises(ZeroDivisionError):
            await harness.store.commit([harness.sent(P2, a_stage("e2")), call(fail)])
        await harness.check()
    async with opened(path, parked_each=4) as harness:
        assert counts(await harness.settle(a_stage(), producer=P3)) == {"rejected": 1}
        await harness.ask(partial(give_up_parked, before_s=FUTURE_S, days=7, after=None))
        assert counts(await harness.settle(a_stage(), producer=P3)) == {"parked": 1}


async def test_nothing_is_counted_while_few_wait(harness: StoreHarness) -> None:
    """The normal case costs nothing."""
    said: list[str] = []
    await park(harness, *stages(2))
    await harness.store.run(lambda connection: connection.set_trace_callback(said.append))
    await harness.settle(*stages(1), audit())
    await harness.settle(receipt())
    assert [sql for sql in said if "SUM(events)" in sql or "pending_releases" in sql] == []


# The stage that runs the slices


class Turns:
    """A writer that takes from the intake, one batch at a time."""

    def __init__(self, harness: StoreHarness) -> None:
        self.harness = harness
        self.intake = Intake(1_000)
        self.releases = Releases(self.intake, lambda: harness.store.noted_releases)
        self.slices = 0

    async def turn(self) -> None:
        """Commit one batch and tell."""
        batch = (await self.intake.take(1_000)).items
        results = await self.harness.store.commit(batch)
        for item, result in zip(batch, results, strict=True):
            assert isinstance(item, Call)
            self.slices += 1
            if isinstance(result, Exception):
                item.failed(item, result)
            else:
                item.done(item, result)
        await self.harness.check()
        self.releases.look()

    async def until_idle(self) -> None:
        """Until the stage asks for nothing more."""
        await anyio.wait_all_tasks_blocked()
        while self.intake.events:
            await self.turn()
            await anyio.wait_all_tasks_blocked()


async def test_slices_follow_each_other_with_others_in_between(harness: StoreHarness) -> None:
    turns = Turns(harness)
    async with anyio.create_task_group() as stage:
        stage.start_soon(turns.releases.run)
        await turns.until_idle()
        assert turns.slices == 0
        await park(harness, *stages(10))
        await harness.settle(receipt(), producer=P2)
        turns.releases.look()
        await anyio.wait_all_tasks_blocked()
        assert turns.intake.events == 1
        await turns.turn()
        assert await harness.account() == {"last_sequence": 10, "stored": 6, "parked": 4}
        assert counts(await harness.settle(audit(), producer=P3)) == {"stored": 1}
        await turns.until_idle()
        assert await harness.account() == {"last_sequence": 10, "stored": 10}
        assert turns.slices == 3
        stage.cancel_scope.cancel()


@pytest.mark.parametrize("how", ["ABORT", "ROLLBACK"])
async def test_what_the_database_refuses_in_a_slice_is_rejected_alone(
    harness: StoreHarness, how: str
) -> None:
    await harness.rows(
        "CREATE TRIGGER no BEFORE INSERT ON pipeline_metrics WHEN new.duration_ms IN (5, 8) "
        f"BEGIN SELECT RAISE({how}, 'not here'); END"
    )
    await park(harness, *stages(10))
    await harness.settle(receipt(), producer=P2)
    turns = Turns(harness)
    async with anyio.create_task_group() as stage:
        stage.start_soon(turns.releases.run)
        await turns.until_idle()
        stage.cancel_scope.cancel()
    assert await harness.account() == {"last_sequence": 10, "stored": 8, "rejected": 2}
    assert await harness.rows("SELECT code, sequence FROM rejected_events ORDER BY id") == [
        ("refused_by_database", 5),
        ("refused_by_database", 8),
    ]


@pytest.mark.parametrize("how", ["ABORT", "ROLLBACK"])
async def test_a_parent_that_the_database_does_not_let_go_keeps_no_other_from_it(
    harness: StoreHarness, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried again later."""
    monkeypatch.setattr(releases, "RETRY_SECONDS", 0.01)
    for name in ("e1", "e2", "e3"):
        await park(harness, *stages(7, name))
        await harness.settle(receipt(name), producer=P2)
    await harness.rows(
        "CREATE TRIGGER no BEFORE DELETE ON parked_events WHEN old.parent_id = 'e2' "
        f"BEGIN SELECT RAISE({how}, 'it stays'); END"
    )
    turns = Turns(harness)
    async with anyio.create_task_group() as stage:
        stage.start_soon(turns.releases.run)
        while harness.store.parked > 4:
            await turns.turn()
        assert ("receipt", "e2") in await harness.rows(NOTED)
        await harness.rows("DROP TRIGGER no")
        while harness.store.parked:
            await turns.turn()
        stage.cancel_scope.cancel()
    assert await harness.account() == {"last_sequence": 21, "stored": 21}
