"""`ggend schema`: the tables, views and columns of a database."""

from __future__ import annotations

from pathlib import Path

import click

from ggend.cli.common.chosen import chosen_database
from ggend.cli.common.command import command
from ggend.cli.common.completion import complete_tables
from ggend.cli.common.options import database_option, format_option
from ggend.cli.render.output import Format, escape, show, show_text
from ggend.errors import UsageMistake
from ggend.queries.schema import definition_of, describe_table, list_tables
from ggend.queries.snapshot import snapshot

__all__ = ["schema"]


@command()
@click.argument(
    "table",
    required=False,
    metavar="[TABLE]",
    help="Only this table or view.",
    shell_complete=complete_tables,
)
@click.option("--sql", "as_sql", is_flag=True, help="Print the SQL that defines it.")
@database_option
@format_option
def schema(*, table: str | None, as_sql: bool, database: Path | None, form: Format) -> None:
    """List the tables and views, or describe the columns of one.

    The public tables are for everybody to read; what is `of ggend` may change with its version.

    Examples:

        ggend schema
        ggend schema receipts
        ggend schema receipts --sql
    """
    if as_sql and form is not Format.TABLE:
        raise UsageMistake("--sql has no other format", hint="leave out --sql or --format")
    with snapshot(chosen_database(database)) as connection:
        if as_sql:
            definition = definition_of(connection, table)
            show_text("".join(escape(line) + "\n" for line in definition.splitlines()))
            return
        found = list_tables(connection) if table is None else describe_table(connection, table)
    show(found, form=form, kept=found.columns)
