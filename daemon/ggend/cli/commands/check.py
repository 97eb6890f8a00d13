"""`ggend check`: verify a database without changing it."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from ggend.cli.common.options import chosen_database
from ggend.cli.render.findings import Report, at_work, finish
from ggend.database.findings import Finding, Verdict

__all__ = ["check"]


def check(
    path: Annotated[
        Path | None, typer.Argument(help="The SQLite file. Default: the configured one.")
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Check only the schema, not every page and row.")
    ] = False,
    rollups: Annotated[
        bool, typer.Option("--rollups", help="Also recompute the rollups and compare them.")
    ] = False,
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

    database = chosen_database(path)
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
