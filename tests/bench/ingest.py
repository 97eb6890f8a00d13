"""Ingest: acked, durable events a second over the socket, each run beside its yardstick."""

from __future__ import annotations

import itertools
import os
import re
import statistics
import tempfile
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Literal, TypeAlias

from msgspec import Struct
from rich.table import Table

from bench import in_c, yardstick
from bench.machine import memory_mib, threads_seconds
from bench.mix import Mix, streams
from bench.producers import Feed, blast, feed_of_frames, feed_of_lines
from ggend.config import Config
from ggend_schema import Event
from support.daemon_process import Daemon

__all__ = ["Case", "Repetition", "Result", "cases", "measure", "table_of"]

Shape: TypeAlias = Literal["1", "16", "128", "ndjson"]

_SHAPES: tuple[Shape, ...] = ("128", "16", "1", "ndjson")
_MIXES: tuple[Mix, ...] = ("tight", "standard")
_PRODUCERS = (1, 8)

#: Beside all of these: many producers, and what is made to hurt.
_OTHERS: tuple[tuple[Mix, Shape, int], ...] = (
    ("tight", "128", 64),
    ("standard", "128", 64),
    ("tight", "128", 200),
    ("standard", "128", 200),
    ("late", "128", 1),
    ("agents", "128", 1),
    ("large", "1", 1),
)

#: What a daemon logs when it could not just work. Not what it says when it stops: `Daemon` has
#: closed the notify socket by then.
_TROUBLE = re.compile(r"level=(warning|error|critical) (?!logger=ggend\.systemd )")


class Case(Struct, frozen=True):
    """One way to send."""

    mix: Mix
    #: Events a frame, or NDJSON.
    shape: Shape
    producers: int

    @property
    def name(self) -> str:
        """As `--only` takes it."""
        return f"{self.mix}-{self.shape}-{self.producers}p"

    @property
    def aim(self) -> float | None:
        """The share of the yardstick's speed that ggend wants to reach."""
        if self.mix not in ("tight", "standard") or self.producers > max(_PRODUCERS):
            return None
        if self.mix == "standard" or self.shape == "ndjson":
            return 0.7
        return {"128": 0.9, "1": 0.7}.get(self.shape)


class Repetition(Struct, frozen=True):
    """One run of the daemon, and the same rows by the yardstick."""

    events: int
    seconds: float
    yardstick_seconds: float
    commits: int
    idle_mib: float
    peak_mib: float
    #: CPU time of the thread that listens, decodes and answers, and of the one that has SQLite
    #: (settling, COMMIT, checkpoints, hooks).
    loop_seconds: float
    writer_seconds: float
    #: The yardstick in C; None where it cannot be compiled.
    c_seconds: float | None

    @property
    def ratio(self) -> float:
        """The daemon's speed as a share of the yardstick's."""
        return self.yardstick_seconds / self.seconds


class Result(Struct, frozen=True):
    """All repetitions of a case."""

    case: Case
    repetitions: list[Repetition]


def cases(only: Sequence[str]) -> list[Case]:
    """Return all cases, or those whose name matches one of the patterns."""
    usual = itertools.product(_MIXES, _SHAPES, _PRODUCERS)
    found = [Case(mix, shape, producers) for mix, shape, producers in (*usual, *_OTHERS)]
    return [case for case in found if not only or any(fnmatch(case.name, p) for p in only)]


def measure(case: Case, *, events: int, repetitions: int, parent: Path | None) -> Result:
    """Send the same events again and again, each time to a new daemon with a new database."""
    sent = streams(case.mix, events=events, producers=case.producers)
    feeds = [
        feed_of_lines(stream) if case.shape == "ndjson" else feed_of_frames(stream, int(case.shape))
        for stream in sent
    ]
    return Result(case, [_repeat(sent, feeds, parent) for _ in range(repetitions)])


