"""Pictures: the curves of a report as SVG, drawn by matplotlib (the extra `bench`)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter
from pathlib import Path

from bench.report import Curve

__all__ = ["draw"]


def draw(curves: Sequence[Curve], place: Path) -> list[str]:
    """Write a file for each picture; return their names. Without matplotlib there are none."""
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        return []
    mpl.rcParams["svg.hashsalt"] = "ggend"  # the same curves make the same file
    names = []
    for picture, lines in groupby(sorted(curves, key=attrgetter("picture")), attrgetter("picture")):
        figure = Figure(figsize=(8, 4), layout="constrained")
        axes = figure.subplots()
        for line in lines:
            axes.plot(*zip(*line.points, strict=True), label=line.label, marker="o", markersize=3)
            axes.set(title=picture, xlabel=line.x_title, ylabel=line.y_title)
            if line.is_logarithmic:
                axes.set_xscale("log")
        axes.set_ylim(bottom=0)  # after all lines: it ends the scaling to what is drawn
        axes.grid(visible=True, alpha=0.3)
        axes.legend()
        names.append(f"{picture.replace(' ', '-')}.svg")
        figure.savefig(place / names[-1], metadata={"Date": None})
    return names
