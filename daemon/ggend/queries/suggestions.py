"""Suggestions: values of a database that begin with a text, for completing a command line.

Never writes, never waits for a lock and never makes a file. Values are found by steps through an
index, so that a large database takes no longer than a small one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from ggend.database.files import companion, database_uri
from ggend.queries.id_lookup import Kind, ids_like, values_like
from ggend.queries.run import columns_of
from ggend.queries.snapshot import columns_of as columns_of_all

__all__ = [
    "MOST",
    "agents_with_memory",
    "breaches",
    "columns_of",
    "glance",
    "ids",
    "producers",
    "rejected_events",
    "tables",
    "violated_executions",
]

#: Suggestions at most: more than a person reads.
MOST = 50

#: Hexadecimal digits of a producer id.
_PRODUCER_DIGITS = 32

#: Digits of the largest id of SQLite.
_ID_DIGITS = 19


@contextmanager
def glance(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a database without waiting. Raises sqlite3.Error where that is not possible.

    `mode=ro` alone would make a `-shm` beside a database that no daemon has open.
    """
    is_alone = not any(companion(path, end).exists() for end in ("-wal", "-journal"))
    mode = "mode=ro&immutable=1" if is_alone else "mode=ro&readonly_shm=1"
    with closing(
        sqlite3.connect(database_uri(path, mode), uri=True, isolation_level=None, timeout=0)
    ) as connection:
        connection.execute("PRAGMA query_only = ON")
        yield connection


def ids(connection: sqlite3.Connection, kind: Kind, text: str) -> list[str]:
    """Return ids of a kind that begin so."""
    return ids_like(connection, kind, text, MOST)


def agents_with_memory(connection: sqlite3.Connection, text: str) -> list[str]:
    """Return agents whose memory is stored."""
    return values_like(connection, "agent_memory", "agent_id", text, MOST)


def violated_executions(connection: sqlite3.Connection, text: str) -> list[str]:
    """Return executions with a violation."""
    return values_like(connection, "slo_violations", "execution_id", text, MOST)


def rejected_events(connection: sqlite3.Connection, digits: str) -> list[tuple[str, str]]:
    """Return the newest rejected events whose ids begin with these digits, each with its code."""
    return _by_digits(connection, _REJECTED, digits)


def breaches(connection: sqlite3.Connection, digits: str) -> list[tuple[str, str]]:
    """Return the newest breaches whose ids begin with these digits, each with its metric."""
    return _by_digits(connection, _BREACHES, digits)


def producers(connection: sqlite3.Connection, digits: str) -> list[str]:
    """Return producers whose ids, as `ggend accounts` shows them, begin with these digits."""
    parameters = {
        "low": bytes.fromhex(digits.ljust(_PRODUCER_DIGITS, "0")),
        "high": bytes.fromhex(digits.ljust(_PRODUCER_DIGITS, "f")),
        "most": MOST,
    }
    rows = [row for sql in (_PRODUCERS, _SOURCES) for row in connection.execute(sql, parameters)]
    return sorted({str(row[0]) for row in rows})[:MOST]


def tables(connection: sqlite3.Connection) -> list[str]:
    """Return the names of all tables."""
    return list(columns_of_all(connection))


def _by_digits(connection: sqlite3.Connection, sql: str, digits: str) -> list[tuple[str, str]]:
    if not digits:
        ranges = [(1, 10**_ID_DIGITS // 2)]
    elif not (digits.isascii() and digits.isdecimal()) or digits.startswith("0"):
        return []
    else:
        scales = [10**more for more in range(_ID_DIGITS - len(digits))]
        ranges = [(int(digits) * scale, (int(digits) + 1) * scale - 1) for scale in scales]
    found: list[tuple[str, str]] = []
    for low, high in reversed(ranges):
        parameters = {"low": low, "high": high, "most": MOST - len(found)}
        found += [(str(row), str(about)) for row, about in connection.execute(sql, parameters)]
    return found


_REJECTED = """
SELECT id, code
FROM rejected_events
WHERE id BETWEEN :low AND :high
ORDER BY id DESC
LIMIT :most"""
_BREACHES = """
SELECT id, metric
FROM slo_breaches
WHERE id BETWEEN :low AND :high
ORDER BY id DESC
LIMIT :most"""
_PRODUCERS = """
SELECT lower(hex(producer))
FROM producers
WHERE producer BETWEEN :low AND :high
  AND source IS NULL
ORDER BY producer
LIMIT :most"""
_SOURCES = """
SELECT lower(hex(source))
FROM producers
WHERE source BETWEEN :low AND :high
ORDER BY source
LIMIT :most"""
