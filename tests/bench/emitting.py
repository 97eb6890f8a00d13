"""Emitting: the process in which one case of `./dev bench emit` is measured, fresh for each.

It reads one Order and prints one Outcome: what a call takes, and what the thread behind it takes.
It judges nothing.
"""

from __future__ import annotations

import os
import statistics
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from time import perf_counter_ns

import msgspec
from msgspec import Struct

from bench.machine import memory_mib
from bench.ways import QUEUES, WAYS, Place, Way

__all__ = ["Order", "Outcome"]

#: Calls before those that count: they start the thread and connect.
_WARM_UP = 100

#: Readings of the clock of which the median is taken.
_READINGS = 20_000


class Order(Struct, frozen=True, kw_only=True):
    """What one process measures."""

    #: A name of WAYS or QUEUES.
    way: str
    #: Calls in one round; between rounds everything is delivered, outside the clock.
    events: int
    rounds: int = 1
    #: Nanoseconds from one call to the next; 0: as fast as it goes.
    period_ns: int = 0
    has_daemon: bool = False
    #: The daemon's socket, or where none is.
    socket: str
    spool: str


class Outcome(Struct, frozen=True, kw_only=True):
    """What it found: nanoseconds, without what the clock takes; or bytes."""

    p50_ns: float = 0
    p99_ns: float = 0
    max_ns: float = 0
    #: What was taken off each time.
    clock_ns: float = 0
    #: CPU time of the thread behind the calls, for one event.
    worker_ns: float = 0
    #: Memory of one queued event, as the system counts it, and as the interpreter does.
    resident_bytes: float = 0
    traced_bytes: float = 0


def measure(order: Order) -> Outcome:
    """Do what is ordered."""
    if order.way in QUEUES:
        return _memory(QUEUES[order.way], order.events)
    with WAYS[order.way](
        Place(socket=Path(order.socket), has_daemon=order.has_daemon, spool=Path(order.spool))
    ) as way:
        _times(way, _WARM_UP)
        way.settle()
        clock_ns = _clock_ns(is_direct=way.is_direct)
        times = []
        begin_ns = _cpu_ns(way.worker)
        for _ in range(order.rounds):
            times += _times(way, order.events, order.period_ns)
            way.settle()
        worker_ns = _cpu_ns(way.worker) - begin_ns
    times.sort()
    return Outcome(
        p50_ns=statistics.median(times) - clock_ns,
        p99_ns=times[int(len(times) * 0.99)] - clock_ns,
        max_ns=times[-1] - clock_ns,
        clock_ns=clock_ns,
        worker_ns=worker_ns / len(times),
    )


def _times(way: Way, events: int, period_ns: int = 0) -> list[int]:
    call, make = way.call, way.make
    times = []
    due = perf_counter_ns()
    for number in range(events):
        made = make(f"{number:032x}")
        due += period_ns
        # Spun, not slept: the program that is measured has other things to do.
        while period_ns and perf_counter_ns() < due:
            pass
        begin = perf_counter_ns()
        call(made)
        end = perf_counter_ns()
        times.append(end - begin)
    return times


def _cpu_ns(name: str | None) -> int:
    """Return the CPU time of the one thread of this name."""
    if name is None:
        return 0
    (ident,) = (one.ident for one in threading.enumerate() if one.name == name)
    assert ident is not None
    return time.clock_gettime_ns(time.pthread_getcpuclockid(ident))


def _clock_ns(*, is_direct: bool) -> float:
    """Return what is measured around nothing, or around a function that does nothing."""
    if not is_direct:
        return statistics.median(_times(Way(str, _nothing, lambda: None), _READINGS))
    times = []
    for _ in range(_READINGS):
        begin = perf_counter_ns()
        end = perf_counter_ns()
        times.append(end - begin)
    return statistics.median(times)


def _nothing(made: str) -> None:
    pass


def _memory(fill: Callable[[int], AbstractContextManager[None]], events: int) -> Outcome:
    """Queue events twice: as a program does, and with every allocation counted."""
    before = memory_mib(os.getpid(), "VmRSS")
    with fill(events):
        resident_mib = memory_mib(os.getpid(), "VmRSS") - before
    tracemalloc.start()
    with fill(events):
        traced_bytes, _ = tracemalloc.get_traced_memory()
    return Outcome(
        resident_bytes=resident_mib * 1024 * 1024 / events, traced_bytes=traced_bytes / events
    )


if __name__ == "__main__":
    order = msgspec.json.decode(sys.argv[1], type=Order)
    sys.stdout.buffer.write(msgspec.json.encode(measure(order)))
