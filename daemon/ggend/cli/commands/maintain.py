"""`ggend maintain`: rarely needed maintenance, by the daemon or, without one, in the file."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path

import click

from ggend.cli.common.changes import Changes
from ggend.cli.common.chosen import chosen_database, chosen_socket
from ggend.cli.common.command import command
from ggend.cli.common.daemon_client import ask_daemon
from ggend.cli.common.options import database_option, socket_option
from ggend.cli.render.output import progress, show_line
from ggend.errors import UsageMistake

__all__ = ["maintain"]

#: Seconds between two checks of the daemon's progress.
_LOOK_SECONDS = 0.2


@command()
@click.option(
    "--rebuild-rollups",
    is_flag=True,
    help="Recompute the rollups of summary views and percentiles.",
)
@database_option
@socket_option
def maintain(*, rebuild_rollups: bool, database: Path | None, socket: Path | None) -> None:
    """Recompute the rollups if `ggend check --rollups` reports that they differ from the rows.

    They can differ only after plain SQL inserted a row below the newest ids: with INSERT OR
    REPLACE, or with an explicit id. A running daemon does the work between its batches; only its
    own user and root may request it. Until it is done, the views are exact but slow. If you
    interrupt this command, the daemon continues.

    Exit status: 0 done, 69 the daemon does not answer, 75 another daemon has the database open, 77
    not allowed.

    Example:

        ggend maintain --rebuild-rollups
    """
    if not rebuild_rollups:
        raise UsageMistake("no task was given", hint="--rebuild-rollups counts the rollups again")
    path = chosen_database(database)
    changes = Changes(path, chosen_socket(socket), hint="run it again; the views stay exact")
    changes.apply(lambda: _rebuild(path), lambda daemon: _rebuild_by_daemon(path, daemon))
    show_line("the rollups were counted again")


def _rebuild(path: Path) -> None:
    from ggend.database.rollups import clear
    from ggend.hooks.rollups import rollup_hooks
    from ggend.maintenance.offline import open_offline

    with open_offline(path) as offline:
        with offline.transaction():
            clear(offline.connection)
        with progress(rows=True) as bar:
            for hook in rollup_hooks():
                task = bar.add_task(hook.source, total=None)
                while left := hook.turn(offline.connection):
                    bar.update(task, completed=hook.seen, total=hook.seen + left)
                    offline.empty_wal()


def _rebuild_by_daemon(path: Path, daemon: Path) -> None:
    ask_daemon(daemon, "rebuild_rollups", {})
    _watch(path, daemon)


def _watch(path: Path, place: Path) -> None:
    """Wait until fewer rows than one slice are left to count.

    Raises DaemonUnreachable if the daemon ends before that: the next daemon continues.
    """
    from ggend.database.readonly import open_readonly
    from ggend.database.rollups import SOURCES
    from ggend.database.rollups import progress as progress_of
    from ggend.hooks.runner import SLICE_ROWS

    with progress(rows=True) as bar, closing(open_readonly(path)) as connection:
        tasks = {source: bar.add_task(source, total=None) for source in SOURCES}
        while True:
            found = progress_of(connection, limit=SLICE_ROWS)
            for source, done in found.items():
                bar.update(tasks[source], completed=done.watermark, total=done.newest)
            if all(done.left < SLICE_ROWS for done in found.values()):
                return
            ask_daemon(place, "status", {})
            time.sleep(_LOOK_SECONDS)
