"""Whatever a power cut leaves of the files, all that was acked is recovered, and nothing else."""

from __future__ import annotations

import pytest

from torture.power import power_cuts
from torture.trace import why_not_traced

pytestmark = pytest.mark.skipif(why_not_traced() is not None, reason=str(why_not_traced()))


def test_forty_power_cuts_lose_nothing_that_was_acked() -> None:
    """The long form, at every sync and every write, is `./dev torture power`."""
    done = power_cuts(executions=60, producers=3, seed=40, moments=40, restarts=3)
    assert done.problems[:5] == []
    assert done.restarts == 3
    # The run had what the cuts are about: commits, checkpoints and WALs that began anew.
    assert done.syncs > 40
    assert done.wal_restarts > 3
    assert done.contents > 10
