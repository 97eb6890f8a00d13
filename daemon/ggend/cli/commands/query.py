"""`ggend query`: read the stored events, also while the daemon runs."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from ggend.cli.commands.list_commands import LIST_COMMANDS
from ggend.cli.commands.percentiles import percentiles
from ggend.cli.common import filters as by
from ggend.cli.common.options import DatabaseOption, FormatOption, LimitOption, chosen_database
from ggend.cli.render.execution_view import as_json, decoded, execution_view
from ggend.cli.render.output import Format, show, show_json, show_text
from ggend.queries.execution import find_execution, load_execution, load_memory
from ggend.queries.list_query import read_listing
from ggend.queries.run import NAMED, open_readonly, run

__all__ = ["query"]

query = typer.Typer(
    help="Query the stored rows. Never writes, and never disturbs a running daemon.",
    no_args_is_help=True,
)

#: Niceness of a user's own statement: the default of `nice`.
_NICENESS = 10

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@query.command()
def recent(
    *, database: DatabaseOption = None, form: FormatOption = Format.TABLE, limit: LimitOption = 20
) -> None:
    """Show the newest executions with the number of their audit entries and violations.

    At most the newest 100 are shown. `ggend query executions` has filters and goes further back.

    Example:

        ggend query recent --limit 5
    """
    _run(NAMED["recent"], database, form, limit)


query.command()(LIST_COMMANDS["executions"])


@query.command()
def execution(
    wanted: Annotated[
        str, typer.Argument(metavar="ID", help="The execution's id, or a prefix of it.")
    ],
    *,
    as_receipt: Annotated[
        bool, typer.Option("--receipt", help="Print only the receipt's JSON.")
    ] = False,
    json: JsonFlag = False,
    database: DatabaseOption = None,
) -> None:
    """Show one execution: a waterfall of its stages, its audit entries, violations and session.

    Example:

        ggend query execution execution-0000001 --database other.db
    """
    with closing(open_readonly(chosen_database(database))) as connection:
        found = load_execution(connection, find_execution(connection, wanted))
    if as_receipt:
        show_json(decoded(found.execution["receipt_json"]))
    elif json:
        show_json(as_json(found))
    else:
        show_text(execution_view(found))


query.command()(LIST_COMMANDS["agents"])
query.command()(LIST_COMMANDS["stages"])
query.command()(percentiles)
query.command()(LIST_COMMANDS["sessions"])
query.command()(LIST_COMMANDS["collisions"])
query.command()(LIST_COMMANDS["violations"])
query.command()(LIST_COMMANDS["audit"])


@query.command()
def memory(
    agent: Annotated[
        str | None, typer.Argument(metavar="[AGENT]", help="Print the memory of this agent.")
    ] = None,
    *,
    since: by.Since = None,
    until: by.Until = None,
    text: by.Substring = None,
    before: by.Before = None,
    wide: by.Wide = False,
    json: JsonFlag = False,
    database: DatabaseOption = None,
    form: FormatOption = Format.TABLE,
    limit: LimitOption = 100,
) -> None:
    """List the agents that saved a memory, or print the memory of one agent.

    With AGENT, --json prints the whole row instead of only the memory. --since and --until compare
    the time at which a memory was saved. --text also searches the memory itself.

    Examples:

        ggend query memory --since 24h
        ggend query memory agent-1 --database other.db
    """
    if agent is None:
        filters = by.filters_of(since=since, until=until, text=text, before=before)
        with closing(open_readonly(chosen_database(database))) as connection:
            result = read_listing(connection, "memory", filters, limit=limit, wide=wide)
        show(result, form=Format.JSON if json else form, fit=not wide)
        return
    with closing(open_readonly(chosen_database(database))) as connection:
        found = load_memory(connection, agent)
    found["memory"] = decoded(found.pop("memory_json"))
    found["collision_history"] = decoded(found["collision_history"])
    if json:
        show_json(found)
        return
    show_json(found["memory"])


@query.command()
def sql(
    statement: Annotated[
        str, typer.Argument(metavar="SQL", help="A single SQL statement that only reads.")
    ],
    *,
    database: DatabaseOption = None,
    form: FormatOption = Format.TABLE,
    limit: LimitOption = 1000,
    timeout: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="Timeout in seconds; 0 means none.")
    ] = 10.0,
) -> None:
    """Run a single SQL statement. Statements that write are refused.

    The statement runs at low priority and is stopped after the timeout (exit status 75), because
    the daemon cannot reuse its WAL while the statement runs.

    Example:

        ggend query sql "SELECT status, COUNT(*) FROM receipts GROUP BY status"
    """
    os.nice(_NICENESS)
    _run(statement, database, form, limit, seconds=timeout or None)


def _run(
    statement: str, database: Path | None, form: Format, limit: int, seconds: float | None = None
) -> None:
    with closing(open_readonly(chosen_database(database))) as connection:
        result = run(connection, statement, limit, seconds=seconds)
    show(result, form=form)
