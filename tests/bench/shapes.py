"""Shapes: quiet producers beside flooding ones, 200 of all sizes, and a thousand that say nothing.

Quiet and idle ones are measured beside their own absence, in one run on one daemon.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import resource
import select
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from multiprocessing.synchronize import Event as Flag
from pathlib import Path

from msgspec import Raw, Struct
from rich.table import Table

from bench.machine import memory_mib
from bench.mix import streams
from bench.producers import PATIENCE_SECONDS, FramedPeer, blast, feed_of_frames, frames
from ggend_schema import Audit
from ggend_schema.codec import encode_event, encode_frame
from ggend_schema.messages import EncodedBatch
from support.daemon_process import Daemon

__all__ = [
    "Idle",
    "Quiet",
    "Turns",
    "flooded",
    "idle",
    "idle_table_of",
    "quiet_table_of",
    "turns",
    "turns_table_of",
]

#: Seconds that a quiet producer waits after an ack before it sends its next event.
_PAUSE_SECONDS = (0.05, 0.1)

#: Events a frame of a flooding producer.
_FLOOD_FRAME = 128

#: Events a batch of peers that take turns, and how many processes these are in.
_TURN_SIZES = (1, 16, 128, 200, 1_000, 4_000)
_TURN_PROCESSES = 4

#: Single events whose median is the latency beside idle connections.
_SINGLES = 500


class Quiet(Struct, frozen=True):
    """The quiet producers of one shape: their times alone, and beside the flooding ones."""

    quiet: int
    flooding: int
    flood_events: int
    flood_seconds: float
    alone_ms: list[float]
    beside_ms: list[float]
    peak_mib: float


class Idle(Struct, frozen=True):
    """What idle connections cost."""

    connections: int
    connect_ms: list[float]
    idle_kib_each: float
    without_ms: list[float]
    with_ms: list[float]
    without_per_second: float
    with_per_second: float


class Turns(Struct, frozen=True):
    """What peers of one batch size got that all send, wait for the ack, and send again."""

    batch_events: int
    peers: int
    seconds: float
    #: Of each peer: its acks, and the longest wait for one in seconds.
    acks: list[int]
    longest_waits: list[float]


def flooded(*, quiet: int, flooding: int, events: int, parent: Path | None) -> Quiet:
    """Measure quiet producers alone, and for as long again while others send `events` in all."""
    feeds = [
        feed_of_frames(stream, _FLOOD_FRAME)
        for stream in streams("tight", events=events, producers=flooding)
    ]
    with (
        tempfile.TemporaryDirectory(prefix="ggend-", dir=parent) as place,
        Daemon(Path(place)) as daemon,
    ):
        assert daemon.process is not None
        with _quietly(daemon.socket, quiet) as beside:
            seconds = blast(daemon.socket, feeds)
        daemon.wait_for_hooks()
        with _quietly(daemon.socket, quiet) as alone:
            time.sleep(seconds)
        return Quiet(
            quiet=quiet,
            flooding=flooding,
            flood_events=sum(feed.events for feed in feeds),
            flood_seconds=seconds,
            alone_ms=alone,
            beside_ms=beside,
            peak_mib=memory_mib(daemon.process.pid, "VmHWM"),
        )


def idle(*, connections: int, events: int, parent: Path | None) -> Idle:
    """Measure one producer without and with connections that have said Hello, and nothing more."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # the daemon inherits it
    sent = streams("tight", events=2 * events, producers=2)
    without, beside = (feed_of_frames(stream, _FLOOD_FRAME) for stream in sent)
    with (
        tempfile.TemporaryDirectory(prefix="ggend-", dir=parent) as place,
        Daemon(Path(place)) as daemon,
    ):
        assert daemon.process is not None
        _singles(daemon.socket)  # so that what the first events need is not taken for connections
        before = memory_mib(daemon.process.pid, "VmRSS")
        connect_ms = []
        with ExitStack() as opened:
            for _ in range(connections):
                begin = time.perf_counter()
                opened.enter_context(FramedPeer(daemon.socket, os.urandom(16)).socket)
                connect_ms.append((time.perf_counter() - begin) * 1000)
            grown = memory_mib(daemon.process.pid, "VmRSS") - before
            assert daemon.status()["connections"] == connections + 1  # and the one that asks
            with_seconds = blast(daemon.socket, [beside])
            daemon.wait_for_hooks()
            with_ms = _singles(daemon.socket)
        without_seconds = blast(daemon.socket, [without])
        daemon.wait_for_hooks()
        without_ms = _singles(daemon.socket)
    return Idle(
        connections=connections,
        connect_ms=connect_ms,
        idle_kib_each=grown * 1024 / connections,
        without_ms=without_ms,
        with_ms=with_ms,
        without_per_second=without.events / without_seconds,
        with_per_second=beside.events / with_seconds,
    )


