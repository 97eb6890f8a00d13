"""`ggend query percentiles`: duration percentiles from histograms, without reading the rows."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import click

from ggend.cli.common.choice import OneOf
from ggend.cli.common.chosen import chosen_database
from ggend.cli.common.command import command
from ggend.cli.common.completion import complete_percentile_names
from ggend.cli.common.filters import since_option, until_option
from ggend.cli.common.options import columns_option, database_option, format_option, limit_option
from ggend.cli.render.output import Format, show
from ggend.queries.choices import known_word
from ggend.queries.id_lookup import whole_id
from ggend.queries.percentiles import Dimension, percentiles_of
from ggend.queries.snapshot import require_table, snapshot
from ggend.queries.time_filters import parse_period
from ggend_schema.events import STAGES, Operation
from ggend_schema.timestamps import format_ms, parse_us

__all__ = ["percentiles"]

#: Characters of a day, at the beginning of a moment.
_DAY = 10


@command()
@click.option(
    "--by",
    type=OneOf(Dimension),
    default="stage",
    help="Group by stage, agent or operation.",
)
@click.option("--by-day", is_flag=True, help="Show each day separately.")
@click.option(
    "--name",
    help="Only this stage, agent or operation. `extract` stands for μ₂_extract.",
    shell_complete=complete_percentile_names,
)
@since_option
@until_option
@columns_option
@database_option
@format_option
@limit_option(100)
def percentiles(
    *,
    by: Dimension,
    by_day: bool,
    name: str | None,
    since: str | None,
    until: str | None,
    columns: str | None,
    database: Path | None,
    form: Format,
    limit: int,
) -> None:
    """Show percentiles of durations over whole days (UTC), fast on any number of rows.

    The days are those in which --since and --until lie; a day that begins at --until is left out.

    The values come from histograms that the daemon keeps. They are within 1.25 % of the exact
    value (the longest durations within 2.5 %), exact below 100 ms, and never above the maximum.
    `ggend analytics` shows exact percentiles of any period, but reads all rows of that period.

    Examples:

        ggend query percentiles
        ggend query percentiles --by agent --by-day --since 7d
    """
    begin, end = parse_period(since, until, now=datetime.now(UTC))
    path = chosen_database(database)
    with snapshot(path) as connection:
        require_table(connection, path, "rollup_exceptions", lacks="has no percentiles")
        result = percentiles_of(
            connection,
            by,
            name=_whole_name(connection, by, name),
            since=begin and begin[:_DAY],
            until=end and _last_day(end),
            by_day=by_day,
            limit=limit,
        )
    show(result, form=form, columns=columns)


def _whole_name(connection: sqlite3.Connection, by: Dimension, name: str | None) -> str | None:
    if name is None:
        return None
    if by is Dimension.AGENT:
        return whole_id(connection, "agent", name)
    known = STAGES if by is Dimension.STAGE else {word: word for word in get_args(Operation)}
    return known_word(name, known, kind=by, option="name")


def _last_day(until: str) -> str:
    """Return the last day that begins before a moment."""
    return format_ms(parse_us(until) // 1000 - 1)[:_DAY]
