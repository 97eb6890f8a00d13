"""Full: every benchmark that has a figure for the report, one after the other, in one run."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from msgspec import Struct

from bench import batch, growth, ingest, load, machine, readers, starts
from bench.report import Curve, Figure, Report

__all__ = ["measure"]

Found: TypeAlias = tuple[list[Figure], list[Curve]]

#: Cases of `ingest` that a quick run has; the others say much the same as their neighbours.
_QUICK_CASES = ("tight-128-1p", "tight-ndjson-1p", "standard-128-1p", "late-*", "large-*")

#: Aims: ms of one event at half load, MiB when idle and at full load, seconds of a start.
_ALONE_P50_MS, _HALF_P99_MS = 1.5, 10.0
_IDLE_MIB, _FULL_MIB = 45.0, 120.0
_START_SECONDS, _RECOVERY_SECONDS = 1.0, 3.0

#: Memory of a daemon that recovers, as a share of one at full load.
_RECOVERING = 1.2


class Size(Struct, frozen=True):
    """How much is measured."""

    #: Names of the cases of `ingest`; none for all.
    cases: tuple[str, ...]
    batch_divisor: int
    events: int
    repetitions: int
    load_events: int
    growth_events: int
    start_receipts: int
    read_receipts: int
    read_events: int


_QUICK = Size(_QUICK_CASES, 5, 24_000, 3, 120_000, 400_000, 20_000, 20_000, 200)
_FULL = Size((), 1, 120_000, 5, 300_000, 10_000_000, 1_000_000, 200_000, 2_000)


def measure(*, quick: bool, parent: Path | None, tell: Callable[[str], object]) -> Report:
    """Run everything; `tell` is told what runs."""
    size = _QUICK if quick else _FULL
    begin = time.monotonic()
    described = machine.describe(parent or Path(tempfile.gettempdir()))
    figures: list[Figure] = []
    curves: list[Curve] = []
    for part in (_ingest, _batch, _load, _readers, _starts, _growth):
        more_figures, more_curves = part(size, parent, tell)
        figures += more_figures
        curves += more_curves
    return Report(described, quick, time.monotonic() - begin, figures, curves)


def _ingest(size: Size, parent: Path | None, tell: Callable[[str], object]) -> Found:
    figures = []
    idle: list[float] = []
    for case in ingest.cases(size.cases):
        tell(f"ingest {case.name}")
        found = ingest.measure(
            case, events=size.events, repetitions=size.repetitions, parent=parent
        ).repetitions
        name = f"ingest {case.name}"
        figures += [
            Figure(
                f"{name} rate",
                "events/s",
                [run.events / run.seconds for run in found],
                [run.events / run.yardstick_seconds for run in found],
                more_is_better=True,
            ),
            Figure(
                f"{name} ratio",
                "of executemany",
                [run.ratio for run in found],
                aim=case.aim,
                more_is_better=True,
            ),
            Figure(
                f"{name} CPU of the event loop",
                "µs an event",
                [run.loop_seconds / run.events * 1e6 for run in found],
            ),
            Figure(
                f"{name} CPU of the writer",
                "µs an event",
                [run.writer_seconds / run.events * 1e6 for run in found],
            ),
            Figure(f"{name} peak memory", "MiB", [run.peak_mib for run in found], aim=_FULL_MIB),
        ]
        if all(run.c_seconds for run in found):
            in_c = [run.c_seconds / run.seconds for run in found if run.c_seconds]
            figures.append(Figure(f"{name} ratio to C", "of C", in_c, more_is_better=True))
        idle += [run.idle_mib for run in found]
    return [*figures, Figure("idle memory", "MiB", idle, aim=_IDLE_MIB)], []


def _batch(size: Size, parent: Path | None, tell: Callable[[str], object]) -> Found:
    tell("batch")
    figures = []
    with tempfile.TemporaryDirectory(prefix="ggend-", dir=parent) as name:
        sync = machine.sync_ms(Path(name))
    for found in batch.measure(divisor=size.batch_divisor, parent=parent):
        aim = batch.AIMS.get(found.events)
        name = f"batch of {found.events:,}"
        figures += [
            Figure(f"{name} p50", "ms", [statistics.median(found.milliseconds)], [sync], aim),
            Figure(f"{name} p99", "ms", [_p99(found.milliseconds)], [sync]),
        ]
    return figures, []


def _load(size: Size, parent: Path | None, tell: Callable[[str], object]) -> Found:
    tell("load")
    figures, curves = [], []
    for found in load.measure(events=size.load_events, parent=parent):
        name = f"one event at {found.share:.0%} load"
        half = found.share == load.HALF
        p50 = _ALONE_P50_MS if half else None
        figures += [
            Figure(f"{name} p50", "ms", [statistics.median(found.ack_ms)], aim=p50),
            Figure(f"{name} p99", "ms", [_p99(found.ack_ms)], aim=_HALF_P99_MS if half else None),
        ]
        points = [(bound, float(count)) for bound, count in load.histogram(found.ack_ms)]
        curves.append(
            Curve("ack latency", f"{found.share:.0%} load", "ms", "acks", points, True)  # noqa: FBT003
        )
    return figures, curves


def _readers(size: Size, parent: Path | None, tell: Callable[[str], object]) -> Found:
    tell("readers")
    results = readers.measure(receipts=size.read_receipts, events=size.read_events, parent=parent)
    alone = results[0].ack_ms
    return [
        Figure(
            f"ack p99 beside heavy readers: {found.readers}",
            "ms",
            [_p99(found.ack_ms)],
            [] if found is results[0] else [_p99(alone)],
        )
        for found in results
    ], []


def _starts(size: Size, parent: Path | None, tell: Callable[[str], object]) -> Found:
    tell("starts")
    found = starts.measure(receipts=size.start_receipts, parent=parent, report=lambda _: None)
    memory = [
        after / before for after, before in zip(found.recovering_mib, found.steady_mib, strict=True)
    ]
    return [
        Figure("start", "s", found.clean_seconds, aim=_START_SECONDS),
        Figure("start after SIGKILL", "s", found.recovery_seconds, aim=_RECOVERY_SECONDS),
        Figure("memory while recovering", "of full load", memory, aim=_RECOVERING),
    ], []


def _growth(size: Size, parent: Path | None, tell: Callable[[str], object]) -> Found:
    done = 0

    def report(segment: growth.Segment) -> None:
        nonlocal done
        done += segment.events
        tell(f"growth: {done:,} events")

    tell("growth")
    found = growth.measure(events=size.growth_events, segments=10, parent=parent, report=report)
    rates, yardsticks, memory = [], [], []
    events = 0
    for segment in found:
        events += segment.events
        rates.append((events / 1e6, segment.rate))
        yardsticks.append((events / 1e6, segment.events / segment.yardstick_seconds))
        memory.append((events / 1e6, segment.rss_mib))
    figures = [
        Figure(
            "growth, last tenth to first",
            "of the first",
            [rates[-1][1] / rates[0][1]],
            [yardsticks[-1][1] / yardsticks[0][1]],
            growth.AIM,
            more_is_better=True,
        ),
        Figure(
            "growth, ratio",
            "of executemany",
            [segment.ratio for segment in found],
            more_is_better=True,
        ),
    ]
    million = "million events"
    return figures, [
        Curve("rate over table size", "ggend", million, "events/s", rates),
        Curve("rate over table size", "executemany", million, "events/s", yardsticks),
        Curve("memory over time", "ggend", million, "resident MiB", memory),
    ]


def _p99(times: list[float]) -> float:
    return sorted(times)[int(len(times) * 0.99)]