def turns(*, peers: int, seconds: float, parent: Path | None) -> list[Turns]:
    """Measure what each of many peers gets, by the size of its batches."""
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(_TURN_PROCESSES)
    each = peers // _TURN_PROCESSES
    with tempfile.TemporaryDirectory(prefix="ggend-", dir=parent) as place:
        daemon = Daemon(Path(place))
        with daemon:
            children = []
            for _ in range(_TURN_PROCESSES):
                ours, theirs = context.Pipe(duplex=False)
                child = context.Process(
                    target=_take_turns, args=(daemon.socket, each, seconds, barrier, theirs)
                )
                child.start()
                theirs.close()
                children.append((child, ours))
            found: dict[int, list[tuple[int, float]]] = {size: [] for size in _TURN_SIZES}
            for child, ours in children:
                try:
                    for size, acks, wait in ours.recv():
                        found[size].append((acks, wait))
                except EOFError:
                    raise AssertionError("a peer failed; what it said is above") from None
                finally:
                    ours.close()
                    child.join(PATIENCE_SECONDS)
    return [
        Turns(
            batch_events=size,
            peers=len(got),
            seconds=seconds,
            acks=[acks for acks, _ in got],
            longest_waits=[wait for _, wait in got],
        )
        for size, got in found.items()
    ]


def _take_turns(
    address: Path, count: int, seconds: float, barrier: Barrier, report: Connection
) -> None:
    peers = [_Pinging(address, _TURN_SIZES[n % len(_TURN_SIZES)]) for n in range(count)]
    ready = select.poll()
    by_descriptor = {peer.socket.fileno(): peer for peer in peers}
    for descriptor in by_descriptor:
        ready.register(descriptor, select.POLLIN)
    barrier.wait(PATIENCE_SECONDS)
    end = time.monotonic() + seconds
    for peer in peers:
        peer.ping()
    while time.monotonic() < end:
        for descriptor, _ in ready.poll(1_000):
            by_descriptor[descriptor].read()
    report.send([(peer.size, peer.acks, peer.longest_wait()) for peer in peers])


class _Pinging(FramedPeer):
    """Sends one batch, and the next when that is acknowledged."""

    def __init__(self, address: Path, size: int) -> None:
        super().__init__(address, os.urandom(16))
        self.size = size
        self.acks = 0
        self._sent = 0
        self._since = time.monotonic()
        self._longest_wait = 0.0
        event = Raw(encode_event(Audit(agent_id="ping", operation="turn", status="completed")))
        self._events = [event] * size
        self._stamps = [time.time_ns()] * size

    def ping(self) -> None:
        """Send a batch."""
        batch = EncodedBatch(
            first_sequence=self._sent + 1, stamps=self._stamps, events=self._events
        )
        self._since = time.monotonic()
        self._sent += self.size
        self.send([encode_frame(batch)])

    def read(self) -> None:
        """Hear what came; send again if it was the ack."""
        self.hear(self.socket.recv(4096))
        if self.settled == self._sent:
            self.acks += 1
            self._longest_wait = self.longest_wait()
            self.ping()

    def longest_wait(self) -> float:
        """Return seconds, those of the batch on its way among them."""
        return max(self._longest_wait, time.monotonic() - self._since)


