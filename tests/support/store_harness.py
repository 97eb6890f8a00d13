"""Store harness: a store without sockets, and producers that number what they hand in.

Events are built from few words, and take the daemon's own way: encoded, decoded, made rows of.
"""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar, cast

import msgspec

from ggend.database.upgrade import prepare_database
from ggend.ingest.intake import Call, Outcome, Submission
from ggend.ingest.open_store import open_store
from ggend.ingest.store import Store
from ggend.server.decode import batch_entries, block_entries
from ggend.storage.accounts import Sender
from ggend.storage.writer_state import Bounds, WriterState
from ggend_schema import (
    Audit,
    Collision,
    Event,
    EventCode,
    MemorySaved,
    ReceiptEmitted,
    SessionEnded,
    SessionStarted,
    StageCompleted,
)
from ggend_schema.codec import (
    SalvagedBatch,
    decode_client_message,
    encode_event,
    encode_event_line,
)
from ggend_schema.messages import Batch, EncodedBatch

__all__ = [
    "AT",
    "LATER",
    "MUCH_LATER",
    "P1",
    "P2",
    "P3",
    "STAMP_NS",
    "StoreHarness",
    "audit",
    "call",
    "codes",
    "collision",
    "counts",
    "ended",
    "lines",
    "make_fresh",
    "memory",
    "opened",
    "receipt",
    "sender",
    "stage",
    "started",
    "submission",
]

T = TypeVar("T")

#: 2026-01-29T12:34:56.789Z.
STAMP_NS = 1_769_690_096_789_000_000

#: Producers; as bytes they sort as they are named.
P1, P2, P3 = (bytes([number]) * 16 for number in (1, 2, 3))

AT = "2026-01-29T12:00:00.000Z"
LATER = "2026-01-29T12:00:05.250Z"
MUCH_LATER = "2026-01-29T12:01:00.000Z"


def receipt(execution_id: str = "e1", **changes: Any) -> ReceiptEmitted:
    event = ReceiptEmitted(
        execution_id=execution_id,
        agent_id="a1",
        operation="generation",
        status="passed",
        duration_ms=1_000,
        timestamp=AT,
    )
    return msgspec.structs.replace(event, **changes)


def stage(execution_id: str = "e1", **changes: Any) -> StageCompleted:
    event = StageCompleted(
        execution_id=execution_id, stage="emit", duration_ms=100, status="passed", timestamp=AT
    )
    return msgspec.structs.replace(event, **changes)


def started(session_id: str = "s1", **changes: Any) -> SessionStarted:
    event = SessionStarted(session_id=session_id, agent_count=2, timestamp=AT)
    return msgspec.structs.replace(event, **changes)


def ended(session_id: str = "s1", **changes: Any) -> SessionEnded:
    event = SessionEnded(session_id=session_id, status="completed", timestamp=LATER)
    return msgspec.structs.replace(event, **changes)


def collision(session_id: str = "s1", **changes: Any) -> Collision:
    event = Collision(
        session_id=session_id,
        agent_id_1="a1",
        agent_id_2="a2",
        collision_type="file_conflict",
        description="both",
        severity="info",
    )
    return msgspec.structs.replace(event, **changes)


def audit(agent_id: str = "a1", **changes: Any) -> Audit:
    event = Audit(agent_id=agent_id, operation="plan", status="completed")
    return msgspec.structs.replace(event, **changes)


def memory(value: Any, timestamp: str | None = AT, agent_id: str = "a1") -> MemorySaved:
    return MemorySaved(agent_id=agent_id, memory=value, timestamp=timestamp)


def sender(producer: bytes | None = P1, uid: int = 1000) -> Sender:
    return Sender(uid=uid, gid=uid, pid=1, producer=producer, client="test")


