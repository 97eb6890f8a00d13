"""Account totals: the sums of all accounts, kept exact while the writer changes single ones.

Triggers of the writer's own connection carry each change of `producers` into a row in memory, in
the same transaction: a rollback takes both back. So `ggend status` can say what `ggend accounts`
says without reading a table.
"""

from __future__ import annotations

import sqlite3

from ggend.database.account_counts import COUNTS, totals_of

__all__ = ["AccountTotals"]


class AccountTotals:
    """The totals as of the last commit, and at the start."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Sum up the accounts as they stand, and follow them from here on."""
        for statement in _FOLLOW:
            connection.execute(statement)
        _, self._at_start = totals_of(connection)
        self._since_start = dict.fromkeys(COUNTS, 0)

    def read(self, connection: sqlite3.Connection) -> None:
        """Take in what was committed. Called on the writer's thread."""
        row = connection.execute(_CHANGES).fetchone()
        self._since_start = dict(zip(COUNTS, map(int, row), strict=True))

    @property
    def since_start(self) -> dict[str, int]:
        """How the totals changed since this began."""
        return self._since_start

    @property
    def now(self) -> dict[str, int]:
        """The sums over all accounts."""
        changes = self._since_start
        return {name: total + changes[name] for name, total in self._at_start.items()}


# Put together from COUNTS, names of this module.


def _trigger(event: str, sign: str, row: str) -> str:
    changes = ", ".join(f"{name} = {name} {sign} {row}.{name}" for name in COUNTS)
    return f"""
        CREATE TEMP TRIGGER account_totals_{event} AFTER {event} ON main.producers
        BEGIN UPDATE account_changes SET {changes}; END"""  # noqa: S608


_DIFFERENCES = ", ".join(f"{name} = {name} + NEW.{name} - OLD.{name}" for name in COUNTS)
_FOLLOW = (
    "DROP TABLE IF EXISTS temp.account_changes",
    *(f"DROP TRIGGER IF EXISTS temp.account_totals_{event}" for event in ("INSERT", "DELETE")),
    "DROP TRIGGER IF EXISTS temp.account_totals_UPDATE",
    f"CREATE TEMP TABLE account_changes ({', '.join(COUNTS)})",
    f"INSERT INTO temp.account_changes VALUES ({', '.join('0' for _ in COUNTS)})",  # noqa: S608
    _trigger("INSERT", "+", "NEW"),
    _trigger("DELETE", "-", "OLD"),
    f"""
        CREATE TEMP TRIGGER account_totals_UPDATE AFTER UPDATE ON main.producers
        BEGIN UPDATE account_changes SET {_DIFFERENCES}; END""",  # noqa: S608
)
_CHANGES = f"SELECT {', '.join(COUNTS)} FROM temp.account_changes"  # noqa: S608
