"""The framed dialogue: what is said, in which order, and what the tables hold by then."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ggend_schema import Audit, limits
from ggend_schema.messages import (
    PROTOCOL,
    Ack,
    Answer,
    Batch,
    Goodbye,
    Hello,
    Limits,
    Reject,
    Request,
    Welcome,
)
from support.daemon_process import Daemon, free_place
from support.framed_peer import (
    Peer,
    audit,
    batch,
    line_of,
    new_producer,
    receipt,
    stage,
    unbalanced_accounts,
)
from support.patience import wait_until


@pytest.fixture(scope="module")
def shared() -> Iterator[Daemon]:
    """One daemon for the tests that look only at their own producer."""
    with free_place() as name, Daemon(Path(name)) as running:
        yield running
        assert unbalanced_accounts(running) == []


def _account(daemon: Daemon, producer: bytes, *columns: str) -> tuple[object, ...]:
    (row,) = daemon.query(
        f"SELECT {', '.join(columns)} FROM producers WHERE coalesce(source, producer) = ?",
        producer,
    )
    return row


def _audits(producer: bytes, first: int, last: int) -> list[dict[str, object]]:
    """Audit entries of this producer whose operation is their number."""
    return [audit(producer.hex(), operation=str(number)) for number in range(first, last + 1)]


def _operations(daemon: Daemon, producer: bytes) -> list[object]:
    """What this producer has stored, in order."""
    sql = "SELECT operation FROM audit_log WHERE agent_id = ? ORDER BY id"
    return [row[0] for row in daemon.query(sql, producer.hex())]


def _numbers(first: int, last: int) -> list[str]:
    return [str(number) for number in range(first, last + 1)]


# Hello and Welcome


def test_welcome_names_the_database_by_its_id(shared: Daemon) -> None:
    """`database` is the random id that the file holds, so that a client notices another file."""
    with Peer(shared.socket) as peer:
        welcome = peer.hello(new_producer())
    assert shared.query("SELECT id FROM database_identity") == [(welcome.database,)]
    assert len(bytes.fromhex(welcome.database)) == 16


def test_welcome_says_what_is_accepted_and_what_an_ack_means(shared: Daemon) -> None:
    """Protocol, limits and the durability behind an Ack come with the first frame."""
    with Peer(shared.socket) as peer:
        welcome = peer.hello(new_producer())
    assert welcome == Welcome(
        protocol=1,
        database=welcome.database,
        last_sequence=0,
        limits=Limits(frame_bytes=limits.FRAME_BYTES, batch_events=limits.BATCH_EVENTS),
        durability="wal, synchronous=FULL",
    )


def test_the_durability_that_welcome_names_is_the_databases(shared: Daemon) -> None:
    """The file is in WAL mode, as Welcome says."""
    assert shared.query("PRAGMA journal_mode") == [("wal",)]


def test_welcome_tells_a_returning_producer_its_last_number(shared: Daemon) -> None:
    """A client that reconnects learns what is settled."""
    producer = new_producer()
    with Peer(shared.socket) as peer:
        peer.hello(producer)
        peer.send(batch(1, *_audits(producer, 1, 3)))
        peer.read_to_ack(3)
    with Peer(shared.socket) as peer:
        assert peer.hello(producer).last_sequence == 3


def test_a_hello_without_a_producer_is_for_requests(daemon: Daemon) -> None:
    """It is welcomed, may ask, and leaves no account."""
    with Peer(daemon.socket) as peer:
        assert peer.hello().last_sequence == 0
        peer.send(Request(id=7, op="status"))
        answer = peer.read()
    assert isinstance(answer, Answer)
    assert answer.id == 7
    assert daemon.query("SELECT COUNT(*) FROM producers") == [(0,)]


def test_a_client_need_not_wait_for_welcome(shared: Daemon) -> None:
    """Hello, Batch and Goodbye in one write: everything is stored and told in order."""
    producer = new_producer()
    with Peer(shared.socket) as peer:
        peer.send(Hello(protocol=1, producer=producer), batch(1, *_audits(producer, 1, 2)))
        welcome, ack = peer.read(), peer.read()
    assert isinstance(welcome, Welcome)
    assert ack == Ack(sequence=2)
    assert _operations(shared, producer) == ["1", "2"]


def test_the_account_says_who_a_producer_is(shared: Daemon) -> None:
    """The name of the client is kept with its id, for people."""
    producer = new_producer()
    with Peer(shared.socket) as peer:
        peer.hello(producer)
        peer.send(batch(1, audit("agent")))
        peer.read_to_ack(1)
    assert _account(shared, producer, "kind", "client", "finished", "permanent") == (
        "producer",
        "test",
        0,
        0,
    )


# Acks


def test_an_acked_row_is_visible_to_everybody(shared: Daemon) -> None:
    """When the Ack arrives, another connection to the database sees the row, every time."""
    producer = new_producer()
    with Peer(shared.socket) as peer:
        peer.hello(producer)
        for number in range(1, 101):
            peer.send(batch(number, *_audits(producer, number, number)))
            peer.read_to_ack(number)
            assert len(_operations(shared, producer)) == number


def test_no_ack_leaves_before_the_commit(shared: Daemon) -> None:
    """While somebody else holds the database's write lock, there is no Ack; then there is."""
    locker = sqlite3.connect(shared.database, isolation_level=None)
    try:
        with Peer(shared.socket) as peer:
            peer.hello(new_producer())
            locker.execute("BEGIN IMMEDIATE")
            peer.send(batch(1, audit("agent")))
            assert peer.is_silent_for(0.3)
            locker.execute("ROLLBACK")
            peer.read_to_ack(1)
    finally:
        locker.close()


