"""Sources: what is imported under an id made from content, by whichever user."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from ggend.ingest.intake import Outcome
from ggend_schema import EventCode
from ggend_schema.events import Event
from support.store_harness import (
    P1,
    StoreHarness,
    audit,
    collision,
    counts,
    opened,
    receipt,
    stage,
    started,
    submission,
)

#: What one source has; two of the entries are the same.
SOURCE: list[Event] = [
    started(),
    receipt(),
    stage(),
    collision(),
    audit(timestamp="2026-01-29T12:00:00Z"),
    audit(timestamp="2026-01-29T12:00:00Z"),
    audit(operation="other"),
]


@pytest.fixture
async def harness(in_memory: Path) -> AsyncIterator[StoreHarness]:
    """A harness with a fresh database."""
    async with opened(in_memory / "tier2.db") as opened_harness:
        yield opened_harness


async def imported(harness: StoreHarness, uid: int, *events: Event, first: int = 1) -> Outcome:
    """What becomes of events of the source, as this user imports them."""
    sent = submission(P1, first, list(events), uid=uid)
    sent.sender = msgspec.structs.replace(sent.sender, permanent=True)
    (outcome,) = await harness.commit(sent)
    return outcome


async def rows(harness: StoreHarness) -> list[int]:
    tables = "receipts", "pipeline_metrics", "collision_detection", "audit_log"
    return [await harness.count(table) for table in tables]


async def test_the_same_source_of_another_user_stores_nothing_and_names_the_first(
    harness: StoreHarness,
) -> None:
    """Also entries that say no time; again it is a replay, and the first user's as well."""
    first = await imported(harness, 1, *SOURCE)
    assert (counts(first), first.imported_by) == ({"stored": 7}, None)
    second = await imported(harness, 2, *SOURCE)
    assert (counts(second), second.imported_by) == ({"duplicate": 7}, 1)
    assert counts(await imported(harness, 2, *SOURCE)) == {"replayed": 7}
    assert counts(await imported(harness, 1, *SOURCE)) == {"replayed": 7}
    assert await rows(harness) == [1, 1, 1, 3]
    await harness.check()


async def test_nobody_can_take_the_id_of_a_source_first(harness: StoreHarness) -> None:
    """Neither as a permanent producer nor as another; who did has what he sent, and no more."""
    await imported(harness, 2, audit("squatter"), audit("squatter"))
    (plain,) = await harness.commit(submission(P1, 1, [audit("squatter")], uid=3))
    assert counts(plain) == {"stored": 1}
    outcome = await imported(harness, 1, *SOURCE)
    assert counts(outcome) == {"stored": 7}
    assert await rows(harness) == [1, 1, 1, 6]
    (stranger,) = await harness.commit(submission(P1, 2, [audit()], uid=4))
    assert stranger.failure is EventCode.NOT_YOURS


async def test_an_account_of_an_earlier_version_goes_on(harness: StoreHarness) -> None:
    """It had the id of the source as its own."""
    await imported(harness, 1, *SOURCE[:3])
    await harness.rows("UPDATE producers SET producer = source")
    harness.store._state.accounts.rollback()
    assert counts(await imported(harness, 1, *SOURCE)) == {"replayed": 3, "stored": 4}
    assert await harness.rows("SELECT lower(hex(producer)) FROM producers") == [(P1.hex(),)]


async def test_part_of_a_source_that_another_user_has_goes_in(harness: StoreHarness) -> None:
    await imported(harness, 1, *SOURCE[:5])
    outcome = await imported(harness, 2, *SOURCE)
    assert counts(outcome) == {"duplicate": 6, "stored": 1}
    assert await rows(harness) == [1, 1, 1, 2]


async def test_two_users_who_import_at_the_same_time_store_it_once(harness: StoreHarness) -> None:
    """Also in one batch, and where one had begun before the other came."""
    await imported(harness, 1, *SOURCE[:3])
    both = [submission(P1, 1, SOURCE, uid=uid) for uid in (2, 1)]
    for sent in both:
        sent.sender = msgspec.structs.replace(sent.sender, permanent=True)
    second, first = await harness.commit(*both)
    assert counts(second) == {"duplicate": 3, "stored": 4}
    assert counts(first) == {"replayed": 3, "duplicate": 4}
    assert await rows(harness) == [1, 1, 1, 3]


async def test_a_rejected_event_is_told_by_the_id_of_its_source(harness: StoreHarness) -> None:
    await imported(harness, 1, receipt(), receipt(status="failed"))
    assert await harness.rows("SELECT producer FROM rejected_events") == [(P1,)]
