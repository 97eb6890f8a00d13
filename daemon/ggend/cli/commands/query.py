"""`ggend query`: read the stored events, also while the daemon runs."""

from __future__ import annotations

import os
import sys
from contextlib import closing
from pathlib import Path

import click
import msgspec

from ggend.cli.commands.list_commands import LIST_COMMANDS
from ggend.cli.commands.percentiles import percentiles
from ggend.cli.common.chosen import chosen_database
from ggend.cli.common.command import group
from ggend.cli.common.completion import complete_ids, complete_memories
from ggend.cli.common.filters import (
    before_option,
    filters_of,
    since_option,
    text_option,
    until_option,
    wide_option,
)
from ggend.cli.common.options import (
    columns_option,
    database_option,
    format_option,
    limit_option,
    local_option,
    timeout_option,
)
from ggend.cli.common.statements import check_names, read_text, values_of
from ggend.cli.render.execution_view import as_json, decoded, execution_view, zoned
from ggend.cli.render.output import Format, show, show_json, show_text
from ggend.errors import UsageMistake
from ggend.queries.execution import find_execution, load_execution, load_memory
from ggend.queries.list_definitions import LISTINGS
from ggend.queries.list_query import read_listing
from ggend.queries.percentile_function import add_percentile
from ggend.queries.run import NAMED, open_readonly, run

__all__ = ["query"]

query = group("query", "Query the stored rows. Never writes, and never disturbs a running daemon.")

#: Columns of recent executions that a terminal shows however narrow it is.
_RECENT = ("execution_id", "agent_id", "status", "timestamp", "duration_ms")

#: Rows of the view.
_RECENT_ROWS = 100

#: Niceness of a user's own statement: the default of `nice`.
_NICENESS = 10


@query.command("recent")
@columns_option
@local_option
@database_option
@format_option
@limit_option(20)
def recent(
    *, columns: str | None, local: bool, database: Path | None, form: Format, limit: int
) -> None:
    """Show the newest executions with the number of their audit entries and violations.

    At most the newest 100 are shown. `ggend query executions` has filters and goes further back.

    Example:

        ggend query recent --limit 5
    """
    with closing(open_readonly(chosen_database(database))) as connection:
        result = run(connection, NAMED["recent"], limit)
    if len(result.rows) == _RECENT_ROWS < limit or result.has_more:
        further = "`ggend query executions` goes further back"
        result = msgspec.structs.replace(result, has_more=True, next_page=further)
    show(result, form=form, kept=_RECENT, columns=columns, local=local)


query.add_command(LIST_COMMANDS["executions"])


@query.command("execution")
@click.argument(
    "wanted",
    metavar="ID",
    help="The execution's id, or a prefix of it.",
    shell_complete=complete_ids("execution"),
)
@click.option("--receipt", "as_receipt", is_flag=True, help="Print only the receipt's JSON.")
@click.option("--json", is_flag=True, help="Print JSON.")
@database_option
def execution(*, wanted: str, as_receipt: bool, json: bool, database: Path | None) -> None:
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


query.add_command(LIST_COMMANDS["agents"])
query.add_command(LIST_COMMANDS["stages"])
query.add_command(percentiles)
query.add_command(LIST_COMMANDS["sessions"])
query.add_command(LIST_COMMANDS["collisions"])
query.add_command(LIST_COMMANDS["violations"])
query.add_command(LIST_COMMANDS["audit"])


@query.command("memory")
@click.argument(
    "agent",
    default=None,
    required=False,
    metavar="[AGENT]",
    help="Print the memory of this agent.",
    shell_complete=complete_memories,
)
@since_option
@until_option
@text_option
@before_option
@columns_option
@local_option
@wide_option
@click.option("--json", is_flag=True, help="Print JSON.")
@database_option
@format_option
@limit_option(100)
def memory(
    *,
    agent: str | None,
    since: str | None,
    until: str | None,
    text: str | None,
    before: int | None,
    columns: str | None,
    local: bool,
    wide: bool,
    json: bool,
    database: Path | None,
    form: Format,
    limit: int,
) -> None:
    """List the agents that saved a memory, or print the memory of one agent.

    With AGENT, --json prints the whole row instead of only the memory. --since and --until compare
    the time at which a memory was saved. --text also searches the memory itself.

    Examples:

        ggend query memory --since 24h
        ggend query memory agent-1 --database other.db
    """
    if agent is None:
        filters = filters_of(since=since, until=until, text=text, before=before)
        with closing(open_readonly(chosen_database(database))) as connection:
            result = read_listing(
                connection, "memory", filters, limit=limit, wide=wide or columns is not None
            )
        show(
            result,
            form=Format.JSON if json else form,
            kept=None if wide else LISTINGS["memory"].kept,
            columns=columns,
            local=local,
        )
        return
    with closing(open_readonly(chosen_database(database))) as connection:
        found = zoned(load_memory(connection, agent))
    if form not in (Format.TABLE, Format.JSON):
        raise UsageMistake("a memory is printed as JSON only", hint="leave out --format")
    found["memory"] = decoded(found.pop("memory_json"))
    found["collision_history"] = decoded(found["collision_history"])
    if json:
        show_json(found)
        return
    show_json(found["memory"])


@query.command("sql")
@click.argument(
    "statement", metavar="SQL", help="A single SQL statement that only reads; - for standard input."
)
@click.option(
    "--param",
    "-p",
    "params",
    multiple=True,
    metavar="NAME=VALUE",
    help="Value of :NAME in the statement: name=text, or name:=json for a number or null.",
)
@columns_option
@database_option
@format_option
@limit_option(1000)
@timeout_option(10.0, "Timeout in seconds; 0 means none.", least=0)
def sql(
    *,
    statement: str,
    params: tuple[str, ...],
    columns: str | None,
    database: Path | None,
    form: Format,
    limit: int,
    timeout: float,
) -> None:
    """Run a single SQL statement. Statements that write are refused.

    The function percentile(value, percent), with a percent from 0 to 100, is there beside SQLite's
    own.

    The statement runs at low priority and is stopped after the timeout (exit status 75), because
    the daemon cannot reuse its WAL while the statement runs.

    Examples:

        ggend query sql "SELECT status, COUNT(*) FROM receipts GROUP BY status"
        ggend query sql "SELECT percentile(duration_ms, 95) FROM receipts"
        ggend query sql -p agent=agent-1 "SELECT * FROM receipts WHERE agent_id = :agent"
        ggend query sql - <<< "SELECT COUNT(*) FROM audit_log"
    """
    os.nice(_NICENESS)
    values = values_of(params)
    if statement == "-":
        statement = read_text(sys.stdin.fileno())
    check_names(statement, values)
    with closing(open_readonly(chosen_database(database))) as connection:
        add_percentile(connection)
        result = run(connection, statement, limit, values, seconds=timeout or None)
    show(result, form=form, columns=columns)
