"""Whichever call on its files fails, the daemon goes on or ends in words; what was acked stays."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from torture.faults import FaultBench
from torture.interception import why_not

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))

#: Cases, and how many at a time: they wait more than they work.
_CASES = 12
_AT_A_TIME = 4


def test_a_dozen_faults_lose_nothing_that_was_acked(place: Path) -> None:
    """The long form, with every call of the script, is `./dev torture faults`."""
    bench = FaultBench(place)
    faults = bench.sample(_CASES, seed=20)
    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        trials = dict(zip(map(str, faults), pool.map(bench.run, faults), strict=True))
    assert {name: trial.problems for name, trial in trials.items() if trial.problems} == {}
    assert sum(trial.outcome != "not reached" for trial in trials.values()) > _CASES / 2