@contextmanager
def _quietly(address: Path, count: int) -> Iterator[list[float]]:
    """Run quiet producers; the list has the milliseconds of all their acks afterwards."""
    context = multiprocessing.get_context("fork")
    stop = context.Event()
    children = []
    for number in range(count):
        ours, theirs = context.Pipe(duplex=False)
        child = context.Process(target=_whisper, args=(address, number, stop, theirs))
        child.start()
        theirs.close()
        children.append((child, ours))
    times: list[float] = []
    for _, ours in children:
        assert ours.recv() == "ready"
    try:
        yield times
    finally:
        stop.set()
        for child, ours in children:
            try:
                times += ours.recv()
            except EOFError:
                raise AssertionError("a quiet producer failed; see above") from None
            finally:
                ours.close()
                child.join(PATIENCE_SECONDS)


def _whisper(address: Path, number: int, stop: Flag, report: Connection) -> None:
    rng = random.Random(number)
    peer = FramedPeer(address, os.urandom(16))
    times: list[float] = []
    _one(peer, 1)  # finds nothing prepared, and does not count
    report.send("ready")
    sequence = 1
    with peer.socket:
        while not stop.wait(rng.uniform(*_PAUSE_SECONDS)):
            sequence += 1
            times.append(_one(peer, sequence))
    report.send(times)


def _singles(address: Path) -> list[float]:
    """Send single events, one after another."""
    peer = FramedPeer(address, os.urandom(16))
    with peer.socket:
        return [_one(peer, sequence) for sequence in range(1, _SINGLES + 1)]


def _one(peer: FramedPeer, sequence: int) -> float:
    """Send one event; return the milliseconds to its ack."""
    event = Audit(agent_id="quiet", operation="whisper", status="completed")
    (frame,) = frames([event], 1, first_sequence=sequence)
    begin = time.perf_counter()
    peer.socket.sendall(frame)
    peer.wait(sequence)
    return (time.perf_counter() - begin) * 1000


def quiet_table_of(results: Sequence[Quiet]) -> Table:
    """Return the table that a person reads."""
    table = Table(title="Milliseconds from sending one event to its ack, by quiet producers")
    table.add_column("shape")
    for heading in ("acks", "p50", "p99", "max", "flood events/s", "peak MiB"):
        table.add_column(heading, justify="right")
    for result in results:
        rate = f"{result.flood_events / result.flood_seconds:,.0f}"
        peak = f"{result.peak_mib:.0f}"
        beside = f"{result.quiet} quiet, {result.flooding} flooding"
        table.add_row(f"{result.quiet} quiet alone", *_figures(result.alone_ms), "", "")
        table.add_row(beside, *_figures(result.beside_ms), rate, peak)
    return table


def turns_table_of(results: Sequence[Turns]) -> Table:
    """Return the table that a person reads."""
    peers = sum(result.peers for result in results)
    table = Table(
        title=f"{peers} peers that each send a batch, wait for the ack, and send again",
        caption=f"{results[0].seconds:.0f} s",
    )
    for heading in ("events a batch", "peers", "acks each", "longest wait, s"):
        table.add_column(heading, justify="right")
    for result in results:
        table.add_row(
            f"{result.batch_events:,}",
            f"{result.peers}",
            f"{min(result.acks)}–{max(result.acks)}",
            f"{max(result.longest_waits):.2f}",
        )
    return table


def idle_table_of(result: Idle) -> Table:
    """Return the table that a person reads."""
    table = Table(
        title=f"One producer beside {result.connections:,} idle connections",
        caption=f"an idle connection takes {result.idle_kib_each:.1f} KiB, and "
        f"{statistics.median(result.connect_ms):.2f} ms from connect to Welcome "
        f"(p99 {_percentile(result.connect_ms, 0.99):.2f})",
    )
    table.add_column("idle connections")
    for heading in ("acks", "p50 ms", "p99 ms", "max ms", "events/s, 128 a frame"):
        table.add_column(heading, justify="right")
    rows = (
        ("none", result.without_ms, result.without_per_second),
        (f"{result.connections:,}", result.with_ms, result.with_per_second),
    )
    for name, times, rate in rows:
        table.add_row(name, *_figures(times), f"{rate:,.0f}")
    return table


def _figures(times: Sequence[float]) -> tuple[str, str, str, str]:
    return (
        f"{len(times)}",
        f"{statistics.median(times):.2f}",
        f"{_percentile(times, 0.99):.2f}",
        f"{max(times):.2f}",
    )


def _percentile(times: Sequence[float], share: float) -> float:
    return sorted(times)[int(len(times) * share)]
