"""The intake is bounded, keeps each connection's order, and lets nobody starve another."""

from __future__ import annotations

from collections import Counter

import anyio
import pytest

from ggend.ingest.intake import AHEAD_EVENTS, Call, Intake, Lane, Submission
from ggend.storage.accounts import Sender

SENDER = Sender(uid=1, gid=1, pid=1)


def submission(events: int) -> Submission:
    entries = [(None, 0, None)] * events
    return Submission(SENDER, entries, lambda _s, _o: None, size=0, first_sequence=None)  # type: ignore[arg-type]


def call() -> Call:
    return Call(lambda _c, _b: None, lambda _c, _v: None, lambda _c, _e: None)


def sizes(items: list[Submission | Call]) -> list[int]:
    return [len(item.entries) for item in items if isinstance(item, Submission)]


async def test_what_one_connection_sent_stays_in_order() -> None:
    intake = Intake(1_000_000)
    flooding, another = Lane(), Lane()
    sent = [submission(size) for size in (1, 4_000, 1, 2_000, 1)] + [call()]
    for item in sent:
        await intake.put(item, flooding)
        await intake.put(submission(3_000), another)
    taken: list[Submission | Call] = []
    while len(taken) < 2 * len(sent):
        taken += (await intake.take(4_096)).items
    assert [item for item in taken if item in sent] == sent
    assert intake.events == 0


async def test_one_small_event_goes_first_whatever_others_have_queued() -> None:
    intake = Intake(1_000_000)
    lanes = [Lane() for _ in range(8)]
    for number in range(80):
        await intake.put(submission(2_000), lanes[number % 8])
    quiet, lane = submission(1), Lane()
    await intake.put(quiet, lane)
    assert intake.is_hurried
    taken = await intake.take(4_096)
    assert taken.is_hurried
    assert taken.items[0] is quiet
    # And again, in the middle of the round that the others are in.
    await intake.put(quiet, lane)
    assert intake.take_hurried(4_096).items == [quiet]
    assert not intake.take_hurried(4_096).items


async def test_many_quiet_connections_do_not_keep_a_flooding_one_out() -> None:
    intake = Intake(1_000_000)
    flood = submission(2_000)
    await intake.put(flood, Lane())
    for _ in range(10_000):
        await intake.put(submission(1), Lane())
    assert flood in (await intake.take(4_096)).items


async def test_connections_that_flood_have_their_turns() -> None:
    intake = Intake(1_000_000)
    lanes = [Lane() for _ in range(3)]
    for number, lane in enumerate(lanes):
        for _ in range(4):
            await intake.put(submission(1_000 + number), lane)
    taken: list[int] = []
    while intake.events:
        taken += sizes((await intake.take(1)).items)
    assert taken == [1_000 + number for number in range(3)] * 4


@pytest.mark.parametrize("most", [256, 4_096])
async def test_two_hundred_mixed_peers_have_a_turn_each_in_every_round(most: int) -> None:
    """Each sends one item, and the next as soon as that was taken, as one does who waits for it."""
    intake = Intake(8_192)
    kinds = (1, 20, AHEAD_EVENTS, AHEAD_EVENTS + 1, 128, 200, 1_000, 4_096)
    lanes = [Lane() for _ in range(200)]
    of_item: dict[int, int] = {}
    since = [Counter[int]() for _ in lanes]

    async def send(number: int) -> None:
        item = submission(kinds[number % len(kinds)])
        of_item[id(item)] = number
        kept.append(item)
        await intake.put(item, lanes[number])

    kept: list[Submission] = []
    for number in range(200):
        await send(number)
    large = {number for number in range(200) if kinds[number % len(kinds)] > AHEAD_EVENTS}
    for _ in range(300_000 // most):
        for item in (await intake.take(most)).items:
            number = of_item[id(item)]
            since[number].clear()
            for other in range(200):
                since[other][number] += other != number
            await send(number)
    # Since its last turn, no other whose items have turns had more than two.
    assert max(waited[number] for waited in since for number in large) <= 2


async def test_nobody_who_has_nothing_waiting_waits_for_room() -> None:
    intake = Intake(1_000)
    flooding = Lane()
    await intake.put(submission(2_000), flooding)
    with pytest.raises(TimeoutError), anyio.fail_after(0):
        await intake.put(submission(1), flooding)
    await intake.put(submission(128), Lane())
    await intake.put(submission(4_096), Lane())
    assert sorted(sizes((await intake.take(8_192)).items)) == [128, 2_000, 4_096]
    intake.make_room()
    await intake.put(submission(1), flooding)
    assert intake.events == 1


async def test_who_waits_for_room_is_woken_by_it() -> None:
    intake = Intake(1_000)
    lane = Lane()
    await intake.put(submission(2_000), lane)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(intake.put, submission(1), lane)
        await anyio.wait_all_tasks_blocked()
        assert sizes((await intake.take(1)).items) == [2_000]
        intake.make_room()
        assert sizes((await intake.take(1)).items) == [1]


async def test_a_closed_intake_is_emptied_first() -> None:
    intake = Intake(1_000)
    last = submission(1)
    await intake.put(last, Lane())
    intake.close()
    assert (await intake.take(10)).items == [last]
    assert (await intake.take(10)).items == []


def request() -> Call:
    return Call(lambda _c, _b: None, lambda _c, _v: None, lambda _c, _e: None, waits=False)


async def test_requests_are_taken_past_what_waits_for_room() -> None:
    """Not calls that wait themselves, and never past what the same connection has sent before."""
    intake = Intake(1_000_000)
    asking, asking_later, sending, greeting = Lane(), Lane(), Lane(), Lane()
    first, later, waiting = request(), request(), call()
    await intake.put(submission(3_000), sending)
    await intake.put(waiting, greeting)
    await intake.put(first, asking)
    await intake.put(submission(3_000), asking_later)
    await intake.put(later, asking_later)
    assert intake.take_requests() == [first]
    assert intake.take_requests() == []
    assert intake.events == 6_002
    await intake.put(submission(1), asking)
    left: list[Submission | Call] = []
    while intake.events:
        left += (await intake.take(4_096)).items
    assert [item for item in left if isinstance(item, Call)] == [waiting, later]
    assert sorted(sizes(left)) == [1, 3_000, 3_000]