def test_a_lock_of_somebody_else_delays_and_loses_nothing(daemon: Daemon) -> None:
    """Longer than the busy timeout: the daemon says what is wrong, tries again, and acks once."""
    producer = new_producer()
    locker = sqlite3.connect(daemon.database, isolation_level=None)
    try:
        with Peer(daemon.socket) as peer:
            peer.hello(producer)
            locker.execute("BEGIN IMMEDIATE")
            peer.send(batch(1, *_audits(producer, 1, 3)))
            while daemon.status()["health"] != "degraded":
                assert peer.is_silent_for(0.05)
            locker.execute("ROLLBACK")
            peer.read_to_ack(3)
    finally:
        locker.close()
    assert _operations(daemon, producer) == ["1", "2", "3"]
    assert daemon.status()["health"] == "ok"


def test_many_batches_in_one_write_are_all_acked(shared: Daemon) -> None:
    """Acks are cumulative, never fall, and end at the last number."""
    producer = new_producer()
    with Peer(shared.socket) as peer:
        peer.hello(producer)
        peer.send(*(batch(number, *_audits(producer, number, number)) for number in range(1, 201)))
        acked = [0]
        while acked[-1] < 200:
            message = peer.read()
            assert isinstance(message, Ack)
            acked.append(message.sequence)
    assert acked == sorted(set(acked))
    assert _operations(shared, producer) == _numbers(1, 200)


def test_a_batch_of_the_largest_size_is_stored(shared: Daemon) -> None:
    """4,096 events, as Welcome allows."""
    producer = new_producer()
    with Peer(shared.socket) as peer:
        peer.hello(producer)
        peer.send(batch(1, *_audits(producer, 1, limits.BATCH_EVENTS)))
        peer.read_to_ack(limits.BATCH_EVENTS)
    assert _operations(shared, producer) == _numbers(1, limits.BATCH_EVENTS)


def test_a_reject_comes_before_the_ack_that_covers_it(shared: Daemon) -> None:
    """Rejected events are told first; in one write with good batches before and behind, too."""
    bad = audit("agent", status="done")
    with Peer(shared.socket) as peer:
        peer.hello(new_producer())
        peer.send(
            batch(1, audit("agent")),
            batch(2, bad, audit("agent"), bad),
            batch(5, audit("agent")),
        )
        told: list[int] = []
        acked = 0
        while acked < 5:
            message = peer.read()
            if isinstance(message, Reject):
                assert message.sequence > acked
                told.append(message.sequence)
            else:
                assert isinstance(message, Ack)
                acked = message.sequence
    assert told == [2, 4]


def test_a_conflict_is_rejected_before_its_ack(shared: Daemon) -> None:
    """What only the database can tell is a Reject like any other; the stored row stays."""
    execution = new_producer().hex()
    with Peer(shared.socket) as peer:
        peer.hello(new_producer())
        peer.send(batch(1, receipt(execution, duration_ms=1), receipt(execution, duration_ms=2)))
        (reject,) = peer.read_to_ack(2)
    assert (reject.sequence, reject.code) == (2, "conflict")
    assert execution in reject.message
    assert shared.query("SELECT duration_ms FROM receipts WHERE execution_id = ?", execution) == [
        (1,)
    ]


# Replay


