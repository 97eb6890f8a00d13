"""ggend_client.testing: the fake daemon keeps the protocol, and the fixture works for users."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ggend.ingest.intake import Rejection
from ggend.server.decode import batch_entries
from ggend_client import Audit, Client, MemorySaved, RequestRefused, SessionStarted, ask
from ggend_client.testing import FakeDaemon
from ggend_schema import limits
from ggend_schema.codec import SalvagedBatch, decode_client_message, encode_frame
from ggend_schema.messages import Ack, Batch, Goodbye, Hello, Reject, Request
from support.daemon_process import Daemon
from support.framed_peer import STAMP_NS, Peer, audit, batch, new_producer, packed, receipt, stage
from support.patience import PATIENCE_SECONDS
from support.scripted_daemon import ScriptedDaemon

pytestmark = pytest.mark.slow

pytest_plugins = ["pytester"]


@pytest.fixture
def ggend() -> Iterator[FakeDaemon]:
    with FakeDaemon() as fake:
        yield fake


@pytest.fixture
def client(ggend: FakeDaemon) -> Iterator[Client]:
    with Client(ggend.socket, spool_dir="") as made:
        yield made


def plan(n: int = 0) -> Audit:
    return Audit(agent_id="a", operation=f"plan {n}", status="completed")


def test_what_was_emitted_here_is_there_when_it_is_looked_at(
    ggend: FakeDaemon, client: Client
) -> None:
    for n in range(1000):
        client.emit(plan(n))
    assert ggend.of_type(Audit) == [plan(n) for n in range(1000)]
    assert ggend.of_type(SessionStarted) == []


def test_what_a_thread_will_emit_can_be_waited_for(ggend: FakeDaemon, client: Client) -> None:
    later = threading.Timer(0.05, client.emit, [plan()])
    later.start()
    assert ggend.wait_for(1, timeout=PATIENCE_SECONDS) == [plan()]
    assert ggend.wait_for(lambda events: plan() in events) == [plan()]
    later.join()


def test_what_does_not_come_is_told_with_what_came_instead(
    ggend: FakeDaemon, client: Client
) -> None:
    client.emit(plan())
    client.emit(Audit(agent_id="", operation="plan", status="completed"))
    assert client.flush(PATIENCE_SECONDS)
    with pytest.raises(AssertionError, match=r"for events \(2\): 1 Audit came; rejected: i"):
        ggend.wait_for(2, timeout=0)


def test_a_client_that_cannot_deliver_makes_the_look_fail(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ggend_client.testing.fake_daemon.PATIENCE_SECONDS", 0.05)
    daemon = ScriptedDaemon(place / "s")
    daemon.acks = False
    client = Client(place / "s", spool_dir="")
    client.emit(plan())
    with pytest.raises(AssertionError, match=r"did not arrive .* 1 events are on their way"):
        _ = daemon.events
    daemon.stop()
    assert daemon.events == []
    client.close(0)


def test_a_client_of_another_daemon_is_not_waited_for(ggend: FakeDaemon, place: Path) -> None:
    other = Client(place / "nobody", spool_dir="")
    other.emit(plan())
    assert ggend.events == []
    other.close(0)


def test_a_daemon_that_comes_back_has_kept_what_came(ggend: FakeDaemon, client: Client) -> None:
    client.emit(plan(1))
    assert client.flush(PATIENCE_SECONDS)
    ggend.stop()
    client.emit(plan(2))
    assert not client.flush(0.01)
    ggend.start()
    assert ggend.wait_for(2, timeout=PATIENCE_SECONDS) == [plan(1), plan(2)]


def test_nothing_is_left_behind() -> None:
    threads = threading.active_count()
    with FakeDaemon() as fake:
        assert ask(fake.socket, "status")["stored"] == 0
    assert not fake.socket.parent.exists()
    assert threading.active_count() == threads


def test_what_is_sent_again_is_kept_once(ggend: FakeDaemon) -> None:
    producer = new_producer()
    for _ in range(2):
        with Peer(ggend.socket) as peer:
            assert peer.hello(producer).protocol == 1
            peer.send(batch(1, audit("a"), audit("b")))
            assert peer.read_to_ack(2) == []
    assert [event.agent_id for event in ggend.of_type(Audit)] == ["a", "b"]


def test_a_gap_is_refused_and_lost_numbers_fill_it(ggend: FakeDaemon) -> None:
    with Peer(ggend.socket) as peer:
        peer.hello(new_producer())
        peer.send(batch(3, audit("a")))
        assert peer.read_goodbye() == Goodbye(code="gap", last_sequence=0)
    with Peer(ggend.socket) as peer:
        peer.hello(new_producer())
        peer.send(batch(3, audit("a"), lost=2))
        assert peer.read() == Ack(sequence=3)


def test_a_memory_is_answered_as_the_real_daemon_does(ggend: FakeDaemon, daemon: Daemon) -> None:
    saves = [
        MemorySaved(agent_id="a", memory={"n": 2}, timestamp="2026-01-29T12:34:56.789Z"),
        MemorySaved(agent_id="a", memory={"n": 1}, timestamp="2026-01-29T12:34:55Z"),
        MemorySaved(
            agent_id="b",
            memory=None,
            collision_history=[{"with": "a"}],
            retry_count=3,
            last_error="no",
            timestamp="2026-01-29T13:34:56.7+01:00",
        ),
    ]
    answers = []
    for socket in (ggend.socket, daemon.socket):
        with Client(socket, spool_dir="") as client:
            assert all(map(client.emit, saves))
            assert client.flush(PATIENCE_SECONDS)
        answers.append(
            [ask(socket, "load_memory", {"agent_id": agent_id}) for agent_id in ("a", "b", "c")]
        )
    assert answers[0] == answers[1]
    assert answers[0][0]["memory"] == {"n": 2}


def test_its_status_says_nothing_that_the_real_one_does_not(
    ggend: FakeDaemon, daemon: Daemon
) -> None:
    assert ask(ggend.socket, "status").keys() <= ask(daemon.socket, "status").keys()


def test_what_the_dead_left_in_a_spool_stays_there(ggend: FakeDaemon, place: Path) -> None:
    """A test shall not take what is meant for the real daemon, nor see it."""
    program = (
        "import os; from ggend_client import *\n"
        "client = Client('nowhere', durable=True)\n"
        "client.emit(Audit(agent_id='a', operation='left', status='completed'))\n"
        "os._exit(0)"
    )
    environ = {**os.environ, "GGEND_SPOOL_DIR": str(place)}
    subprocess.run([sys.executable, "-c", program], env=environ, check=True)
    (left,) = place.glob("*.segment")
    with Client(ggend.socket, spool_dir=place) as client:
        client.emit(plan())
        assert client.flush(PATIENCE_SECONDS)
    assert ggend.events == [plan()]
    assert left.exists()


def test_what_it_cannot_answer_is_refused_with_the_real_code(
    ggend: FakeDaemon, daemon: Daemon
) -> None:
    for op in ("load_memory", "dance"):
        for socket in (ggend.socket, daemon.socket):
            with pytest.raises(RequestRefused) as refused:
                ask(socket, op, {})
            assert refused.value.code == "unknown_request"


DEEP: object = 1
for _ in range(limits.JSON_DEPTH + 1):
    DEEP = [DEEP]

#: Events that are refused, and some that look like it and are not.
ODD = [
    audit("a", status="done"),
    audit("a", context=float("nan")),
    audit("a", context=b"bytes"),
    audit("a", context={1: 2}),
    audit("a", context={"a": [1, {"b": float("inf")}]}),
    audit("a", context=DEEP),
    audit("a", context="x" * limits.JSON_BYTES),
    audit("a", context="x" * (limits.EVENT_BYTES + 1)),
    audit("a", timestamp="yesterday"),
    audit("a", timestamp="1969-12-31T23:59:59Z"),
    audit("a", execution_id="e\x85"),
    audit("a", session_id="s\x00", execution_id="e\x7f"),
    audit("a\n"),
    audit("a\u200b", operation="tab\tis fine"),
    audit(""),
    stage("e", duration_ms=limits.COUNT_MAX * 2),
    stage("e", duration_ms=limits.COUNT_MAX),
    stage("e\t"),
    stage("e", "invent"),
    receipt("e", environment="\x01", session_id="\x02"),
    receipt("e", receipt=[float("nan")]),
    receipt("e", duration_ms=limits.COUNT_MAX),
    {"type": "collision", "session_id": "s", "agent_id_1": "a", "agent_id_2": "\x1b"}
    | {"collision_type": "file_conflict", "description": "d", "severity": "info"},
    {"type": "session_started", "session_id": "s\x01", "agent_count": 1},
    {"type": "session_started", "session_id": "s", "agent_count": 1, "context": {None: 1}},
    {"type": "session_ended", "session_id": "s\r", "status": "completed"},
    {"type": "memory_saved", "agent_id": "a\x9f", "memory": 1},
    {"type": "memory_saved", "agent_id": "a", "memory": float("-inf")},
    {"type": "memory_saved", "agent_id": "a", "memory": 1, "collision_history": [b""]},
    {"type": "memory_saved", "agent_id": "a", "memory": 1, "timestamp": "x"},
    {"type": "unheard_of"},
    packed(audit("a")).replace(b"\xa1a", b"\xa1\xff", 1),
]


@pytest.mark.parametrize("event", ODD, ids=range(len(ODD)))
@pytest.mark.parametrize("stamp_ns", [STAMP_NS, 1_000_000], ids=["2026", "1970"])
def test_an_event_is_refused_in_the_words_of_the_real_daemon(
    event: dict[str, object] | bytes, stamp_ns: int, ggend: FakeDaemon
) -> None:
    stamps = [STAMP_NS, stamp_ns, STAMP_NS]
    sent = batch(1, audit("before"), event, audit("after"), stamps=stamps)
    with Peer(ggend.socket) as peer:
        peer.hello(new_producer())
        peer.send(sent)
        told = peer.read_to_ack(3)
    payload = memoryview(encode_frame(sent))[4:]
    message = decode_client_message(payload)
    assert isinstance(message, (Batch, SalvagedBatch))
    real = [
        Reject(sequence=sequence, code=entry.code, message=entry.message)
        for sequence, (entry, _, _) in enumerate(batch_entries([(message, payload)]), 1)
        if isinstance(entry, Rejection)
    ]
    assert told == real
    assert [(refused.code, refused.message) for refused in ggend.rejected] == [
        (reject.code, reject.message) for reject in real
    ]
    assert len(ggend.events) == 3 - len(real)


#: What breaks the protocol, and the code of the Goodbye.
BREAKS: list[tuple[list[Any], str]] = [
    ([batch(1, audit("a"))], "protocol"),
    ([Request(id=1, op="status")], "protocol"),
    ([Hello(protocol=2)], "unsupported_version"),
    ([Hello(protocol=1), Hello(protocol=1)], "protocol"),
    ([Hello(protocol=1), batch(1, audit("a"))], "protocol"),
    ([Hello(protocol=1, producer=b"p" * 16), batch(1, audit("a"), lost=1)], "protocol"),
    ([Hello(protocol=1, producer=b"p" * 16), batch(1, audit("a"), stamps=[])], "protocol"),
    ([b"GET / HTTP/1.1\r\n\r\n"], "frame_too_large"),
]


def test_who_breaks_the_protocol_is_told_as_the_real_daemon_tells(
    ggend: FakeDaemon, daemon: Daemon
) -> None:
    for said, code in BREAKS:
        for socket in (ggend.socket, daemon.socket):
            with Peer(socket) as peer:
                peer.send(*said)
                assert peer.read_goodbye().code == code, said


#: A program of a user, and the head of the tests for it.
PROGRAM = """
import subprocess, sys
from ggend_client import Audit, Client

