"""Upkeep: what was parked too long is given up, and who was silent too long is forgotten."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import msgspec
import pytest

from ggend.ingest.intake import Outcome
from ggend.maintenance.expiry import forget_silent, give_up_parked
from ggend.maintenance.requeue import requeue
from ggend.storage.parking import Place
from ggend_client.transport.session import Session
from ggend_schema import Event, EventCode
from ggend_schema.codec import decode_client_message, decode_event, encode_frame
from ggend_schema.framing import FrameSplitter
from ggend_schema.messages import Batch, Goodbye, Limits, Welcome
from support.store_harness import (
    P1,
    P2,
    P3,
    StoreHarness,
    audit,
    call,
    collision,
    counts,
    ended,
    lines,
    opened,
    receipt,
    sender,
    stage,
    started,
    submission,
)

#: Later than everything that is parked here.
FUTURE_S = 2**40

#: Seen times: long before now, and between that and now.
SILENT, BEFORE = -2, -1


@pytest.fixture
async def harness(in_memory: Path) -> AsyncIterator[StoreHarness]:
    """A harness with a fresh database."""
    async with opened(in_memory / "tier2.db") as opened_harness:
        yield opened_harness


async def give_up(
    harness: StoreHarness,
    *,
    before_s: int = FUTURE_S,
    after: Place | None = None,
    limit: int = 1_000,
) -> Place | None:
    return await harness.ask(
        partial(give_up_parked, before_s=before_s, days=7, after=after, limit=limit)
    )


async def forget(harness: StoreHarness, *silent: bytes, limit: int = 1_000) -> None:
    """Forget who was silent for long, of whom these are."""
    for producer in silent:
        await harness.rows("UPDATE producers SET seen_s = ? WHERE producer = ?", SILENT, producer)
    after: int | None = 0
    while after is not None:
        after = await harness.ask(partial(forget_silent, before_s=BEFORE, after=after, limit=limit))


async def rejected(harness: StoreHarness) -> list[tuple[object, ...]]:
    return await harness.rows(
        "SELECT producer, sequence, code, message FROM rejected_events ORDER BY sequence"
    )


# What was parked too long


async def test_what_was_parked_too_long_is_rejected_with_what_it_waited_for(
    harness: StoreHarness,
) -> None:
    await harness.settle(stage(), collision(), audit(), ended())
    assert await give_up(harness) is None
    session = "its session 's1' did not arrive within 7 days"
    assert await rejected(harness) == [
        (P1, 1, "orphaned", "its receipt 'e1' did not arrive within 7 days"),
        (P1, 2, "orphaned", session),
        (P1, 4, "orphaned", session),
    ]
    assert await harness.account() == {"last_sequence": 4, "stored": 1, "rejected": 3}
    assert harness.store.parked == 0
    assert counts(await harness.settle(receipt(), started(), producer=P2)) == {"stored": 2}
    assert (
        await harness.count("pipeline_metrics"),
        await harness.count("collision_detection"),
    ) == (0, 0)


async def test_an_orphan_can_be_read_and_put_back_to_wait_anew(harness: StoreHarness) -> None:
    await harness.commit(harness.sent(P1, stage()), lines(stage("e2")))
    await give_up(harness)
    kept = await harness.rows("SELECT event FROM rejected_events ORDER BY id")
    assert [decode_event(event) for (event,) in kept] == [stage(), stage("e2")]
    done = await harness.ask(lambda c, state: requeue(c, state, [1, 2]))
    assert [one.outcome for one in done] == ["parked", "parked"]
    assert await harness.account() == {"last_sequence": 1, "parked": 1}
    await harness.settle(receipt(), receipt("e2"), producer=P2)
    await harness.check()
    assert await harness.account() == {"last_sequence": 1, "stored": 1}
    assert await harness.count("pipeline_metrics") == 2


async def test_what_came_later_goes_on_waiting(in_memory: Path) -> None:
    """Also beside something older that waits for the same receipt, and after a restart."""
    async with opened(in_memory / "tier2.db") as harness:
        await harness.settle(stage(), stage("e2"))
        await harness.rows("UPDATE parked_events SET seen_s = ?", SILENT)
        await harness.settle(stage(), producer=P2)
    async with opened(in_memory / "tier2.db") as harness:
        await give_up(harness, before_s=BEFORE)
        assert [row[:2] for row in await rejected(harness)] == [(P1, 1), (P1, 2)]
        assert await harness.account(P2) == {"last_sequence": 1, "parked": 1}
        await give_up(harness, before_s=BEFORE)
        assert harness.store.parked == 1


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8])
async def test_slices_of_any_size_reach_everything(harness: StoreHarness, limit: int) -> None:
    for number in range(3):
        await harness.settle(stage(f"e{number}"), stage("e9"), collision("e9"))
    place: Place | None = None
    slices = 0
    while place is not None or not slices:
        place = await give_up(harness, after=place, limit=limit)
        slices += 1
        assert slices <= 9 // limit + 1
    assert await harness.account() == {"last_sequence": 9, "rejected": 9}


async def test_a_receipt_between_two_slices_finds_what_is_left(harness: StoreHarness) -> None:
    await harness.settle(stage("e1"), stage("e2"), stage("e3"))
    place = await give_up(harness, limit=1)
    await harness.settle(receipt("e1"), receipt("e2"), producer=P2)
    while place is not None:
        place = await give_up(harness, after=place, limit=1)
    assert await harness.account() == {"last_sequence": 3, "stored": 1, "rejected": 2}
    assert await harness.rows("SELECT execution_id FROM pipeline_metrics") == [("e2",)]


async def test_a_finished_producer_is_forgotten_with_the_last_that_is_given_up(
    harness: StoreHarness,
) -> None:
    await harness.settle(stage("e1"), stage("e2"))
    await harness.finish()
    place = await give_up(harness, limit=1)
    assert await harness.account() == {"last_sequence": 2, "parked": 1, "rejected": 1}
    await give_up(harness, after=place)
    assert await harness.total() == {"last_sequence": 2, "rejected": 2}
    assert [row[0] for row in await rejected(harness)] == [P1, P1]


async def test_over_the_limit_of_the_quarantine_an_orphan_is_counted(in_memory: Path) -> None:
    async with opened(in_memory / "tier2.db", rejected=1) as harness:
        await harness.settle(stage("e1"), stage("e2"))
        await harness.store.commit(
            [call(partial(give_up_parked, before_s=FUTURE_S, days=7, after=None))]
        )
        assert await harness.account() == {"last_sequence": 2, "rejected": 2}
        assert (await harness.count("rejected_events"), harness.store.parked) == (1, 0)


async def test_what_could_not_be_committed_waits_on(harness: StoreHarness) -> None:
    await harness.settle(stage(), collision())

    def fail(connection: object, state: object) -> None:
        give_up_parked(connection, state, before_s=FUTURE_S, days=7, after=None)  # type: ignore[arg-type]
        raise LookupError

    await harness.store.commit([call(fail)])
    await harness.check()
    assert await harness.account() == {"last_sequence": 2, "parked": 2}
    await harness.settle(receipt(), started(), producer=P2)
    assert await harness.account() == {"last_sequence": 2, "stored": 2}


# Who was silent too long


@pytest.mark.parametrize("limit", [1, 2, 3, 1_000])
async def test_silent_producers_are_added_to_the_total(harness: StoreHarness, limit: int) -> None:
    """Not the lines of a user, not who was heard of, and not a permanent one."""
    for producer in (P1, P2, P3):
        await harness.settle(audit(), audit(operation=""), producer=producer)
    await harness.commit(lines(audit()))
    await harness.rows("UPDATE producers SET permanent = 1 WHERE producer = ?", P3)
    await harness.rows("UPDATE producers SET seen_s = ? WHERE kind = 'anonymous'", SILENT)
    await forget(harness, P1, P3, limit=limit)
    assert await harness.rows("SELECT kind, producer FROM producers ORDER BY kind, producer") == [
        ("anonymous", None),
        ("folded", None),
        ("producer", P2),
        ("producer", P3),
    ]
    assert await harness.total() == {"last_sequence": 2, "stored": 1, "rejected": 1}


async def test_a_silent_producer_with_parked_events_is_forgotten_with_their_release(
    harness: StoreHarness,
) -> None:
    await harness.settle(stage(), audit())
    await forget(harness, P1)
    assert await harness.account() == {"last_sequence": 2, "stored": 1, "parked": 1}
    await forget(harness, P1)
    await harness.settle(receipt(), producer=P2)
    await harness.check()
    assert await harness.total() == {"last_sequence": 2, "stored": 2}


async def test_one_that_comes_back_before_that_is_known_still(harness: StoreHarness) -> None:
    await harness.settle(stage())
    await forget(harness, P1)
    (again,) = await harness.commit(submission(P1, 1, [stage(), audit()]))
    assert counts(again) == {"stored": 1, "replayed": 1}
    await harness.settle(receipt(), producer=P2)
    assert await harness.account() == {"last_sequence": 2, "stored": 2, "replayed": 1}


async def test_one_that_says_hello_in_the_same_batch_is_not_silent(harness: StoreHarness) -> None:
    """Its Welcome says how far it was: what it sends next must not be a gap."""
    await harness.settle(audit())
    await harness.rows("UPDATE producers SET seen_s = ?", SILENT)
    hello = call(lambda connection, state: state.accounts.of(connection, sender()).last_sequence)
    upkeep = call(partial(forget_silent, before_s=BEFORE, after=0))
    assert (await harness.store.commit([hello, upkeep]))[0] == 1
    assert counts(await harness.settle(audit())) == {"stored": 1}


async def test_what_is_counted_for_a_forgotten_producer_later_counts_in_the_total(
    harness: StoreHarness,
) -> None:
    """As are its rejected events; it takes all of them along when it comes back."""
    await harness.settle(receipt(), receipt(status="failed"))
    await forget(harness, P1)
    await harness.rows("DELETE FROM receipts")
    done = await harness.ask(lambda c, state: requeue(c, state, [1]))
    assert [one.outcome for one in done] == ["stored"]
    assert await harness.total() == {"last_sequence": 2, "stored": 2}
    await harness.commit(submission(P1, 1, [receipt(), audit(), audit()]))
    assert await harness.account() == {"last_sequence": 3, "stored": 3, "replayed": 2}
    assert await harness.total() == {}


async def test_what_a_forgotten_producer_sends_again_is_recognised(harness: StoreHarness) -> None:
    """Whatever was queued before it said that it was done, and after a restart."""
    events: list[Event] = [audit(), audit(operation=""), receipt(), stage("e2")]
    late = submission(P1, 1, events)
    await harness.settle(*events)
    await harness.settle(receipt("e2"), producer=P2)
    done = call(lambda connection, state: state.accounts.finish(connection, sender(P1)))
    await harness.store.commit([done])
    assert await harness.count("producers") == 2  # the total, and P2
    (outcome,) = await harness.commit(late)
    assert counts(outcome) == {"replayed": 4}
    assert await harness.account() == {
        "last_sequence": 4,
        "stored": 3,
        "rejected": 1,
        "replayed": 4,
    }
    await harness.check()
    (stranger,) = await harness.commit(submission(P1, 5, [audit()], uid=7))
    assert stranger.failure is EventCode.NOT_YOURS
    await forget(harness, P1)
    (stranger,) = await harness.commit(submission(P1, 5, [audit()], uid=7))
    assert stranger.failure is EventCode.NOT_YOURS
    # A stranger's attempt leaves nothing behind that what comes next would be counted on.
    assert counts(await harness.settle(audit())) == {"stored": 1}
    assert await harness.account() == {"last_sequence": 5, "stored": 4, "rejected": 1}


async def test_an_account_that_somebody_removed_is_noticed(harness: StoreHarness) -> None:
    """Nothing is acked on the word of what is remembered: the client is told how far it is."""
    await harness.settle(audit())
    await harness.rows("DELETE FROM producers")
    (outcome,) = await harness.commit(harness.sent(P1, audit()))
    assert (outcome.failure, outcome.last_sequence) == (EventCode.GAP, 0)
    assert await harness.count("audit_log") == 1


async def test_what_is_remembered_is_bounded_in_time_and_number(harness: StoreHarness) -> None:
    for number, producer in enumerate((P1, P2, P3)):
        await harness.settle(audit(), producer=producer)
        await forget(harness, producer)
        await harness.rows(
            "UPDATE forgotten_producers SET seen_s = ? WHERE producer = ?", number, producer
        )

    async def drop(before_s: int, most: int, limit: int = 10) -> tuple[bool, int]:
        is_done = await harness.ask(
            lambda c, state: state.accounts.forget_forgotten(
                c, before_s=before_s, most=most, limit=limit
            )
        )
        return is_done, await harness.count("forgotten_producers")

    assert await drop(0, 3) == (True, 3)
    assert await drop(1, 3, limit=1) == (False, 2)
    assert await drop(1, 1) == (True, 1)
    assert await harness.rows("SELECT producer FROM forgotten_producers") == [(P3,)]


async def test_a_client_that_was_forgotten_loses_nothing_when_it_goes_on(
    harness: StoreHarness,
) -> None:
    """On its open connection it is told of a gap; on the next it fills it and sends once."""
    session = Session(P1)

    async def sent() -> Outcome:
        frame = session.next_frame()
        assert frame is not None
        (payload,) = FrameSplitter().feed(frame)
        batch = decode_client_message(payload)
        assert isinstance(batch, Batch)
        (outcome,) = await harness.commit(
            submission(P1, batch.first_sequence, batch.events, lost=batch.lost)
        )
        return outcome

    async def connect() -> None:
        session.hello()
        last_sequence = await harness.ask(
            lambda connection, state: state.accounts.of(connection, sender()).last_sequence
        )
        session.receive(
            encode_frame(
                Welcome(
                    protocol=1,
                    database="0" * 32,
                    last_sequence=last_sequence,
                    limits=Limits(frame_bytes=2**22, batch_events=4_096),
                    durability="",
                )
            )
        )

    def push(*events: Event) -> None:
        pairs = [msgspec.msgpack.encode((stamp, event)) for stamp, event in enumerate(events)]
        session.push(session.number(len(pairs)), pairs, is_live=True)

    await connect()
    push(*(audit(operation=f"{number}") for number in range(3)))
    assert (await sent()).stored == 3
    session._settle(3)
    await forget(harness, P1)
    push(audit(operation="3"))
    assert counts(await sent()) == {"stored": 1}  # its account is open again
    session._settle(4)
    await forget(harness, P1)
    await harness.rows("DELETE FROM forgotten_producers")
    push(audit(operation="4"))
    gap = await sent()
    assert (gap.failure, gap.last_sequence) == (EventCode.GAP, 0)
    session.receive(encode_frame(Goodbye(code="gap", message="", last_sequence=0)))
    await connect()
    assert counts(await sent()) == {"stored": 1}
    assert await harness.rows("SELECT operation FROM audit_log ORDER BY id") == [
        (f"{number}",) for number in range(5)
    ]
    assert await harness.total() == {"last_sequence": 4, "stored": 4}
    assert await harness.account() == {"last_sequence": 5, "stored": 1, "lost": 4}


async def test_what_is_rejected_in_the_total_stays_there_when_producers_come_back(
    harness: StoreHarness,
) -> None:
    """An orphan of one that was forgotten, put back to wait and given up again."""
    await harness.settle(stage())
    await harness.settle(audit(), producer=P2)
    await give_up(harness)
    await forget(harness, P1, P2)
    await harness.ask(lambda c, state: requeue(c, state, [1]))
    await give_up(harness)
    await harness.check()
    await harness.settle(audit())
    await harness.settle(audit(), producer=P2)
    await harness.check()
    ((orphan,),) = await harness.rows("SELECT id FROM rejected_events")
    done = await harness.ask(lambda c, state: requeue(c, state, [orphan]))
    assert [one.outcome for one in done] == ["parked"]
    await harness.check()


async def test_what_was_rejected_under_an_older_account_is_not_taken_from_the_new_one(
    harness: StoreHarness,
) -> None:
    """A producer comes back after nobody remembered it, and is forgotten once more."""
    await harness.settle(stage())
    await give_up(harness)
    await forget(harness, P1)
    await harness.rows("DELETE FROM forgotten_producers")
    await harness.commit(submission(P1, 1, [stage(duration_ms=7)]))
    await give_up(harness)
    await forget(harness, P1)
    await harness.ask(lambda c, state: requeue(c, state, [1]))
    await harness.commit(submission(P1, 2, [audit()]))
    assert await harness.account() == {"last_sequence": 2, "stored": 1, "rejected": 1}
    done = await harness.ask(lambda c, state: requeue(c, state, [2]))
    assert [one.outcome for one in done] == ["parked"]