def test_a_batch_that_was_acked_is_acked_again(shared: Daemon) -> None:
    """A client that did not hear the Ack sends again; rows and numbers stay, it is counted."""
    producer = new_producer()
    with Peer(shared.socket) as peer:
        peer.hello(producer)
        peer.send(batch(1, *_audits(producer, 1, 3)))
        peer.read_to_ack(3)
    with Peer(shared.socket) as peer:
        peer.hello(producer)
        peer.send(batch(1, *_audits(producer, 1, 3)))
        peer.read_to_ack(3)
    assert _operations(shared, producer) == ["1", "2", "3"]
    assert _account(shared, producer, "last_sequence", "stored", "replayed") == (3, 3, 3)


def test_of_a_batch_only_the_new_numbers_are_stored(shared: Daemon) -> None:
    """A batch that begins in the settled numbers and ends beyond them is told apart inside."""
    producer = new_producer()
    with Peer(shared.socket) as peer:
        peer.hello(producer)
        peer.send(batch(1, *_audits(producer, 1, 3)))
        peer.read_to_ack(3)
        peer.send(batch(2, *_audits(producer, 2, 6)))
        peer.read_to_ack(6)
    assert _operations(shared, producer) == _numbers(1, 6)
    assert _account(shared, producer, "last_sequence", "stored", "replayed") == (6, 6, 2)


def test_a_batch_from_the_middle_of_the_settled_numbers_is_acked_up_to_the_last(
    shared: Daemon,
) -> None:
    """The Ack is cumulative: it tells how far everything is settled."""
    producer = new_producer()
    with Peer(shared.socket) as peer:
        peer.hello(producer)
        peer.send(batch(1, *_audits(producer, 1, 9)))
        peer.read_to_ack(9)
        peer.send(batch(4, *_audits(producer, 4, 5)))
        assert peer.read() == Ack(sequence=9)
    assert _account(shared, producer, "stored", "replayed") == (9, 2)


def test_a_rejected_event_is_rejected_once(shared: Daemon) -> None:
    """Its number is settled; sent again it is a replay, and is in quarantine once."""
    producer = new_producer()
    bad = batch(1, audit("agent", status="done"))
    with Peer(shared.socket) as peer:
        peer.hello(producer)
        peer.send(bad)
        assert len(peer.read_to_ack(1)) == 1
        peer.send(bad)
        assert peer.read_to_ack(1) == []
    assert shared.query("SELECT COUNT(*) FROM rejected_events WHERE producer = ?", producer) == [
        (1,)
    ]
    assert _account(shared, producer, "rejected", "replayed") == (1, 1)


# Gaps and lost numbers


def test_a_gap_ends_the_connection_and_stores_nothing(shared: Daemon) -> None:
    """Goodbye says `gap` and how far the numbers are settled."""
    producer = new_producer()
    with Peer(shared.socket) as peer:
        peer.hello(producer)
        peer.send(batch(1, *_audits(producer, 1, 2)))
        peer.read_to_ack(2)
        peer.send(batch(4, *_audits(producer, 4, 5)))
        goodbye = peer.read_goodbye()
    assert (goodbye.code, goodbye.last_sequence) == ("gap", 2)
    assert _operations(shared, producer) == ["1", "2"]
    assert _account(shared, producer, "last_sequence", "stored", "lost") == (2, 2, 0)


def test_nothing_follows_a_goodbye(shared: Daemon) -> None:
    """Goodbye is the last frame: what was sent behind the gap is not acked after it."""
    with Peer(shared.socket) as peer:
        peer.hello(new_producer())
        peer.send(batch(5, audit("agent")), batch(1, audit("agent")))
        assert peer.read_goodbye().code == "gap"


def test_a_gap_is_filled_by_lost(shared: Daemon) -> None:
    """The client reconnects, says what never comes, and it is counted as lost."""
    producer = new_producer()
    with Peer(shared.socket) as peer:
        peer.hello(producer)
        peer.send(batch(1, *_audits(producer, 1, 2)))
        peer.read_to_ack(2)
        peer.send(batch(6, *_audits(producer, 6, 7)))
        peer.read_goodbye()
    with Peer(shared.socket) as peer:
        assert peer.hello(producer).last_sequence == 2
        peer.send(batch(6, *_audits(producer, 6, 7), lost=3))
        peer.read_to_ack(7)
    assert _operations(shared, producer) == ["1", "2", "6", "7"]
    assert _account(shared, producer, "last_sequence", "stored", "lost") == (7, 4, 3)


def test_too_few_lost_numbers_are_still_a_gap(shared: Daemon) -> None:
    """One number that nobody accounts for is enough; nothing is settled, not even the lost."""
    producer = new_producer()
    with Peer(shared.socket) as peer:
        peer.hello(producer)
        peer.send(batch(5, audit("agent"), lost=3))
        goodbye = peer.read_goodbye()
    assert (goodbye.code, goodbye.last_sequence) == ("gap", 0)
    assert _account(shared, producer, "last_sequence", "lost") == (0, 0)


