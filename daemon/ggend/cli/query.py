"""`ggend query`: look at the stored events, also while the daemon runs."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from ggend.cli.options import DatabaseOption, FormatOption, LimitOption, chosen_database
from ggend.cli.output import Format, show
from ggend.queries import NAMED, open_readonly, run

__all__ = ["query"]

query = typer.Typer(
    help="Look at what is stored. Never writes, and never disturbs a running daemon.",
    no_args_is_help=True,
)


@query.command()
def recent(
    *, database: DatabaseOption = None, form: FormatOption = Format.TABLE, limit: LimitOption = 20
) -> None:
    """Show the newest executions, with their audit entries and violations counted.

    Example:
        ggend query recent --limit 5
    """
    _show(NAMED["recent"], database, form, limit)


@query.command()
def agents(
    *, database: DatabaseOption = None, form: FormatOption = Format.TABLE, limit: LimitOption = 100
) -> None:
    """Show how each agent performs, the busiest first.

    Example:
        ggend query agents --format csv > agents.csv
    """
    _show(NAMED["agents"], database, form, limit)


@query.command()
def stages(
    *, database: DatabaseOption = None, form: FormatOption = Format.TABLE, limit: LimitOption = 100
) -> None:
    """Show how long each stage of the pipeline takes, the slowest first.

    Example:
        ggend query stages
    """
    _show(NAMED["stages"], database, form, limit)


@query.command()
def sessions(
    *, database: DatabaseOption = None, form: FormatOption = Format.TABLE, limit: LimitOption = 20
) -> None:
    """Show the newest sessions of the swarm.

    Example:
        ggend query sessions --format json
    """
    _show(NAMED["sessions"], database, form, limit)


@query.command()
def collisions(
    *, database: DatabaseOption = None, form: FormatOption = Format.TABLE, limit: LimitOption = 20
) -> None:
    """Show where agents met, newest first.

    Example:
        ggend query collisions --limit 50
    """
    _show(NAMED["collisions"], database, form, limit)


@query.command()
def violations(
    *, database: DatabaseOption = None, form: FormatOption = Format.TABLE, limit: LimitOption = 20
) -> None:
    """Show the objectives that executions missed, newest first.

    Example:
        ggend query violations --limit 50
    """
    _show(NAMED["violations"], database, form, limit)


@query.command()
def accounts(
    *, database: DatabaseOption = None, form: FormatOption = Format.TABLE, limit: LimitOption = 100
) -> None:
    """Show what became of all events, summed over the producers.

    last_sequence is always the sum of stored, duplicate, superseded, parked, rejected and lost.

    Example:
        ggend query accounts
    """
    _show(NAMED["accounts"], database, form, limit)


@query.command()
def sql(
    statement: Annotated[str, typer.Argument(metavar="SQL", help="One SQL statement that reads.")],
    *,
    database: DatabaseOption = None,
    form: FormatOption = Format.TABLE,
    limit: LimitOption = 1000,
) -> None:
    """Run one SQL statement of your own. One that writes is refused.

    Example:
        ggend query sql "SELECT status, COUNT(*) FROM receipts GROUP BY status"
    """
    _show(statement, database, form, limit)


def _show(statement: str, database: Path | None, form: Format, limit: int) -> None:
    with closing(open_readonly(chosen_database(database))) as connection:
        result = run(connection, statement, limit)
    show(result, form=form)
