"""Client and ask against a small daemon on a real socket: delivery, loss of it, and the end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ggend_client import (
    Audit,
    Client,
    ConnectionLost,
    DaemonAbsent,
    RequestRefused,
    Statistics,
    ask,
)
from ggend_client.transport.session import FRAME_EVENTS
from ggend_client.transport.worker import FLIGHT_EVENTS
from ggend_schema import limits
from ggend_schema.messages import (
    Goodbye,
)
from support.patience import PATIENCE_SECONDS
from support.scripted_daemon import ScriptedDaemon


@pytest.fixture
def place() -> Iterator[Path]:
    # Not tmp_path: a socket's path may have 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="g"))
    yield folder / "s"
    shutil.rmtree(folder)


@pytest.fixture
def daemon(place: Path) -> Iterator[ScriptedDaemon]:
    fake = ScriptedDaemon(place)
    yield fake
    fake.stop()


@pytest.fixture
def client(place: Path) -> Iterator[Client]:
    made = Client(place, linger_seconds=0.002)
    yield made
    made.close(0.1)


def audit(operation: str) -> Audit:
    return Audit(agent_id="a", operation=operation, status="completed")


def emit(client: Client, *operations: str) -> None:
    for operation in operations:
        assert client.emit(audit(operation))


def received(daemon: ScriptedDaemon) -> int:
    return sum(len(batch.events) for batch in daemon.batches)


def accounted(statistics: Statistics) -> bool:
    return statistics.offered == (
        statistics.acked
        + statistics.queued
        + statistics.spooled
        + statistics.rejected
        + statistics.dropped.total
    )


def test_what_was_emitted_before_a_flush_is_stored_when_it_returns(
    daemon: ScriptedDaemon, client: Client
) -> None:
    emit(client, "one", "two")
    assert client.flush(PATIENCE_SECONDS)
    assert daemon.operations == ["one", "two"]
    statistics = client.stats()
    assert (statistics.accepted, statistics.acked, statistics.queued) == (2, 2, 0)
    assert statistics.connected
    assert statistics.last_error is None


def test_a_client_that_emits_nothing_starts_no_thread_and_connects_nowhere(
    daemon: ScriptedDaemon, place: Path
) -> None:
    threads = threading.active_count()
    with Client(place) as client:
        assert client.flush(0)
        assert threading.active_count() == threads
    assert daemon.hellos == []


def test_many_events_from_many_threads_arrive_once_each_and_in_each_threads_order(
    daemon: ScriptedDaemon, client: Client
) -> None:
    threads = [
        threading.Thread(target=emit, args=(client, *(f"{name}{n}" for n in range(3000))))
        for name in "abcd"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert client.flush(PATIENCE_SECONDS)
    assert len(daemon.operations) == 12_000
    for name in "abcd":
        mine = [operation for operation in daemon.operations if operation[0] == name]
        assert mine == [f"{name}{n}" for n in range(3000)]


def test_an_idle_client_can_emit_again(daemon: ScriptedDaemon, client: Client) -> None:
    emit(client, "one")
    assert client.flush(PATIENCE_SECONDS)
    emit(client, "two")
    assert client.flush(PATIENCE_SECONDS)
    assert len(daemon.hellos) == 1


def test_without_a_flush_events_arrive_by_themselves(
    daemon: ScriptedDaemon, client: Client
) -> None:
    emit(client, "one")
    daemon.await_that(lambda: daemon.operations == ["one"])


def test_without_a_daemon_emit_accepts_and_flush_says_no_in_time(client: Client) -> None:
    emit(client, "one")
    assert not client.flush(0.05)
    statistics = client.stats()
    assert statistics.queued == 1
    assert not statistics.connected


def test_a_daemon_that_comes_later_gets_what_waited(client: Client, place: Path) -> None:
    emit(client, "one")
    client.flush(0.05)
    daemon = ScriptedDaemon(place)
    try:
        assert client.flush(PATIENCE_SECONDS)
        assert daemon.operations == ["one"]
    finally:
        client.close()
        daemon.stop()
    assert "no daemon accepts" in (client.stats().last_error or "")


def test_a_connection_closed_without_an_ack_is_followed_by_the_same_numbers_in_order(
    daemon: ScriptedDaemon, client: Client
) -> None:
    daemon.breaks = 2
    emit(client, "one", "two")
    assert client.flush(PATIENCE_SECONDS)
    assert daemon.operations == ["one", "two"]
    assert len(daemon.hellos) == 3
    assert {batch.first_sequence for batch in daemon.batches} == {1}
    assert {hello.producer for hello in daemon.hellos} == {daemon.hellos[0].producer}
    assert client.stats().resent >= 2


def test_a_daemon_that_restarts_while_the_client_rests_gets_the_next_event(
    daemon: ScriptedDaemon, client: Client
) -> None:
    emit(client, "one")
    assert client.flush(PATIENCE_SECONDS)
    daemon.hang_up()
    emit(client, "two")
    assert client.flush(PATIENCE_SECONDS)
    assert daemon.operations == ["one", "two"]


def test_a_goodbye_is_kept_as_the_last_error_and_the_client_comes_back(
    daemon: ScriptedDaemon, client: Client
) -> None:
    daemon.refusal = Goodbye(code="draining", message="back soon")
    emit(client, "one")
    assert client.flush(PATIENCE_SECONDS)
    assert "draining: back soon" in (client.stats().last_error or "")


def test_a_replaced_database_is_told_how_many_numbers_are_lost(
    daemon: ScriptedDaemon, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """And whoever runs the program is told that what was acknowledged is gone."""
    emit(client, "one", "two")
    assert client.flush(PATIENCE_SECONDS)
    daemon.restore()
    daemon.hang_up()
    emit(client, "three")
    assert client.flush(PATIENCE_SECONDS)
    assert (daemon.batches[-1].first_sequence, daemon.batches[-1].lost) == (3, 2)
    assert "no longer in the daemon's database" in caplog.text


def test_a_rejected_event_is_settled_and_can_be_looked_at(
    daemon: ScriptedDaemon, client: Client
) -> None:
    daemon.rejects = {2}
    emit(client, "one", "two", "three")
    assert client.flush(PATIENCE_SECONDS)
    assert client.stats().rejected == 1
    assert [reject.sequence for reject in client.recent_rejects()] == [2]


def test_a_full_client_refuses_counts_and_reports_what_it_shed(
    daemon: ScriptedDaemon, place: Path
) -> None:
    daemon.acks = False
    with Client(place, max_events=2) as client:
        emit(client, "one", "two")
        assert not client.emit(audit("three"))
        assert client.stats().dropped.full == 1
        daemon.await_that(lambda: bool(daemon.batches))
        daemon.acks = True
        daemon.hang_up()
        assert client.flush(PATIENCE_SECONDS)
        emit(client, "four")
        assert client.flush(PATIENCE_SECONDS)
        assert daemon.operations == ["one", "two", "four"]
        assert daemon.shed == 1
        assert accounted(client.stats())


def test_the_bound_on_bytes_holds_too(place: Path) -> None:
    client = Client(place, max_bytes=1000)
    emit(client, "x" * 900)
    assert not client.emit(audit("y" * 900))
    assert client.stats().dropped.full == 1
    assert not client.close(0)


def test_more_than_a_flight_of_large_events_gets_through(
    daemon: ScriptedDaemon, client: Client
) -> None:
    for n in range(400):
        assert client.emit(
            Audit(agent_id="a", operation=str(n), status="started", context="x" * 50_000)
        )
    assert client.flush(PATIENCE_SECONDS)
    assert daemon.operations == [str(n) for n in range(400)]


def test_a_daemon_that_does_not_ack_gets_no_more_than_a_flight(
    daemon: ScriptedDaemon, client: Client
) -> None:
    daemon.acks = False
    emit(client, *(str(n) for n in range(FLIGHT_EVENTS + 3 * FRAME_EVENTS)))
    daemon.await_that(lambda: received(daemon) >= FLIGHT_EVENTS)
    assert not client.flush(0.05)
    assert received(daemon) < FLIGHT_EVENTS + FRAME_EVENTS


def test_what_cannot_be_sent_is_refused_at_emit_by_cause(client: Client) -> None:
    class Unencodable:
        def __getattr__(self, name: str) -> object:
            raise RuntimeError(name)

    for context in (object(), Unencodable()):
        assert not client.emit(
            Audit(agent_id="a", operation="o", status="started", context=context)
        )
    assert not client.emit({"type": "audit"})  # type: ignore[arg-type]
    too_large = Audit(
        agent_id="a", operation="o", status="started", context="x" * limits.EVENT_BYTES
    )
    assert not client.emit(too_large)
    dropped = client.stats().dropped
    assert (dropped.invalid, dropped.too_large, dropped.total) == (3, 1, 4)


def test_close_says_done_and_later_events_are_refused(daemon: ScriptedDaemon, place: Path) -> None:
    client = Client(place)
    emit(client, "one")
    assert client.close(PATIENCE_SECONDS)
    assert daemon.operations == ["one"]
    daemon.await_that(lambda: [goodbye.code for goodbye in daemon.goodbyes] == ["done"])
    assert not client.emit(audit("two"))
    assert client.stats().dropped.closed == 1
    assert not client.stats().connected
    assert client.close(PATIENCE_SECONDS)
    assert client.flush(0)


def test_a_permanent_producer_never_says_done(daemon: ScriptedDaemon, place: Path) -> None:
    with Client(place, producer=b"p" * 16, permanent=True) as client:
        emit(client, "one")
    daemon.stop()
    assert daemon.goodbyes == []
    assert [(hello.producer, hello.permanent) for hello in daemon.hellos] == [(b"p" * 16, True)]


def test_a_permanent_producer_that_runs_again_stores_nothing_twice(
    daemon: ScriptedDaemon, place: Path
) -> None:
    for operations in (["one", "two"], ["one", "two", "three"]):
        with Client(place, producer=b"p" * 16, permanent=True) as client:
            emit(client, *operations)
            assert client.flush(PATIENCE_SECONDS)
    assert daemon.operations == ["one", "two", "three"]


def test_close_without_an_ack_ends_in_time_and_says_no(daemon: ScriptedDaemon, place: Path) -> None:
    daemon.acks = False
    client = Client(place)
    emit(client, "one")
    assert not client.close(0.1)
    assert not client.flush(0)
    assert daemon.goodbyes == []
    assert client.stats().queued == 1


def test_a_daemon_that_never_says_welcome_does_not_hold_up_the_end(
    daemon: ScriptedDaemon, place: Path
) -> None:
    daemon.says_welcome = False
    client = Client(place)
    emit(client, "one")
    daemon.await_that(lambda: bool(daemon.hellos))
    assert not client.close(0.1)


def test_without_threads_close_delivers_on_the_callers(
    daemon: ScriptedDaemon, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At interpreter exit Python starts no thread any more."""

    def no_more(thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    client = Client(place)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_more)
        emit(client, "one")
    assert client.close(PATIENCE_SECONDS)
    assert daemon.operations == ["one"]


