"""Accounts: the number of events of each producer and their outcomes, as rows and in total.

Never writes. `database.audit_accounts` verifies the numbers.
"""

from __future__ import annotations

import sqlite3

import msgspec

from ggend.database.account_counts import COUNTS, sum_up
from ggend.errors import UsageMistake
from ggend.queries.id_lookup import parts_of
from ggend.queries.result import Result
from ggend.queries.run import run
from ggend.queries.snapshot import columns_of

__all__ = ["Accounts", "read_accounts"]


class Accounts(msgspec.Struct, frozen=True, kw_only=True):
    """The selected accounts: the first of them as rows, all of them in total."""

    rows: Result
    #: How many accounts, and the sums of their COUNTS.
    total: dict[str, int]


def read_accounts(
    connection: sqlite3.Connection,
    *,
    limit: int,
    producer: str | None = None,
    client: str | None = None,
) -> Accounts:
    """Return the accounts, most recently active first; `producer` is a prefix of an id.

    Raises UsageMistake.
    """
    low, high, end = _range_of(producer) if producer is not None else (None, None, "")
    parameters = {"low": low, "high": high, "end": end, "client": client}
    listed, counted = _statements(connection)
    accounts, sums = sum_up(connection.execute(counted, parameters))
    return Accounts(
        rows=run(connection, listed, limit, parameters),
        total={"accounts": accounts, **sums},
    )


def _range_of(shown: str) -> tuple[bytes, bytes, str]:
    """Return the first and the last producer id that begins so, and the digits at its end."""
    digits, end = parts_of(shown.lower())
    try:
        bytes.fromhex(end if len(end) % 2 == 0 else f"0{end}")
        first = bytes.fromhex(digits.ljust(_DIGITS, "0"))
        return first, bytes.fromhex(digits.ljust(_DIGITS, "f")), end.upper()
    except ValueError:
        raise UsageMistake(
            f"{shown!r} is not a prefix of a producer id",
            hint=f"give up to {_DIGITS} hexadecimal digits",
        ) from None


#: Hexadecimal digits of a producer id.
_DIGITS = 32

# Put together from COUNTS, names of this module; every value is bound.


def _statements(connection: sqlite3.Connection) -> tuple[str, str]:
    """Return what reads the accounts and what reads their counts, in a database of any version."""
    has_source = "source" in columns_of(connection)["producers"]
    # What a permanent producer says is the id that people know.
    name = "coalesce(source, producer)" if has_source else "producer"
    counts = ", ".join(COUNTS)
    chosen = f"""
        FROM producers
        WHERE (:low IS NULL OR {name} BETWEEN :low AND :high)
          AND (:end = '' OR substr(hex({name}), -length(:end)) = :end)
          AND (:client IS NULL OR client = :client)"""
    return (
        f"""
        SELECT
            kind, {name} AS producer, client, uid, {counts},
            permanent, finished, first_seen, last_seen, id
        {chosen}
        ORDER BY last_seen DESC, id DESC""",
        f"SELECT {counts} {chosen}",
    )
