"""Any sequence of what can happen to a store leaves it as a model in memory says.

`./dev torture model --minutes N` runs it for longer, with other examples each time.
"""

from __future__ import annotations

import pytest
from hypothesis.stateful import run_state_machine_as_test

from ggend.storage import accounts
from torture.machine import StoreMachine, profile

pytestmark = pytest.mark.slow


def test_the_store_is_as_the_model_says_after_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables, accounts, parked and rejected events; the same examples every time."""
    monkeypatch.setattr(accounts, "_REMEMBERED", 2)
    run_state_machine_as_test(StoreMachine, settings=profile(20, same=True))
