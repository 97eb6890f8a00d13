"""Check: one claim of the contract about a replica.

A claim returns when it holds; it raises AssertionError with one line that names the difference, or
Absent where there is nothing to look at.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from contract.tier2.replica import Absent, Replica

__all__ = ["Check", "expect", "refused"]


class Check(NamedTuple):
    """A name to list and a function to call. `added`: version 1.0.0 did not promise it."""

    name: str
    claim: Callable[[Replica], None]
    added: bool = False

    def run(self, replica: Replica) -> None:
        """Raise AssertionError unless it holds; Absent if there is nothing to look at."""
        try:
            self.claim(replica)
        except (AssertionError, Absent):
            raise
        except Exception as error:
            # A target can be anything: what a check stumbles over is a difference as well.
            raise AssertionError(f"{self.name}: {type(error).__name__}: {error}") from error


def expect(holds: bool, message: str) -> None:
    """Raise AssertionError unless it holds."""
    if not holds:
        raise AssertionError(message)


@contextmanager
def refused(message: str) -> Iterator[None]:
    """Expect the database to refuse what is tried here."""
    try:
        yield
    except sqlite3.IntegrityError:
        return
    raise AssertionError(message)
