"""`ggend init`: create or upgrade the database without starting the daemon."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ggend.cli.render.findings import Report, at_work, finish, log_report
from ggend.errors import DatabaseUnusable

if TYPE_CHECKING:
    from ggend.database.upgrade import Preparation
from ggend.cli.common.chosen import chosen_database, one_path
from ggend.cli.common.command import command
from ggend.cli.common.options import PATH, database_option, path_argument

__all__ = ["init"]


@command()
@path_argument
@database_option
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("--log", type=PATH, help="Append the report to this file.")
@click.option(
    "--upgrade/--no-upgrade",
    default=True,
    help="Upgrade a database of an older version, or refuse it.",
)
def init(
    *, path: Path | None, database: Path | None, as_json: bool, log: Path | None, upgrade: bool
) -> None:
    """Create or upgrade the database, and verify it.

    The daemon does the same when it starts. Before an upgrade from version 1.0.0, a verified copy
    is made next to the file; every row stays unchanged. Running the command again changes nothing.
    It is refused while a daemon has the database open.

    Exit status: 0 ready, 65 the file cannot be used or a check failed, 75 a daemon has the database
    open.

    Examples:

        ggend init ./tier2.db
        ggend init ./tier2.db --json --log init.log
    """
    import sqlite3

    from ggend.database.check.environment import check_environment
    from ggend.database.check.run import self_test, table_sizes, verify
    from ggend.database.findings import Finding, Verdict
    from ggend.database.lock import hold_lock
    from ggend.database.readonly import open_readonly
    from ggend.database.upgrade import prepare_database
    from ggend.database.wal_keeper import keep_wal

    database = chosen_database(one_path(path, database))
    try:
        database.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        findings = check_environment(database)
    except OSError as error:
        raise DatabaseUnusable(
            f"{database} cannot be created: {error.strerror}",
            hint="give the path of a file in a directory that this user may write to",
        ) from error
    rows: dict[str, int] = {}
    with at_work() as tell, hold_lock(database, what="database"), keep_wal(database):
        prepared = prepare_database(
            database, upgrade=upgrade, tell=lambda step: tell(step.what, step.share)
        )
        try:
            with closing(open_readonly(database)) as connection:
                findings.extend(verify(connection, tell, pages=False))
                rows = table_sizes(connection)
            findings.append(self_test(database))
        except sqlite3.Error as error:
            findings.append(Finding("verifying", Verdict.FAILED, str(error)))
    findings += [
        Finding("odd rows", Verdict.WARNING, f"{oddity}, left as they were")
        for oddity in prepared.oddities
    ]
    report = Report(
        database=str(database),
        done=_done(database, prepared),
        findings=findings,
        bytes=database.stat().st_size,
        rows=rows,
    )
    if log is not None:
        log_report(report, log)
    finish(report, as_json=as_json)


def _done(database: Path, prepared: Preparation) -> str:
    from ggend.database.migrate import State

    now = f"version {prepared.version}, id {prepared.database_id}"
    if prepared.was is State.EMPTY:
        return f"{database} was created: {now}"
    if prepared.was is State.CURRENT:
        return f"{database} exists already, nothing was changed: {now}"
    if prepared.was is State.UNMARKED:
        return f"{database} had lost its version, as after `.dump`; it was set again: {now}"
    mended = f"; created {', '.join(prepared.mended)}" * bool(prepared.mended)
    kept = f"; the original file is kept in {prepared.backup}" * (prepared.backup is not None)
    return f"{database} was upgraded from {prepared.was.value}: {now}{mended}{kept}"
