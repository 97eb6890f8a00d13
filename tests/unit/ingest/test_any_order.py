"""Promises 3 and 5: any order of arrival gives the same tables, and every event is accounted for.

A history of events that do not contradict each other is dealt to producers, shuffled, numbered,
cut into submissions and batches, partly sent again, and settled into a real database, with
restarts, failing transactions, refused rows' slow path and hooks at random moments. What is in the
seven tables is compared with a model: plain dictionaries, written from the data contract alone.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial
from pathlib import Path
from random import Random
from typing import Literal, TypeAlias

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ggend.database.sqlite_errors import TryAgain
from ggend.hooks import runner
from ggend.hooks.runner import Hook
from ggend.hooks.slo import SloHooks
from ggend.ingest.intake import Call, Outcome, Submission
from ggend.ingest.open_store import open_store
from ggend.ingest.releases import release_slice
from ggend.ingest.store import Store
from ggend.server.decode import batch_entries, block_entries
from ggend.storage import accounts
from ggend.storage.accounts import Sender
from ggend.storage.writer_state import Bounds, WriterState
from ggend_schema import (
    Collision,
    Event,
    MemorySaved,
    ReceiptEmitted,
    SessionEnded,
    SessionStarted,
    StageCompleted,
)
from ggend_schema.codec import decode_client_message, encode_event, encode_event_line
from ggend_schema.messages import Batch, EncodedBatch
from support.daemon_process import place_in_memory
from support.examples import share_of_examples
from support.histories import (
    audits,
    collisions,
    ends,
    memories,
    microseconds,
    producer_id,
    receipts,
    stages,
    starts,
)
from support.store_harness import make_fresh
from support.table_model import Sent, comparable, memory_key, model, tables

pytestmark = pytest.mark.slow

#: Producer 0 sends plain lines without numbers.
PRODUCERS = 4

# Histories

producers = st.integers(0, PRODUCERS - 1)

Identified: TypeAlias = ReceiptEmitted | SessionStarted | SessionEnded


def identity(event: Identified) -> str:
    return event.execution_id if isinstance(event, ReceiptEmitted) else event.session_id


@st.composite
def histories(draw: st.DrawFn) -> list[Sent]:
    """Events that do not contradict each other; some parents never come."""
    sent: list[Sent] = []

    def stamp_ns() -> int:
        # After the longest duration has begun: a start before 1970 would be refused.
        return 1000 * draw(microseconds) + 123

    identified: tuple[st.SearchStrategy[Identified], ...] = (receipts, starts, ends)
    for parents in identified:
        for event in draw(st.lists(parents, min_size=1, max_size=4, unique_by=identity)):
            stamp = stamp_ns()
            # Sent more than once, by several or by the same: one is stored, the others duplicate.
            copies = draw(st.lists(producers, min_size=1, max_size=3))
            sent += [Sent(producer, event, stamp) for producer in copies]
    others: tuple[st.SearchStrategy[Event], ...] = (stages, collisions, audits)
    for children in others:
        for child in draw(st.lists(children, max_size=8)):
            sent.append(Sent(draw(producers), child, stamp_ns()))
    # Of two saves of one producer with one timestamp the later sent wins: that is an order.
    saves = st.lists(
        st.tuples(producers, memories),
        max_size=8,
        unique_by=lambda save: (save[0], save[1].agent_id, save[1].timestamp),
    )
    sent += [Sent(producer, event, stamp_ns()) for producer, event in draw(saves)]
    return sent


def model_totals(arrived: Sequence[Sent]) -> Counter[str]:
    """What became of the events that arrived so far, in this order, all accounts together."""
    events = [sent.event for sent in arrived]
    there = {event.execution_id for event in events if isinstance(event, ReceiptEmitted)}
    begun = {event.session_id for event in events if isinstance(event, SessionStarted)}
    totals: Counter[str] = Counter()
    seen: set[tuple[type, str]] = set()
    newest: dict[str, tuple[str, bytes]] = {}
    for sent in arrived:
        event = sent.event
        outcome: Literal["stored", "duplicate", "superseded", "parked"] = "stored"
        match event:
            case StageCompleted() if event.execution_id not in there:
                outcome = "parked"
            case Collision() | SessionEnded() if event.session_id not in begun:
                outcome = "parked"
            case ReceiptEmitted() | SessionStarted() | SessionEnded():
                key = (type(event), identity(event))
                outcome = "duplicate" if key in seen else "stored"
                seen.add(key)
            case MemorySaved():
                if event.agent_id in newest and memory_key(sent) < newest[event.agent_id]:
                    outcome = "superseded"
                else:
                    newest[event.agent_id] = memory_key(sent)
        totals[outcome] += 1
    return totals


# Arrival


class Producer:
    """One producer: what it still has to send, and what it has sent under which number."""

    def __init__(self, number: int, waiting: list[Sent]) -> None:
        self.sender = Sender(uid=1000, gid=1000, pid=1, producer=producer_id(number))
        self.waiting = waiting
        self.sent: list[tuple[int, Sent]] = []
        self.last_sequence = 0
        self.lost = 0
        self.replayed = 0
        self.is_finished = False

    def send(self, random: Random) -> tuple[Submission, list[Sent]]:
        """The next few events, perhaps behind some lost numbers, or one line without a number."""
        if self.sender.producer is None:
            return self._send_line()
        lost = random.choice([0] * 9 + [2])
        return self._submit([], random.randint(1, 6), lost=lost)

    def send_again(self, random: Random) -> tuple[Submission, list[Sent]]:
        """Some that were sent before, perhaps with new ones behind them."""
        begin = random.randrange(len(self.sent))
        again = [self.sent[begin]]
        for number, sent in self.sent[begin + 1 : begin + random.randint(1, 8)]:
            if number != again[-1][0] + 1:
                break
            again.append((number, sent))
        self.replayed += len(again)
        reaches_the_end = again[-1][0] == self.last_sequence
        # `lost` is ignored where it is settled.
        lost = random.randint(0, again[0][0] - 1)
        return self._submit(again, random.randint(0, 3) if reaches_the_end else 0, lost=lost)

    def _submit(
        self, again: list[tuple[int, Sent]], fresh: int, *, lost: int
    ) -> tuple[Submission, list[Sent]]:
        taken, self.waiting = self.waiting[:fresh], self.waiting[fresh:]
        if not again:
            self.lost += lost
            self.last_sequence += lost
        first = again[0][0] if again else self.last_sequence + 1
        numbered = list(enumerate(taken, self.last_sequence + 1))
        self.last_sequence += len(taken)
        self.sent += numbered
        run = [sent for _, sent in (*again, *numbered)]
        payload = memoryview(
            msgspec.msgpack.encode(
                EncodedBatch(
                    first_sequence=first,
                    stamps=[sent.stamp_ns for sent in run],
                    events=[msgspec.Raw(encode_event(sent.event)) for sent in run],
                    lost=lost,
                )
            )
        )
        batch = decode_client_message(payload)
        assert isinstance(batch, Batch)
        submission = Submission(
            self.sender,
            batch_entries([(batch, payload)]),
            lambda _s, _o: None,
            size=len(payload),
            first_sequence=first,
            lost=lost,
        )
        return submission, taken

    def _send_line(self) -> tuple[Submission, list[Sent]]:
        sent = self.waiting.pop(0)
        self.last_sequence += 1
        entries = block_entries(encode_event_line(sent.event)[:-1], sent.stamp_ns)
        assert entries is not None
        submission = Submission(
            self.sender, entries, lambda _s, _o: None, size=0, first_sequence=None
        )
        return submission, [sent]


class Arrival:
    """One order in which a history arrives at one database."""

    def __init__(self, path: Path, history: Sequence[Sent], random: Random) -> None:
        self._path = path
        self._random = random
        shuffled = random.sample(history, len(history))
        self._producers = [
            Producer(number, [sent for sent in shuffled if sent.producer == number])
            for number in range(PRODUCERS)
        ]
        self._arrived: list[Sent] = []
        self._hooks: list[Hook] = []

    async def run(self) -> dict[str, list[str]]:
        """Let everything arrive, in batches; return what is in the tables then."""
        async with AsyncExitStack() as opened:
            store = await opened.enter_async_context(self._opened())
            while any(producer.waiting for producer in self._producers):
                if self._random.random() < 0.05:
                    await opened.aclose()
                    store = await opened.enter_async_context(self._opened())
                await self._commit(store, self._batch())
                # What is left to be released meets the next batch, or a restart.
                is_all = await self._release(store)
                while not is_all and self._random.random() < 0.5:
                    is_all = await self._release(store)
                if is_all:
                    await self._check_accounts(store)
                if self._random.random() < 0.3:
                    await store.run(self._random.choice(self._hooks).turn)
            while not await self._release(store):
                pass
            await self._check_accounts(store)
            for hook in self._hooks:
                while await store.run(hook.turn):
                    pass
            return await store.run(tables)

    def _opened(self) -> AbstractAsyncContextManager[Store]:
        self._hooks = SloHooks().hooks()
        return open_store(
            self._path,
            page_cache_mib=1,
            bounds=Bounds(
                parked_events=1_000,
                rejected_events=1_000,
                released_events=self._random.choice([1, 2, 4_096]),
            ),
        )

    def _batch(self) -> list[Submission | Call]:
        batch: list[Submission | Call] = []
        for _ in range(self._random.randint(1, 5)):
            producer = self._random.choice(self._producers)
            if producer.is_finished:
                continue
            if producer.sent and self._random.random() < 0.3:
                submission, fresh = producer.send_again(self._random)
            elif producer.waiting:
                submission, fresh = producer.send(self._random)
            else:
                if producer.sender.producer is not None and self._random.random() < 0.5:
                    producer.is_finished = True
                    batch.append(goodbye(producer.sender.producer))
                continue
            self._arrived += fresh
            batch.append(submission)
        return batch

    async def _commit(self, store: Store, batch: list[Submission | Call]) -> None:
        if self._random.random() < 0.1:
            with pytest.raises(TryAgain):
                await store.commit([*batch, FAILING])
        if self._random.random() < 0.2:
            # As after a row that the database refused.
            results = await store.run(
                lambda connection: store._transaction(connection, batch, isolate=True)
            )
        else:
            # Slice after slice, as the writer does while its transaction is open.
            cut = self._random.randint(0, len(batch))
            begun, later = batch[:cut], [batch[cut:]]
            results = await store.commit(begun, lambda: later.pop() if later else [])
            assert begun == batch
        for item, result in zip(batch, results, strict=True):
            if isinstance(item, Submission):
                assert isinstance(result, Outcome)
                assert (result.failure, result.rejects) == (None, [])

    async def _release(self, store: Store) -> bool:
        """Release a slice, as after a transaction that could not release all; say if it was all."""
        if not store.noted_releases:
            return True
        is_careful = self._random.random() < 0.3
        work = call(partial(release_slice, is_careful=is_careful))
        if self._random.random() < 0.1:
            with pytest.raises(TryAgain):
                await store.commit([work, FAILING])
        (is_last,) = await store.commit([work])
        assert isinstance(is_last, bool)
        return is_last

    async def _check_accounts(self, store: Store) -> None:
        rows = await store.run(lambda connection: connection.execute(ACCOUNTS).fetchall())
        for last_sequence, stored, duplicate, superseded, parked, rejected, lost, _ in rows:
            assert last_sequence == stored + duplicate + superseded + parked + rejected + lost
        names = ("last_sequence", *OUTCOMES, "replayed")
        totals = {name: sum(row[column] for row in rows) for column, name in enumerate(names)}
        expected = model_totals(self._arrived)
        assert totals == {
            "last_sequence": sum(producer.last_sequence for producer in self._producers),
            **{outcome: expected[outcome] for outcome in OUTCOMES},
            "lost": sum(producer.lost for producer in self._producers),
            "replayed": sum(producer.replayed for producer in self._producers),
        }
        assert store.parked == expected["parked"]


OUTCOMES = ("stored", "duplicate", "superseded", "parked", "rejected", "lost")
ACCOUNTS = f"SELECT last_sequence, {', '.join(OUTCOMES)}, replayed FROM producers"


def goodbye(producer: bytes) -> Call:
    """What Goodbye{done} asks of the writer."""

    def finish(connection: sqlite3.Connection, state: WriterState) -> None:
        state.accounts.finish(connection, Sender(uid=1000, gid=1000, pid=1, producer=producer))

    return call(finish)


def call(function: Callable[[sqlite3.Connection, WriterState], object]) -> Call:
    return Call(function, lambda _c, _r: None, lambda _c, _e: None)


def _fail(_connection: sqlite3.Connection, _state: WriterState) -> None:
    error = sqlite3.OperationalError("as when the disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    raise error


FAILING = Call(_fail, lambda _c, _r: None, lambda _c, _e: None)


@settings(max_examples=share_of_examples(0.6), suppress_health_check=[HealthCheck.too_slow])
@given(histories(), st.lists(st.integers(0, 2**32), min_size=2, max_size=2, unique=True))
def test_any_order_gives_the_same_tables(history: list[Sent], orders: list[int]) -> None:
    expected = {table: comparable(rows) for table, rows in model(history).items()}
    for order in orders:
        random = Random(order)
        with pytest.MonkeyPatch.context() as patch, place_in_memory() as place:
            patch.setattr(accounts, "_REMEMBERED", random.choice([1, 2, 10_000]))
            patch.setattr(runner, "SLICE_ROWS", random.choice([1, 3, 4_096]))
            make_fresh(Path(place) / "tier2.db")
            arrival = Arrival(Path(place) / "tier2.db", history, random)
            assert asyncio.run(arrival.run()) == expected
