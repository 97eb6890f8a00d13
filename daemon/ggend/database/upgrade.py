"""Upgrade: a database file made ready for writing, whatever version it is of.

A database of version 1.0.0 is upgraded in place. In this order, so that a crash at any moment
leaves it either as it was or upgraded:

1. its structure and its pages are checked through a connection that cannot write;
2. one transaction begins, which keeps other writers out until the end;
3. SQLite's backup API copies the file to `NAME.1.0.0.backup.partial`; the copy is checked, synced
   and renamed to `NAME.1.0.0.backup`;
4. the migrations run, the hooks are told to begin at the newest row, and it commits.

No row is rewritten: added columns are NULL in old rows. Indexes that are missing are made; views
are replaced. A database whose tables differ from version 1.0.0 is refused, with the differences.
"""

from __future__ import annotations

import itertools
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeAlias

from msgspec import Struct

from ggend.database.migrate import State, apply, cannot_open, create, recognise
from ggend.database.migrations import migrations, schema_version
from ggend.database.oddities import Oddity, count_oddities
from ggend.database.readonly import database_uri, primary_code
from ggend.database.structure import differences, promised, structure_of
from ggend.errors import DatabaseUnusable

__all__ = ["Preparation", "Step", "Tell", "prepare_database"]

#: Pages copied at once: 4 MiB, some 10 ms.
_COPY_PAGES = 1024

#: SQLite instructions between two signs of life: some 10 ms.
_STEPS_BETWEEN_TICKS = 1_000_000

#: Bytes that must be free beside the size of the copy: the WAL of the upgrade itself.
_MARGIN_BYTES = 16 * 1024 * 1024

#: Milliseconds to wait for the transaction of another writer to end.
_BUSY_MS = 5_000


class Step(Struct, frozen=True):
    """What an upgrade is doing. Told often enough to tell that it is alive."""

    what: str
    #: From 0 to 1; None where nobody knows.
    share: float | None = None


Tell: TypeAlias = Callable[[Step], None]


class Preparation(Struct, frozen=True, kw_only=True):
    """What was found or made."""

    database_id: str
    version: int = schema_version()
    was: State = State.CURRENT
    #: The verified copy of the file before an upgrade.
    backup: Path | None = None
    #: Rows by table, before and after the upgrade.
    rows: dict[str, int] = {}
    #: What the upgrade found and left as it is.
    oddities: list[Oddity] = []
    #: Indexes that the upgrade made because they were missing or other than they should be.
    mended: list[str] = []


def prepare_database(
    path: Path, *, upgrade: bool = True, tell: Tell = lambda _: None
) -> Preparation:
    """Create the database if the file is missing or empty, else bring it up to date.

    Raises DatabaseUnusable, and then has changed nothing.
    """
    state = recognise(path)
    if state in (State.VERSION_1, State.OLDER) and not upgrade:
        raise DatabaseUnusable(
            f"{path} is of {state.value} of tier 2, and an upgrade was not allowed",
            hint="`ggend init` upgrades it, after a backup; so does `serve` without --no-upgrade",
        )
    if state is State.VERSION_1:
        _refuse_other_tables(path)
        _refuse_damage(path, tell)
        _refuse_without_space(path)
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}").fetchall()
            if state is State.VERSION_1:
                return _upgrade(connection, path, tell)
            if state is State.EMPTY:
                create(connection)
            elif state is State.OLDER:
                connection.execute("BEGIN IMMEDIATE")
                (version,) = connection.execute("PRAGMA user_version").fetchone()
                apply(connection, [found for found in migrations() if found.version > version])
            return Preparation(database_id=_id_of(connection), was=state)
    except sqlite3.Error as error:
        if primary_code(error) == sqlite3.SQLITE_INTERRUPT:
            raise KeyboardInterrupt from error
        raise cannot_open(path, error) from error


def _refuse_other_tables(path: Path) -> None:
    with closing(sqlite3.connect(database_uri(path, "mode=ro"), uri=True)) as connection:
        found = [
            difference.text
            for difference in differences(structure_of(connection), promised(1))
            if difference.area not in ("indexes", "views") and not difference.is_extra
        ]
    if found:
        more = f" and {len(found) - 5} more differences" * (len(found) > 5)
        raise DatabaseUnusable(
            f"{path} looks like a tier 2 database of version 1.0.0, but "
            f"{'; '.join(found[:5])}{more}",
            hint="it was not touched; `ggend import database` reads its rows into a new one",
        )


def _refuse_damage(path: Path, tell: Tell) -> None:
    with closing(sqlite3.connect(database_uri(path, "mode=ro"), uri=True)) as connection:
        problem = _damage(connection, "checking the pages", tell)
    if problem is not None:
        raise DatabaseUnusable(
            f"{path} is damaged: {problem}",
            hint="it was not touched; restore a backup, or `sqlite3 PATH .recover` into a new file",
        )


