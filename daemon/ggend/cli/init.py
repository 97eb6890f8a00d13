"""`ggend init`: make the database without starting the daemon."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Annotated

import typer

from ggend.cli.options import chosen_database
from ggend.cli.output import show_line
from ggend.errors import DatabaseUnusable

__all__ = ["init"]


def init(
    path: Annotated[
        Path | None, typer.Argument(help="The SQLite file. Default: the configured one.")
    ] = None,
) -> None:
    """Make the database, or check that it is one that this version can use.

    The daemon does the same when it starts. Run again, this changes nothing. While a daemon has the
    database open it is refused.

    Example:
        ggend init ./tier2.db
    """
    from ggend.lock import hold_lock
    from ggend.migrate import create_or_check

    database = chosen_database(path)
    try:
        database.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with hold_lock(database, what="database"):
            report = create_or_check(database)
    except (OSError, sqlite3.Error) as error:
        raise DatabaseUnusable(
            f"{database} cannot be made: {error}",
            hint="give the path of a file in a directory that this user may write to",
        ) from error
    did = "made" if report.created else "is there already"
    show_line(f"{database} {did}: schema version {report.version}, id {report.database_id}")