client = Client()

def run(operation="plan"):
    client.emit(Audit(agent_id="a1", operation=operation, status="completed"))

if __name__ == "__main__":
    run("child")
"""
TESTS = """
import os, subprocess, sys
import program
from ggend_client import Audit
"""


def users_run(
    pytester: pytest.Pytester, tests: str, *options: str, program: str = PROGRAM
) -> pytest.RunResult:
    """Run pytest as a user would, in a folder of the user's own."""
    pytester.makepyfile(program=program, test_program=TESTS + tests)
    pytester.makeini(
        "[pytest]\nfilterwarnings = error\nasyncio_default_fixture_loop_scope = function"
    )
    return pytester.runpytest_subprocess(*options)


def test_a_users_tests_see_what_the_program_emits_each_its_own(
    pytester: pytest.Pytester,
) -> None:
    ran = users_run(
        pytester,
        """
def test_one(ggend_events):
    program.run()
    assert [e.operation for e in ggend_events.of_type(Audit)] == ["plan"]

def test_another(ggend_events):
    assert ggend_events.events == []
    program.run("again")
    subprocess.run([sys.executable, program.__file__], check=True)
    # Two producers: which of them is first is nobody's promise.
    assert sorted(e.operation for e in ggend_events.of_type(Audit)) == ["again", "child"]

def test_that_does_not_look(ggend_events):
    for _ in range(1000):
        program.run()

def test_after_it(ggend_events):
    assert ggend_events.events == []

def test_without(tmp_path):
    assert "GGEND_SOCKET" not in os.environ
""",
    )
    ran.assert_outcomes(passed=5)