class StoreHarness:
    """A store, and producers that number what they hand in."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._numbers: dict[bytes, int] = {}

    def sent(self, producer: bytes, *events: Event, lost: int = 0, shed: int = 0) -> Submission:
        """A submission with the producer's next numbers."""
        first = self._numbers.get(producer, 1) + lost
        self._numbers[producer] = first + len(events)
        return submission(producer, first, events, lost=lost, shed=shed)

    async def commit(self, *batch: Submission) -> list[Outcome]:
        """Commit as one batch; the accounts add up after it."""
        results = await self.store.commit(list(batch))
        assert await self.rows(UNBALANCED) == []
        outcomes = []
        for result in results:
            assert isinstance(result, Outcome)
            outcomes.append(result)
        return outcomes

    async def settle(self, *events: Event, producer: bytes = P1) -> Outcome:
        """Commit events of one producer as one batch."""
        (outcome,) = await self.commit(self.sent(producer, *events))
        return outcome

    async def ask(self, function: Callable[[sqlite3.Connection, WriterState], T]) -> T:
        """Do something in a transaction of its own; everything adds up after it."""
        (result,) = await self.store.commit([call(function)])
        if isinstance(result, Exception):
            raise result
        await self.check()
        return cast(T, result)

    async def finish(self, producer: bytes = P1) -> None:
        """As Goodbye{done} does."""
        await self.ask(
            lambda connection, state: state.accounts.finish(connection, sender(producer))
        )

    async def check(self) -> None:
        """Accounts add up; they and the writer state count the parked and rejected rows rightly."""
        assert await self.rows(UNBALANCED) == []
        ((parked, rejected, purged),) = await self.rows(COUNTED)
        ((events, parked_bytes, rows, rejected_bytes),) = await self.rows(THERE)
        assert (parked, rejected - purged) == (events, rows)
        parking, quarantine = self.store._state.parking, self.store._state.quarantine
        assert (parking.count, parking.bytes) == (events, parked_bytes)
        assert (quarantine.count, quarantine.bytes) == (rows, rejected_bytes)

    async def rows(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Run a statement on the writer's connection."""
        return await self.store.run(
            lambda connection: connection.execute(sql, parameters).fetchall()
        )

    async def value(self, sql: str, *parameters: object) -> Any:
        """Return the one value that a statement gives."""
        ((value,),) = await self.rows(sql, *parameters)
        return value

    async def count(self, table: str) -> int:
        """Return how many rows a table has."""
        count: int = await self.value(f"SELECT COUNT(*) FROM {table}")
        return count

    async def account(self, producer: bytes = P1) -> dict[str, int]:
        """Return the columns of an account that are not zero."""
        return await self._columns("producer = ?", producer)

    async def total(self) -> dict[str, int]:
        """Return the columns of the folded total that are not zero."""
        return await self._columns("kind = 'folded'")

    async def _columns(self, condition: str, *parameters: object) -> dict[str, int]:
        names = (
            "last_sequence, stored, duplicate, superseded, parked, rejected, lost, replayed, shed"
        )
        ((*counts,),) = await self.rows(
            f"SELECT {names} FROM producers WHERE {condition}", *parameters
        )
        return {name: count for name, count in zip(names.split(", "), counts, strict=True) if count}


UNBALANCED = """
    SELECT *
    FROM producers
    WHERE last_sequence <> stored + duplicate + superseded + parked + rejected + lost"""

COUNTED = """
    SELECT coalesce(SUM(parked), 0), coalesce(SUM(rejected), 0), coalesce(SUM(purged), 0)
    FROM producers"""
THERE = """
    SELECT
        (SELECT coalesce(SUM(events), 0) FROM parked_events),
        (SELECT coalesce(SUM(length(payload)), 0) FROM parked_events),
        (SELECT COUNT(*) FROM rejected_events),
        (SELECT coalesce(SUM(size_bytes) FILTER (WHERE event IS NOT NULL), 0)
         FROM rejected_events)"""


def call(function: Callable[[sqlite3.Connection, WriterState], object]) -> Call:
    """Something to do on the writer's connection, of which nobody is told."""
    return Call(function, lambda _c, _r: None, lambda _c, _e: None)


def submission(
    producer: bytes,
    first: int,
    events: Sequence[Event],
    *,
    lost: int = 0,
    shed: int = 0,
    uid: int | None = None,
) -> Submission:
    """What a frame with these events becomes, on the daemon's own way."""
    encoded = msgspec.msgpack.encode(
        EncodedBatch(
            first_sequence=first,
            stamps=[STAMP_NS + number for number in range(len(events))],
            events=[msgspec.Raw(encode_event(event)) for event in events],
            shed=shed,
            lost=lost,
        )
    )
    batch = decode_client_message(memoryview(encoded))
    assert isinstance(batch, Batch | SalvagedBatch)
    return Submission(
        sender(producer) if uid is None else msgspec.structs.replace(sender(producer), uid=uid),
        batch_entries([(batch, memoryview(encoded))]),
        lambda _s, _o: None,
        size=len(encoded),
        first_sequence=first,
        lost=lost,
        shed=shed,
    )


def lines(*events: Event, uid: int = 1000) -> Submission:
    """What unnumbered lines become."""
    entries = block_entries(b"".join(map(encode_event_line, events)).rstrip(b"\n"), STAMP_NS)
    assert entries is not None
    return Submission(
        sender(None, uid=uid), entries, lambda _s, _o: None, size=0, first_sequence=None
    )


@functools.cache
def _fresh() -> bytes:
    """Return the file that an open makes where there is none."""
    with TemporaryDirectory() as place:
        path = Path(place) / "tier2.db"
        prepare_database(path)
        return path.read_bytes()


def make_fresh(path: Path) -> None:
    """Put a fresh database there if there is none. It is made once: syncs take their time."""
    if not path.exists():
        path.write_bytes(_fresh())


@asynccontextmanager
async def opened(
    path: Path, *, parked: int = 1_000, rejected: int = 1_000, **bounds: int
) -> AsyncIterator[StoreHarness]:
    make_fresh(path)
    async with open_store(
        path,
        page_cache_mib=1,
        bounds=Bounds(parked_events=parked, rejected_events=rejected, **bounds),
    ) as store:
        yield StoreHarness(store)


def counts(outcome: Outcome) -> dict[str, int]:
    """Return the counts of an outcome that are not zero."""
    names = ("stored", "duplicate", "superseded", "parked", "rejected", "replayed")
    return {name: count for name in names if (count := getattr(outcome, name))}


def codes(outcome: Outcome) -> list[tuple[int, EventCode]]:
    return [(sequence, code) for sequence, code, _ in outcome.rejects]
