"""Upgrade: prepares a database file of any version for writing.

A database of version 1.0.0 is upgraded in place. In this order, so that a crash at any moment
leaves it either as it was or upgraded:

1. its structure and its pages are checked through a connection that cannot write;
2. one transaction begins, which keeps other writers out until the end;
3. SQLite's backup API copies the file to `NAME.1.0.0.backup.partial`; the copy is checked and
   synced;
4. the migrations run, and the hooks are told to begin at the newest row;
5. the copy is renamed to `NAME.1.0.0.backup`, so that one that is there was needed, and it commits.

A database whose pragmas were lost, as after `.dump`, is told by its tables; if they are those of a
version, the pragmas are set again, in the transaction of the migrations that are left.

No row is rewritten: added columns are NULL in old rows. Indexes that are missing are made; views
are replaced. A database whose tables differ from version 1.0.0 is refused, with the differences.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from msgspec import Struct

from ggend.database.backup import Step, Tell, back_up, count_rows, damage, free_name, keep, watch
from ggend.database.corruption import check_suspect
from ggend.database.files import database_uri, wal_size
from ggend.database.legacy_rows import LegacyRows, count_legacy_rows
from ggend.database.migrate import State, apply, cannot_open, create, recognise
from ggend.database.readonly import primary_code
from ggend.database.schema import differences, likeliest, promised, structure_of
from ggend.errors import DatabaseCorrupt, DatabaseUnusable
from ggend_schema.migrations import migrations, schema_version

__all__ = ["Preparation", "Step", "Tell", "prepare_database"]

#: What must be free beside the size of the copy: the WAL of the upgrade itself, which holds the
#: index that it adds to the audit log, a twentieth of the file and less.
_MARGIN_SHARE = 1 / 16
_MARGIN_BYTES = 16 * 1024 * 1024

#: Milliseconds to wait for the transaction of another writer to end.
_BUSY_MS = 5_000


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
    oddities: list[LegacyRows] = []
    #: Indexes that the upgrade made because they were missing or other than they should be.
    mended: list[str] = []


#: What SQLite says when something of somebody's has the name of what an upgrade makes, or refuses
#: what it does.
_OF_OTHERS = (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT)


def prepare_database(
    path: Path, *, upgrade: bool = True, tell: Tell = lambda _: None
) -> Preparation:
    """Create the database if the file is missing or empty, else bring it up to date.

    Raises DatabaseUnusable, and then has changed nothing that is stored.
    """
    state = recognise(path)
    unmarked = _unmarked_version(path) if state is State.UNMARKED else None
    is_older = state in (State.VERSION_1, State.OLDER)
    if (is_older or (unmarked or schema_version()) < schema_version()) and not upgrade:
        raise DatabaseUnusable(
            f"{path} is {state.value} of tier 2, and upgrades are turned off",
            hint="`ggend init` upgrades it after a backup; so does `serve` without --no-upgrade",
        )
    try:
        if state is not State.EMPTY:
            check_suspect(path, tell)
        if state is State.VERSION_1:
            _refuse_other_tables(path)
            _refuse_damage(path, tell)
            _refuse_without_space(path)
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}").fetchall()
            if state is State.VERSION_1:
                return _upgrade(connection, path, tell)
            if state is State.EMPTY:
                create(connection)
            elif state in (State.OLDER, State.UNMARKED):
                if unmarked is not None:
                    connection.execute("PRAGMA journal_mode = WAL").fetchall()
                connection.execute("BEGIN IMMEDIATE")
                (version,) = connection.execute("PRAGMA user_version").fetchone()
                version = unmarked or version
                wanted = [found for found in migrations() if found.version > version]
                triggers = _triggers_of_views(connection)
                apply(connection, wanted, last=lambda: _make(connection, triggers))
            # Closing moves the WAL too, and says nothing when a sync fails; then what is appended
            # to that WAL would rest on frames that a power cut may take.
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            return Preparation(database_id=_id_of(connection), was=state)
    except sqlite3.Error as error:
        if primary_code(error) == sqlite3.SQLITE_INTERRUPT:
            raise KeyboardInterrupt from error
        if state is State.OLDER and primary_code(error) in _OF_OTHERS:
            raise DatabaseUnusable(
                f"{path} cannot be upgraded: {error}",
                hint="it was not changed; rename your object that has that name, or drop your "
                "trigger that refused the change, then start again",
            ) from error
        raise cannot_open(path, error) from error


def _unmarked_version(path: Path) -> int:
    """Return the version of the tables. Raises DatabaseUnusable if they match no version."""
    try:
        with closing(sqlite3.connect(database_uri(path, "mode=ro"), uri=True)) as connection:
            version, found = likeliest(structure_of(connection))
            if not found and connection.execute(_IDENTITIES).fetchone() != (1,):
                found = ["database_identity does not have exactly one row"]
    except sqlite3.Error as error:
        raise cannot_open(path, error) from error
    if found:
        raise DatabaseUnusable(
            f"{path} has lost its version, as after `.dump`, and its tables match no version: "
            f"{_some(found)} (compared with version {version})",
            hint="it was not changed; repair it with sqlite3 and run `ggend init`, or use the "
            "original file, or import its rows into a new one with `ggend import database`",
        )
    return version


def _some(found: list[str]) -> str:
    return "; ".join(found[:5]) + f" and {len(found) - 5} more differences" * (len(found) > 5)


def _refuse_other_tables(path: Path) -> None:
    with closing(sqlite3.connect(database_uri(path, "mode=ro"), uri=True)) as connection:
        found = [
            difference.text
            for difference in differences(structure_of(connection), promised(1))
            if difference.area not in ("indexes", "views") and not difference.is_extra
        ]
        found += _names_taken(connection) + _columns_taken(connection)
    if found:
        raise DatabaseUnusable(
            f"{path} looks like a tier 2 database of version 1.0.0, but {_some(found)}",
            hint="it was not changed; `ggend import database` imports its rows into a new one",
        )


def _names_taken(connection: sqlite3.Connection) -> list[str]:
    """Find what has the name of something that the upgrade makes."""
    old, new = promised(1), promised(schema_version())
    ours = {*new.tables, *new.indexes, *new.views}
    rightly = {"table": {*old.tables}, "index": {*old.indexes}, "view": {*new.views}}
    return [
        f"the {kind} {name} has a name that ggend needs"
        for kind, name in connection.execute(_NAMES).fetchall()
        if name.lower() in ours and name.lower() not in rightly[kind]
    ]


def _columns_taken(connection: sqlite3.Connection) -> list[str]:
    """Find columns that have the name of one that the upgrade adds."""
    old, new = promised(1).tables, promised(schema_version()).tables
    return [
        f"{table}.{column} is not a column of this version"
        for table, columns in structure_of(connection).tables.items()
        for column in columns
        if table in old and column not in old[table] and column in new[table]
    ]


def _refuse_damage(path: Path, tell: Tell) -> None:
    with closing(sqlite3.connect(database_uri(path, "mode=ro"), uri=True)) as connection:
        problem = damage(connection, "checking the pages", tell)
    if problem is not None:
        raise DatabaseCorrupt.of(path, problem)


def _refuse_without_space(path: Path) -> None:
    size = path.stat().st_size + wal_size(path)
    needed = size + int(size * _MARGIN_SHARE) + _MARGIN_BYTES
    free = shutil.disk_usage(path.parent).free
    if free < needed:
        raise DatabaseUnusable(
            f"the upgrade of {path} makes a backup next to it, which needs "
            f"{needed // 2**20:,} MiB; {free // 2**20:,} MiB are free",
            hint="free disk space, or move the database to a larger disk first",
        )


def _upgrade(connection: sqlite3.Connection, path: Path, tell: Tell) -> Preparation:
    (journal,) = connection.execute("PRAGMA journal_mode").fetchone()
    connection.execute("PRAGMA journal_mode = WAL").fetchall()
    partial = path.with_name(f"{path.name}.1.0.0.backup.partial")
    backup = free_name(path)
    try:
        connection.execute("BEGIN IMMEDIATE")
        rows = count_rows(connection, tell)
        back_up(path, partial, rows, tell)
        found = count_legacy_rows(
            connection, lambda table: watch(connection, f"reading {table}", tell)
        )
        watch(connection, "upgrading", tell)
        mended = _mend_indexes(connection)
        triggers = _triggers_of_views(connection)
        for view in promised(schema_version()).views:
            connection.execute(f"DROP VIEW IF EXISTS {view}")

        def last() -> None:
            _make(connection, triggers)
            keep(partial, backup)

        apply(connection, migrations()[1:], last=last)
    except BaseException:
        _go_back(connection, journal)
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
    return Preparation(
        database_id=_id_of(connection),
        was=State.VERSION_1,
        backup=backup,
        rows=rows,
        oddities=found,
        mended=mended,
    )


def _go_back(connection: sqlite3.Connection, journal: str) -> None:
    """Leave the file as it was found, as far as that goes: a disk may be broken."""
    connection.set_progress_handler(None, 0)
    if connection.in_transaction:
        connection.execute("ROLLBACK")
    with contextlib.suppress(sqlite3.Error):
        connection.execute(f"PRAGMA journal_mode = {journal}").fetchall()


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


def _triggers_of_views(connection: sqlite3.Connection) -> list[str]:
    """Return what goes with the views of the contract, when they are made anew."""
    return [sql for (sql,) in connection.execute(_TRIGGERS_OF_VIEWS)]


def _make(connection: sqlite3.Connection, statements: list[str]) -> None:
    for statement in statements:
        connection.execute(statement)


def _id_of(connection: sqlite3.Connection) -> str:
    (database_id,) = connection.execute("SELECT id FROM database_identity").fetchone()
    return str(database_id)


_IDENTITIES = "SELECT COUNT(*) FROM database_identity"
_NAMES = """
    SELECT type, name
    FROM sqlite_schema
    WHERE type <> 'trigger'"""
_TRIGGERS_OF_VIEWS = """
    SELECT t.sql
    FROM sqlite_schema AS t
    JOIN sqlite_schema AS v ON v.type = 'view' AND v.name = t.tbl_name COLLATE NOCASE
    WHERE t.type = 'trigger'
      AND v.name IN ('recent_executions', 'agent_performance_summary', 'pipeline_stage_performance')
    ORDER BY t.rowid"""
