"""Machine: the store against a model in memory, through any sequence of what can happen to it.

Producers connect, send, send again, are cut off and come back; the daemon is killed, ended and
started again; commits fail; rows are refused, put back, given up and purged; producers are
forgotten. After every step the tables and all accounts are those of `table_model` and of
`reference_model`.

Without sockets: frames are cut and decoded by the daemon's own splitter and decoder.
"""

from __future__ import annotations

import shutil
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ggend.database.migrate import create
from ggend.database.wal_keeper import WalKeeper
from ggend.ingest.intake import Call, Entry, Outcome, Submission
from ggend.ingest.open_store import _prepare
from ggend.ingest.releases import release_slice
from ggend.ingest.store import Store
from ggend.maintenance.expiry import forget_silent, give_up_parked
from ggend.maintenance.requeue import purge_rejected, requeue
from ggend.queries.accounts import read_accounts
from ggend.queries.list_query import Filters, read_listing
from ggend.queries.stats import stats_of
from ggend.server.decode import batch_entries, line_entry
from ggend.storage.accounts import Sender
from ggend.storage.parking import Parent, Parked, Parking, Place, Room
from ggend.storage.writer_state import Bounds, WriterState, open_writer_state
from ggend_schema import (
    Audit,
    Event,
    EventCode,
    MemorySaved,
    ReceiptEmitted,
    StageCompleted,
)
from ggend_schema.codec import (
    SalvagedBatch,
    decode_client_message,
    encode_event,
    encode_event_line,
    encode_frame,
)
from ggend_schema.framing import FrameSplitter
from ggend_schema.messages import Batch, EncodedBatch
from ggend_schema.migrations import schema_version
from support.daemon_process import MEMORY
from support.histories import (
    NOON_US,
    audits,
    collisions,
    ends,
    memories,
    producer_id,
    receipts,
    stages,
    starts,
)
from support.reference_model import Delivery, Held, Offer, ReferenceModel
from support.table_model import Sent, comparable, model, tables

__all__ = ["StoreMachine", "explore", "profile"]

T = TypeVar("T")

#: The last of them is permanent; numbered lines come from the others as well.
PRODUCERS = (1, 2, 3)
PERMANENT = 3

#: Few, so that parking is full now and then.
PARKED_EVENTS = 6

UID = 1000

#: Few, so that most parents release in slices.
RELEASED_EVENTS = 1

#: All but slo_violations, which the hooks write.
TABLES = [table for table in model([]) if table != "slo_violations"]

#: Rows of one agent, and stages with one error, that the database refuses while it is told to.
REFUSED_AGENT, REFUSED_ERROR = "a3", ""
REFUSING = {
    "audit_log": f"new.agent_id = '{REFUSED_AGENT}'",
    "receipts": f"new.agent_id = '{REFUSED_AGENT}'",
    "agent_memory": f"new.agent_id = '{REFUSED_AGENT}'",
    "pipeline_metrics": f"new.error_message = '{REFUSED_ERROR}'",
}

#: What is no event, as an object and as the code that a frame and a line get for it.
BROKEN: dict[str, tuple[bytes, EventCode, bytes, EventCode]] = {
    "nameless": (
        msgspec.msgpack.encode({"type": "audit", "agent_id": ""}),
        EventCode.INVALID,
        b'{"type":"audit","agent_id":""}',
        EventCode.INVALID,
    ),
    "unknown": (
        msgspec.msgpack.encode({"type": "x"}),
        EventCode.UNKNOWN_TYPE,
        b'{"type":"x"}',
        EventCode.UNKNOWN_TYPE,
    ),
    "half": (b"\x01", EventCode.INVALID, b'{"type":', EventCode.MALFORMED),
}

#: An event, or the name of what is none.
Thing: TypeAlias = Event | str

events = st.one_of(receipts, receipts, stages, stages, stages, collisions, starts, ends, memories)
#: New events, some that were sent before (by their places), some that are none.
sendings = st.lists(
    st.one_of(events, events, audits, st.integers(0, 30), st.sampled_from(sorted(BROKEN))),
    min_size=1,
    max_size=6,
)
#: Lost numbers before a frame; None: all, whatever is settled already.
losses = st.sampled_from([0, 0, 0, 0, 1, 3, None])
sheds = st.sampled_from([0, 0, 0, 2, 5])
numbers = st.sampled_from(PRODUCERS)
#: Which of those that are there.
places = st.lists(st.integers(0, 50), min_size=1, max_size=5)


