"""Snapshot: several queries of one database that all see the same state.

Never writes. A snapshot that is open for long keeps a daemon from reusing its WAL; nothing else
waits for it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from ggend.database.readonly import open_readonly, primary_code
from ggend.errors import DatabaseUnusable
from ggend.queries.run import not_accepted

__all__ = ["columns_of", "require_table", "snapshot"]


@contextmanager
def snapshot(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a tier 2 database in one transaction that reads. Raises DatabaseUnusable."""
    with closing(open_readonly(path)) as connection:
        try:
            connection.execute("BEGIN")
            yield connection
        except sqlite3.Error as error:
            if primary_code(error) == sqlite3.SQLITE_INTERRUPT:
                raise KeyboardInterrupt from error
            raise DatabaseUnusable(
                f"{path} cannot be read: {error}",
                hint="`ggend check` shows whether it is damaged or has an unknown schema",
            ) from error
        except (UnicodeEncodeError, OverflowError) as error:
            raise not_accepted(error) from error


def require_table(connection: sqlite3.Connection, path: Path, table: str, *, lacks: str) -> None:
    """Raise DatabaseUnusable without this table of ggend's own: version 1.0.0 `lacks` it."""
    if table not in columns_of(connection):
        raise DatabaseUnusable(
            f"{path} has schema version 1.0.0, which {lacks}",
            hint="`ggend init` upgrades a database in place",
        )


def columns_of(
    connection: sqlite3.Connection, kinds: Sequence[str] = ("table",)
) -> dict[str, list[str]]:
    """Return the columns of every table, or also of every view.

    Version 1.0.0 has fewer, and none of ggend's own.
    """
    found: dict[str, list[str]] = {}
    for table, column in connection.execute(_COLUMNS, (json.dumps(kinds),)):
        found.setdefault(table, []).append(column)
    return found


_COLUMNS = """
    SELECT t.name, c.name
    FROM sqlite_schema AS t
    JOIN pragma_table_info(t.name) AS c
    WHERE t.type IN (SELECT value FROM json_each(?))
      AND t.name NOT LIKE 'sqlite~_%' ESCAPE '~'
    ORDER BY t.type, t.rowid, c.cid"""
