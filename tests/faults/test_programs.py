"""Short programs that emit and end in every way lose nothing that was taken, and double nothing."""

from __future__ import annotations

import pytest

from support.examples import share_of_examples
from torture.programs import program_round


@pytest.mark.scaled
def test_programs_of_every_style_and_end_lose_and_double_nothing() -> None:
    """The long form is `./dev torture programs`."""
    done = program_round(count=share_of_examples(0.5), seed=70)
    assert done.problems == []
    assert done.taken > 0
