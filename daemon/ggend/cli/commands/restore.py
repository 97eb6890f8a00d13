"""`ggend restore`: put a backup in the place of the database, or say what its WAL is to it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ggend.cli.common.options import DatabaseOption, chosen_database
from ggend.cli.render.findings import at_work
from ggend.cli.render.output import show_line
from ggend.errors import DatabaseUnusable, UsageMistake

__all__ = ["restore"]


def restore(
    file: Annotated[Path | None, typer.Argument(help="The backup, a SQLite file.")] = None,
    *,
    with_wal: Annotated[
        bool,
        typer.Option("--with-wal", help="Keep the file, and take the WAL beside it for its own."),
    ] = False,
    without_wal: Annotated[
        bool, typer.Option("--without-wal", help="Keep the file, and set its WAL aside.")
    ] = False,
    database: DatabaseOption = None,
) -> None:
    """Put a backup in the place of the database. The daemon must be stopped.

    The backup is checked first and copied; it stays as it is. What was there is set aside as
    `NAME.before-restore-<UTC>`, with the WAL that belongs to it. Clients send again what the backup
    does not have, as far as they still have it.

    A daemon does not start where a WAL lies beside a file that it was not made for: SQLite would
    write it into that file. If file and WAL were copied together, --with-wal says so. If the file
    is to count as it is, --without-wal does.

    Exit status: 0 done, 64 usage, 65 the backup or the database cannot be used, 75 a daemon has it.

    Examples:

        ggend restore other.db --database tier2.db

        ggend restore --without-wal --database tier2.db
    """
    from ggend.database.lock import hold_lock
    from ggend.database.migrate import State
    from ggend.database.restore import keep_with_wal, keep_without_wal, restore_file

    if (file is not None) + with_wal + without_wal != 1:
        raise UsageMistake(
            "one thing at a time: a backup, --with-wal or --without-wal",
            hint="`ggend restore --help` says what each does",
        )
    path = chosen_database(database)
    if file is None and not path.exists():
        raise DatabaseUnusable(
            f"there is no database at {path}", hint="`ggend restore FILE` puts a backup there"
        )
    with at_work() as tell, hold_lock(path, what="database"):
        if file is not None:
            done = restore_file(path, file, lambda step: tell(step.what, step.share))
        elif with_wal:
            done = keep_with_wal(path, lambda step: tell(step.what, step.share))
        else:
            done = keep_without_wal(path, lambda step: tell(step.what, step.share))
    if file is not None:
        show_line(f"{path} is a copy of {file} now")
    elif with_wal:
        show_line(f"{path} and its WAL are taken for what belongs together")
    else:
        show_line(f"{path} counts as it is")
    if done.aside is not None:
        show_line(f"what was there is kept: {done.aside}{'-wal' * without_wal}")
    if done.state is not State.CURRENT:
        show_line(f"it is {done.state.value}: the daemon upgrades it when it starts")