@pytest.mark.parametrize("is_strict", [False, True])
def test_a_users_test_is_told_of_what_would_not_be_stored(
    pytester: pytest.Pytester, is_strict: bool
) -> None:
    pytester.makepyfile(
        """
        from ggend_client import Client

        def say_it_wrong():
            Client(agent="a").audit(operation="o", status="done")

        def test_that_looks(ggend_events):
            say_it_wrong()
            assert ggend_events.events == [] and len(ggend_events.rejected) == 1

        def test_that_does_not_look(ggend_events):
            say_it_wrong()
        """
    )
    pytester.makeini(f"[pytest]\nggend_strict = {str(is_strict).lower()}")
    ran = pytester.runpytest_subprocess("-p", "no:asyncio")
    if is_strict:
        ran.assert_outcomes(passed=2, errors=1)
    else:
        ran.assert_outcomes(passed=2, warnings=1)
    ran.stdout.fnmatch_lines(["*ggend would not store what this test emitted: 1 × invalid: *done*"])


def test_coroutines_may_use_it_too(pytester: pytest.Pytester) -> None:
    ran = users_run(
        pytester,
        """
import pytest

@pytest.mark.asyncio
async def test_one(ggend_events):
    program.run()
    assert [e.operation for e in ggend_events.of_type(Audit)] == ["plan"]
""",
    )
    ran.assert_outcomes(passed=1)


def test_a_program_that_emits_nothing_fails_its_test_in_words(pytester: pytest.Pytester) -> None:
    ran = users_run(
        pytester,
        """
def test_one(ggend_events):
    program.run()
    assert [e.operation for e in ggend_events.of_type(Audit)] == ["plan"]

def test_another(ggend_events):
    program.run()
    ggend_events.wait_for(1, timeout=0.1)
""",
        program=PROGRAM.replace("    client.emit(", "    str("),
    )
    ran.assert_outcomes(failed=2)
    assert "assert [] == ['plan']" in ran.stdout.str()
    assert "waited 0.1 s for events (1): nothing came" in ran.stdout.str()


def test_a_run_that_does_not_use_it_imports_no_fake_daemon(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
import sys

def test_one():
    assert "ggend_client.testing.fake_daemon" not in sys.modules
"""
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=1)


def test_it_can_be_left_out(pytester: pytest.Pytester) -> None:
    ran = users_run(pytester, "def test_one(ggend_events): pass", "-p", "no:ggend")
    ran.assert_outcomes(errors=1)
