"""Moments that people type: ages and dates, to the text that the tables hold."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from ggend.errors import UsageMistake
from ggend.queries.time_filters import parse_age, parse_moment

NOW = datetime(2026, 1, 29, 12, 34, 56, 789_000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("0s", "2026-01-29T12:34:56.789Z"),
        ("90m", "2026-01-29T11:04:56.789Z"),
        ("24h", "2026-01-28T12:34:56.789Z"),
        (" 7 d ", "2026-01-22T12:34:56.789Z"),
        ("2w", "2026-01-15T12:34:56.789Z"),
        ("2026-01-29", "2026-01-29T00:00:00.000Z"),
        ("2026-01-29T12:34", "2026-01-29T12:34:00.000Z"),
        ("2026-01-29 12:34:56", "2026-01-29T12:34:56.000Z"),
        ("2026-01-29T12:34:56.7891Z", "2026-01-29T12:34:56.789Z"),
        ("2026-01-29T12:34:56+02:00", "2026-01-29T10:34:56.000Z"),
        ("1970-01-01", "1970-01-01T00:00:00.000Z"),
        ("9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59.999Z"),
    ],
)
def test_a_moment_becomes_the_text_of_the_tables(text: str, moment: str) -> None:
    assert parse_moment(text, now=NOW) == moment


def test_the_zone_of_the_clock_does_not_matter() -> None:
    there = NOW.astimezone(timezone(timedelta(hours=5)))
    assert parse_moment("24h", now=there) == parse_moment("24h", now=NOW)


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "yesterday", "7", "h", "-7d", "7.5d", "7y", "٧d", "9" * 40 + "d"),
        *("1969-12-31", "10000-01-01", "999999999999w"),
        *("2026-02-30", "2026-01-29T25:00", "24h\n24h", "\x00"),
    ],
)
def test_what_is_no_moment_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageMistake, match="is neither an age nor a time between") as caught:
        parse_moment(text, now=NOW)
    assert "24h" in caught.value.hint
    assert "2026-01-29T12:34:56Z" in caught.value.hint


def test_an_age_is_counted_in_seconds() -> None:
    assert [parse_age(age) for age in ("5s", "90m", "24h", "7d", "2w")] == [
        5,
        5400,
        86_400,
        604_800,
        1_209_600,
    ]
    with pytest.raises(UsageMistake, match="is not an age"):
        parse_age("2026-01-29")