#: Examples after which the time is looked at.
ROUND_EXAMPLES = 50


class Interrupted(Exception):
    """What makes a commit fail after everything was written."""


class Producer:
    """What one producer has sent, by number; a producer that is forgotten begins anew."""

    def __init__(self, number: int) -> None:
        self.id = producer_id(number)
        assert self.id is not None
        self.permanent = number == PERMANENT
        self.sent: dict[int, tuple[Thing, int]] = {}
        self.next_sequence = 1


class ReceiptsInSlices(Parking):
    """Of a session all is released at once: of ends that contradict each other the first one wins.

    With slices that is the first one settled, which need not be the first one that came.
    """

    __slots__ = ()

    def release(
        self,
        connection: sqlite3.Connection,
        parent: Parent,
        parent_ids: Collection[str],
        room: Room,
    ) -> list[Parked]:
        """As it is, with room for everything where it is a session."""
        room = Room(sys.maxsize) if parent == "session" else room
        return super().release(connection, parent, parent_ids, room)


class StoreMachine(RuleBasedStateMachine):
    """One database, from its creation on."""

    def __init__(self) -> None:
        super().__init__()
        # A commit costs no fsync there: this is about what is written, not about whether it lasts.
        self.place = Path(tempfile.mkdtemp(prefix="ggend-model-", dir=MEMORY))
        self.generation = 0
        self.refusing = True
        self.reference = ReferenceModel(PARKED_EVENTS, self._refuses)
        self.producers = {number: Producer(number) for number in PRODUCERS}
        self.events: list[Event] = []
        self.stamps = 0
        self.waiting: list[tuple[Submission, Delivery]] = []
        #: Events that the last transaction left to slices.
        self.late = 0
        #: The seen time of each commit; each is a second after the one before.
        self.moments: list[int] = []
        self.seconds = 1
        with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            create(connection)
            _refuse(connection)
        self._open()

    @property
    def path(self) -> Path:
        """The database file; a kill leaves a copy under the next name."""
        return self.place / f"{self.generation}.db"

    # Sending

    @rule(number=numbers)
    def connect(self, number: int) -> None:
        """Hello: the daemon says how far it is."""
        self._commit()
        producer = self.producers[number]
        sender = self._sender(producer)

        def hello(connection: sqlite3.Connection, state: WriterState) -> int:
            last_sequence = state.accounts.of(connection, sender).last_sequence
            # It was heard of, whether or not a later transaction is taken back.
            state.accounts.save(connection)
            return last_sequence

        told = self._call(hello)
        account = self.reference.open(producer.id, UID, permanent=producer.permanent)
        assert told == account.last_sequence
        producer.next_sequence = max(told + 1, 1)

    @rule(number=numbers, sending=sendings, lost=losses, shed=sheds, again=st.booleans())
    def send(
        self,
        number: int,
        sending: Sequence[Thing | int],
        lost: int | None,
        shed: int,
        again: bool,
    ) -> None:
        """The next few events in a frame, perhaps behind lost numbers; perhaps sent twice."""
        producer = self.producers[number]
        first = producer.next_sequence + (lost or 0)
        run = self._number(producer, first, sending)
        for _ in range(1 + again):
            self._deliver(self._frame(producer, first, run, lost=lost, shed=shed))

    @rule(number=numbers, back=st.integers(1, 8), events=st.integers(1, 8), lost=losses)
    def send_again(self, number: int, back: int, events: int, lost: int | None) -> None:
        """Some that were sent before, from any point on."""
        producer = self.producers[number]
        first = max(1, producer.next_sequence - back)
        run: list[tuple[Thing, int]] = []
        while first + len(run) in producer.sent and len(run) < events:
            run.append(producer.sent[first + len(run)])
        self._deliver(self._frame(producer, first, run, lost=lost))

    @rule(number=numbers, ahead=st.integers(1, 3), sending=sendings)
    def send_beyond_a_gap(self, number: int, ahead: int, sending: Sequence[Thing | int]) -> None:
        """Numbers are missing before it: nothing of it is settled."""
        producer = self.producers[number]
        first = producer.next_sequence + ahead
        run = [self._stamped(one) for one in sending]
        self._deliver(self._frame(producer, first, run))

    @rule(number=numbers, sending=sendings, more=sendings, share=st.floats(0, 1))
    def cut(
        self, number: int, sending: Sequence[Thing | int], more: Sequence[Thing | int], share: float
    ) -> None:
        """The connection ends anywhere in two frames; what did not come may come later."""
        producer = self.producers[number]
        first = producer.next_sequence
        second = first + len(sending)
        frames = [
            self._frame(producer, first, self._number(producer, first, sending)),
            self._frame(producer, second, self._number(producer, second, more)),
        ]
        bytes_sent = int(share * sum(len(frame) for frame, _ in frames))
        producer.next_sequence = first + self._deliver(*frames, bytes_sent=bytes_sent)

    @rule(number=numbers, sending=sendings)
    def send_numbered_lines(self, number: int, sending: Sequence[Thing | int]) -> None:
        """The next few events, as lines."""
        producer = self.producers[number]
        first = producer.next_sequence
        self._deliver_lines(producer, first, self._number(producer, first, sending))

    @rule(sending=sendings)
    def send_lines(self, sending: Sequence[Thing | int]) -> None:
        """Without numbers: they are stored at least once, here once."""
        self._deliver_lines(None, None, [self._stamped(one) for one in sending])

    # The daemon

    @rule(isolate=st.sampled_from([False, False, False, True]))
    def commit(self, isolate: bool) -> None:
        """What waits becomes one batch; or as after a row that the database refused."""
        self._commit(isolate=isolate)

    @rule()
    def fail_a_commit(self) -> None:
        """Nothing of it happened."""
        with pytest.raises(Interrupted):
            self._transaction([*(one for one, _ in self.waiting), call(_interrupt)])

    @rule()
    def fail_a_call(self) -> None:
        """What it did is undone, and its neighbours in the batch are settled."""

        def fail(connection: sqlite3.Connection, state: WriterState) -> None:
            everything = [row[0] for row in connection.execute(REJECTED_IDS)]
            requeue(connection, state, everything)
            give_up_parked(connection, state, before_s=2**40, days=7, after=None)
            state.accounts.of(connection, self._sender(self.producers[1]))
            raise LookupError("nothing there")

        self._commit(and_then=fail)

    @rule()
    def kill(self) -> None:
        """The files as they are at this moment; what waits was never settled."""
        self._forget_waiting()
        self._kill()

    def _kill(self) -> None:
        old, self.generation = self.path, self.generation + 1
        for suffix in ("", "-wal"):
            if Path(f"{old}{suffix}").exists():
                shutil.copy(f"{old}{suffix}", f"{self.path}{suffix}")
        self._close()
        for suffix in ("", "-wal", "-shm"):
            Path(f"{old}{suffix}").unlink(missing_ok=True)
        self._open()

    @rule()
    def restart(self) -> None:
        """In order: what waits is settled first."""
        self._commit()
        self._close()
        self._open()

    @rule()
    def refuse_or_not(self) -> None:
        """The database refuses some rows from now on, or takes them again."""
        self._commit()
        self.refusing = not self.refusing
        (_refuse if self.refusing else _allow)(self.connection)

    # What is done to what was sent

    @precondition(lambda self: self.reference.rejected or self.waiting)
    @rule(places=places)
    def requeue(self, places: Sequence[int]) -> None:
        """Twice: what is not there any more is gone."""
        self._commit()
        ids, wanted = self._chosen(places)
        told = self._call(lambda c, state: requeue(c, state, [*ids, *ids, 10**9]))
        expected = self.reference.requeue(wanted, late=self.late)
        assert [(done.outcome, done.code) for done in told] == [*expected, ("gone", None)]
        assert [done.id for done in told] == [*ids, 10**9]

    @precondition(lambda self: self.reference.rejected or self.waiting)
    @rule(places=places)
    def purge_rejected(self, places: Sequence[int]) -> None:
        """Some of the rejected events are thrown away."""
        self._commit()
        ids, unwanted = self._chosen(places)
        assert self._call(lambda c, state: purge_rejected(c, state, [*ids, 10**9])) == len(ids)
        self.reference.purge_rejected(unwanted)

    @precondition(lambda self: self.moments)
    @rule(moment=st.integers(0, 10), limit=st.integers(1, 4))
    def give_up(self, moment: int, limit: int) -> None:
        """What was parked before one of the last commits, in slices."""
        self._commit()
        before = max(0, len(self.moments) - moment)
        before_s = self.moments[before] if before < len(self.moments) else self.seconds + 1
        after: Place | None = None
        while True:
            after = self._call(
                partial(give_up_parked, before_s=before_s, days=7, after=after, limit=limit)
            )
            if after is None:
                break
        self.reference.give_up(before)

    @rule(done=st.sets(numbers, min_size=1))
    def goodbye(self, done: set[int]) -> None:
        """Everything of these producers is settled, and they are done."""
        self._commit()
        for number in sorted(done):
            sender = self._sender(self.producers[number])
            self._call(lambda c, state, sender=sender: state.accounts.finish(c, sender))  # type: ignore[misc]
        self._finish(done)

    @rule(silent=st.sets(numbers), limit=st.integers(1, 3))
    def forget_silent(self, silent: set[int], limit: int) -> None:
        """Producers that nobody has heard of for long, in slices."""
        self._commit()

        def age(connection: sqlite3.Connection, _state: WriterState) -> None:
            for number in silent:
                connection.execute(AGE, (self.producers[number].id,))

        self._call(age)
        after: int | None = 0
        while after is not None:
            after = self._call(partial(forget_silent, before_s=1, after=after, limit=limit))
        self._finish(silent)

    # After every step

    @invariant()
    def everything_is_as_reckoned(self) -> None:
        """Tables, accounts, parked and rejected events, and what the writer remembers of them."""
        connection, reference = self.connection, self.reference
        kept = [*reference.stored, *(held for _, held in reference.memories.values())]
        expected = model(
            Sent(0, held.offer.event, held.offer.stamp_ns) for held in kept if held.offer.event
        )
        found = tables(connection)
        for table in TABLES:
            same(table, found[table], comparable(expected[table]))
        same(
            "accounts",
            connection.execute(ACCOUNTS),
            [
                (
                    *(account.kind, account.producer, account.uid),
                    *(account.permanent, account.finished, account.last_sequence, account.shed),
                    *(account.counts[column] for column in COUNTS),
                )
                for account in reference.accounts
            ],
        )
        waiting = [
            (parent, parent_id, parked.stamp_ns, parked.sequence)
            for parent, parent_id, payload in connection.execute(PARKED)
            for parked in msgspec.msgpack.decode(payload, type=list[Parked])
        ]
        same(
            "parked_events",
            waiting,
            [(*one.parent, one.held.offer.stamp_ns, one.held.sequence) for one in reference.parked],
        )
        assert self.store.parked == len(reference.parked)
        state = self.store._state
        assert [(state.parking.count, state.parking.bytes)] == connection.execute(
            "SELECT coalesce(SUM(events), 0), coalesce(SUM(length(payload)), 0) FROM parked_events"
        ).fetchall()
        assert [(state.quarantine.count, state.quarantine.bytes)] == connection.execute(
            "SELECT COUNT(*), coalesce(SUM(size_bytes), 0) FROM rejected_events"
        ).fetchall()
        same(
            "rejected_events",
            connection.execute(REJECTED),
            [
                (
                    *(held.offer.stamp_ns, held.code, held.producer, held.sequence),
                    *(held.uid, held.offer.encoding, held.offer.encoded),
                )
                for held in reference.rejected
            ],
        )
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        self._assert_that_reports_agree()

    def _assert_that_reports_agree(self) -> None:
        """What `status`, `accounts`, `stats` and `query agents` count alike is the same number."""
        accounts = read_accounts(self.connection, limit=1).total
        stats = stats_of(self.connection, self.path)
        assert {"accounts": accounts["accounts"], **self.store.totals.now} == accounts
        assert stats.accounts == accounts
        assert stats.parked == accounts["parked"]
        for filters in (Filters(), Filters(since="1970-01-01T00:00:00.000Z")):
            agents = read_listing(self.connection, "agents", filters, limit=10_000)
            assert stats.agents == len(agents.rows)
            found: list[dict[str, Any]] = [
                dict(zip(agents.columns, row, strict=True)) for row in agents.rows
            ]
            for agent in found:
                parts = ("successful_executions", "failed_executions", "other_executions")
                assert agent["total_executions"] == sum(agent[part] for part in parts)
            assert sum(agent["total_executions"] for agent in found) == stats.rows["receipts"]
        by_status = stats.receipts_by_status
        assert sum(by_status.values()) == stats.rows["receipts"]
        assert sum(agent["failed_executions"] for agent in found) == by_status.get("failed", 0)

    def teardown(self) -> None:
        """Leave nothing behind."""
        self._close()
        shutil.rmtree(self.place)

    # How

    def _open(self) -> None:
        """As `open_store` does, on this thread."""
        self.keeper = WalKeeper(self.path)
        self.keeper.attach()
        self.connection = sqlite3.connect(self.path, isolation_level=None)
        _prepare(self.connection, 1)
        # A daemon saves it every ten minutes, and a kill takes those back; here none is lost.
        self.connection.execute("UPDATE seen_time SET seen_s = ?", (self.seconds,))
        bounds = Bounds(parked_events=PARKED_EVENTS, released_events=RELEASED_EVENTS)
        state = open_writer_state(
            self.connection,
            bounds,
            schema_version(),
            boot=lambda: self.seconds * 1_000_000_000,
        )
        state.parking.__class__ = ReceiptsInSlices
        self.keeper.checkpoint(self.connection)
        self.store = Store(None, self.keeper, None, state)  # type: ignore[arg-type]

    def _close(self) -> None:
        self.connection.close()
        self.keeper.close()

    def _transaction(
        self, batch: Sequence[Submission | Call], *, isolate: bool | None = None
    ) -> list[object]:
        if isolate is None:
            results = self.store._commit(self.connection, list(batch))
        else:
            results = self.store._transaction(self.connection, list(batch), isolate=isolate)
        ((self.late,),) = self.connection.execute(LATE)
        self._release()
        return results

    def _release(self) -> None:
        """Release the rest of what waits for parents in slices; a kill may come in between."""
        slices = is_last = 0
        while not is_last and self.store.noted_releases:
            is_careful = self.refusing or slices % 3 == 0
            work = call(partial(release_slice, is_careful=is_careful))
            (is_last,) = self.store._commit(self.connection, [work])  # type: ignore[assignment]
            assert isinstance(is_last, bool)
            slices += 1
            if slices % 4 == 2 and not is_last:
                self._kill()

    def _commit(
        self,
        *,
        isolate: bool = False,
        and_then: Callable[[sqlite3.Connection, WriterState], None] | None = None,
    ) -> None:
        """Settle what waits, and compare what each submission is told."""
        waiting, self.waiting = self.waiting, []
        if not waiting and and_then is None:
            return
        self.seconds += 1
        self.moments.append(self.seconds)
        batch: list[Submission | Call] = [submission for submission, _ in waiting]
        if and_then is not None:
            batch.append(call(and_then))
        results = self._transaction(batch, isolate=True if isolate else None)
        if and_then is not None:
            assert isinstance(results.pop(), LookupError)
        self.reference.commits += 1
        expected = self.reference.settle((delivery for _, delivery in waiting), late=self.late)
        assert [told(result) for result in results] == [
            (fates.failure, fates.last_sequence, +fates.counts, sorted(fates.rejects))
            for fates in expected
        ]
        for (_, delivery), fates in zip(waiting, expected, strict=True):
            for producer in self.producers.values():
                if producer.id == delivery.producer:
                    producer.next_sequence = fates.last_sequence + 1

    def _call(self, function: Callable[[sqlite3.Connection, WriterState], T]) -> T:
        self.seconds += 1
        self.moments.append(self.seconds)
        (result,) = self._transaction([call(function)])
        self.reference.commits += 1
        if isinstance(result, Exception):
            raise result
        return result  # type: ignore[return-value]

    def _chosen(self, places: Sequence[int]) -> tuple[list[int], list[Held]]:
        """Some of the rejected events: their ids, and what the reference has of them."""
        rejected = {held.offer.stamp_ns: held for held in self.reference.rejected}
        rows = self.connection.execute(IDS_AND_STAMPS).fetchall()
        chosen = dict.fromkeys(place % len(rows) for place in places) if rows else {}
        picked = [rows[place] for place in chosen]
        return [row[0] for row in picked], [rejected[row[1]] for row in picked]

    def _finish(self, finished: Sequence[int] | set[int]) -> None:
        for number in sorted(finished):
            producer = self.producers[number]
            assert producer.id is not None
            self.reference.finish(producer.id)

    def _forget_waiting(self) -> None:
        """It was on its way as the daemon was killed: the producers will send it again."""
        for producer in self.producers.values():
            producer.next_sequence = self.reference.settled(producer.id) + 1
        self.waiting.clear()

    def _refuses(self, event: Event) -> bool:
        if not self.refusing:
            return False
        if isinstance(event, Audit | ReceiptEmitted | MemorySaved):
            return event.agent_id == REFUSED_AGENT
        return isinstance(event, StageCompleted) and event.error_message == REFUSED_ERROR

    def _sender(self, producer: Producer) -> Sender:
        return Sender(uid=UID, gid=UID, pid=1, producer=producer.id, permanent=producer.permanent)

    def _stamped(self, thing: Thing | int) -> tuple[Thing, int]:
        """Give a stamp to what is sent, and look up what was sent before."""
        self.stamps += 1
        if isinstance(thing, int):
            thing = self.events[thing % len(self.events)] if self.events else "unknown"
        elif not isinstance(thing, str):
            self.events.append(thing)
        return thing, NOON_US * 1000 + self.stamps * 1_000_001

    def _number(
        self, producer: Producer, first: int, sending: Sequence[Thing | int]
    ) -> list[tuple[Thing, int]]:
        run = [self._stamped(one) for one in sending]
        producer.sent.update(enumerate(run, first))
        producer.next_sequence = first + len(run)
        return run

    def _frame(
        self,
        producer: Producer,
        first: int,
        run: Sequence[tuple[Thing, int]],
        *,
        lost: int | None = 0,
        shed: int = 0,
    ) -> tuple[bytes, Delivery]:
        """A frame, and what the model makes of it."""
        lost = first - 1 if lost is None else min(lost, first - 1)
        offers = [offer(thing, stamp_ns) for thing, stamp_ns in run]
        frame = encode_frame(
            EncodedBatch(
                first_sequence=first,
                stamps=[offer.stamp_ns for offer in offers],
                events=[msgspec.Raw(offer.encoded) for offer in offers],
                lost=lost,
                shed=shed,
            )
        )
        permanent = producer.permanent
        return frame, Delivery(producer.id, UID, first, offers, lost, shed, permanent)

    def _deliver(self, *frames: tuple[bytes, Delivery], bytes_sent: int | None = None) -> int:
        """So many bytes arrive on a connection; return how many events are whole."""
        whole = 0
        splitter = FrameSplitter()
        sent = b"".join(frame for frame, _ in frames)[:bytes_sent]
        for payload, (_, delivery) in zip(splitter.feed(sent), frames, strict=False):
            batch = decode_client_message(payload)
            assert isinstance(batch, Batch | SalvagedBatch)
            whole += len(delivery.offers)
            self._wait(batch_entries([(batch, payload)]), delivery)
        return whole

    def _deliver_lines(
        self, producer: Producer | None, first: int | None, run: Sequence[tuple[Thing, int]]
    ) -> None:
        entries = [
            line_entry(
                BROKEN[thing][2] if isinstance(thing, str) else encode_event_line(thing)[:-1],
                stamp_ns,
            )
            for thing, stamp_ns in run
        ]
        offers = [offer(thing, stamp_ns, is_line=True) for thing, stamp_ns in run]
        who = None if producer is None else producer.id
        permanent = producer is not None and producer.permanent
        self._wait(entries, Delivery(who, UID, first, offers, permanent=permanent))

    def _wait(self, entries: list[Entry], delivery: Delivery) -> None:
        sender = Sender(
            uid=UID, gid=UID, pid=1, producer=delivery.producer, permanent=delivery.permanent
        )
        submission = Submission(
            sender,
            entries,
            lambda _s, _o: None,
            size=0,
            first_sequence=delivery.first_sequence,
            lost=delivery.lost,
            shed=delivery.shed,
        )
        self.waiting.append((submission, delivery))


