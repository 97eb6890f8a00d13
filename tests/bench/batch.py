"""Batch: how long one durable batch takes, sent as one frame and acked, one after another."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct
from rich.table import Table

from bench.mix import streams
from bench.producers import FramedPeer, frames
from support.daemon_process import Daemon

__all__ = ["Latency", "latencies", "measure", "table_of"]

#: Events a batch: repetitions.
REPETITIONS = {1: 500, 100: 300, 1_000: 100}

#: Milliseconds that the contract allows the slowest, and that ggend wants of the median.
_TARGETS = {100: 50.0, 1_000: 300.0}
AIMS = {1: 1.5, 100: 5.0}


class Latency(Struct, frozen=True):
    """The times of all batches of one size."""

    events: int
    milliseconds: list[float]


def measure(*, divisor: int, parent: Path | None) -> list[Latency]:
    """Send batches of each size to one daemon. `divisor` makes the repetitions fewer."""
    with (
        tempfile.TemporaryDirectory(prefix="ggend-", dir=parent) as place,
        Daemon(Path(place)) as daemon,
    ):
        return latencies(daemon, divisor=divisor)


def latencies(daemon: Daemon, *, divisor: int, seed: int = 0) -> list[Latency]:
    """Send batches of each size to a daemon that runs. Receipts of the same seed are duplicates."""
    return [
        Latency(size, _times(daemon, size, repetitions // divisor, seed + size))
        for size, repetitions in REPETITIONS.items()
    ]


def _times(daemon: Daemon, size: int, repetitions: int, seed: int) -> list[float]:
    """Send one more than asked for: the first finds nothing prepared and does not count."""
    wanted = size * (repetitions + 1)
    (stream,) = streams("tight", events=wanted + wanted // 8 + 100, producers=1, seed=seed)
    batches = frames(stream[:wanted], size)
    peer = FramedPeer(daemon.socket, os.urandom(16))
    times = []
    with peer.socket:
        for number, batch in enumerate(batches, 1):
            begin = time.perf_counter()
            peer.socket.sendall(batch)
            peer.wait(number * size)
            times.append((time.perf_counter() - begin) * 1000)
    assert len(times) == repetitions + 1
    return times[1:]


def table_of(results: Sequence[Latency], sync_ms: float) -> Table:
    """Return the table that a person reads."""
    table = Table(
        title="Milliseconds from sending one durable batch to its ack",
        caption=f"4 KiB appended and fdatasync'ed in the same directory: p50 {sync_ms:.2f} ms",
    )
    table.add_column("events")
    for heading in ("batches", "p50", "p99", "max", "aim p50", "target max"):
        table.add_column(heading, justify="right")
    for latency in results:
        times = sorted(latency.milliseconds)
        median, worst = statistics.median(times), times[-1]
        aim, target = AIMS.get(latency.events), _TARGETS.get(latency.events)
        table.add_row(
            f"{latency.events:,}",
            f"{len(times)}",
            _coloured(median, aim),
            f"{times[int(len(times) * 0.99)]:.2f}",
            _coloured(worst, target),
            "" if aim is None else f"{aim:g}",
            "" if target is None else f"{target:g}",
        )
    return table


def _coloured(milliseconds: float, limit: float | None) -> str:
    colour = "" if limit is None else "[green]" if milliseconds <= limit else "[red]"
    return f"{colour}{milliseconds:.2f}"
