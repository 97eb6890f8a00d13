"""`ggend report`: reports about the activity of a swarm."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec

from ggend.cli.common.chosen import chosen_database
from ggend.cli.common.command import group
from ggend.cli.common.options import database_option, report_format_option
from ggend.cli.render.output import show_json
from ggend.cli.render.sections import ReportForm, show_sections
from ggend.queries.collisions import CollisionReport, report_collisions
from ggend.queries.result import Result
from ggend.queries.snapshot import snapshot
from ggend.queries.time_filters import parse_moment

__all__ = ["report"]

report = group("report", "Reports about the activity of the swarm.")


@report.command("collisions")
@click.option("--session", help="Only collisions of this session.")
@click.option("--since", help="Start time: an age such as 7d, or a date (UTC).")
@database_option
@report_format_option
def collisions(
    *, session: str | None, since: str | None, database: Path | None, form: ReportForm
) -> None:
    """Show collisions by type, pair of agents, hot spot and day, and the share that is resolved.

    Examples:

        ggend report collisions --since 7d
        ggend report collisions --format markdown
    """
    with snapshot(chosen_database(database)) as connection:
        found = report_collisions(
            connection,
            session=session,
            since=since and parse_moment(since, now=datetime.now(UTC)),
        )
    if form is ReportForm.JSON:
        show_json({**msgspec.to_builtins(found), "resolution_rate": found.resolution_rate})
        return
    rate = found.resolution_rate
    resolved = "" if rate is None else f", {rate:.1%} of them resolved"
    heading = f"{found.collisions:,} collisions in {found.sessions:,} sessions{resolved}"
    show_sections(heading, _sections(found), form=form)


def _sections(found: CollisionReport) -> list[tuple[str, Result]]:
    return [
        ("Types", _table(found.kinds)),
        (_named("pairs of agents", len(found.pairs), found.pairs_total), _table(found.pairs)),
        (_named("hot spots", len(found.hotspots), found.hotspots_total), _table(found.hotspots)),
        ("Days", _table(found.trend)),
    ]


def _table(rows: Sequence[msgspec.Struct]) -> Result:
    columns = list(rows[0].__struct_fields__) if rows else []
    return Result(columns=columns, rows=[msgspec.structs.astuple(row) for row in rows])


def _named(what: str, shown: int, total: int) -> str:
    if shown == total:
        return what.capitalize()
    return f"The first {shown} of {total:,} {what}"
