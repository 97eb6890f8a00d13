"""Aftermath: what a database file holds while no daemon runs, for comparing two runs."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from support.moved_database import copy_as_made_there

__all__ = ["contents", "copy_database", "settled", "unsound"]

#: Columns that differ between two runs of the same script.
_VARYING = {
    "account_id",
    "arrival_ns",
    "created_at",
    "first_seen",
    "id",
    "last_seen",
    "pid",
    "producer",  # that of a permanent one is random
    "replayed",
    "seen_s",
    "updated_at",
}

#: Tables that two runs need not agree on: a random id, and how far SQLite and hooks have counted.
_OTHER_TABLES = {"database_identity", "hook_watermarks", "seen_time", "sqlite_sequence"}


def copy_database(database: Path, directory: Path) -> None:
    """Copy a file and its WAL, as far as they are there, so that looking changes nothing."""
    copy_as_made_there(database, directory / database.name)


def settled(database: Path, producer: bytes) -> int:
    """Return the last number of a producer that the file accounts for."""
    with closing(sqlite3.connect(database)) as connection:
        if not connection.execute(_HAS_ACCOUNTS).fetchall():
            return 0
        row = connection.execute(_SETTLED, (producer,)).fetchone()
    return 0 if row is None else int(row[0])


def contents(database: Path) -> list[str]:
    """Return every row of every table, without what varies, in words and sorted."""
    with closing(sqlite3.connect(database)) as connection:
        rows = []
        for (table,) in connection.execute(_TABLES).fetchall():
            if table in _OTHER_TABLES:
                continue
            found = connection.execute(f"SELECT * FROM {table}")
            names = [column[0] for column in found.description]
            kept = [place for place, name in enumerate(names) if name not in _VARYING]
            rows += [f"{table}: { {names[place]: row[place] for place in kept} }" for row in found]
        return sorted(rows)


def unsound(database: Path) -> list[str]:
    """Return what is wrong with the file itself, and with the accounts."""
    with closing(sqlite3.connect(database)) as connection:
        found = {
            "integrity_check": connection.execute("PRAGMA integrity_check").fetchall() != [("ok",)],
            "foreign_key_check": bool(connection.execute("PRAGMA foreign_key_check").fetchall()),
            "accounts": bool(connection.execute(_UNACCOUNTED).fetchall()),
        }
    return [f"not sound: {name}" for name, wrong in found.items() if wrong]


_TABLES = """
    SELECT name
    FROM sqlite_schema
    WHERE type = 'table'"""
_HAS_ACCOUNTS = """
    SELECT 1
    FROM sqlite_schema
    WHERE name = 'producers'"""
_SETTLED = """
    SELECT last_sequence
    FROM producers
    WHERE source = ?"""
_UNACCOUNTED = """
    SELECT id
    FROM producers
    WHERE last_sequence <> stored + duplicate + superseded + parked + rejected + lost"""
