"""The budget bounds what decoding may take, first come, first served."""

from __future__ import annotations

import sys

import anyio
import anyio.lowlevel
import msgspec
import pytest

from ggend.runtime.memory_budget import MemoryBudget, estimate_json_memory, estimate_memory


def size_of(value: object) -> int:
    """Count what an object takes, its parts as often as they are used."""
    parts: list[object] = []
    if isinstance(value, dict):
        parts = [*value.keys(), *value.values()]
    elif isinstance(value, list):
        parts = value
    return sys.getsizeof(value) + sum(map(size_of, parts))


@pytest.mark.parametrize(
    "value",
    [
        [[]] * 10_000,
        [{}] * 10_000,
        [{"a": []}] * 10_000,
        ["ab"] * 10_000,
        [[1]] * 10_000,
        [{"k": "v", "n": 1}] * 3_000,
        "long " * 10_000,
        [[[[[[]]]]]] * 2_000,
        [1.5] * 10_000,
    ],
)
def test_an_estimate_is_not_far_below_what_decoding_takes(value: object) -> None:
    """Half is near enough: equal texts and small numbers are shared in truth, and counted here."""
    packed, text = msgspec.msgpack.encode(value), msgspec.json.encode(value)
    assert estimate_memory(packed) > size_of(msgspec.msgpack.decode(packed)) / 2
    assert estimate_json_memory(text) > size_of(msgspec.json.decode(text)) / 2


async def test_waiting_is_first_come_first_served() -> None:
    budget = MemoryBudget(100)
    order = []

    async def want(size: int) -> None:
        await budget.take(size)
        order.append(size)

    await budget.take(90)
    async with anyio.create_task_group() as tasks:
        for size in (50, 20, 10):
            tasks.start_soon(want, size)
            await anyio.lowlevel.checkpoint()
        assert not budget.try_take(5), "somebody waits already"
        budget.give(90)
    assert order == [50, 20, 10]
    assert budget.held == 80


async def test_what_is_larger_than_the_budget_has_it_for_itself() -> None:
    budget = MemoryBudget(100)
    await budget.take(10)
    assert not budget.try_take(500)
    budget.give(10)
    assert budget.try_take(500)
    assert not budget.try_take(1)


async def test_who_gives_up_waiting_is_in_nobodys_way() -> None:
    budget = MemoryBudget(100)
    await budget.take(90)
    with pytest.raises(TimeoutError), anyio.fail_after(0):
        await budget.take(50)
    assert budget.try_take(10)
    assert budget.held == 100
