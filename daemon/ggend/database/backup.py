"""Backup: a verified copy of a database file, made while it is open, with progress reports.

SQLite's backup API copies page by page. A copy has the name `….partial` until it is verified,
synced and needed: a file with the final name is complete.
"""

from __future__ import annotations

import itertools
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeAlias

from msgspec import Struct

from ggend.database.files import database_uri
from ggend.database.readonly import primary_code
from ggend.database.schema import promised
from ggend.database.set_aside import sync_directory
from ggend.errors import DatabaseUnusable

__all__ = [
    "Step",
    "Tell",
    "back_up",
    "copy_pages",
    "count_rows",
    "damage",
    "free_name",
    "keep",
    "watch",
]

#: Pages copied at once: 4 MiB, some 10 ms.
_COPY_PAGES = 1024

#: SQLite instructions between two progress reports: some 10 ms.
_STEPS_BETWEEN_TICKS = 1_000_000


class Step(Struct, frozen=True):
    """The current step of an upgrade, reported often enough to show that it is running."""

    what: str
    #: From 0 to 1; None if unknown.
    share: float | None = None


Tell: TypeAlias = Callable[[Step], None]


def back_up(path: Path, partial: Path, rows: dict[str, int], tell: Tell) -> None:
    """Copy the database, which is locked for other writers, and verify the copy."""
    try:
        # From a connection of its own: the backup API waits for good for one in a transaction.
        with closing(sqlite3.connect(database_uri(path, "mode=ro"), uri=True)) as source:
            copy_pages(source, partial, tell)
        with closing(sqlite3.connect(database_uri(partial, "immutable=1"), uri=True)) as copy:
            problem = damage(copy, "checking the copy", tell)
            if problem is None and count_rows(copy, tell) != rows:
                problem = "its numbers of rows differ"
        partial.chmod(path.stat().st_mode & 0o777)
    except (sqlite3.Error, OSError) as error:
        if primary_code(error) == sqlite3.SQLITE_INTERRUPT:
            raise
        problem = str(error)
    if problem is not None:
        raise DatabaseUnusable(
            f"the backup {partial} before the upgrade failed: {problem}",
            hint="the database was not changed; free disk space, or check the disk for errors",
        )


def keep(partial: Path, backup: Path) -> None:
    """Rename the complete copy to its final name, durably."""
    partial.rename(backup)
    sync_directory(backup.parent)


def free_name(path: Path) -> Path:
    """A name that no earlier upgrade has taken."""
    names = (f"{path.name}.1.0.0.backup{number or ''}" for number in itertools.count())
    return next(place for name in names if not (place := path.with_name(name)).exists())


def damage(
    connection: sqlite3.Connection, what: str, tell: Tell, *, check: str = "quick_check"
) -> str | None:
    """Return the first problem of the pages, or None.

    `integrity_check` compares the indexes with the rows too.
    """
    watch(connection, what, tell)
    try:
        (found,) = connection.execute(f"PRAGMA {check}(1)").fetchone()
    except sqlite3.DatabaseError as error:
        if primary_code(error) == sqlite3.SQLITE_INTERRUPT:
            raise
        return str(error)
    return None if found == "ok" else str(found)


def count_rows(connection: sqlite3.Connection, tell: Tell) -> dict[str, int]:
    """Return the rows of each of the seven tables."""
    watch(connection, "counting rows", tell)
    return {
        table: connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0]  # noqa: S608 - ours
        for table in promised(1).tables
    }


def watch(connection: sqlite3.Connection, what: str, tell: Tell) -> None:
    """Report the current step, repeatedly while the connection works."""
    tell(Step(what))
    connection.set_progress_handler(lambda: tell(Step(what)), _STEPS_BETWEEN_TICKS)


def copy_pages(source: sqlite3.Connection, partial: Path, tell: Tell) -> None:
    """Copy what a connection sees, which is in no transaction, into a new file.

    Raises sqlite3.Error, OSError.
    """
    for leftover in (partial, partial.with_name(partial.name + "-journal")):
        leftover.unlink(missing_ok=True)

    def copied(_status: int, remaining: int, total: int) -> None:
        tell(Step("copying", 1 - remaining / max(1, total)))

    os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
    with closing(sqlite3.connect(partial, isolation_level=None)) as target:
        target.execute("PRAGMA synchronous = FULL").fetchall()
        source.backup(target, pages=_COPY_PAGES, progress=copied)
