"""What all share is bounded, given in order, and not kept by peers that do nothing."""

from __future__ import annotations

import anyio
import pytest

from ggend.server.shared_limits import STALL_SECONDS, Hold, SharedLimit


class Peer:
    """Holds something; idle for as long as it is told to be."""

    def __init__(self, shared: SharedLimit) -> None:
        self.idle_seconds = 0.0
        self.hold: Hold = shared.hold(lambda: self.idle_seconds, self._cut_off)

    def _cut_off(self) -> None:
        self.hold.release()


async def test_what_is_there_is_given_at_once() -> None:
    shared = SharedLimit(10)
    one, other = Peer(shared), Peer(shared)
    await one.hold.grow(4)
    await one.hold.grow(6)
    await one.hold.grow(2)  # it has more
    await other.hold.grow(4)
    assert (one.hold.amount, other.hold.amount, shared.held) == (6, 4, 10)
    one.hold.shrink(1)
    one.hold.shrink(3)  # it has less
    assert (one.hold.amount, shared.held) == (1, 5)
    one.hold.release()
    other.hold.release()
    assert shared.held == 0


async def test_who_is_first_in_line_is_let_in_and_the_next_waits_for_its_end() -> None:
    shared = SharedLimit(10)
    holder, first, second = Peer(shared), Peer(shared), Peer(shared)
    await holder.hold.grow(10)
    await first.hold.grow(1)
    await first.hold.grow(3)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(second.hold.grow, 1)
        await anyio.wait_all_tasks_blocked()
        assert second.hold.is_waiting
        first.hold.release()
    assert (second.hold.amount, shared.held) == (1, 11)


async def test_all_who_hold_a_part_and_wait_for_more_come_to_their_end() -> None:
    shared = SharedLimit(10)
    peers = [Peer(shared) for _ in range(10)]

    async def bring(peer: Peer) -> None:
        for amount in range(1, 6):
            await peer.hold.grow(amount)
            await anyio.lowlevel.checkpoint()
        most.append(shared.held)
        peer.hold.release()

    most: list[int] = []
    async with anyio.create_task_group() as tasks:
        for peer in peers:
            tasks.start_soon(bring, peer)
    assert shared.held == 0
    assert max(most) <= 10 + 5


async def test_who_makes_no_progress_is_cut_off_while_others_wait() -> None:
    shared = SharedLimit(10)
    idle, busy, favoured, honest = (Peer(shared) for _ in range(4))
    await idle.hold.grow(5)
    await busy.hold.grow(5)
    await favoured.hold.grow(1)
    idle.idle_seconds = STALL_SECONDS
    await honest.hold.grow(1)
    assert (idle.hold.amount, busy.hold.amount, favoured.hold.amount) == (0, 5, 1)


async def test_who_waits_itself_is_not_cut_off() -> None:
    shared = SharedLimit(10)
    holder, favoured, waiting, stalled = (Peer(shared) for _ in range(4))
    await holder.hold.grow(9)
    await waiting.hold.grow(1)
    await favoured.hold.grow(1)
    waiting.idle_seconds = STALL_SECONDS
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(waiting.hold.grow, 2)
        await anyio.wait_all_tasks_blocked()
        stalled.idle_seconds = holder.idle_seconds = STALL_SECONDS
    assert (holder.hold.amount, waiting.hold.amount) == (0, 2)


async def test_who_gives_up_waiting_leaves_the_line() -> None:
    shared = SharedLimit(10)
    holder, favoured, impatient = Peer(shared), Peer(shared), Peer(shared)
    await holder.hold.grow(10)
    await favoured.hold.grow(1)
    with pytest.raises(TimeoutError), anyio.fail_after(0):
        await impatient.hold.grow(1)
    assert (impatient.hold.amount, impatient.hold.is_waiting, shared.held) == (0, False, 11)
    holder.hold.release()
    await impatient.hold.grow(1)


@pytest.mark.parametrize("order", ["room first", "cancelled first", "cancelled within"])
async def test_who_is_cancelled_in_the_moment_in_which_there_is_room_keeps_nothing(
    order: str,
) -> None:
    shared = SharedLimit(10)
    holder, favoured, waiting = Peer(shared), Peer(shared), Peer(shared)
    await holder.hold.grow(10)
    await favoured.hold.grow(1)
    own = anyio.CancelScope()

    async def ask() -> None:
        with own:
            await waiting.hold.grow(4)
            try:
                await anyio.sleep_forever()
            finally:
                waiting.hold.release()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        scope = own if order == "cancelled within" else tasks.cancel_scope
        if order == "room first":
            holder.hold.release()
            scope.cancel()
        else:
            scope.cancel()
            holder.hold.release()
    favoured.hold.release()
    assert (waiting.hold.amount, shared.held) == (0, 0)