def test_an_error_in_the_worker_is_kept_and_the_worker_goes_on(
    daemon: ScriptedDaemon, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    sockets = client.sockets
    attempts = []

    def fail_once() -> object:
        attempts.append(1)
        if len(attempts) == 1:
            raise ZeroDivisionError("a mistake")
        return sockets()

    monkeypatch.setattr(client._worker, "_places", fail_once)
    emit(client, "one")
    assert client.flush(PATIENCE_SECONDS)
    assert client.stats().last_error == "a mistake"


def test_a_program_that_just_ends_delivers_what_it_emitted(daemon: ScriptedDaemon) -> None:
    program = (
        "from ggend_client import Audit, Client\n"
        "client = Client()\n"
        "client.emit(Audit(agent_id='a', operation='last words', status='completed'))\n"
    )
    environment = {**os.environ, "GGEND_SOCKET": str(daemon.path)}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
    assert daemon.operations == ["last words"]
    daemon.await_that(lambda: [goodbye.code for goodbye in daemon.goodbyes] == ["done"])


def test_a_signal_handler_may_emit(daemon: ScriptedDaemon, client: Client) -> None:
    before = signal.signal(signal.SIGALRM, lambda *_: emit(client, "signal"))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        for _ in range(3000):
            emit(client, "main")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert client.flush(PATIENCE_SECONDS)
    assert daemon.operations.count("main") == 3000
    assert accounted(client.stats())


def test_ask_returns_the_answer(daemon: ScriptedDaemon) -> None:
    assert ask(daemon.path, "echo", {"deep": True}) == {
        "op": "echo",
        "arguments": {"deep": True},
    }
    assert daemon.hellos[0].producer is None


def test_ask_says_what_the_daemon_refused(daemon: ScriptedDaemon) -> None:
    with pytest.raises(RequestRefused, match="not for you") as refused:
        ask(daemon.path, "forbidden")
    assert refused.value.code == "forbidden"


def test_ask_without_a_daemon_says_where_it_looked(place: Path) -> None:
    with pytest.raises(DaemonAbsent, match=str(place)):
        ask(place, "status")


def test_ask_does_not_wait_for_ever(daemon: ScriptedDaemon) -> None:
    with pytest.raises(ConnectionLost, match="no answer within"):
        ask(daemon.path, "silence", timeout=0.05)  # expected to run out


def test_ask_notices_a_daemon_that_goes_away(daemon: ScriptedDaemon) -> None:
    with pytest.raises(ConnectionLost, match="without an answer"):
        ask(daemon.path, "hang_up")


def test_a_program_that_has_every_file_open_delivers_when_it_has_closed_one(
    daemon: ScriptedDaemon,
) -> None:
    """The worker waits for a descriptor; it neither dies nor writes to the program's stderr."""
    program = f"""
import os, resource, time
from ggend_client import Audit, Client
resource.setrlimit(resource.RLIMIT_NOFILE, (24, 24))
client = Client({str(daemon.path)!r})
held = []
while True:
    try:
        held.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        break
assert client.emit(Audit(agent_id="a", operation="o", status="completed"))
assert not client.flush(0.3)
assert client.stats().last_error
for descriptor in held:
    os.close(descriptor)
assert client.flush(10)
client.close()
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE_SECONDS
    )
    assert (ran.returncode, ran.stderr) == (0, "")
