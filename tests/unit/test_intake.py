"""The intake is bounded, keeps each connection's order, and lets nobody starve another."""

from __future__ import annotations

import anyio
import pytest

from ggend.accounts import Sender
from ggend.intake import BRIEF_EVENTS, Call, Intake, Submission

SENDER = Sender(uid=1, gid=1, pid=1)


def submission(events: int) -> Submission:
    entries = [(None, 0, None)] * events
    return Submission(SENDER, entries, lambda _s, _o: None, size=0, first_sequence=None)  # type: ignore[arg-type]


def call() -> Call:
    return Call(lambda _c, _b: None, lambda _c, _v: None, lambda _c, _e: None)


async def test_what_one_connection_sent_stays_in_order() -> None:
    intake = Intake(1_000_000)
    sent = [submission(size) for size in (1, 4_000, 1, 2_000, 1)] + [call()]
    for item in sent:
        await intake.put(item, "flooding")
        await intake.put(submission(3_000), "another")
    taken: list[Submission | Call] = []
    while len(taken) < 2 * len(sent):
        taken += await intake.take(4_096)
    assert [item for item in taken if item in sent] == sent
    assert intake.events == 0


async def test_one_small_event_goes_with_the_next_batch_whatever_others_have_queued() -> None:
    intake = Intake(1_000_000)
    for number in range(80):
        await intake.put(submission(2_000), number % 8)
    quiet = submission(1)
    await intake.put(quiet, "quiet")
    assert quiet in await intake.take(4_096)


async def test_many_quiet_connections_do_not_keep_a_flooding_one_out() -> None:
    intake = Intake(1_000_000)
    flood = submission(2_000)
    await intake.put(flood, "flooding")
    for number in range(10_000):
        await intake.put(submission(1), number)
    assert flood in await intake.take(4_096)


async def test_connections_that_flood_have_their_turns() -> None:
    intake = Intake(1_000_000)
    for owner in ("a", "b", "c"):
        for _ in range(4):
            await intake.put(submission(1_000 + ord(owner)), owner)
    sizes: list[int] = []
    while intake.events:
        sizes += [
            len(item.entries) for item in await intake.take(1) if isinstance(item, Submission)
        ]
    assert sizes == [1_000 + ord(owner) for owner in "abcabcabcabc"]


async def test_a_full_intake_waits_except_for_something_brief_of_a_quiet_connection() -> None:
    intake = Intake(1_000)
    await intake.put(submission(2_000), "flooding")
    with pytest.raises(TimeoutError), anyio.fail_after(0):
        await intake.put(submission(1), "flooding")
    with pytest.raises(TimeoutError), anyio.fail_after(0):
        await intake.put(submission(BRIEF_EVENTS + 1), "quiet")
    await intake.put(submission(BRIEF_EVENTS), "quiet")
    await intake.take(4_096)
    await intake.put(submission(1), "flooding")
    assert intake.events == 1


async def test_a_closed_intake_is_emptied_first() -> None:
    intake = Intake(1_000)
    last = submission(1)
    await intake.put(last, "a")
    intake.close()
    assert await intake.take(10) == [last]
    assert await intake.take(10) == []