def offer(thing: Thing, stamp_ns: int, *, is_line: bool = False) -> Offer:
    """What was sent, with the bytes that the quarantine would keep of it."""
    if not isinstance(thing, str):
        return Offer(thing, stamp_ns, encode_event(thing), "msgpack")
    packed, code, line, line_code = BROKEN[thing]
    if is_line:
        return Offer(None, stamp_ns, line, "json", line_code)
    return Offer(None, stamp_ns, packed, "msgpack", code)


def same(what: str, found: Iterable[object], expected: Iterable[object]) -> None:
    """Compare rows, whatever their order, and say which differ."""
    there, wanted = Counter(found), Counter(expected)
    assert there == wanted, f"{what}: found {there - wanted}, expected {wanted - there}"


def told(result: object) -> tuple[object, ...]:
    """What a submission was told, apart from messages."""
    assert isinstance(result, Outcome)
    names = ("stored", "duplicate", "superseded", "parked", "rejected", "replayed")
    return (
        result.failure,
        result.last_sequence,
        +Counter({name: getattr(result, name) for name in names}),
        sorted((sequence, code) for sequence, code, _ in result.rejects),
    )


def call(function: Callable[[sqlite3.Connection, WriterState], object]) -> Call:
    return Call(function, lambda _c, _r: None, lambda _c, _e: None)


