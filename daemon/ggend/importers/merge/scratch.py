"""Scratch: what a merge must remember of all rows, in a temporary database of SQLite's own.

SQLite keeps it in a bounded cache and spills it to an unnamed file that is gone when it is closed.
Never touches another database.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

__all__ = ["Scratch"]

#: KiB that SQLite may hold before it spills to disk; negative, as SQLite counts pages otherwise.
_CACHE_KIB = -32 * 1024


class Scratch:
    """Counts of equal rows, parents that were held back, and other notations of timestamps."""

    __slots__ = ("_connection",)

    def __init__(self) -> None:
        self._connection = sqlite3.connect("", isolation_level=None)
        self._connection.execute(f"PRAGMA cache_size = {_CACHE_KIB}")
        self._connection.execute("PRAGMA journal_mode = OFF").fetchall()
        for statement in _TABLES:
            self._connection.execute(statement)
        self._connection.execute("BEGIN")

    def close(self) -> None:
        """Forget everything."""
        self._connection.close()

    def ranks(self, fingerprints: Sequence[str]) -> list[int]:
        """Return for each row the how manieth of its equals it is, all earlier calls included."""
        wanted = Counter(fingerprints)
        counts: Counter[str] = Counter(
            dict(self._connection.execute(_SEEN, (_json(wanted),)).fetchall())
        )
        ranks = []
        for one in fingerprints:
            counts[one] += 1
            ranks.append(counts[one])
        self._connection.executemany(_SEE, wanted.items())
        return ranks

    def hold_back(self, table: str, key: str) -> None:
        """Remember that this parent is not here as it is there."""
        self._connection.execute(_HOLD, (table, key))

    def held_back(self, table: str, keys: Iterable[str]) -> set[str]:
        """Return those of the parents that were held back."""
        return {key for (key,) in self._connection.execute(_HELD, (table, _json(keys)))}

    def add_notations(self, rows: Iterable[tuple[str, str, str]]) -> None:
        """Remember agent, normal timestamp, and how else the timestamp is written."""
        self._connection.executemany(_ADD_NOTATION, rows)

    def notations(self, pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        """Return agent and other notation for these agents and normal timestamps."""
        return self._connection.execute(_NOTATIONS, (_json(pairs),)).fetchall()


def _json(values: Iterable[object]) -> str:
    return msgspec.json.encode(list(values)).decode()


_TABLES = (
    "CREATE TABLE seen (fingerprint TEXT PRIMARY KEY, rows INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE held (parent TEXT, id TEXT, PRIMARY KEY (parent, id)) WITHOUT ROWID",
    "CREATE TABLE notations (agent TEXT, normal TEXT, odd TEXT, PRIMARY KEY (agent, normal, odd)) "
    "WITHOUT ROWID",
)
_SEEN = """
    SELECT fingerprint, rows
    FROM seen
    WHERE fingerprint IN (SELECT value FROM json_each(?))"""
_SEE = """
    INSERT INTO seen (fingerprint, rows)
    VALUES (?, ?)
    ON CONFLICT (fingerprint) DO UPDATE
    SET rows = rows + excluded.rows"""
_HOLD = """
    INSERT OR IGNORE INTO held (parent, id)
    VALUES (?, ?)"""
_HELD = """
    SELECT id
    FROM held
    WHERE parent = ?
      AND id IN (SELECT value FROM json_each(?))"""
_ADD_NOTATION = """
    INSERT OR IGNORE INTO notations (agent, normal, odd)
    VALUES (?, ?, ?)"""
_NOTATIONS = """
    SELECT agent, odd
    FROM json_each(?) AS pair
    CROSS JOIN notations
    WHERE agent = json_extract(pair.value, '$[0]')
      AND normal = json_extract(pair.value, '$[1]')"""
