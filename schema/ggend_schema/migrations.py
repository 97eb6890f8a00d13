"""Migrations: the numbered SQL files of `ggend_schema/sql`, forward only.

Version 1 is the schema of the databases that were there before ggend (version 1.0.0); what ggend
adds begins with 2. Never opens a database.
"""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from importlib import resources

from msgspec import Struct

__all__ = [
    "APPLICATION_ID",
    "Migration",
    "is_unmarked",
    "migrations",
    "schema_version",
    "statements",
]

#: `PRAGMA application_id` of a tier-2 database that ggend made: "ggnd" in ASCII.
APPLICATION_ID = 0x67676E64


#: Tables of every database since version 2 that no other application has.
_OWN = frozenset({"receipts", "pipeline_metrics", "producers", "database_identity"})


class Migration(Struct, frozen=True):
    """One numbered SQL file."""

    version: int
    name: str
    sql: str


@functools.cache
def migrations() -> tuple[Migration, ...]:
    """Return all migrations in order."""
    folder = resources.files("ggend_schema").joinpath("sql")
    names = sorted(file.name for file in folder.iterdir() if file.name.endswith(".sql"))
    return tuple(
        Migration(int(name[:4]), name[5:-4], folder.joinpath(name).read_text(encoding="utf-8"))
        for name in names
    )


def schema_version() -> int:
    """Return the version that this program writes."""
    return migrations()[-1].version


def is_unmarked(version: int, application: int, tables: AbstractSet[str]) -> bool:
    """Whether these are ggend's tables in a file that does not say so.

    `.dump` of the sqlite3 shell writes neither pragma; one of them may have been set by hand since.
    """
    is_lost = application == 0 or (application == APPLICATION_ID and version == 0)
    return is_lost and version >= 0 and tables >= _OWN


def statements(script: str) -> Iterator[str]:
    """Cut a script into its statements: sqlite3's executescript would commit first."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
