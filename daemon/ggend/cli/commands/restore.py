"""`ggend restore`: replace the database by a backup, or decide whether to keep its WAL."""

from __future__ import annotations

from pathlib import Path

import click

from ggend.cli.common.chosen import chosen_database
from ggend.cli.common.command import command
from ggend.cli.common.options import PATH, database_option
from ggend.cli.render.findings import at_work
from ggend.cli.render.output import show_line
from ggend.errors import DatabaseUnusable, UsageMistake

__all__ = ["restore"]


@command()
@click.argument("file", type=PATH, default=None, required=False, help="The backup, an SQLite file.")
@click.option("--with-wal", is_flag=True, help="Keep the file together with the WAL next to it.")
@click.option("--without-wal", is_flag=True, help="Keep the file and set its WAL aside.")
@database_option
def restore(*, file: Path | None, with_wal: bool, without_wal: bool, database: Path | None) -> None:
    """Replace the database by a backup. The daemon must be stopped.

    The backup is verified and copied; the original backup stays unchanged. The old database is set
    aside as `NAME.before-restore-<UTC>`, together with its WAL. Clients send events that are
    missing in the backup again, if they still have them.

    The daemon refuses to start if the WAL next to the file belongs to a different file, because
    SQLite would write the WAL into this file. If file and WAL were copied together, use --with-wal
    to keep both. To use the file without that WAL, use --without-wal.

    Exit status: 0 done, 64 wrong usage, 65 the backup or the database cannot be used, 75 a daemon
    has it open.

    Examples:

        ggend restore other.db --database tier2.db

        ggend restore --without-wal --database tier2.db
    """
    from ggend.database.files import is_there
    from ggend.database.lock import hold_lock
    from ggend.database.migrate import State
    from ggend.database.restore import keep_with_wal, keep_without_wal, restore_file

    if (file is not None) + with_wal + without_wal != 1:
        raise UsageMistake(
            "give exactly one of: a backup file, --with-wal, --without-wal",
            hint="`ggend restore --help` explains each of them",
        )
    path = chosen_database(database)
    if file is None and not is_there(path):
        raise DatabaseUnusable(
            f"there is no database at {path}", hint="`ggend restore FILE` puts a backup there"
        )
    if is_there(path) and not path.is_file():
        raise DatabaseUnusable(
            f"{path} is not a file, and is not replaced by one", hint="give the path of a file"
        )
    if file is not None and not is_there(file):
        raise DatabaseUnusable(f"there is no backup at {file}", hint="check the path")
    with at_work() as tell, hold_lock(path, what="database"):
        if file is not None:
            done = restore_file(path, file, lambda step: tell(step.what, step.share))
        elif with_wal:
            done = keep_with_wal(path, lambda step: tell(step.what, step.share))
        else:
            done = keep_without_wal(path, lambda step: tell(step.what, step.share))
    if file is not None:
        show_line(f"{path} is now a copy of {file}")
    elif with_wal:
        show_line(f"{path} is kept together with its WAL")
    else:
        show_line(f"{path} is kept without its WAL")
    if done.aside is not None:
        show_line(f"the replaced file was set aside: {done.aside}{'-wal' * without_wal}")
    if done.state is not State.CURRENT:
        show_line(f"the database is {done.state.value}; the daemon upgrades it when it starts")
