"""Objectives in TOML: what is taken, and what is said of a mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from ggend.errors import BadConfig
from ggend.slo.loader import load_objectives
from ggend.slo.objectives import SHIPPED, Objectives


def load(tmp_path: Path, text: str) -> Objectives:
    (tmp_path / "objectives.toml").write_text(text, encoding="utf-8")
    return load_objectives(tmp_path / "objectives.toml")


def test_without_a_file_the_shipped_ones_hold() -> None:
    assert load_objectives(None) is SHIPPED


def test_a_file_replaces_the_shipped_ones(tmp_path: Path) -> None:
    (tmp_path / "o.toml").write_text(
        """
        [[threshold]]
        metric = "stage.extract.duration_ms"
        operation = "validation"
        warning = 10
        critical = 20

        [[threshold]]
        metric = "execution.files_generated"
        below = true
        critical = 1
        """
    )
    one, other = load_objectives(tmp_path / "o.toml").thresholds
    assert (one.metric, one.stage, one.column) == (
        "stage.μ₂_extract.duration_ms",
        "μ₂_extract",
        "duration_ms",
    )
    assert (other.warning, other.critical, other.direction) == (None, 1, -1)


def test_the_example_of_the_documentation_is_valid(tmp_path: Path) -> None:
    page = Path(__file__).resolve().parents[3] / "docs" / "OPERATING.md"
    example = page.read_text(encoding="utf-8").split("```toml\n")[1].split("```")[0]
    objectives = load(tmp_path, example)
    assert [threshold.metric for threshold in objectives.thresholds] == [
        "execution.duration_ms",
        "execution.duration_ms",
        "stage.μ₃_emit.output_size_bytes",
    ]
    assert objectives.judge("execution.duration_ms", 600, "validation", "production")
    assert not objectives.judge("execution.duration_ms", 600, "validation", "dev")


def test_an_empty_file_has_no_objectives(tmp_path: Path) -> None:
    (tmp_path / "o.toml").write_text("")
    assert load_objectives(tmp_path / "o.toml").thresholds == ()


@pytest.mark.parametrize(
    ("text", "said", "hint"),
    [
        ("[[threshold]", "line 1: not TOML", "[[threshold]]"),
        ("[[limit]]", "unknown key `limit`", "[[threshold]]"),
        ("threshold = 3", "`threshold` must be a list of tables", "[[threshold]]"),
        ("[[threshold]]\nwarning = 1", "threshold 1: ", "[[threshold]]"),
        ('[[threshold]]\nmetric = "execution.duration_ms"', "threshold 1 has no limit", "give"),
        (
            '[[threshold]]\nmetric = "execution.duraton_ms"\nwarning = 1',
            "there is no metric `execution.duraton_ms`",
            "`execution.duration_ms`",
        ),
        (
            '[[threshold]]\nmetric = "execution.duration_ms"\nwarning = "1"',
            "threshold 1: warning is a string; it must be a number from 0 to 1000000000000",
            "[[threshold]]",
        ),
        (
            '[[threshold]]\nmetric = "execution.duration_ms"\nwarning = -1',
            "threshold 1: warning must be a number from 0 to ",
            "[[threshold]]",
        ),
        (
            '[[threshold]]\nmetric = "execution.duration_ms"\nbelow = "yes"',
            "below is a string; it must be true or false",
            "[[threshold]]",
        ),
        (
            '[[threshold]]\nmetric = "execution.duration_ms"\nwarnning = 1',
            "threshold 1: unknown key `warnning`",
            "did you mean `warning`? an objective has three lines",
        ),
        (
            '[[thresholds]]\nmetric = "execution.duration_ms"\nwarning = 1',
            "unknown key `thresholds`",
            "did you mean `threshold`?",
        ),
        ("threshold = [1]", "threshold 1 is not a table", "[[threshold]]"),
        (
            '[[threshold]]\nmetric = "stage.normalise.duration_ms"\nwarning = 1',
            "there is no metric `stage.normalise.duration_ms`",
            "`stage.normalize.duration_ms`; the metrics are execution.duration_ms and ",
        ),
        (
            '[[threshold]]\nmetric = "execution.duration_ms"\nwarning = 2\ncritical = 2',
            "critical (2) is not above warning (2)",
            "beyond",
        ),
        (
            '[[threshold]]\nmetric = "execution.duration_ms"\nwarning = 2\ncritical = 3\n'
            "below = true",
            "critical (3) is not below warning (2)",
            "beyond",
        ),
        (
            '[[threshold]]\nmetric = "execution.duration_ms"\nwarning = 2\n'
            '[[threshold]]\nmetric = "execution.duration_ms"\nwarning = 9\noperation = "watch"',
            "threshold 2 never applies: threshold 1",
            "narrower",
        ),
    ],
)
def test_a_mistake_says_where_and_what_to_do(
    tmp_path: Path, text: str, said: str, hint: str
) -> None:
    with pytest.raises(BadConfig) as caught:
        load(tmp_path, text)
    assert said in caught.value.message
    assert "objectives.toml" in caught.value.message
    assert hint in caught.value.hint


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match=r"o\.toml cannot be read: No such file"):
        load_objectives(tmp_path / "o.toml")
