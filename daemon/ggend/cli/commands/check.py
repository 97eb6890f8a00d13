"""`ggend check`: verify a database without changing it."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import click

from ggend.cli.common.chosen import chosen_database, one_path
from ggend.cli.common.command import command
from ggend.cli.common.options import database_option, path_argument
from ggend.cli.render.findings import Report, at_work, finish
from ggend.database.findings import Finding, Verdict

__all__ = ["check"]


@command()
@path_argument
@database_option
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("--quick", is_flag=True, help="Check only the schema, not every page and row.")
@click.option("--rollups", is_flag=True, help="Also recompute the rollups and compare them.")
def check(
    *, path: Path | None, database: Path | None, as_json: bool, quick: bool, rollups: bool
) -> None:
    """Verify a database: schema, constraints, accounts, and every page and row.

    The command only reads, also while a daemon is running. It accepts any tier 2 database,
    including version 1.0.0. Large databases take time, because every page is read.

    Exit status: 0 sound (there may be warnings), 65 a check failed.

    Examples:

        ggend check ./tier2.db
        ggend check other.db --quick --json
        ggend check ./tier2.db --quick --rollups
    """
    import sqlite3

    from ggend.database.check.run import table_sizes, verify
    from ggend.database.files import wal_size
    from ggend.database.readonly import open_readonly, primary_code

    database = chosen_database(one_path(path, database))
    findings: list[Finding] = []
    rows: dict[str, int] = {}
    with at_work() as tell, closing(open_readonly(database)) as connection:
        try:
            findings.extend(verify(connection, tell, pages=not quick, rollups=rollups))
            rows = table_sizes(connection)
        except sqlite3.Error as error:
            if primary_code(error) == sqlite3.SQLITE_INTERRUPT:
                raise KeyboardInterrupt from error
            findings.append(Finding("reading", Verdict.FAILED, str(error)))
    report = Report(
        database=str(database),
        done="",
        findings=findings,
        bytes=database.stat().st_size,
        wal_bytes=wal_size(database),
        rows=rows,
    )
    finish(report, as_json=as_json)
