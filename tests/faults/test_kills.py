"""Killed again and again under full load, the tables hold every offered event exactly once."""

from __future__ import annotations

from torture.kills import kill_round


def test_ten_kills_lose_nothing_and_double_nothing() -> None:
    """The long form is `./dev torture kills`."""
    done = kill_round(kills=10, producers=2, seed=20)
    assert done.problems == []
    assert done.events > 0