def test_lost_is_ignored_where_it_is_settled_already(shared: Daemon) -> None:
    """Numbers that are stored stay stored, whatever the client believes by now."""
    producer = new_producer()
    with Peer(shared.socket) as peer:
        peer.hello(producer)
        peer.send(batch(1, *_audits(producer, 1, 4)))
        peer.read_to_ack(4)
        peer.send(batch(7, *_audits(producer, 7, 7), lost=6))
        peer.read_to_ack(7)
    assert _account(shared, producer, "last_sequence", "stored", "lost") == (7, 5, 2)


def test_a_replayed_batch_with_lost_counts_its_lost_once(shared: Daemon) -> None:
    """The same Batch again, lost and all, changes only `replayed`."""
    producer = new_producer()
    with Peer(shared.socket) as peer:
        peer.hello(producer)
        for _ in range(2):
            peer.send(batch(4, *_audits(producer, 4, 5), lost=3))
            peer.read_to_ack(5)
    assert _account(shared, producer, "last_sequence", "stored", "lost", "replayed") == (5, 2, 3, 2)


def test_an_empty_batch_settles_lost_numbers(shared: Daemon) -> None:
    """A client that lost its last events can still come to an end."""
    producer = new_producer()
    with Peer(shared.socket) as peer:
        peer.hello(producer)
        peer.send(batch(1, *_audits(producer, 1, 2)))
        peer.read_to_ack(2)
        peer.send(batch(10, lost=7))
        peer.read_to_ack(9)
    assert _account(shared, producer, "last_sequence", "stored", "lost") == (9, 2, 7)


def test_an_empty_batch_is_acked(shared: Daemon) -> None:
    """It says nothing new, and the answer says how far things are."""
    producer = new_producer()
    with Peer(shared.socket) as peer:
        peer.hello(producer)
        peer.send(batch(1, *_audits(producer, 1, 2)), batch(3))
        peer.read_to_ack(2)
        peer.send(batch(3))
        assert peer.read() == Ack(sequence=2)


def test_lost_behind_batches_in_one_write_is_settled_in_turn(shared: Daemon) -> None:
    """Batches of one read become one transaction only where their numbers allow it."""
    producer = new_producer()
    with Peer(shared.socket) as peer:
        peer.hello(producer)
        peer.send(
            batch(1, *_audits(producer, 1, 2)),
            batch(6, *_audits(producer, 6, 6), lost=3),
            batch(7, *_audits(producer, 7, 8)),
        )
        while (message := peer.read()) != Ack(sequence=8):
            assert isinstance(message, Ack)
    assert _operations(shared, producer) == ["1", "2", "6", "7", "8"]
    assert _account(shared, producer, "last_sequence", "stored", "lost") == (8, 5, 3)


def test_shed_is_a_running_total(shared: Daemon) -> None:
    """It is not added up: the largest total that was told stands, a replay does not lower it."""
    producer = new_producer()
    with Peer(shared.socket) as peer:
        peer.hello(producer)
        for number, shed in ((1, 2), (2, 5), (2, 2), (3, 5)):
            peer.send(batch(number, *_audits(producer, number, number), shed=shed))
            assert isinstance(peer.read(), Ack)
        assert _account(shared, producer, "shed", "last_sequence") == (5, 3)
        peer.send(batch(4, shed=9))
        assert isinstance(peer.read(), Ack)
    assert _account(shared, producer, "shed", "last_sequence") == (9, 3)


def test_shed_survives_a_restart(daemon: Daemon) -> None:
    """A smaller total that comes after a restart, from a replay, does not lower it."""
    producer = new_producer()
    with Peer(daemon.socket) as peer:
        peer.hello(producer)
        peer.send(batch(1, audit("agent"), shed=5))
        peer.read_to_ack(1)
    daemon.stop()
    daemon.start()
    with Peer(daemon.socket) as peer:
        peer.hello(producer)
        peer.send(batch(1, audit("agent"), shed=2))
        peer.read_to_ack(1)
    assert _account(daemon, producer, "shed") == (5,)


# Requests


def test_status_counts_what_was_settled(daemon: Daemon) -> None:
    """The request `status` answers with the daemon's counters and places."""
    with Peer(daemon.socket) as peer:
        peer.hello(new_producer())
        peer.send(batch(1, audit("agent"), stage("nowhere"), audit("agent", status="done")))
        peer.read_to_ack(3)
    status = daemon.status()
    assert daemon.process is not None
    assert {key: status[key] for key in ("stored", "parked", "rejected", "last_sequence")} == {
        "stored": 1,
        "parked": 1,
        "rejected": 1,
        "last_sequence": 3,
    }
    assert status["pid"] == daemon.process.pid
    assert status["database"] == str(daemon.database)
    assert status["health"] == "ok"


