"""Report: one run of everything as figures, each beside its yardstick and its aim.

A figure has all the values that were measured, not their median: `compare` needs them to tell a
change from noise. Written as JSON for programs, and as Markdown with pictures for people.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec
from msgspec import Struct
from rich.table import Table

__all__ = ["Curve", "Figure", "Report", "changes", "changes_table_of", "markdown", "read"]

Verdict: TypeAlias = Literal["better", "worse", "noise", "too few"]

#: Resamples of a bootstrap, and the interval that is taken of them.
_RESAMPLES = 4_000
_INTERVAL = 0.95

#: Values that a figure must have on both sides before anything is said of a change.
_VALUES = 3


class Figure(Struct, frozen=True):
    """One number, measured some times."""

    name: str
    unit: str
    values: list[float]
    #: The same by the yardstick, in the same unit; empty where there is none.
    yardstick: list[float] = []
    aim: float | None = None
    more_is_better: bool = False

    @property
    def median(self) -> float:
        """The value that stands for all."""
        return statistics.median(self.values)

    @property
    def is_reached(self) -> bool | None:
        """Whether the aim is reached; None without one."""
        if self.aim is None:
            return None
        return self.median >= self.aim if self.more_is_better else self.median <= self.aim


class Curve(Struct, frozen=True):
    """A line of a picture."""

    picture: str
    label: str
    x_title: str
    y_title: str
    points: list[tuple[float, float]]
    is_logarithmic: bool = False


class Report(Struct, frozen=True):
    """One run."""

    machine: str
    is_quick: bool
    seconds: float
    figures: list[Figure]
    curves: list[Curve]


class Change(Struct, frozen=True):
    """One figure in two reports: the second as a share of the first, with its interval."""

    name: str
    before: float
    after: float
    ratio: float
    low: float
    high: float
    verdict: Verdict


def read(path: Path) -> Report:
    """Read the JSON of a run. Raises msgspec.DecodeError or ValidationError."""
    return msgspec.json.decode(path.read_bytes(), type=Report)


def markdown(report: Report, pictures: Sequence[str]) -> str:
    """Return the report that a person reads; `pictures` are file names beside it."""
    lines = [
        "# Benchmarks",
        "",
        f"{report.machine}. {'Quick run' if report.is_quick else 'Full run'}, "
        f"{report.seconds / 60:.0f} minutes.",
        "",
        "| figure | unit | median | min to max | yardstick | aim | |",
        "|---|---|---|---|---|---|---|",
    ]
    for figure in report.figures:
        verdict = {None: "", True: "reached", False: "**not reached**"}[figure.is_reached]
        lines.append(
            f"| {figure.name} | {figure.unit} | {_short(figure.median)} "
            f"| {_short(min(figure.values))}–{_short(max(figure.values))} "
            f"| {_short(statistics.median(figure.yardstick)) if figure.yardstick else ''} "
            f"| {'' if figure.aim is None else _short(figure.aim)} | {verdict} |"
        )
    for picture in pictures:
        lines += ["", f"![{Path(picture).stem}]({picture})"]
    return "\n".join(lines) + "\n"


def changes(before: Report, after: Report) -> list[Change]:
    """Compare the figures that both reports have.

    The interval is a percentile bootstrap of the ratio of medians (Efron 1979), with a fixed
    seed. Ratios to a yardstick of the same run are compared where there are such.
    """
    known = {figure.name: figure for figure in before.figures}
    return [_change(known[figure.name], figure) for figure in after.figures if figure.name in known]


def changes_table_of(found: Sequence[Change]) -> Table:
    """Return the table that a person reads."""
    table = Table(title="The second run as a share of the first", caption="interval: 95 %")
    for heading in ("figure", "before", "after", "ratio", "interval", ""):
        table.add_column(heading, justify="left" if heading in ("figure", "") else "right")
    colours = {"better": "green", "worse": "red", "noise": "dim", "too few": "dim"}
    for change in found:
        table.add_row(
            change.name,
            _short(change.before),
            _short(change.after),
            f"{change.ratio:.2f}",
            f"{change.low:.2f}–{change.high:.2f}",
            f"[{colours[change.verdict]}]{change.verdict}",
        )
    return table


def _change(before: Figure, after: Figure) -> Change:
    rng = random.Random(before.name)
    old, new = before.values, after.values
    ratios = sorted(
        statistics.median(rng.choices(new, k=len(new)))
        / (statistics.median(rng.choices(old, k=len(old))) or 1e-12)
        for _ in range(_RESAMPLES)
    )
    low = ratios[int(_RESAMPLES * (1 - _INTERVAL) / 2)]
    high = ratios[int(_RESAMPLES * (1 + _INTERVAL) / 2)]
    verdict: Verdict = "noise"
    if min(len(old), len(new)) < _VALUES:
        verdict = "too few"
    elif low > 1 or high < 1:
        verdict = "better" if (low > 1) == after.more_is_better else "worse"
    return Change(
        before.name,
        before.median,
        after.median,
        after.median / (before.median or 1e-12),
        low,
        high,
        verdict,
    )


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
