"""Sources: what is imported under an id made from content, by whichever user."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from desk import P1, Desk, audit, collision, counts, opened, receipt, stage, started, submission
from ggend.ingest.intake import Outcome
from ggend_schema import EventCode
from ggend_schema.events import Event

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
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    """A desk with a fresh database."""
    async with opened(tmp_path / "tier2.db") as opened_desk:
        yield opened_desk


async def imported(desk: Desk, uid: int, *events: Event, first: int = 1) -> Outcome:
    """What becomes of events of the source, as this user imports them."""
    sent = submission(P1, first, list(events), uid=uid)
    sent.sender = msgspec.structs.replace(sent.sender, permanent=True)
    (outcome,) = await desk.commit(sent)
    return outcome


async def rows(desk: Desk) -> list[int]:
    tables = "receipts", "pipeline_metrics", "collision_detection", "audit_log"
    return [await desk.count(table) for table in tables]


async def test_the_same_source_of_another_user_stores_nothing_and_names_the_first(
    desk: Desk,
) -> None:
    """Also entries that say no time; again it is a replay, and the first user's as well."""
    first = await imported(desk, 1, *SOURCE)
    assert (counts(first), first.imported_by) == ({"stored": 7}, None)
    second = await imported(desk, 2, *SOURCE)
    assert (counts(second), second.imported_by) == ({"duplicate": 7}, 1)
    assert counts(await imported(desk, 2, *SOURCE)) == {"replayed": 7}
    assert counts(await imported(desk, 1, *SOURCE)) == {"replayed": 7}
    assert await rows(desk) == [1, 1, 1, 3]
    await desk.check()


async def test_nobody_can_take_the_id_of_a_source_first(desk: Desk) -> None:
    """Neither as a permanent producer nor as another; who did has what he sent, and no more."""
    await imported(desk, 2, audit("squatter"), audit("squatter"))
    (plain,) = await desk.commit(submission(P1, 1, [audit("squatter")], uid=3))
    assert counts(plain) == {"stored": 1}
    outcome = await imported(desk, 1, *SOURCE)
    assert counts(outcome) == {"stored": 7}
    assert await rows(desk) == [1, 1, 1, 6]
    (stranger,) = await desk.commit(submission(P1, 2, [audit()], uid=4))
    assert stranger.failure is EventCode.NOT_YOURS


async def test_an_account_of_an_earlier_version_goes_on(desk: Desk) -> None:
    """It had the id of the source as its own."""
    await imported(desk, 1, *SOURCE[:3])
    await desk.rows("UPDATE producers SET producer = source")
    desk.store._state.accounts.rollback()
    assert counts(await imported(desk, 1, *SOURCE)) == {"replayed": 3, "stored": 4}
    assert await desk.rows("SELECT lower(hex(producer)) FROM producers") == [(P1.hex(),)]


async def test_part_of_a_source_that_another_user_has_goes_in(desk: Desk) -> None:
    await imported(desk, 1, *SOURCE[:5])
    outcome = await imported(desk, 2, *SOURCE)
    assert counts(outcome) == {"duplicate": 6, "stored": 1}
    assert await rows(desk) == [1, 1, 1, 2]


async def test_two_users_who_import_at_the_same_time_store_it_once(desk: Desk) -> None:
    """Also in one batch, and where one had begun before the other came."""
    await imported(desk, 1, *SOURCE[:3])
    both = [submission(P1, 1, SOURCE, uid=uid) for uid in (2, 1)]
    for sent in both:
        sent.sender = msgspec.structs.replace(sent.sender, permanent=True)
    second, first = await desk.commit(*both)
    assert counts(second) == {"duplicate": 3, "stored": 4}
    assert counts(first) == {"replayed": 3, "duplicate": 4}
    assert await rows(desk) == [1, 1, 1, 3]


async def test_a_rejected_event_is_told_by_the_id_of_its_source(desk: Desk) -> None:
    await imported(desk, 1, receipt(), receipt(status="failed"))
    assert await desk.rows("SELECT producer FROM rejected_events") == [(P1,)]