def test_status_covers_the_batches_sent_before(daemon: Daemon) -> None:
    """In one write behind a Batch, it is answered behind the Ack and counts the events."""
    producer = new_producer()
    with Peer(daemon.socket) as peer:
        peer.hello(producer)
        peer.send(batch(1, *_audits(producer, 1, 3)), Request(id=1, op="status"))
        peer.read_to_ack(3)
        answer = peer.read()
    assert isinstance(answer, Answer)
    assert answer.result["stored"] == 3


def test_status_answers_while_nothing_can_be_written(daemon: Daemon) -> None:
    """Somebody holds the database: who asks how the daemon is does not have to wait."""
    locker = sqlite3.connect(daemon.database, isolation_level=None)
    try:
        locker.execute("BEGIN IMMEDIATE")
        with Peer(daemon.socket) as stuck:
            stuck.send(Hello(protocol=1, producer=new_producer()), batch(1, audit("agent")))
            assert daemon.status()["stored"] == 0
            locker.execute("ROLLBACK")
            assert isinstance(stuck.read(), Welcome)
            stuck.read_to_ack(1)
    finally:
        locker.close()


@pytest.mark.parametrize("waits", [False, True], ids=["who is gone", "who only sends no more"])
def test_a_request_is_not_run_for_somebody(daemon: Daemon, *, waits: bool) -> None:
    """He was told that there was no answer, and may have done something else."""
    daemon.exchange(b'{"type":"nonsense"}\n')
    with closing(sqlite3.connect(daemon.database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with Peer(daemon.socket) as peer:
            peer.hello()
            peer.send(Request(id=1, op="purge_rejected", arguments={"ids": [1]}))
            if waits:
                peer.finish()
            wait_until(lambda: "trouble" in daemon.status() and daemon.status()["trouble"])
            if waits:
                other.execute("ROLLBACK")
                assert peer.read() == Answer(id=1, result={"deleted": 1})
        if not waits:
            other.execute("ROLLBACK")
    daemon.exchange(line_of(audit("agent")))
    assert daemon.query("SELECT count(*) FROM rejected_events") == [(0 if waits else 1,)]


def test_load_memory_sees_the_batches_sent_before(shared: Daemon) -> None:
    """An agent that saves and loads in one breath gets what it saved."""
    memory = {"goals": ["a", {"b": 1.5}], "done": None, "ü": True}
    with Peer(shared.socket) as peer:
        peer.hello(new_producer())
        peer.send(
            batch(
                1,
                {"type": "memory_saved", "agent_id": "a", "memory": {"old": 1}},
                {
                    "type": "memory_saved",
                    "agent_id": "a",
                    "memory": memory,
                    "collision_history": [1],
                    "retry_count": 2,
                    "last_error": "none",
                    "timestamp": "2026-02-01T00:00:00Z",
                },
            ),
            Request(id=5, op="load_memory", arguments={"agent_id": "a"}),
        )
        peer.read_to_ack(2)
        answer = peer.read()
    assert isinstance(answer, Answer)
    assert answer.id == 5
    assert {
        key: answer.result[key]
        for key in ("memory", "collision_history", "retry_count", "last_error")
    } == {"memory": memory, "collision_history": [1], "retry_count": 2, "last_error": "none"}


def test_load_memory_of_an_unknown_agent_is_nothing(shared: Daemon) -> None:
    """An agent that never saved has no memory, which is no error."""
    with Peer(shared.socket) as peer:
        peer.hello()
        peer.send(Request(id=1, op="load_memory", arguments={"agent_id": "nobody"}))
        assert peer.read() == Answer(id=1, result=None)


@pytest.mark.parametrize(
    ("request_", "named"),
    [
        (Request(id=3, op="load_memory"), "agent_id"),
        (Request(id=3, op="load_memory", arguments={"agent_id": 5}), "agent_id"),
        (Request(id=3, op="make_coffee"), '"make_coffee"'),
        (Request(id=3, op=""), '""'),
    ],
    ids=["no argument", "a wrong argument", "an unknown op", "no op"],
)
def test_a_request_that_makes_no_sense_is_answered(
    shared: Daemon, request_: Request, named: str
) -> None:
    """It gets a code and a reason, and the connection goes on."""
    with Peer(shared.socket) as peer:
        peer.hello()
        peer.send(request_)
        answer = peer.read()
        assert isinstance(answer, Answer)
        assert (answer.id, answer.code) == (3, "unknown_request")
        assert named in str(answer.message)
        peer.send(Request(id=4, op="load_memory", arguments={"agent_id": "nobody"}))
        assert peer.read() == Answer(id=4, result=None)


# Take-over


def test_a_newer_connection_takes_a_producer_over(shared: Daemon) -> None:
    """The older one hears Goodbye taken_over; the newer one goes on where it was."""
    producer = new_producer()
    with Peer(shared.socket) as older, Peer(shared.socket) as newer:
        older.hello(producer)
        older.send(batch(1, *_audits(producer, 1, 2)))
        older.read_to_ack(2)
        assert newer.hello(producer).last_sequence == 2
        assert older.read_goodbye().code == "taken_over"
        newer.send(batch(3, *_audits(producer, 3, 3)))
        newer.read_to_ack(3)
    assert _operations(shared, producer) == ["1", "2", "3"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")
def test_another_user_takes_no_permanent_producer_over(shared: Daemon) -> None:
    """The same id within another user is another producer; and each is known by its own."""
    producer = new_producer()
    hello = Hello(protocol=PROTOCOL, producer=producer, permanent=True, client="test", acked=1)
    shared.socket.chmod(0o666)
    shared.place.chmod(0o755)
    with Peer(shared.socket) as ours:
        ours.hello(producer, permanent=True)
        ours.send(batch(1, audit("agent")))
        ours.read_to_ack(1)
        try:
            os.seteuid(1234)
            with Peer(shared.socket) as theirs:
                assert theirs.hello(producer, permanent=True).last_sequence == 0
        finally:
            os.seteuid(0)
        ours.send(batch(2, audit("agent")))
        ours.read_to_ack(2)
    with Peer(shared.socket) as again:
        again.send(hello)
        welcome = again.read()
        assert isinstance(welcome, Welcome)
        assert welcome.last_sequence == 2


def test_a_producer_can_be_taken_over_again_and_again(shared: Daemon) -> None:
    """The end of a connection that was taken over does not disown the one that has it now."""
    producer = new_producer()
    with Peer(shared.socket) as first, Peer(shared.socket) as second, Peer(shared.socket) as third:
        first.hello(producer)
        second.hello(producer)
        assert first.read_goodbye().code == "taken_over"
        third.hello(producer)
        assert second.read_goodbye().code == "taken_over"
        third.send(batch(1, audit("agent")))
        third.read_to_ack(1)


# Goodbye done


def _totals(daemon: Daemon) -> tuple[object, ...]:
    (row,) = daemon.query(
        "SELECT last_sequence, stored, duplicate, superseded, parked, rejected, lost, replayed,"
        " shed FROM producers WHERE kind = 'folded'"
    )
    return row


def _say_done(peer: Peer) -> None:
    peer.send(Goodbye(code="done"))
    assert peer.read_to_end() == []


def _be_done_with_everything(daemon: Daemon, execution_id: str) -> bytes:
    """Be a producer with something in each count, and done; return its id."""
    producer = new_producer()
    memory = {"type": "memory_saved", "agent_id": execution_id, "memory": 1}
    with Peer(daemon.socket) as peer:
        peer.hello(producer)
        peer.send(
            batch(
                5,
                receipt(execution_id),
                receipt(execution_id),
                {**memory, "timestamp": "2026-02-02T00:00:00Z"},
                {**memory, "timestamp": "2026-02-01T00:00:00Z"},
                audit("agent", status="done"),
                lost=4,
                shed=3,
            )
        )
        peer.read_to_ack(9)
        peer.send(batch(8, audit("agent"), audit("agent")))
        peer.read_to_ack(9)
        _say_done(peer)
    return producer


def test_a_producer_that_is_done_is_folded(daemon: Daemon) -> None:
    """Its account is gone, and its counts are in the total."""
    producer = _be_done_with_everything(daemon, "x")
    assert daemon.query("SELECT * FROM producers WHERE producer = ?", producer) == []
    assert _totals(daemon) == (9, 2, 1, 1, 0, 1, 4, 2, 3)
    assert unbalanced_accounts(daemon) == []


def test_folded_accounts_add_up(daemon: Daemon) -> None:
    """There is one total, and every producer that is done adds to it."""
    for execution_id in ("x", "y", "z"):
        _be_done_with_everything(daemon, execution_id)
    assert _totals(daemon) == (27, 6, 3, 3, 0, 3, 12, 6, 9)
    assert daemon.query("SELECT COUNT(*) FROM producers") == [(1,)]


def test_a_producer_that_is_done_is_known_when_it_comes_back(daemon: Daemon) -> None:
    """What an older connection still had under way is recognised, with every count as it was."""
    producer = _be_done_with_everything(daemon, "x")
    with Peer(daemon.socket) as peer:
        assert peer.hello(producer).last_sequence == 9
        peer.send(batch(8, audit("agent"), audit("agent"), audit("agent")))
        peer.read_to_ack(10)
    assert _totals(daemon) == (0, 0, 0, 0, 0, 0, 0, 2, 3)
    counts = ("last_sequence", "stored", "duplicate", "superseded", "rejected", "lost", "replayed")
    assert _account(daemon, producer, *counts) == (10, 3, 1, 1, 1, 4, 2)
    assert unbalanced_accounts(daemon) == []


def test_a_producer_that_was_acked_and_is_unknown_is_told_so(shared: Daemon) -> None:
    """The database is another one than that which acked. One that is known says the same."""
    producer = new_producer()
    hello = Hello(protocol=PROTOCOL, producer=producer, client="test", acked=5)
    with Peer(shared.socket) as peer:
        peer.send(hello)
        goodbye = peer.read_goodbye()
        assert goodbye.code == "unknown_producer"
        assert producer.hex() in goodbye.message
    assert shared.query("SELECT * FROM producers WHERE producer = ?", producer) == []
    with Peer(shared.socket) as peer:
        assert peer.hello(producer).last_sequence == 0
        peer.send(batch(6, audit("agent"), lost=5))
        peer.read_to_ack(6)
    with Peer(shared.socket) as peer:
        peer.send(hello)
        welcome = peer.read()
        assert isinstance(welcome, Welcome)
        assert welcome.last_sequence == 6


def test_a_done_producer_with_parked_events_stays_until_they_are_released(daemon: Daemon) -> None:
    """Its account is needed to move the counts; then it is folded, in the same transaction."""
    producer, other = new_producer(), new_producer()
    with Peer(daemon.socket) as peer:
        peer.hello(producer)
        peer.send(batch(1, stage("late"), stage("later"), audit("agent")))
        peer.read_to_ack(3)
        _say_done(peer)
    assert _account(daemon, producer, "finished", "stored", "parked") == (1, 1, 2)
    with Peer(daemon.socket) as peer:
        peer.hello(other)
        peer.send(batch(1, receipt("late")))
        peer.read_to_ack(1)
        assert _account(daemon, producer, "finished", "stored", "parked") == (1, 2, 1)
        peer.send(batch(2, receipt("later")))
        peer.read_to_ack(2)
    assert daemon.query("SELECT * FROM producers WHERE producer = ?", producer) == []
    assert _totals(daemon)[:2] == (3, 3)
    assert unbalanced_accounts(daemon) == []


def test_a_done_producer_that_comes_back_before_the_release_goes_on(daemon: Daemon) -> None:
    """It is not folded under its feet: its numbers continue, and nothing is stored twice."""
    producer = new_producer()
    with Peer(daemon.socket) as peer:
        peer.hello(producer)
        peer.send(batch(1, stage("late")))
        peer.read_to_ack(1)
        _say_done(peer)
    with Peer(daemon.socket) as peer:
        assert peer.hello(producer).last_sequence == 1
        peer.send(batch(1, stage("late"), receipt("late")))
        peer.read_to_ack(2)
        peer.send(batch(3, audit("agent")))
        peer.read_to_ack(3)
    assert _account(daemon, producer, "last_sequence", "stored", "parked", "replayed") == (
        3,
        3,
        0,
        1,
    )
    assert daemon.query("SELECT COUNT(*) FROM pipeline_metrics") == [(1,)]


def test_a_goodbye_behind_batches_in_one_write_is_last(daemon: Daemon) -> None:
    """A client that does not wait: everything is stored and acked, then it is forgotten."""
    producer = new_producer()
    with Peer(daemon.socket) as peer:
        peer.send(
            Hello(protocol=1, producer=producer),
            batch(1, *_audits(producer, 1, 3)),
            Goodbye(code="done"),
        )
        messages = peer.read_to_end()
    assert messages[1:] == [Ack(sequence=3)]
    assert _operations(daemon, producer) == ["1", "2", "3"]
    assert _totals(daemon)[:2] == (3, 3)
    assert daemon.query("SELECT COUNT(*) FROM producers") == [(1,)]


def test_a_producer_that_merely_leaves_is_not_forgotten(shared: Daemon) -> None:
    """Another code than `done`, or none: it may come back and must be recognised."""
    producer = new_producer()
    with Peer(shared.socket) as peer:
        peer.hello(producer)
        peer.send(batch(1, audit("agent")), Goodbye(code="leaving"))
        assert peer.read_to_end() == [Ack(sequence=1)]
    with Peer(shared.socket) as peer:
        assert peer.hello(producer).last_sequence == 1


def test_a_permanent_producer_is_never_folded(shared: Daemon) -> None:
    """An importer that runs again with the same id finds that everything is there."""
    producer = new_producer()
    with Peer(shared.socket) as peer:
        peer.hello(producer, permanent=True)
        peer.send(batch(1, *_audits(producer, 1, 2)))
        peer.read_to_ack(2)
        _say_done(peer)
    assert _account(shared, producer, "permanent", "stored") == (1, 2)
    with Peer(shared.socket) as peer:
        assert peer.hello(producer, permanent=True).last_sequence == 2
        peer.send(batch(1, *_audits(producer, 1, 2)))
        peer.read_to_ack(2)
    assert _operations(shared, producer) == ["1", "2"]


def test_a_permanent_producer_with_parked_events_is_not_folded_by_their_release(
    shared: Daemon,
) -> None:
    """The release of its parked events is no reason to forget it."""
    producer = new_producer()
    with Peer(shared.socket) as peer:
        peer.hello(producer, permanent=True)
        peer.send(batch(1, stage("late")))
        peer.read_to_ack(1)
        _say_done(peer)
    with Peer(shared.socket) as peer:
        peer.hello(new_producer())
        peer.send(batch(1, receipt("late")))
        peer.read_to_ack(1)
    assert _account(shared, producer, "stored", "parked") == (1, 0)


def test_a_typed_batch_is_as_good_as_an_encoded_one(shared: Daemon) -> None:
    """The struct that the schema package offers for a Batch is what the daemon reads."""
    event = Audit(agent_id="agent", operation="typed", status="completed")
    with Peer(shared.socket) as peer:
        peer.hello(new_producer())
        peer.send(Batch(first_sequence=1, stamps=[1], events=[event]))
        peer.read_to_ack(1)
    assert shared.query("SELECT timestamp FROM audit_log WHERE operation = 'typed'") == [
        ("1970-01-01T00:00:00.000Z",)
    ]


def test_checkpoints_between_batches_disturb_nothing(place: Path) -> None:
    """Each batch is followed by a checkpoint, and the next one commits at once."""
    with Daemon(place, checkpoint_events=1) as daemon, Peer(daemon.socket) as peer:
        producer = new_producer()
        peer.hello(producer)
        for sequence in range(1, 21):
            peer.send(batch(sequence, *_audits(producer, sequence, sequence)))
            peer.read_to_ack(sequence)
        assert daemon.query("SELECT COUNT(*) FROM audit_log") == [(20,)]
    log = daemon.log.read_text()
    assert "cannot write" not in log
    assert "checkpoint failed" not in log
    assert "hook failed" not in log


def test_a_peer_that_asks_and_never_reads_costs_others_nothing(daemon: Daemon) -> None:
    """Answers wait for their reader one by one, not all at once in memory."""
    daemon.exchange(b'{"type":"memory_saved","agent_id":"a","memory":"' + b"x" * 900_000 + b'"}\n')
    with Peer(daemon.socket) as greedy, Peer(daemon.socket) as other:
        greedy.hello()
        greedy.send(
            *(
                Request(id=number, op="load_memory", arguments={"agent_id": "a"})
                for number in range(2_000)
            )
        )
        producer = new_producer()
        other.hello(producer)
        other.send(batch(1, *_audits(producer, 1, 3)))
        other.read_to_ack(3)
        assert daemon.process is not None
        peak = Path(f"/proc/{daemon.process.pid}/status").read_text()
        kib = next(int(line.split()[1]) for line in peak.splitlines() if line.startswith("VmHWM"))
        assert kib < 200_000


def test_an_answer_that_fits_in_no_frame_is_a_code(daemon: Daemon) -> None:
    """The daemon keeps the frame limit that it announces."""
    numbers = b"[" + b"0.1," * 261_000 + b"0.1]"
    daemon.exchange(
        b'{"type":"memory_saved","agent_id":"a","memory":'
        + numbers
        + b',"collision_history":'
        + numbers
        + b"}\n"
    )
    with Peer(daemon.socket) as peer:
        peer.hello()
        peer.send(Request(id=1, op="load_memory", arguments={"agent_id": "a"}))
        answer = peer.read()
        assert isinstance(answer, Answer)
        assert answer.code == "too_large"
