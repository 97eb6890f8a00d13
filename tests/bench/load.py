"""Load: how long one durable event takes while others keep the daemon busy to a known share.

First the rate that one producer reaches flat out; then, for each share of it, a producer that
sends as many frames a second as that, and beside it one that sends an event every few milliseconds
and waits for its ack. The times go into a histogram of ten buckets a decade.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event as Flag
from pathlib import Path

from msgspec import Struct
from rich.table import Table

from bench.mix import streams
from bench.producers import PATIENCE_SECONDS, Feed, FramedPeer, blast, feed_of_frames, frames
from ggend_schema import Audit
from support.daemon_process import Daemon

__all__ = ["HALF", "Loaded", "histogram", "measure", "table_of"]

#: Shares of the rate that was reached flat out.
HALF = 0.5
SHARES = (0.0, HALF, 0.9)

#: Events a frame of the load.
_FRAME_EVENTS = 128

#: Seconds between two single events.
_PAUSE_SECONDS = 0.005

#: Buckets a factor of ten.
_BUCKETS = 10


class Loaded(Struct, frozen=True):
    """What single events waited at one load."""

    share: float
    #: Events a second that were offered, and that were acked.
    offered: float
    acked: float
    ack_ms: list[float]


def measure(*, events: int, parent: Path | None) -> list[Loaded]:
    """Measure each load on one daemon, for as long as `events` take flat out."""
    with (
        tempfile.TemporaryDirectory(prefix="ggend-", dir=parent) as name,
        Daemon(Path(name)) as daemon,
    ):
        (stream,) = streams("standard", events=events, producers=1)
        feed = feed_of_frames(stream, _FRAME_EVENTS)
        most = feed.events / blast(daemon.socket, [feed])
        return [_at(daemon, share, most, events, seed) for seed, share in enumerate(SHARES, 2)]


def histogram(times_ms: Sequence[float]) -> list[tuple[float, int]]:
    """Return the upper bounds of buckets in milliseconds, and how many times are in each."""
    counts = Counter(math.ceil(math.log10(max(ms, 1e-3)) * _BUCKETS) for ms in times_ms)
    if not counts:
        return []
    return [
        (10 ** (bucket / _BUCKETS), counts[bucket])
        for bucket in range(min(counts), max(counts) + 1)
    ]


def table_of(results: Sequence[Loaded]) -> Table:
    """Return the table that a person reads."""
    table = Table(title="One event each 5 ms beside a load: ms to its ack")
    table.add_column("load")
    for heading in ("offered/s", "acked/s", "acks", "p50", "p90", "p99", "max"):
        table.add_column(heading, justify="right")
    for result in results:
        times = sorted(result.ack_ms)
        table.add_row(
            f"{result.share:.0%}",
            f"{result.offered:,.0f}",
            f"{result.acked:,.0f}",
            f"{len(times):,}",
            f"{statistics.median(times):.2f}",
            *(f"{times[int(len(times) * share)]:.2f}" for share in (0.9, 0.99)),
            f"{times[-1]:.2f}",
        )
    return table


def _at(daemon: Daemon, share: float, most: float, events: int, seed: int) -> Loaded:
    offered = share * most
    seconds = events / most
    context = multiprocessing.get_context("fork")
    stop = context.Event()
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_singles, args=(daemon.socket, stop, theirs))
    child.start()
    theirs.close()
    assert ours.recv() == "ready"
    acked = 0.0
    if offered:
        (stream,) = streams("standard", events=int(offered * seconds), producers=1, seed=seed)
        feed = feed_of_frames(stream, _FRAME_EVENTS)
        acked = feed.events / _paced(daemon.socket, feed, offered)
    else:
        time.sleep(seconds)
    stop.set()
    times = ours.recv()
    ours.close()
    child.join(PATIENCE_SECONDS)
    return Loaded(share, offered, acked, times)


def _paced(address: Path, feed: Feed, rate: float) -> float:
    """Send the frames evenly at `rate` events a second; return the seconds to the last ack."""
    assert feed.producer is not None
    peer = FramedPeer(address, feed.producer)
    with peer.socket:
        begin = time.monotonic()
        for number, piece in enumerate(feed.pieces):
            time.sleep(max(0.0, begin + number * _FRAME_EVENTS / rate - time.monotonic()))
            peer.send([piece])
        peer.wait(feed.events)
        return time.monotonic() - begin


def _singles(address: Path, stop: Flag, report: Connection) -> None:
    peer = FramedPeer(address, os.urandom(16))
    event = Audit(agent_id="agent-1", operation="resolve_imports", status="completed")
    times: list[float] = []
    sequence = 0
    report.send("ready")
    with peer.socket:
        while not stop.wait(_PAUSE_SECONDS):
            sequence += 1
            (frame,) = frames([event], 1, first_sequence=sequence)
            begin = time.perf_counter()
            peer.socket.sendall(frame)
            peer.wait(sequence)
            times.append((time.perf_counter() - begin) * 1000)
    report.send(times)
