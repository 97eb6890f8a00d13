"""`ggend reset`: delete all rows of a database after the user has typed its name."""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path

import click

from ggend.cli.common.chosen import chosen_database, one_path
from ggend.cli.common.command import command
from ggend.cli.common.options import database_option, path_argument
from ggend.cli.render.output import complain, escape, show, show_line
from ggend.errors import DatabaseUnusable, UsageMistake
from ggend.queries.result import Result

__all__ = ["reset"]


@command()
@path_argument
@database_option
@click.option(
    "--confirm", metavar="NAME", help="Confirm with the name of the file instead of typing it."
)
def reset(*, path: Path | None, database: Path | None, confirm: str | None) -> None:
    """Delete every row of every ggend table permanently.

    The command shows how many rows will be lost and asks for the name of the file. The daemon must
    be stopped. The database gets a new id. Clients that were connected before still deliver the
    events that they hold. Tables and views that ggend did not create stay.

    Exit status: 0 done, 64 not confirmed, 65 not a database of this version, 75 a daemon has it
    open.

    Example:

        ggend reset tier2.db --confirm tier2.db
    """
    from ggend.database.lock import hold_lock
    from ggend.database.reset import reset_file, rows_of
    from ggend.database.wal_keeper import keep_wal

    database = chosen_database(one_path(path, database))
    rows_of(database)  # reports an unusable file before a lock is created next to it
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
                hint="close the programs that have it open, then run it again",
            ) from error
    for name in done.lost:
        complain(f"{name} could not be created again")
    if done.kept_its_size is not None:
        complain(f"the file could not be shrunk: {done.kept_its_size}")
    show_line(f"{database} is empty; its new id is {done.database_id}")


def _confirm(database: Path, confirmed: str | None) -> None:
    if confirmed is None:
        if not sys.stdin.isatty():
            raise UsageMistake(
                "refusing to delete all rows without confirmation",
                hint=f"pass --confirm {database.name}",
            )
        name = escape(database.name)
        confirmed = click.prompt(f"All rows will be deleted. Type {name} to continue", err=True)
    if confirmed != database.name:
        raise UsageMistake(
            f"{confirmed!r} is not the name of the file; it is {database.name!r}",
            hint="nothing was changed",
        )
