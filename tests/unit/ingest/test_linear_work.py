"""Work that must not grow with what is stored already: counted in steps of SQLite and in calls."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ggend.ingest.equal_rows import is_stored
from ggend.ingest.intake import Call, Intake, Lane, Submission
from ggend.maintenance.purge import SLICE_ROWS, Slice, purge_slice
from ggend.maintenance.requeue import requeue
from ggend.runtime import metrics
from ggend.storage import accounts
from ggend.storage.accounts import Sender
from ggend.storage.writer_state import WriterState
from ggend_schema import Event
from ggend_schema.rows import row_of
from support.store_harness import (
    AT,
    StoreHarness,
    audit,
    call,
    collision,
    counts,
    opened,
    receipt,
    sender,
    stage,
    started,
)

#: Rows that somebody else has stored meanwhile.
_OTHERS = 2_000

#: Steps more than before that deeper B-trees may take.
_DEEPER = 150


@pytest.fixture
async def harness(in_memory: Path) -> AsyncIterator[StoreHarness]:
    """A harness with a fresh database."""
    async with opened(in_memory / "tier2.db") as opened_harness:
        yield opened_harness


async def _steps(
    harness: StoreHarness, work: Callable[[sqlite3.Connection, WriterState], object]
) -> int:
    """Return how many steps of SQLite's machine some work takes, in a transaction."""
    count = 0

    def step() -> int:
        nonlocal count
        count += 1
        return 0

    def counted(connection: sqlite3.Connection, state: WriterState) -> None:
        connection.set_progress_handler(step, 1)
        try:
            work(connection, state)
        finally:
            connection.set_progress_handler(None, 0)

    (result,) = await harness.store.commit([call(counted)])
    assert result is None
    return count


async def _producers(harness: StoreHarness, count: int, first: int = 0) -> None:
    """Open accounts that are not done."""

    def open_them(connection: sqlite3.Connection, state: WriterState) -> None:
        for number in range(first, first + count):
            state.accounts.of(connection, sender(number.to_bytes(16, "big")))
        state.accounts.save(connection)

    await harness.ask(open_them)


def _finish(connection: sqlite3.Connection, state: WriterState, producer: Sender) -> None:
    state.accounts.finish(connection, producer)


async def test_a_goodbye_costs_the_same_beside_any_number_of_producers(
    harness: StoreHarness,
) -> None:
    took = []
    for first in (1, 1 + _OTHERS):
        await _producers(harness, _OTHERS if first > 1 else 2, first)
        done = sender((first + 1).to_bytes(16, "big"))
        took.append(await _steps(harness, partial(_finish, producer=done)))
    assert took[1] <= took[0] + _DEEPER


async def test_a_purged_row_is_counted_at_the_same_cost_beside_many_producers(
    harness: StoreHarness,
) -> None:
    took = []
    for producers in (2, _OTHERS):
        await _producers(harness, producers, producers)
        # Put back at once: nothing of the kind was stored.
        took.append(
            await _steps(
                harness,
                lambda c, state: [state.accounts.purge(c, {None: rows}) for rows in (1, -1)],  # type: ignore[func-returns-value]
            )
        )
    assert took[1] <= took[0] + _DEEPER


async def test_a_requeue_costs_the_same_beside_any_number_of_producers(in_memory: Path) -> None:
    """Also of a producer that is done, whose account is the folded total."""
    took = []
    for producers in (2, _OTHERS):
        async with opened(in_memory / f"{producers}.db") as harness:
            await _producers(harness, producers, 1_000)
            await harness.settle(started(), started(agent_count=99))
            await harness.finish()
            took.append(
                await _steps(harness, lambda connection, state: requeue(connection, state, [1]))
            )
    assert took[1] <= took[0] + _DEEPER


