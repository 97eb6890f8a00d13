"""A transaction grows by slices, and ends early for what is in a hurry."""

from __future__ import annotations

import pytest

from ggend.ingest.gathering import (
    HURRIED_SECONDS,
    HURRIED_SLICE_SECONDS,
    SLICE_EVENTS,
    SLICE_SECONDS,
    Gathering,
    Pace,
)
from ggend.ingest.intake import Call, Intake, Lane, Submission
from ggend.storage.accounts import Sender

SENDER = Sender(uid=1, gid=1, pid=1)

#: A transaction that nobody ends early.
MOST = 4_096


class Clock:
    """Stands still between two additions to `now`."""

    now = 0.0

    def __call__(self) -> float:
        """Return the seconds."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def intake() -> Intake:
    return Intake(1_000_000)


def submission(events: int) -> Submission:
    entries = [(None, 0, None)] * events
    return Submission(SENDER, entries, lambda _s, _o: None, size=0, first_sequence=None)  # type: ignore[arg-type]


async def flood(intake: Intake, items: int) -> None:
    for _ in range(items):
        await intake.put(submission(SLICE_EVENTS), Lane())


async def begin(intake: Intake, clock: Clock) -> Gathering:
    pace = Pace(clock)
    first = await intake.take(pace.slice_events(MOST))
    return Gathering(intake, pace, first, MOST)


def slices(gathering: Gathering, clock: Clock, seconds: float) -> list[list[Submission | Call]]:
    """Return what follows when each slice takes so long, until it is complete."""
    found = []
    clock.now += seconds
    while items := gathering.more():
        found.append(items)
        clock.now += seconds
    return found


async def test_a_flood_fills_the_transaction_slice_by_slice(intake: Intake, clock: Clock) -> None:
    await flood(intake, 100)
    gathering = await begin(intake, clock)
    found = slices(gathering, clock, SLICE_SECONDS)
    assert [len(items) for items in found] == [1] * (MOST // SLICE_EVENTS - 1)
    assert not gathering.more()


async def test_less_than_a_slice_is_committed_at_once(intake: Intake, clock: Clock) -> None:
    await intake.put(submission(100), Lane())
    gathering = await begin(intake, clock)
    await intake.put(submission(1_000), Lane())
    assert not slices(gathering, clock, 0)
    assert intake.events == 1_000


async def test_what_is_hurried_is_taken_in_and_ends_it(intake: Intake, clock: Clock) -> None:
    await flood(intake, 100)
    gathering = await begin(intake, clock)
    quiet = submission(1)
    await intake.put(quiet, Lane())
    assert slices(gathering, clock, HURRIED_SLICE_SECONDS) == [[quiet]]


async def test_what_came_first_with_something_hurried_ends_after_a_slice(
    intake: Intake, clock: Clock
) -> None:
    await intake.put(submission(1), Lane())
    await flood(intake, 100)
    assert not slices(await begin(intake, clock), clock, HURRIED_SLICE_SECONDS)


async def test_it_is_not_ended_before_it_was_worth_it(intake: Intake, clock: Clock) -> None:
    await flood(intake, 100)
    gathering = await begin(intake, clock)
    quiet = submission(1)
    await intake.put(quiet, Lane())
    first, *others = slices(gathering, clock, HURRIED_SLICE_SECONDS / 4)
    assert first[0] is quiet
    assert len(others) == 2


async def test_a_slice_has_as_many_events_as_take_its_time(clock: Clock) -> None:
    pace = Pace(clock)
    assert pace.slice_events(MOST) == SLICE_EVENTS
    for _ in range(100):
        pace.note(2_000, SLICE_SECONDS)
    assert pace.slice_events(MOST) == pytest.approx(2_000, abs=1)
    assert pace.slice_events(500) == 500
    for _ in range(100):
        pace.note(1_000, 1_000 * SLICE_SECONDS)
    assert pace.slice_events(MOST) == SLICE_EVENTS


async def test_slices_are_short_for_a_while_after_somebody_was_in_a_hurry(
    intake: Intake, clock: Clock
) -> None:
    pace = Pace(clock)
    for _ in range(100):
        pace.note(2_000, SLICE_SECONDS)
    await intake.put(submission(1), Lane())
    slices(Gathering(intake, pace, await intake.take(MOST), MOST), clock, 0)
    assert pace.slice_events(MOST) == pytest.approx(
        2_000 * HURRIED_SLICE_SECONDS / SLICE_SECONDS, abs=1
    )
    clock.now += HURRIED_SECONDS
    assert pace.slice_events(MOST) == pytest.approx(2_000, abs=1)
