"""The report of the benchmarks: what is called a change, and what a person reads."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import msgspec
import pytest

from bench.load import histogram
from bench.report import Curve, Figure, Report, changes, markdown, read


def report_of(*figures: Figure) -> Report:
    return Report("a machine", is_quick=True, seconds=60, figures=list(figures), curves=[])


def change_of(old: list[float], new: list[float], *, more_is_better: bool = False) -> str:
    before, after = (
        report_of(Figure("rate", "events/s", values, more_is_better=more_is_better))
        for values in (old, new)
    )
    (change,) = changes(before, after)
    return change.verdict


def test_a_figure_knows_whether_its_aim_is_reached() -> None:
    assert Figure("p50", "ms", [1, 2, 9], aim=2).is_reached is True
    assert Figure("p50", "ms", [1, 2.1, 9], aim=2).is_reached is False
    assert Figure("ratio", "", [0.7, 0.8], aim=0.7, more_is_better=True).is_reached is True
    assert Figure("ratio", "", [0.6, 0.7], aim=0.7, more_is_better=True).is_reached is False
    assert Figure("rate", "", [1]).is_reached is None


def test_the_same_distribution_is_noise() -> None:
    rng = random.Random(1)
    old, new = ([rng.gauss(100, 5) for _ in range(9)] for _ in range(2))
    assert change_of(old, new) == "noise"


@pytest.mark.parametrize(("more_is_better", "expected"), [(True, "better"), (False, "worse")])
def test_more_is_better_or_worse_as_the_figure_says(more_is_better: bool, expected: str) -> None:
    rng = random.Random(2)
    old = [rng.gauss(100, 2) for _ in range(5)]
    new = [value * 1.2 for value in old]
    assert change_of(old, new, more_is_better=more_is_better) == expected
    assert change_of(new, old, more_is_better=not more_is_better) == expected


def test_two_values_say_nothing() -> None:
    assert change_of([1, 1], [5, 5, 5]) == "too few"


def test_figures_of_one_report_alone_are_left_out() -> None:
    assert changes(report_of(Figure("a", "", [1])), report_of(Figure("b", "", [1]))) == []


def test_a_report_survives_its_file(tmp_path: Path) -> None:
    report = report_of(Figure("p50", "ms", [1.5], [1.0], 2.0))
    (tmp_path / "report.json").write_bytes(msgspec.json.encode(report))
    assert read(tmp_path / "report.json") == report


def test_the_markdown_says_what_was_not_reached() -> None:
    text = markdown(report_of(Figure("p99", "ms", [12.0], aim=10.0)), ["ack-latency.svg"])
    assert "| p99 | ms | 12 | 12–12 |  | 10 | **not reached** |" in text
    assert "![ack-latency](ack-latency.svg)" in text


def test_a_histogram_has_each_time_once() -> None:
    times = [0.5, 1.0, 1.1, 90.0]
    found = histogram(times)
    assert sum(count for _, count in found) == len(times)
    assert next(bound for bound, count in found if count) == pytest.approx(0.501, abs=1e-3)
    assert all(later > earlier for (earlier, _), (later, _) in itertools.pairwise(found))
    assert histogram([]) == []


def test_a_picture_a_title(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="pictures need the extra `bench`")
    from bench.pictures import draw

    curves = [
        Curve("rate over table size", label, "events", "events/s", [(1, 2.0), (2, 3.0)])
        for label in ("ggend", "executemany")
    ]
    assert draw(curves, tmp_path) == ["rate-over-table-size.svg"]
    assert "executemany" in (tmp_path / "rate-over-table-size.svg").read_text()