def _repeat(sent: list[list[Event]], feeds: list[Feed], parent: Path | None) -> Repetition:
    with tempfile.TemporaryDirectory(prefix="ggend-", dir=parent) as name:
        place = Path(name)
        os.sync()
        # One debug line a commit says what the batches were. Medians of four runs with it: 58,900
        # and 56,800 events/s; without: 59,500 and 58,100. If it costs anything, 1 to 2 %.
        with Daemon(place, log_level="debug") as daemon:
            assert daemon.process is not None
            pid = daemon.process.pid
            idle = memory_mib(pid, "VmRSS")
            before = threads_seconds(pid)
            seconds = blast(daemon.socket, feeds)
            daemon.wait_for_hooks()
            peak = memory_mib(pid, "VmHWM")
            loop, writer = (
                now - then for now, then in zip(threads_seconds(pid), before, strict=True)
            )
        _verify(daemon, sent)
        batches = yardstick.committed_batches(daemon.log.read_text())
        rows = yardstick.plan(daemon.database, sent, batches)
        os.sync()
        config = Config(socket=daemon.socket, database=daemon.database)
        yardstick_seconds = yardstick.store(place / "yardstick.db", rows, config)
        os.sync()
        program = in_c.compiled(place)
        c_seconds = in_c.store(program, daemon.database, rows, config) if program else None
        return Repetition(
            events=sum(feed.events for feed in feeds),
            seconds=seconds,
            yardstick_seconds=yardstick_seconds,
            commits=len(batches),
            idle_mib=idle,
            peak_mib=peak,
            loop_seconds=loop,
            writer_seconds=writer,
            c_seconds=c_seconds,
        )


def _verify(daemon: Daemon, sent: list[list[Event]]) -> None:
    """Fail unless the tables hold as many rows as were sent, and the daemon had no trouble.

    A daemon that tries something again still counts right, and is slow: that is no measurement.
    """
    log = daemon.log.read_text()
    trouble = [line for line in log.splitlines() if _TROUBLE.search(line)]
    assert not trouble, "the daemon complained: " + "\n".join(trouble[:3])
    assert daemon.process is not None
    assert daemon.process.returncode == 0, log[-2_000:]
    expected = yardstick.count_rows(sent)
    found = {
        table: daemon.query(f"SELECT COUNT(*) FROM {table}")[0][0]
        for table in (*expected, "parked_events", "rejected_events")
    }
    assert found == {**expected, "parked_events": 0, "rejected_events": 0}, (
        f"sent {expected}, found {found}"
    )
    total = sum(expected.values())
    accounts = daemon.query("SELECT SUM(last_sequence), SUM(stored) FROM producers")
    assert accounts == [(total, total)], f"{total} events were sent, the accounts say {accounts}"


def _in_c(runs: Sequence[Repetition]) -> str:
    rates = [run.events / run.c_seconds for run in runs if run.c_seconds is not None]
    return f"{statistics.median(rates):,.0f}" if rates else ""


def table_of(results: Sequence[Result]) -> Table:
    """Return the table that a person reads."""
    table = Table(
        title="Durable, acked events a second; ratio to executemany of the same rows",
        caption="in C: rows a second by a C program; CPU: µs an event, event loop + writer",
    )
    table.add_column("case")
    for heading in (
        "events/s",
        "yardstick",
        "ratio",
        "min–max",
        "aim",
        "in C",
        "CPU µs",
        "RSS MiB",
    ):
        table.add_column(heading, justify="right")
    for result in results:
        runs = result.repetitions
        ratios = [run.ratio for run in runs]
        ratio, aim = statistics.median(ratios), result.case.aim
        colour = "" if aim is None else "[green]" if ratio >= aim else "[red]"
        table.add_row(
            result.case.name,
            f"{statistics.median(run.events / run.seconds for run in runs):,.0f}",
            f"{statistics.median(run.events / run.yardstick_seconds for run in runs):,.0f}",
            f"{colour}{ratio:.2f}",
            f"{min(ratios):.2f}–{max(ratios):.2f}",
            "" if aim is None else f"{aim:.2f}",
            _in_c(runs),
            "+".join(
                f"{statistics.median(seconds / run.events * 1e6 for seconds, run in pairs):.1f}"
                for pairs in (
                    [(run.loop_seconds, run) for run in runs],
                    [(run.writer_seconds, run) for run in runs],
                )
            ),
            f"{statistics.median(run.idle_mib for run in runs):.0f}→"
            f"{max(run.peak_mib for run in runs):.0f}",
        )
    return table
