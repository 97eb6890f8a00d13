"""`ggend purge`: remove old rows, by the running daemon or, without one, in the file itself."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Collection
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from ggend.cli.common.changes import Changes, confirm_deletion
from ggend.cli.common.chosen import chosen_database, chosen_socket
from ggend.cli.common.command import command
from ggend.cli.common.completion import complete_tables
from ggend.cli.common.daemon_client import ask_daemon
from ggend.cli.common.options import (
    database_option,
    format_option,
    socket_option,
)
from ggend.cli.render.output import Format, complain, progress, show, show_line
from ggend.errors import (
    DatabaseUnusable,
    NoRoom,
    RefusedByDatabase,
    UsageMistake,
)
from ggend.queries.result import Result
from ggend.queries.time_filters import parse_moment

__all__ = ["purge"]

_REFUSED_HINT = (
    "rows deleted so far stay deleted; drop the trigger or constraint that refused the change, or "
    "leave the table out with --except"
)


@command()
@click.option(
    "--older-than",
    required=True,
    metavar="AGE",
    help="Remove older rows: an age such as 30d, 12w or 24h, or a date (UTC).",
)
@click.option(
    "--dry-run", is_flag=True, help="Show how many rows would be deleted, and change nothing."
)
@click.option(
    "--except",
    "kept",
    multiple=True,
    metavar="TABLE",
    help="Keep all rows of this table. Can be repeated.",
    shell_complete=complete_tables,
)
@click.option("--yes", "-y", is_flag=True, help="Do not ask for confirmation.")
@database_option
@socket_option
@format_option
def purge(
    *,
    older_than: str,
    dry_run: bool,
    kept: tuple[str, ...],
    yes: bool,
    database: Path | None,
    socket: Path | None,
    form: Format,
) -> None:
    """Remove rows that are older than an age.

    Deleted are: receipts with their stages, violations and breaches; audit entries; collisions;
    ended sessions that no other row refers to; and rejected events. Memories, running sessions and
    parked events stay, as do the counts of ended sessions and of the accounts.

    The age of a row is the time since it was stored. Rows are deleted in id order, up to the first
    row newer than the cutoff. A running daemon does the work in slices between its batches; only
    its own user and root may request it. The file keeps its size, and new rows reuse the space.
    --except keeps a table unchanged, and also each table whose deletion would remove rows from it.

    Deleting needs disk space at first. If the disk is full, the slices become smaller, and a
    running daemon overwrites the WAL space that it has. If that is not enough, the error says how
    much space is needed.

    Exit status: 0 done, 1 you answered no, 64 --yes is missing without a terminal, 65 one of your
    triggers keeps rows of a table, 69 the daemon does not answer, 74 the disk is full, 75 another
    daemon has the database open, 77 not allowed.

    Examples:

        ggend purge --older-than 30d --dry-run
        ggend purge --older-than 90d --yes
    """
    from ggend.database.readonly import open_readonly
    from ggend.maintenance.purge import DeletionRefused, purge_file
    from ggend.queries.purgeable import purgeable

    cutoff = _cutoff(older_than)
    path = chosen_database(database)
    with closing(open_readonly(path)) as connection:
        try:
            found = purgeable(connection, cutoff, kept=kept or ())
        except sqlite3.DatabaseError as error:
            raise DatabaseUnusable(
                f"{path} cannot be read: {error}", hint="`ggend check` shows whether it is damaged"
            ) from error
    doomed = found.tables
    for table, row_id in found.obstacles.items():
        complain(
            f"row {row_id} of {table} has an invalid or future time: this row and all later ones "
            "are kept",
            hint="correct the time of that row",
        )
    rows = sum(row[1] for row in doomed.rows if isinstance(row[1], int))
    if dry_run or not yes:
        if form is Format.TABLE:
            show_line(f"older than {cutoff} UTC in {path}:")
        show(doomed, form=form)
    if dry_run or not (rows or yes):
        return
    if not yes:
        confirm_deletion(rows, "row", "rows")
    deleted: Counter[str] = Counter()
    with progress(rows=True) as bar:
        task = bar.add_task("purging", total=rows)

        def tell(part: dict[str, int]) -> None:
            deleted.update(part)
            bar.advance(task, sum(part.values()))

        def in_file() -> None:
            try:
                purge_file(path, cutoff, tell, kept=kept or ())
            except DeletionRefused as error:
                raise RefusedByDatabase(str(error), hint=_REFUSED_HINT) from error

        Changes(path, chosen_socket(socket)).apply(
            in_file, lambda daemon: _purge_by_daemon(path, daemon, cutoff, tell, kept=kept or ())
        )
    gone: list[tuple[object, ...]] = [(row[0], deleted[str(row[0])]) for row in doomed.rows]
    show(Result(columns=["table", "purged"], rows=gone), form=form)


def _cutoff(older_than: str) -> str:
    """Return the cutoff in the format of the tables, whole seconds in UTC."""
    now = datetime.now(UTC)
    cutoff = parse_moment(older_than, now=now)[:19].replace("T", " ")
    if cutoff > now.strftime("%Y-%m-%d %H:%M:%S"):
        raise UsageMistake(
            f"{older_than!r} is in the future", hint="give an age such as 30d, or a past date"
        )
    return cutoff


def _purge_by_daemon(
    path: Path,
    daemon: Path,
    cutoff: str,
    tell: Callable[[dict[str, int]], None],
    *,
    kept: Collection[str],
) -> None:
    """Have the daemon delete the rows, slice by slice."""
    from ggend.maintenance.purge import SLICE_ROWS, smaller_slice

    rows = SLICE_ROWS
    arguments: dict[str, Any] = {"cutoff": cutoff} | ({"kept": list(kept)} if kept else {})
    while "position" not in arguments or arguments["position"] is not None:
        try:
            done: dict[str, Any] = ask_daemon(
                daemon, "purge", arguments, refused_hint=_REFUSED_HINT
            )
        except NoRoom as error:
            arguments["limit"] = rows = smaller_slice(path, rows, error.message)
            continue
        tell(done["deleted"])
        arguments["position"] = done["next"]
