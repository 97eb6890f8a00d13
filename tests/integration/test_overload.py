"""Overload is slowed down, and is nobody else's trouble."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ggend_client import Audit, Client, ask
from ggend_schema.codec import encode_frame
from ggend_schema.limits import FRAME_BYTES
from ggend_schema.messages import PROTOCOL, Hello, Request
from support.daemon_process import Daemon
from support.framed_peer import Peer, audit, batch, new_producer, unbalanced_accounts
from support.patience import PATIENCE_SECONDS, wait_until

#: Peers that each begin a frame of the largest size, and what they send of it.
_BEGUN = 60
_BEGUN_BYTES = FRAME_BYTES - 4_096

#: MiB that the daemon may grow by then: 16 frames, and of the others what was read before they had
#: to wait (at most 128 KiB each). All of them would be 240.
_GROWN_MIB = 130


def resident_mib(daemon: Daemon) -> int:
    assert daemon.process is not None
    for line in Path(f"/proc/{daemon.process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) // 1024
    raise AssertionError("no VmRSS")


@contextlib.contextmanager
def connected(daemon: Daemon, count: int) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        peers = []
        for _ in range(count):
            peer = stack.enter_context(socket.socket(socket.AF_UNIX))
            peer.settimeout(PATIENCE_SECONDS)
            peer.connect(os.fspath(daemon.socket))
            peers.append(peer)
        yield peers


def send_what_is_taken(peer: socket.socket, sent: bytes) -> None:
    """Send until the daemon takes no more for a moment."""
    peer.settimeout(0.05)  # expected to run out
    with contextlib.suppress(TimeoutError):
        peer.sendall(sent)


def wait_until_nothing_more_is_answered(peer: socket.socket) -> None:
    """Wait until the daemon has filled the socket of a peer that does not read."""
    before, there = 0, 0
    while not there or there != before:
        time.sleep(0.1)  # a moment in which nothing more may come
        unread = fcntl.ioctl(peer, termios.FIONREAD, bytes(4))
        before, there = there, int.from_bytes(unread, sys.byteorder)


def test_begun_frames_take_bounded_memory_and_hold_nobody_up(place: Path) -> None:
    hello = encode_frame(Hello(protocol=PROTOCOL, producer=new_producer(), client="half"))
    half = struct.pack(">I", FRAME_BYTES) + bytes(_BEGUN_BYTES)
    with Daemon(place, partial_timeout_seconds=60) as daemon, connected(daemon, _BEGUN) as peers:
        idle = resident_mib(daemon)
        for peer in peers:
            send_what_is_taken(peer, hello + half)
        with Client(daemon.socket) as client:
            client.emit(Audit(agent_id="a", operation="small", status="completed"))
            assert client.flush(PATIENCE_SECONDS)
        assert resident_mib(daemon) - idle < _GROWN_MIB


@pytest.mark.parametrize("begun_bytes", [70_000, _BEGUN_BYTES])
def test_who_begins_large_frames_and_never_ends_them_makes_room_for_others(
    place: Path, begun_bytes: int
) -> None:
    """What they have sent counts, not what they have announced; and they are cut off for others."""
    half = struct.pack(">I", FRAME_BYTES) + bytes(begun_bytes)
    large = "x" * 1_000_000
    events = [{**audit(f"large {number}"), "context": large} for number in range(3)]
    with Daemon(place, partial_timeout_seconds=3_600) as daemon, connected(daemon, 40) as peers:
        for peer in peers:
            send_what_is_taken(peer, half)
        with Peer(daemon.socket) as honest:
            honest.hello(new_producer())
            honest.send(batch(1, *events))
            assert honest.read_to_ack(3) == []
        is_cut_off = "other connections waited for memory" in daemon.log.read_text()
        assert is_cut_off == (begun_bytes == _BEGUN_BYTES)


def test_one_peer_of_many_heavy_ones_is_served_in_its_turn(daemon: Daemon) -> None:
    """Their frames decode to much more than they have bytes."""
    heavy = [{**audit(f"heavy {number}"), "context": [[]] * 100_000} for number in range(6)]
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            peer = stack.enter_context(Peer(daemon.socket))
            peer.hello(new_producer())
            peer.send(batch(1, *heavy))
        with Client(daemon.socket) as client:
            client.emit(Audit(agent_id="a", operation="small", status="completed"))
            assert client.flush(PATIENCE_SECONDS)
    assert unbalanced_accounts(daemon) == []


def test_an_idle_connection_is_ended_with_a_word(place: Path) -> None:
    with Daemon(place, idle_timeout_seconds=1) as daemon, Peer(daemon.socket) as peer:
        peer.hello(new_producer())
        goodbye = peer.read_goodbye()
        assert (goodbye.code, goodbye.message) == ("timeout", "nothing arrived for 1 s")


def test_a_connection_that_says_nothing_at_all_is_ended_too(place: Path) -> None:
    with Daemon(place, idle_timeout_seconds=0.2) as daemon:
        assert daemon.exchange(b"", shut_down=False) == b""


def test_a_client_that_was_ended_for_idleness_comes_back(place: Path) -> None:
    with Daemon(place, idle_timeout_seconds=1) as daemon, Client(daemon.socket) as client:
        for number in range(2):
            client.emit(Audit(agent_id="a", operation=f"{number}", status="completed"))
            assert client.flush(PATIENCE_SECONDS)
            # The one that is left is the one that asks.
            wait_until(lambda: daemon.status()["connections"] == 1, "it is not ended")
        assert daemon.query("SELECT COUNT(*) FROM audit_log") == [(2,)]


def test_a_peer_that_reads_no_large_answers_keeps_no_more_than_one(place: Path) -> None:
    request = encode_frame(Request(id=1, op="load_memory", arguments={"agent_id": "a"}))
    with Daemon(place, answer_timeout_seconds=3_600) as daemon:
        with Peer(daemon.socket) as saver:
            saver.hello(new_producer())
            memory = {"type": "memory_saved", "agent_id": "a", "memory": "x" * 1_000_000}
            saver.send(batch(1, memory))
            assert saver.read_to_ack(1) == []
        idle = resident_mib(daemon)
        hello = encode_frame(Hello(protocol=PROTOCOL, client="deaf"))
        with connected(daemon, 80) as peers:
            for peer in peers:
                send_what_is_taken(peer, hello + 20 * request)
            assert daemon.status()["health"] == "ok"
            assert resident_mib(daemon) - idle < _GROWN_MIB
            # Who reads what it asks for waits a moment, not until their time is over.
            honest = ask(daemon.socket, "load_memory", {"agent_id": "a"}, PATIENCE_SECONDS)
            assert honest is not None


def test_a_second_signal_ends_a_drain_that_takes_long(place: Path) -> None:
    """What was acknowledged before is there."""
    with Daemon(place, drain_timeout_seconds=600, answer_timeout_seconds=600) as daemon:
        assert daemon.process is not None
        with Client(daemon.socket) as client:
            client.emit(Audit(agent_id="a", operation="acked", status="completed"))
            assert client.flush(PATIENCE_SECONDS)
        ask = encode_frame(Request(id=1, op="status", arguments={}))
        hello = encode_frame(Hello(protocol=PROTOCOL, client="deaf"))
        with connected(daemon, 1) as (deaf,):
            send_what_is_taken(deaf, hello + ask * 20_000)
            wait_until_nothing_more_is_answered(deaf)
            daemon.process.send_signal(signal.SIGTERM)
            with pytest.raises(subprocess.TimeoutExpired):
                daemon.process.wait(0.5)  # expected to run out
            daemon.process.send_signal(signal.SIGTERM)
            assert daemon.process.wait(PATIENCE_SECONDS) == 0
        assert daemon.query("SELECT operation FROM audit_log") == [("acked",)]
        assert unbalanced_accounts(daemon) == []


def test_an_event_that_no_daemon_can_read_is_lost_alone(place: Path) -> None:
    """The frame that holds it is refused as a whole; it is cut down until the event is found."""
    deep: object = None
    for _ in range(970):
        deep = [deep]
    poison = {"wide": [0] * 260_000, "deep": deep}
    with Daemon(place) as daemon, Client(daemon.socket, spool_dir="") as client:

        def emit_all() -> None:
            for number in range(120):
                context = poison if number == 20 else None
                client.emit(
                    Audit(agent_id="a", operation=str(number), status="completed", context=context)
                )

        # On a thread of its own the interpreter's limit is not half used up.
        thread = threading.Thread(target=emit_all)
        thread.start()
        thread.join(PATIENCE_SECONDS)
        assert client.flush(PATIENCE_SECONDS)
        stats = client.stats()
        assert (stats.acked, stats.dropped.lost, stats.queued) == (119, 1, 0)
        assert "nested too deep" in str(stats.last_error)
        found = daemon.query("SELECT operation FROM audit_log ORDER BY id")
        assert found == [(str(number),) for number in range(120) if number != 20]
        assert unbalanced_accounts(daemon) == []