def _interrupt(_connection: sqlite3.Connection, _state: WriterState) -> None:
    raise Interrupted


def _refuse(connection: sqlite3.Connection) -> None:
    for table, condition in REFUSING.items():
        connection.execute(
            f"CREATE TRIGGER refuse_{table} BEFORE INSERT ON {table} WHEN {condition} "
            "BEGIN SELECT RAISE(ABORT, 'not here'); END"
        )


def _allow(connection: sqlite3.Connection) -> None:
    for table in REFUSING:
        connection.execute(f"DROP TRIGGER refuse_{table}")


def explore(*, minutes: float, tell: Callable[[int, float], None]) -> int:
    """Try other examples again and again; return how many. Raises what breaks, made small."""
    examples = 0
    until = time.monotonic() + minutes * 60
    while (left := until - time.monotonic()) > 0:
        run_state_machine_as_test(StoreMachine, settings=profile(ROUND_EXAMPLES))
        examples += ROUND_EXAMPLES
        tell(examples, left)
    return examples


def profile(examples: int, *, steps: int = 80, same: bool = False) -> settings:
    """So many examples of so many steps; the same ones every time, if wanted."""
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        derandomize=same,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


COUNTS = ("stored", "duplicate", "superseded", "parked", "rejected", "lost", "replayed", "purged")
ACCOUNTS = f"""
    SELECT
        kind, coalesce(source, producer), uid, permanent, finished, last_sequence, shed,
        {", ".join(COUNTS)}
    FROM producers"""
PARKED = "SELECT parent, parent_id, payload FROM parked_events"
LATE = """
    SELECT coalesce(SUM(events), 0)
    FROM parked_events
    JOIN pending_releases USING (parent_id, parent)"""
REJECTED = """
    SELECT stamp_ns, code, producer, sequence, uid, encoding, event
    FROM rejected_events"""
REJECTED_IDS = "SELECT id FROM rejected_events"
IDS_AND_STAMPS = "SELECT id, stamp_ns FROM rejected_events ORDER BY id"
AGE = "UPDATE producers SET seen_s = 0 WHERE coalesce(source, producer) = ?"