@pytest.mark.parametrize("timestamp", [None, AT])
@pytest.mark.parametrize(
    ("event", "other"),
    [
        (audit(), lambda number: audit(f"other{number}")),
        (stage(), lambda number: stage(f"other{number}")),
        (collision(), lambda number: collision(f"other{number}")),
    ],
)
async def test_a_like_row_is_looked_for_among_few(
    harness: StoreHarness, event: Event, other: Callable[[int], Event], timestamp: str | None
) -> None:
    """What an import of another user brought is not found by reading all that has its status."""
    event = msgspec.structs.replace(event, timestamp=timestamp)
    row = row_of(event, 0)
    took = []
    for numbers in (range(2), range(2, 2 + _OTHERS // 4)):
        others = [msgspec.structs.replace(other(number), timestamp=None) for number in numbers]
        parents = [_parent(one) for one in others]
        await harness.settle(*parents, *others)
        took.append(await _steps(harness, lambda c, _state: is_stored(c, event, row)))
    assert took[1] <= took[0] + _DEEPER


def _parent(event: Any) -> Event:
    execution_id = getattr(event, "execution_id", None)
    if execution_id is not None:
        return receipt(execution_id)
    return started(getattr(event, "session_id", None) or "s1")


@pytest.mark.parametrize("isolated", [False, True])
async def test_a_stored_document_is_decoded_once_however_many_differ_from_it(
    harness: StoreHarness, isolated: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be a MiB large, and those that are compared with it small."""
    large = {f"key{number}": number for number in range(1_000)}
    await harness.settle(receipt(receipt=large))
    if isolated:
        await harness.rows(
            "CREATE TRIGGER refuse BEFORE INSERT ON audit_log BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
    decode = msgspec.json.decode
    decoded: list[int] = []
    selected: list[str] = []

    def counted(text: Any, **options: Any) -> Any:
        decoded.append(len(text))
        return decode(text, **options)

    monkeypatch.setattr(msgspec.json, "decode", counted)
    await harness.store.run(lambda connection: connection.set_trace_callback(selected.append))
    same = receipt(receipt=dict(reversed(large.items())))
    outcome = await harness.settle(*[receipt(receipt={"a": n}) for n in range(50)], same, audit())
    await harness.store.run(lambda connection: connection.set_trace_callback(None))
    assert counts(outcome) == (
        {"duplicate": 1, "rejected": 51}
        if isolated
        else {"stored": 1, "duplicate": 1, "rejected": 50}
    )
    tries = 2 if isolated else 1
    assert sum(size > 1_000 for size in decoded) == 2 * tries  # the stored one, and its like
    documents = [text for text in selected if text.startswith("SELECT") and "receipt_json" in text]
    assert len(documents) == tries


async def test_a_slice_of_a_purge_costs_the_same_however_much_belongs_to_one_receipt(
    harness: StoreHarness,
) -> None:
    """Its violations are more than many slices; each of these looks at its own part."""
    took = []
    for violations in (100, _OTHERS):
        await harness.settle(receipt(f"e{violations}"))
        await harness.rows(_VIOLATIONS, f"e{violations}", violations)
        slices = [await _steps(harness, partial(_purge, limit=20)) for _ in range(3)]
        took.append(max(slices))
        await harness.store.commit([call(_purge)])
    assert took[1] <= took[0] + _DEEPER


def _purge(connection: sqlite3.Connection, state: WriterState, limit: int = SLICE_ROWS) -> Slice:
    return purge_slice(connection, state, cutoff="2999-01-01 00:00:00", position=None, limit=limit)


_VIOLATIONS = """
    WITH RECURSIVE numbers (number) AS (
        SELECT 1 UNION ALL SELECT number + 1 FROM numbers LIMIT ?2)
    INSERT INTO slo_violations (
        execution_id, metric, target_value, actual_value, severity, timestamp)
    SELECT ?1, 'm', 1, 2, 'warning', '2020-01-01T00:00:00.000Z' FROM numbers"""


async def test_a_batch_of_very_many_producers_does_not_search_the_cache_for_each(
    harness: StoreHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounts, "_REMEMBERED", 10)
    caches: list[object] = []

    def open_many(connection: sqlite3.Connection, state: WriterState) -> None:
        for number in range(500):
            state.accounts.of(connection, sender(number.to_bytes(16, "big")))
            if not caches or caches[-1] is not state.accounts._by_key:
                caches.append(state.accounts._by_key)

    await harness.ask(open_many)
    assert len(caches) <= 3
    await _producers(harness, 10, 1_000)
    await _producers(harness, 10, 2_000)
    assert len(harness.store._state.accounts._by_key) <= 20


async def test_many_empty_submissions_are_not_taken_at_once() -> None:
    """They have no events, and are work all the same."""
    intake = Intake(1_000_000)
    lanes = [Lane() for _ in range(4)]
    for number in range(4_000):
        empty = Submission(sender(), [], lambda _s, _o: None, size=0, first_sequence=1)
        await intake.put(empty, lanes[number % 4])
    assert intake.events == 4_000
    items: list[Submission | Call] = (await intake.take(256)).items
    assert len(items) <= 257


def test_the_figures_of_the_batches_are_sorted_once_a_commit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sorts: list[int] = []

    def counted(values: Iterable[float]) -> list[float]:
        sorts.append(1)
        return sorted(values)

    monkeypatch.setattr(metrics, "sorted", counted, raising=False)
    counting = metrics.Metrics()
    for _ in range(3):
        counting.count_commit(7, 0.25)
        for _ in range(50):
            assert counting.snapshot()["batch_events_median"] == 7
    assert len(sorts) == 3 * 2
