"""Suite: all checks of the contract, for this version or for 1.0.0, over one replica.

It decides nothing about a target by itself: a check fails or it does not.
"""

from __future__ import annotations

from collections.abc import Iterator

from contract.tier2 import effects, flows, recent, structure, summaries, transactions, words
from contract.tier2.check import Check
from contract.tier2.replica import Absent, Replica

__all__ = ["VERSIONS", "checks_of", "differences", "version_of"]

VERSIONS = ("1.0.0", "2")


def checks_of(version: str) -> list[Check]:
    """Return the checks of what this version promises."""
    found = [
        check
        for part in (structure, words, effects, recent, summaries, transactions, flows)
        for check in part.checks()
        if version != "1.0.0" or not check.added
    ]
    assert len({check.name for check in found}) == len(found), "two checks have one name"
    return found


def version_of(replica: Replica) -> str:
    """Tell from the header: version 1.0.0 wrote nothing into it."""
    unmarked = not replica.pragma("user_version") and not replica.pragma("application_id")
    return "1.0.0" if unmarked else VERSIONS[-1]


def differences(replica: Replica, version: str) -> Iterator[str]:
    """Yield one line for each check that fails."""
    for check in checks_of(version):
        try:
            check.run(replica)
        except AssertionError as error:
            yield str(error)
        except Absent:
            pass  # the check of its existence has failed
