"""`ggend report`: reports about the activity of a swarm."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec

from ggend.cli.common.chosen import chosen_database
from ggend.cli.common.command import group
from ggend.cli.common.completion import complete_ids
from ggend.cli.common.filters import since_option, until_option
from ggend.cli.common.options import database_option, format_option, section_option
from ggend.cli.render.output import Format, show_json
from ggend.cli.render.sections import Section, show_sections
from ggend.cli.render.sizes import counted
from ggend.queries.collisions import (
    CollisionReport,
    Hotspot,
    Kind,
    Pair,
    TrendDay,
    report_collisions,
)
from ggend.queries.id_lookup import whole_id
from ggend.queries.result import Result
from ggend.queries.snapshot import snapshot
from ggend.queries.time_filters import parse_period

__all__ = ["report"]

report = group("report", "Reports about the activity of the swarm.")


@report.command("collisions")
@click.option(
    "--session",
    metavar="ID",
    help="Only collisions of this session.",
    shell_complete=complete_ids("session"),
)
@since_option
@until_option
@section_option("types", "pairs", "hotspots", "days")
@database_option
@format_option
def collisions(
    *,
    session: str | None,
    since: str | None,
    until: str | None,
    section: str | None,
    database: Path | None,
    form: Format,
) -> None:
    """Show collisions by type, pair of agents, hot spot and day, and the share that is resolved.

    Examples:

        ggend report collisions --since 7d
        ggend report collisions --format markdown
        ggend report collisions --section pairs --format csv
    """
    begin, end = parse_period(since, until, now=datetime.now(UTC))
    with snapshot(chosen_database(database)) as connection:
        found = report_collisions(
            connection,
            session=None if session is None else whole_id(connection, "session", session),
            since=begin,
            until=end,
        )
    if form is Format.JSON and section is None:
        show_json({**msgspec.to_builtins(found), "resolution_rate": found.resolution_rate})
        return
    rate = found.resolution_rate
    resolved = "" if rate is None else f", {rate:.1%} of them resolved"
    collided = counted(found.collisions, "collision")
    heading = f"{collided} in {counted(found.sessions, 'session')}{resolved}"
    show_sections(heading, _sections(found), form=form, chosen=section)


def _sections(found: CollisionReport) -> list[Section]:
    pairs = _named("pairs of agents", len(found.pairs), found.pairs_total)
    hotspots = _named("hot spots", len(found.hotspots), found.hotspots_total)
    return [
        Section("types", "Types", _table(Kind, found.kinds)),
        Section("pairs", pairs, _table(Pair, found.pairs)),
        Section("hotspots", hotspots, _table(Hotspot, found.hotspots)),
        Section("days", "Days", _table(TrendDay, found.trend)),
    ]


def _table(row: type[msgspec.Struct], rows: Sequence[msgspec.Struct]) -> Result:
    return Result(
        columns=list(row.__struct_fields__), rows=[msgspec.structs.astuple(one) for one in rows]
    )


def _named(what: str, shown: int, total: int) -> str:
    if shown == total:
        return what.capitalize()
    return f"The first {shown} of {total:,} {what}"
