"""`ggend reset`: empty a database for good, after its name was typed."""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path
from typing import Annotated

import typer

from ggend.cli.common.options import chosen_database
from ggend.cli.render.output import complain, escape, show, show_line
from ggend.errors import DatabaseUnusable, UsageMistake
from ggend.queries.result import Result

__all__ = ["reset"]


def reset(
    path: Annotated[
        Path | None, typer.Argument(help="The SQLite file. Default: the configured one.")
    ] = None,
    *,
    confirm: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The name of the file, instead of typing it."),
    ] = None,
) -> None:
    """Empty the database for good: every row of every table of ggend goes.

    It shows what will be lost, and asks for the name of the file. The daemon must be stopped. The
    database gets a new id; clients that were connected before deliver what they still hold. Tables
    and views that others added stay.

    Exit status: 0 done, 64 not confirmed, 65 not a database of this version, 75 a daemon has it.

    Example:

        ggend reset tier2.db --confirm tier2.db
    """
    from ggend.database.lock import hold_lock
    from ggend.database.reset import reset_file, rows_of
    from ggend.database.wal_keeper import keep_wal

    database = chosen_database(path)
    rows_of(database)  # says what is wrong with the file before a lock is put beside it
    with hold_lock(database, what="database"), keep_wal(database):
        lost = rows_of(database)
        show(Result(columns=["table", "rows"], rows=list(lost.items())))
        show_line(f"{database}: {database.stat().st_size / 2**20:,.1f} MiB")
        _confirm(database, confirm)
        try:
            done = reset_file(database)
        except sqlite3.Error as error:
            raise DatabaseUnusable(
                f"{database} cannot be reset: {error}",
                hint="close the programs that have it open, and run it again",
            ) from error
    for name in done.lost:
        complain(f"{name} could not be made again")
    if done.kept_its_size is not None:
        complain(f"the file could not be made smaller: {done.kept_its_size}")
    show_line(f"{database} is empty: id {done.database_id}")


def _confirm(database: Path, confirmed: str | None) -> None:
    if confirmed is None:
        if not sys.stdin.isatty():
            raise UsageMistake(
                "all this would be lost, and there is nobody to ask",
                hint=f"--confirm {database.name} does it all the same",
            )
        name = escape(database.name)
        confirmed = typer.prompt(f"All this will be lost. Type {name} to go on", err=True)
    if confirmed != database.name:
        raise UsageMistake(
            f"{confirmed!r} is not the name of the file, which is {database.name!r}",
            hint="nothing was changed",
        )
