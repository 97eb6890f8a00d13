"""`ggend query percentiles`: how long stages and executions take, without reading them."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from typing import Annotated

import typer

from ggend.cli.common.options import DatabaseOption, FormatOption, chosen_database
from ggend.cli.render.output import Format, show
from ggend.queries.percentiles import Dimension, percentiles_of
from ggend.queries.run import open_readonly
from ggend.queries.time_filters import parse_moment

__all__ = ["percentiles"]

#: Characters of a day, at the beginning of a moment.
_DAY = 10


def percentiles(
    *,
    by: Annotated[
        Dimension, typer.Option("--by", help="Of stages, or of the executions of whom or what.")
    ] = Dimension.STAGE,
    by_day: Annotated[bool, typer.Option("--by-day", help="Each day by itself.")] = False,
    name: Annotated[
        str | None, typer.Option(help="Only this stage, agent or operation, in full.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="From this day on: an age such as 7d, or a date (UTC).")
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="Up to this day and with it: an age, or a date (UTC).")
    ] = None,
    database: DatabaseOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Show p50, p90 and p99 of durations, of whole days (UTC), at once on any number of rows.

    From histograms that the daemon keeps: within 1.25 % of the exact value, and exact below 100 ms.
    `ggend analytics` has exact ones, of any period, and reads all its rows for them.

    Examples:

        ggend query percentiles
        ggend query percentiles --by agent --by-day --since 7d
    """
    now = datetime.now(UTC)
    with closing(open_readonly(chosen_database(database))) as connection:
        result = percentiles_of(
            connection,
            by,
            name=name,
            since=since and parse_moment(since, now=now)[:_DAY],
            until=until and parse_moment(until, now=now)[:_DAY],
            by_day=by_day,
        )
    show(result, form=form)
