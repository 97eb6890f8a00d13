"""The data contract holds in every database that ggend makes, in whichever way.

`tier2/test_tier2.py` has a test for each promise, of a fresh one.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from contract.tier2.made import make
from contract.tier2.replica import Absent, Replica
from contract.tier2.suite import VERSIONS, checks_of


@pytest.mark.parametrize("name", ["upgraded", "schema.sql"])
def test_the_contract_holds_in_what_else_is_made(name: str, tmp_path: Path) -> None:
    path = tmp_path / "tier2.db"
    make(name, path)
    broken = {}
    with closing(Replica.read(path)) as replica:
        for check in checks_of(VERSIONS[-1]):
            try:
                check.run(replica)
            except (AssertionError, Absent) as error:
                broken[check.name] = str(error)
    assert broken == {}
