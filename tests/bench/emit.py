"""Emit: what a program notices of its events, beside what it would notice of `logging`.

Every case runs in a process of its own (`bench.emitting`), all of them in turn, and then all of
them again, so that both sides of a ratio see the machine in the same mood. There is one daemon,
a real one, for all.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct
from rich.table import Table

from bench.emitting import Order, Outcome
from support.daemon_process import Daemon

__all__ = ["Case", "Result", "emit_table_of", "measure", "others_table_of"]

#: What is wanted of emit(): nanoseconds, and how many times faster than the yardstick.
_P50_GOAL_NS, _P99_GOAL_NS, _RATIO_GOAL = 1_000.0, 5_000.0, 5.0

#: Seconds that one process may take.
_PATIENCE_SECONDS = 300.0

_NS_PER_US = 1_000


class Case(Struct, frozen=True, kw_only=True):
    """What one process measures. When it has to be quick, it is one round of `quick_events`."""

    way: str
    has_daemon: bool = False
    events: int
    quick_events: int
    rounds: int = 1
    period_ns: int = 0

    @property
    def shape(self) -> tuple[int, bool]:
        """What it has in common with its yardstick."""
        return self.period_ns, self.has_daemon


class Result(Struct, frozen=True):
    """One case, and what each repetition found."""

    case: Case
    outcomes: list[Outcome]


def _burst(way: str, *, has_daemon: bool) -> Case:
    # 10,000 events fit into the client's memory without dropping any. Then they are delivered,
    # outside the clock: 200,000 in all, of which the worker's CPU time is the mean.
    return Case(
        way=way,
        has_daemon=has_daemon,
        events=10_000,
        quick_events=10_000,
        rounds=20,
    )


def _every_100_us(way: str, *, has_daemon: bool) -> Case:
    return Case(
        way=way,
        has_daemon=has_daemon,
        events=10_000,
        quick_events=2_000,
        period_ns=100_000,
    )


def _every_ms(way: str, *, has_daemon: bool) -> Case:
    return Case(
        way=way,
        has_daemon=has_daemon,
        events=2_000,
        quick_events=300,
        period_ns=1_000_000,
    )


_EMIT, _YARDSTICK = "emit(event)", "logging"

#: Other ways to say the same event.
_BESIDE = ("emit(Audit(…))", "client.audit(…)")

#: What the machine takes for the least that can be done: more, the rarer it is done.
_FLOOR = "encode and put, no more"

_EMITTING = [
    make(way, has_daemon=has_daemon)
    for has_daemon in (True, False)
    for make, beside in ((_burst, _BESIDE), (_every_100_us, ()), (_every_ms, ()))
    for way in (_EMIT, *beside, *([] if has_daemon else [_FLOOR]), _YARDSTICK)
]

#: A stage without its receipt would be parked, so it is measured without a daemon.
_OTHERS = [
    Case(way="with client.stage(…)", events=10_000, quick_events=2_000),
    Case(way="emit(event), durable", has_daemon=True, events=1_000, quick_events=100),
]

#: Fewer than the client's bound on events.
_MEMORY = [
    Case(way=way, events=50_000, quick_events=50_000)
    for way in ("a queued event", "a queued record of logging")
]


def measure(
    *,
    repetitions: int,
    is_quick: bool,
    parent: Path | None,
    report: Callable[[str], None],
) -> list[Result]:
    """Run all cases, again and again."""
    cases = [*_EMITTING, *_OTHERS, *_MEMORY]
    results = [Result(case, []) for case in cases]
    with (
        tempfile.TemporaryDirectory(prefix="ggend-", dir=parent) as place,
        Daemon(Path(place)) as daemon,
    ):
        for repetition in range(repetitions):
            report(f"repetition {repetition + 1} of {repetitions}")
            for result in results:
                result.outcomes.append(_run(result.case, daemon, is_quick=is_quick))
    return results


def _run(case: Case, daemon: Daemon, *, is_quick: bool) -> Outcome:
    with tempfile.TemporaryDirectory(prefix="ggend-", dir=daemon.place) as place:
        order = Order(
            way=case.way,
            events=case.quick_events if is_quick else case.events,
            rounds=1 if is_quick else case.rounds,
            period_ns=case.period_ns,
            has_daemon=case.has_daemon,
            socket=os.fspath(daemon.socket if case.has_daemon else Path(place) / "none.sock"),
            spool=os.fspath(Path(place) / "spool"),
        )
        found = subprocess.run(
            [sys.executable, "-m", "bench.emitting", msgspec.json.encode(order).decode()],
            cwd=Path(__file__).resolve().parents[1],
            env={key: value for key, value in os.environ.items() if key[:6] != "GGEND_"},
            stdout=subprocess.PIPE,
            timeout=_PATIENCE_SECONDS,
            check=True,
        )
        return msgspec.json.decode(found.stdout, type=Outcome)


def emit_table_of(results: Sequence[Result]) -> Table:
    """Return the table that a person reads: what an event costs, and whom."""
    emitting = [result for result in results if result.case in _EMITTING]
    yardsticks = {
        result.case.shape: result.outcomes for result in emitting if result.case.way == _YARDSTICK
    }
    clock_ns = statistics.median(one.clock_ns for result in emitting for one in result.outcomes)
    table = Table(
        title="Microseconds for an event of five fields: median of the repetitions, min to max",
        caption=f"goals for {_EMIT}: p50 at most {_P50_GOAL_NS / _NS_PER_US:g}, p99 at most "
        f"{_P99_GOAL_NS / _NS_PER_US:g}, {_RATIO_GOAL:g} times faster than logging at p50; "
        f"reading the clock is taken off, {clock_ns:.0f} ns",
    )
    table.add_column("")
    for heading in ("p50", "p99", "max", "times faster", "worker CPU"):
        table.add_column(heading, justify="right")
    for result in emitting:
        outcomes, is_goal = result.outcomes, result.case.way == _EMIT
        if is_goal:
            table.add_section()
            table.add_row(f"[bold]{_describe(result.case)}")
        p50s = [one.p50_ns / _NS_PER_US for one in outcomes]
        p99s = [one.p99_ns / _NS_PER_US for one in outcomes]
        ratios = [
            logged.p50_ns / one.p50_ns
            for one, logged in zip(outcomes, yardsticks[result.case.shape], strict=True)
        ]
        worker_us = statistics.median(one.worker_ns for one in outcomes) / _NS_PER_US
        table.add_row(
            f"  {result.case.way}",
            _spread(p50s, most=_P50_GOAL_NS / _NS_PER_US if is_goal else None),
            _spread(p99s, most=_P99_GOAL_NS / _NS_PER_US if is_goal else None),
            f"{max(one.max_ns for one in outcomes) / _NS_PER_US:,.0f}",
            ""
            if result.case.way == _YARDSTICK
            else _spread(ratios, least=_RATIO_GOAL if is_goal else None),
            "" if result.case.way == _FLOOR else f"{worker_us:.2f}",
        )
    return table


def others_table_of(results: Sequence[Result]) -> Table:
    """Return the table of what has no goal: other calls, and memory."""
    table = Table(title="For information", show_header=False)
    table.add_column("")
    table.add_column("", justify="right")
    for result in results:
        case, outcomes = result.case, result.outcomes
        if case in _OTHERS:
            where = "with" if case.has_daemon else "without"
            for name, times in (
                ("p50", [one.p50_ns / _NS_PER_US for one in outcomes]),
                ("p99", [one.p99_ns / _NS_PER_US for one in outcomes]),
            ):
                table.add_row(f"{case.way}, {where} a daemon, {name} µs", _spread(times))
        elif case in _MEMORY:
            for name, sizes in (
                ("resident", [one.resident_bytes for one in outcomes]),
                ("allocated", [one.traced_bytes for one in outcomes]),
            ):
                table.add_row(f"{case.way}, bytes {name}", _spread(sizes))
    return table


def _describe(case: Case) -> str:
    pace = f"1 each {case.period_ns // _NS_PER_US:,} µs" if case.period_ns else "burst"
    return f"{pace}, {'a' if case.has_daemon else 'no'} daemon"


def _spread(
    values: Sequence[float],
    *,
    most: float | None = None,
    least: float | None = None,
) -> str:
    """Say the median, green if it is within its goal, and the extremes."""
    median = statistics.median(values)
    colour = ""
    if most is not None:
        colour = "[green]" if median <= most else "[red]"
    if least is not None:
        colour = "[green]" if median >= least else "[red]"
    extremes = f" ({_figure(min(values))}–{_figure(max(values))})" if len(values) > 1 else ""
    return f"{colour}{_figure(median)}{extremes}"


def _figure(value: float) -> str:
    return f"{value:,.{2 if value < 10 else 1 if value < 100 else 0}f}"
