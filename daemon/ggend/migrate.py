"""Migrate: bring a database file to the current schema, or say why it may not be touched.

Migrations are the numbered files of `ggend_schema/sql`, forward only. Each runs in one
transaction with the `user_version` that records it, so that a crash leaves the file before it or
after it. Nothing is written to a file that is not ggend's own.
"""

from __future__ import annotations

import sqlite3
from importlib import resources
from pathlib import Path

from msgspec import Struct

from ggend.errors import DatabaseUnusable
from ggend.readonly import database_uri

__all__ = [
    "APPLICATION_ID",
    "Migration",
    "MigrationReport",
    "cannot_open",
    "create_or_check",
    "migrate",
    "migrations",
    "refuse_foreign",
    "schema_version",
]

#: `PRAGMA application_id` of a tier-2 database that ggend made: "ggnd" in ASCII.
APPLICATION_ID = 0x67676E64


class Migration(Struct, frozen=True):
    """One numbered SQL file."""

    version: int
    name: str
    sql: str


class MigrationReport(Struct, frozen=True):
    """What was found or made."""

    created: bool
    version: int
    database_id: str


def migrations() -> list[Migration]:
    """Return all migrations in order."""
    files = sorted(
        file.name
        for file in resources.files("ggend_schema").joinpath("sql").iterdir()
        if file.name.endswith(".sql")
    )
    return [
        Migration(
            int(name[:4]),
            name[5:-4],
            resources.files("ggend_schema").joinpath("sql", name).read_text(encoding="utf-8"),
        )
        for name in files
    ]


def schema_version() -> int:
    """Return the version that this program writes."""
    return migrations()[-1].version


def create_or_check(path: Path) -> MigrationReport:
    """Create the database if the file is missing or empty; else bring it up to date.

    Raises DatabaseUnusable, and then has changed nothing.
    """
    refuse_foreign(path)
    try:
        connection = sqlite3.connect(path, isolation_level=None)
    except sqlite3.Error as error:
        raise cannot_open(path, error) from error
    try:
        return migrate(connection)
    finally:
        connection.close()


def refuse_foreign(path: Path) -> None:
    """Raise DatabaseUnusable unless the file is missing, empty, or ggend's to write.

    It looks through a connection that cannot write: a writing one would, by closing, move
    somebody's WAL into somebody's file.
    """
    if not path.exists():
        return
    try:
        connection = sqlite3.connect(database_uri(path, "mode=ro"), uri=True)
    except sqlite3.Error as error:
        raise cannot_open(path, error) from error
    try:
        version, application, tables = _state(connection)
    except sqlite3.DatabaseError as error:
        raise DatabaseUnusable(
            f"{path} cannot be read as a SQLite database: {error}",
            hint="name another file with --database, or move this one away",
        ) from error
    finally:
        connection.close()
    current = schema_version()
    if application == 0 and version == 0 and not tables:
        return
    if application == 0 and version == 0 and "receipts" in tables:
        raise DatabaseUnusable(
            f"{path} is a tier-2 database of version 1.0.0, which this release does not upgrade",
            hint="give ggend a new file with --database; the old one stays readable as it is",
        )
    if application != APPLICATION_ID:
        raise DatabaseUnusable(
            f"{path} is the database of another application (application_id {application})",
            hint="name another file with --database",
        )
    if version > current:
        raise DatabaseUnusable(
            f"{path} has schema version {version}; this ggend knows versions up to {current}",
            hint="upgrade ggend",
        )


def migrate(connection: sqlite3.Connection) -> MigrationReport:
    """Bring an open database, which `refuse_foreign` let pass, to the current schema."""
    version, _, _ = _state(connection)
    if version == 0:
        _create(connection)
    else:
        _apply(connection, after=version)
    database_id = connection.execute("SELECT id FROM database_identity").fetchone()[0]
    return MigrationReport(version == 0, schema_version(), database_id)


def cannot_open(path: Path, error: sqlite3.Error) -> DatabaseUnusable:
    """Say that there is no getting at the file at all."""
    return DatabaseUnusable(
        f"cannot open the database {path}: {error}",
        hint="check that its directory exists and is writable",
    )


def _state(connection: sqlite3.Connection) -> tuple[int, int, set[str]]:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    tables = {
        row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    }
    return version, application, tables


def _create(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    script = "".join(migration.sql for migration in migrations())
    _run(connection, script, schema_version())


def _apply(connection: sqlite3.Connection, *, after: int) -> None:
    for migration in migrations():
        if migration.version > after:
            _run(connection, migration.sql, migration.version)


def _run(connection: sqlite3.Connection, script: str, version: int) -> None:
    try:
        connection.executescript(
            f"BEGIN IMMEDIATE;\n{script}\n"
            f"PRAGMA application_id = {APPLICATION_ID};\n"
            f"PRAGMA user_version = {version};\n"
            "COMMIT;"
        )
    except sqlite3.Error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
