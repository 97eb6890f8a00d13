"""Promises 3 and 5: any order of arrival gives the same tables, and every event is accounted for.

A history of events that do not contradict each other is dealt to producers, shuffled, numbered,
cut into submissions and batches, partly sent again, and settled into a real database, with
restarts, failing transactions, refused rows' slow path and hooks at random moments. What is in the
seven tables is compared with a model: plain dictionaries, written from the data contract alone.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ggend import accounts, hooks
from ggend.accounts import Sender
from ggend.books import Books
from ggend.entries import batch_entries, block_entries
from ggend.hooks import Hook
from ggend.intake import Call, Outcome, Submission
from ggend.slo import slo_hooks
from ggend.store import Store, open_store
from ggend_schema import (
    Audit,
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
from running import free_place

#: Producer 0 sends plain lines without numbers.
PRODUCERS = 4

#: 2026-01-29T12:00:00Z in microseconds.
NOON_US = 1_769_688_000_000_000


class Sent(NamedTuple):
    """One event, by whom, and its stamp."""

    producer: int
    event: Event
    stamp_ns: int


# Histories

#: Around every threshold of the shipped objectives.
durations = st.sampled_from([400, 600, 800, 1_000, 1_200, 1_500, 2_000, 2_500, 5_000]).flatmap(
    lambda threshold: st.sampled_from([threshold, threshold + 1])
) | st.sampled_from([0, 10**11])
jsons: st.SearchStrategy[Any] = st.sampled_from(
    [None, {}, {"k": [1, 2.5, "μ"]}, True, "text", 0, [{}]]
)
texts = st.sampled_from([None, "no such class", ""])
agents = st.sampled_from(["a1", "a2", "a3"])
executions = st.sampled_from([f"e{number}" for number in range(4)])
sessions = st.sampled_from([f"s{number}" for number in range(3)])
microseconds = st.integers(0, 5_000_000).map(lambda offset: NOON_US + offset)
#: Few moments, so that they meet; of these some differ in microseconds only.
close_moments = st.sampled_from([NOON_US, NOON_US + 1, NOON_US + 999, NOON_US + 1_000])
timestamps = st.none() | microseconds.map(lambda us: written(us))
counts = st.none() | st.integers(0, 10**12)
producers = st.integers(0, PRODUCERS - 1)

receipts = st.builds(
    ReceiptEmitted,
    execution_id=executions,
    agent_id=agents,
    operation=st.sampled_from(["generation", "watch"]),
    status=st.sampled_from(["passed", "failed", "partial", "cancelled"]),
    duration_ms=durations,
    timestamp=timestamps,
    manifest_hash=st.sampled_from([None, "ab12"]),
    files_generated=counts,
    receipt=jsons,
    error_message=texts,
    environment=st.sampled_from([None, "dev"]),
    session_id=sessions | st.just("s0") | st.none(),
)
stages = st.builds(
    StageCompleted,
    execution_id=executions,
    stage=st.sampled_from(["normalize", "μ₁_normalize", "extract", "μ₅_receipt"]),
    duration_ms=durations,
    status=st.sampled_from(["passed", "failed"]),
    input_size_bytes=counts,
    error_message=texts,
    timestamp=timestamps,
)
collisions = st.builds(
    Collision,
    session_id=sessions,
    agent_id_1=agents,
    agent_id_2=agents,
    collision_type=st.sampled_from(["file_conflict", "semantic_overlap"]),
    description=st.just("both"),
    severity=st.sampled_from(["info", "critical"]),
    resolution=texts,
    timestamp=timestamps,
)
audits = st.builds(
    Audit,
    agent_id=agents,
    operation=st.sampled_from(["plan", "write"]),
    status=st.sampled_from(["started", "skipped"]),
    duration_ms=counts,
    error_message=texts,
    context=jsons,
    execution_id=st.none() | executions,
    session_id=st.none() | sessions,
    timestamp=timestamps,
)
starts = st.builds(
    SessionStarted,
    session_id=sessions,
    agent_count=st.integers(0, 9),
    context=jsons,
    timestamp=microseconds.map(lambda us: written(us)),
)
ends = st.builds(
    SessionEnded,
    session_id=sessions,
    status=st.sampled_from(["completed", "failed", "cancelled"]),
    total_duration_ms=counts,
    successful_operations=counts,
    failed_operations=counts,
    timestamp=microseconds.map(lambda us: written(us + 6_000_000)),
)
memories = st.builds(
    MemorySaved,
    agent_id=agents,
    memory=jsons,
    collision_history=st.sampled_from([None, [], [{"with": "a2"}]]),
    retry_count=st.integers(0, 3),
    last_error=texts,
    timestamp=close_moments.map(lambda us: written(us)),
)


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


def written(microseconds_: int) -> str:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds_)
    return moment.isoformat()


# The model

Row: TypeAlias = dict[str, Any]

#: Warning and critical above these milliseconds.
THRESHOLDS = {
    "μ₁_normalize": (800, 2_000),
    "μ₂_extract": (1_000, 2_500),
    "μ₃_emit": (1_200, 3_000),
    "μ₄_canonicalize": (600, 1_500),
    "μ₅_receipt": (400, 1_000),
}
SPELLINGS = {name.partition("_")[2]: name for name in THRESHOLDS}


def milliseconds(sent: Sent) -> int:
    """When it began or happened: its timestamp, else its stamp, which for two types is the end."""
    event = sent.event
    if event.timestamp is not None:
        since = datetime.fromisoformat(event.timestamp) - datetime(1970, 1, 1, tzinfo=UTC)
        return since // timedelta(milliseconds=1)
    took = event.duration_ms if isinstance(event, ReceiptEmitted | StageCompleted) else 0
    return sent.stamp_ns // 1_000_000 - took


def stored_time(sent: Sent) -> str:
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds(sent))
    return at.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def fields(event: Event, *names: str) -> Row:
    return {name: getattr(event, name) for name in names}


def model(history: Iterable[Sent]) -> dict[str, list[Row]]:
    """The seven tables that these events make, whatever their order."""
    by_type: dict[type, list[Sent]] = {}
    for sent in history:
        by_type.setdefault(type(sent.event), []).append(sent)
    receipt_rows = {
        sent.event.execution_id: fields(
            sent.event,
            *("execution_id", "agent_id", "operation", "status", "manifest_hash", "duration_ms"),
            *("ontology_hash", "error_message", "environment", "session_id"),
        )
        | {
            "files_generated": sent.event.files_generated or 0,
            "files_modified": 0,
            "receipt_json": sent.event.receipt,
            "timestamp": stored_time(sent),
        }
        for sent in by_type.get(ReceiptEmitted, [])
        if isinstance(sent.event, ReceiptEmitted)
    }
    metric_rows = [
        fields(
            sent.event,
            *("execution_id", "duration_ms", "status", "error_message"),
            *("input_size_bytes", "output_size_bytes"),
        )
        | {
            "stage": SPELLINGS.get(sent.event.stage, sent.event.stage),
            "timestamp": stored_time(sent),
        }
        for sent in by_type.get(StageCompleted, [])
        if isinstance(sent.event, StageCompleted) and sent.event.execution_id in receipt_rows
    ]
    session_rows = model_sessions(by_type, receipt_rows.values())
    return {
        "receipts": list(receipt_rows.values()),
        "pipeline_metrics": metric_rows,
        "workflow_sessions": list(session_rows.values()),
        "collision_detection": [
            fields(
                sent.event,
                *("session_id", "agent_id_1", "agent_id_2", "collision_type"),
                *("description", "resolution", "severity"),
            )
            | {"timestamp": stored_time(sent)}
            for sent in by_type.get(Collision, [])
            if isinstance(sent.event, Collision) and sent.event.session_id in session_rows
        ],
        "audit_log": [
            fields(
                sent.event,
                *("agent_id", "operation", "status", "duration_ms", "error_message"),
                *("execution_id", "session_id"),
            )
            | {"context_json": sent.event.context, "timestamp": stored_time(sent)}
            for sent in by_type.get(Audit, [])
            if isinstance(sent.event, Audit)
        ],
        "agent_memory": model_memories(by_type.get(MemorySaved, [])),
        "slo_violations": model_violations(receipt_rows.values(), metric_rows),
    }


def model_sessions(by_type: dict[type, list[Sent]], receipt_rows: Iterable[Row]) -> dict[str, Row]:
    rows: dict[str, Row] = {}
    began: dict[str, int] = {}
    for sent in by_type.get(SessionStarted, []):
        event = sent.event
        assert isinstance(event, SessionStarted)
        began[event.session_id] = milliseconds(sent)
        rows[event.session_id] = fields(event, "session_id", "agent_count") | {
            "status": "running",
            "start_time": stored_time(sent),
            "end_time": None,
            "total_duration_ms": None,
            "successful_operations": 0,
            "failed_operations": 0,
            "context_json": event.context,
        }
    outcomes = Counter((row["session_id"], row["status"]) for row in receipt_rows)
    for sent in by_type.get(SessionEnded, []):
        event = sent.event
        assert isinstance(event, SessionEnded)
        if event.session_id not in rows:
            continue
        derived = {
            "total_duration_ms": milliseconds(sent) - began[event.session_id],
            "successful_operations": outcomes[event.session_id, "passed"],
            "failed_operations": outcomes[event.session_id, "failed"],
        }
        given_fields = {
            name: value for name, value in fields(event, *derived).items() if value is not None
        }
        rows[event.session_id] |= (
            derived | given_fields | {"status": event.status, "end_time": stored_time(sent)}
        )
    return rows


def memory_key(sent: Sent) -> tuple[str, bytes]:
    """Later timestamp, then larger producer."""
    assert sent.event.timestamp is not None
    at = datetime.fromisoformat(sent.event.timestamp).isoformat(timespec="microseconds")
    return at, producer_id(sent.producer) or b""


def model_memories(saves: Iterable[Sent]) -> list[Row]:
    latest: dict[str, Sent] = {}
    for sent in sorted(saves, key=memory_key):
        assert isinstance(sent.event, MemorySaved)
        latest[sent.event.agent_id] = sent
    return [
        fields(sent.event, "agent_id", "retry_count", "last_error", "collision_history")
        | {
            "memory_json": sent.event.memory,
            "updated_at": stored_time(sent).replace("T", " ").removesuffix("Z"),
        }
        for sent in latest.values()
        if isinstance(sent.event, MemorySaved)
    ]


def model_violations(receipt_rows: Iterable[Row], metric_rows: Iterable[Row]) -> list[Row]:
    judged = [
        ("execution.duration_ms", "The execution", (2_000, 5_000), row) for row in receipt_rows
    ]
    judged += [
        (f"stage.{stage}.duration_ms", f"Stage {stage}", THRESHOLDS[stage], row)
        for row in metric_rows
        for stage in [row["stage"]]
    ]
    worst: dict[tuple[str, str, str], Row] = {}
    for metric, subject, (warning, critical), row in judged:
        actual = row["duration_ms"]
        if actual <= warning:
            continue
        severity, target = ("critical", critical) if actual > critical else ("warning", warning)
        violation = fields_of(row, "execution_id", "timestamp") | {
            "metric": metric,
            "severity": severity,
            "target_value": target,
            "actual_value": actual,
            "description": f"{subject} took {actual:,} ms, "
            f"over the {severity} limit of {target:,} ms.",
        }
        key = (row["execution_id"], metric, severity)
        other = worst.get(key)
        if other is None or (other["actual_value"], other["timestamp"]) < (
            actual,
            row["timestamp"],
        ):
            worst[key] = violation
    return list(worst.values())


def fields_of(row: Row, *names: str) -> Row:
    return {name: row[name] for name in names}


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


def producer_id(number: int) -> bytes | None:
    return bytes([number]) * 16 if number else None


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
                await self._check_accounts(store)
                if self._random.random() < 0.3:
                    await store.run(self._random.choice(self._hooks).turn)
            for hook in self._hooks:
                while await store.run(hook.turn):
                    pass
            return await store.run(tables)

    def _opened(self) -> AbstractAsyncContextManager[Store]:
        self._hooks = slo_hooks()
        return open_store(
            self._path, page_cache_mib=1, parked_max_events=1_000, rejected_max_events=1_000
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
            with pytest.raises(sqlite3.OperationalError):
                await store.commit([*batch, FAILING])
        if self._random.random() < 0.2:
            # As after a row that the database refused.
            results = await store.run(
                lambda connection: store._transaction(connection, batch, isolate=True)
            )
        else:
            results = await store.commit(batch)
        for item, result in zip(batch, results, strict=True):
            if isinstance(item, Submission):
                assert isinstance(result, Outcome)
                assert (result.failure, result.rejects) == (None, [])

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

    def finish(connection: sqlite3.Connection, books: Books) -> None:
        books.accounts.finish(connection, Sender(uid=1000, gid=1000, pid=1, producer=producer))

    return Call(finish, lambda _c, _r: None, lambda _c, _e: None)


def _fail(_connection: sqlite3.Connection, _books: Books) -> None:
    raise sqlite3.OperationalError("as when the disk is full")


FAILING = Call(_fail, lambda _c, _r: None, lambda _c, _e: None)


def tables(connection: sqlite3.Connection) -> dict[str, list[str]]:
    """Read the seven tables whole, apart from what differs by order or by clock."""
    contents = {}
    for table in model([]):
        cursor = connection.execute(f"SELECT * FROM {table}")
        names = [column[0] for column in cursor.description]
        rows = [dict(zip(names, row, strict=True)) for row in cursor]
        for row in rows:
            del row["id"], row["created_at"]
            for name, value in row.items():
                if (name.endswith("_json") or name == "collision_history") and value is not None:
                    row[name] = json.loads(value)
        contents[table] = comparable(rows)
    return contents


def comparable(rows: Iterable[Row]) -> list[str]:
    """The rows as texts, in one order. REAL columns hold whole numbers here."""
    return sorted(
        repr(
            sorted(
                (name, int(value) if type(value) is float else value) for name, value in row.items()
            )
        )
        for row in rows
    )


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(histories(), st.lists(st.integers(0, 2**32), min_size=2, max_size=2, unique=True))
def test_any_order_gives_the_same_tables(history: list[Sent], orders: list[int]) -> None:
    expected = {table: comparable(rows) for table, rows in model(history).items()}
    for order in orders:
        random = Random(order)
        with pytest.MonkeyPatch.context() as patch, free_place() as place:
            patch.setattr(accounts, "_REMEMBERED", random.choice([1, 2, 10_000]))
            patch.setattr(hooks, "SLICE_ROWS", random.choice([1, 3, 4_096]))
            arrival = Arrival(Path(place) / "tier2.db", history, random)
            assert asyncio.run(arrival.run()) == expected
