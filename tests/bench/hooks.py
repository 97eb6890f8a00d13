"""Hooks: what judging costs, in pairs of runs with and without objectives.

Both runs of a pair send the same events, in turn first and second; a file without thresholds is
what turns judging off. The rollups stay on in both.
"""

from __future__ import annotations

import os
import random
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct
from rich.table import Table

from bench.mix import streams
from bench.producers import Feed, blast, feed_of_frames
from support.daemon_process import Daemon

__all__ = ["Paired", "interval", "measure", "table_of"]

#: Events a frame.
_FRAME_EVENTS = 128

#: What judging may cost: a tenth of the rate.
AIM = 0.9

_RESAMPLES = 4_000


class Paired(Struct, frozen=True):
    """Events a second of the two runs of a pair."""

    judged: float
    unjudged: float
    violations: int

    @property
    def ratio(self) -> float:
        """The rate with objectives as a share of that without."""
        return self.judged / self.unjudged


def measure(*, events: int, pairs: int, parent: Path | None) -> list[Paired]:
    """Measure so many pairs, each with new daemons."""
    results = []
    for number in range(pairs):
        (stream,) = streams("standard", events=events, producers=1, seed=number)
        rates = {}
        violations = 0
        for judges in (True, False) if number % 2 else (False, True):
            rates[judges], found = _run(feed_of_frames(stream, _FRAME_EVENTS), judges, parent)
            assert (found > 0) == judges, f"{found} violations"
            violations += found
        results.append(Paired(rates[True], rates[False], violations))
    return results


def interval(ratios: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % interval of the median by bootstrap (Efron 1979), with a fixed seed."""
    rng = random.Random(0)
    medians = sorted(
        statistics.median(rng.choices(ratios, k=len(ratios))) for _ in range(_RESAMPLES)
    )
    return medians[_RESAMPLES // 40], medians[-_RESAMPLES // 40]


def table_of(results: Sequence[Paired]) -> Table:
    """Return the table that a person reads."""
    ratios = [result.ratio for result in results]
    low, high = interval(ratios)
    ratio = statistics.median(ratios)
    colour = "green" if ratio >= AIM else "red"
    table = Table(
        title=f"With objectives to without: [{colour}]{ratio:.3f}[/] "
        f"({low:.3f}–{high:.3f}; aim {AIM})"
    )
    for heading in ("pair", "judged, events/s", "not judged", "ratio", "violations"):
        table.add_column(heading, justify="right")
    for number, result in enumerate(results, 1):
        table.add_row(
            str(number),
            f"{result.judged:,.0f}",
            f"{result.unjudged:,.0f}",
            f"{result.ratio:.3f}",
            f"{result.violations:,}",
        )
    return table


def _run(feed: Feed, judges: bool, parent: Path | None) -> tuple[float, int]:
    with tempfile.TemporaryDirectory(prefix="ggend-", dir=parent) as name:
        place = Path(name)
        settings = {}
        if not judges:
            none = place / "none.toml"
            none.touch()
            settings["objectives"] = none
        os.sync()
        with Daemon(place, **settings) as daemon:
            rate = feed.events / blast(daemon.socket, [feed])
            daemon.wait_for_hooks()
            ((violations,),) = daemon.query("SELECT count(*) FROM slo_violations")
            assert isinstance(violations, int)
            return rate, violations
