"""Backoff: delays grow, stay bounded, are spread, and begin anew after progress."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ggend_client.transport.backoff import Backoff


def test_the_upper_end_doubles_up_to_the_longest() -> None:
    backoff = Backoff(lambda: 1.0, first_seconds=0.1, longest_seconds=0.5)
    assert [backoff.next_delay() for _ in range(5)] == [0.1, 0.2, 0.4, 0.5, 0.5]


def test_a_reset_begins_with_the_first_delay_again() -> None:
    backoff = Backoff(lambda: 1.0, first_seconds=0.1, longest_seconds=0.5)
    backoff.next_delay()
    backoff.next_delay()
    backoff.reset()
    assert backoff.next_delay() == 0.1


@given(st.lists(st.floats(min_value=0, max_value=1, exclude_max=True), max_size=200))
def test_every_delay_lies_between_zero_and_the_longest(draws: list[float]) -> None:
    remaining = iter(draws)
    backoff = Backoff(lambda: next(remaining), first_seconds=0.1, longest_seconds=2.0)
    assert all(0 <= backoff.next_delay() <= 2.0 for _ in draws)