def _refuse_without_space(path: Path) -> None:
    needed = path.stat().st_size + _MARGIN_BYTES
    free = shutil.disk_usage(path.parent).free
    if free < needed:
        raise DatabaseUnusable(
            f"the upgrade of {path} keeps a copy beside it, which takes "
            f"{needed // 2**20:,} MiB; {free // 2**20:,} MiB are free",
            hint="make room, or move the database to a larger disk first",
        )


def _upgrade(connection: sqlite3.Connection, path: Path, tell: Tell) -> Preparation:
    connection.execute("PRAGMA journal_mode = WAL").fetchall()
    connection.execute("BEGIN IMMEDIATE")
    try:
        rows = _count(connection, tell)
        backup = _back_up(path, rows, tell)
        found = count_oddities(
            connection, lambda table: _watch(connection, f"reading {table}", tell)
        )
        _watch(connection, "upgrading", tell)
        mended = _mend_indexes(connection)
        for view in promised(schema_version()).views:
            connection.execute(f"DROP VIEW IF EXISTS {view}")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    apply(connection, migrations()[1:])
    return Preparation(
        database_id=_id_of(connection),
        was=State.VERSION_1,
        backup=backup,
        rows=rows,
        oddities=found,
        mended=mended,
    )


def _back_up(path: Path, rows: dict[str, int], tell: Tell) -> Path:
    """Copy the database, to which nobody else can write now; return the verified copy."""
    partial = path.with_name(f"{path.name}.1.0.0.backup.partial")
    try:
        _copy(path, partial, tell)
        with closing(sqlite3.connect(database_uri(partial, "immutable=1"), uri=True)) as copy:
            problem = _damage(copy, "checking the copy", tell)
            if problem is None and _count(copy, tell) != rows:
                problem = "it has other numbers of rows"
    except sqlite3.Error as error:
        problem = str(error)
    if problem is not None:
        partial.unlink(missing_ok=True)
        raise DatabaseUnusable(
            f"the copy {partial} before the upgrade could not be made: {problem}",
            hint="the database is as it was; make room, or see what is wrong with the disk",
        )
    partial.chmod(path.stat().st_mode & 0o777)
    backup = _free_name(path)
    partial.rename(backup)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return backup


def _copy(path: Path, partial: Path, tell: Tell) -> None:
    for leftover in (partial, partial.with_name(partial.name + "-journal")):
        leftover.unlink(missing_ok=True)

    def copied(_status: int, remaining: int, total: int) -> None:
        tell(Step("copying", 1 - remaining / max(1, total)))

    # From a connection of its own: the backup API waits for good for one that is in a transaction.
    with (
        closing(sqlite3.connect(database_uri(path, "mode=ro"), uri=True)) as source,
        closing(sqlite3.connect(partial, isolation_level=None)) as target,
    ):
        target.execute("PRAGMA synchronous = FULL").fetchall()
        source.backup(target, pages=_COPY_PAGES, progress=copied)


def _free_name(path: Path) -> Path:
    """A name that no earlier upgrade has taken."""
    names = (f"{path.name}.1.0.0.backup{number or ''}" for number in itertools.count())
    return next(place for name in names if not (place := path.with_name(name)).exists())


def _damage(connection: sqlite3.Connection, what: str, tell: Tell) -> str | None:
    """Return the first thing that is wrong with the pages, if something is."""
    _watch(connection, what, tell)
    try:
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.DatabaseError as error:
        if primary_code(error) == sqlite3.SQLITE_INTERRUPT:
            raise
        return str(error)
    return None if found == "ok" else str(found)


def _count(connection: sqlite3.Connection, tell: Tell) -> dict[str, int]:
    _watch(connection, "counting rows", tell)
    return {
        table: connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0]  # noqa: S608 - ours
        for table in promised(1).tables
    }


def _mend_indexes(connection: sqlite3.Connection) -> list[str]:
    """Make the indexes of version 1.0.0 that are missing or other than they should be."""
    wanted = promised(1)
    names = [
        difference.name
        for difference in differences(structure_of(connection), wanted)
        if difference.area == "indexes" and not difference.is_extra
    ]
    for name in names:
        index = wanted.indexes[name]
        connection.execute(f"DROP INDEX IF EXISTS {name}")
        connection.execute(f"CREATE INDEX {name} ON {index.table} ({', '.join(index.columns)})")
    return names


def _watch(connection: sqlite3.Connection, what: str, tell: Tell) -> None:
    """Tell what the connection does from now on, again and again while it does it."""
    tell(Step(what))
    connection.set_progress_handler(lambda: tell(Step(what)), _STEPS_BETWEEN_TICKS)


def _id_of(connection: sqlite3.Connection) -> str:
    (database_id,) = connection.execute("SELECT id FROM database_identity").fetchone()
    return str(database_id)
