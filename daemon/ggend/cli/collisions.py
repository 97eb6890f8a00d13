"""`ggend report`: what one would put into a report about a swarm."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

import msgspec
import typer

from ggend.cli.options import DatabaseOption, chosen_database
from ggend.cli.output import Format, show, show_json, show_line, show_text
from ggend.reading.collisions import CollisionReport, report_collisions
from ggend.reading.moments import parse_moment
from ggend.reading.queries import Result
from ggend.reading.snapshot import snapshot

__all__ = ["report"]

report = typer.Typer(help="Reports about what the swarm did.", no_args_is_help=True)


class _Form(StrEnum):
    TABLE = "table"
    JSON = "json"
    MARKDOWN = "markdown"


@report.callback()
def _report() -> None:
    """Callback of the group: with it, one command alone is still a command of a group."""


@report.command()
def collisions(
    *,
    session: Annotated[str | None, typer.Option(help="Only of this session.")] = None,
    since: Annotated[
        str | None, typer.Option(help="From this moment on: an age such as 7d, or a date (UTC).")
    ] = None,
    database: DatabaseOption = None,
    form: Annotated[
        _Form, typer.Option("--format", "-f", help="Tables, JSON, or Markdown for reports.")
    ] = _Form.TABLE,
) -> None:
    """Show who got in whose way: by type, pair of agents, hot spot and day; how many are resolved.

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
    if form is _Form.JSON:
        show_json({**msgspec.to_builtins(found), "resolution_rate": found.resolution_rate})
        return
    rate = found.resolution_rate
    show_line(
        f"{'# ' if form is _Form.MARKDOWN else ''}{found.collisions:,} collisions in "
        f"{found.sessions:,} sessions" + ("" if rate is None else f", {rate:.1%} of them resolved")
    )
    for title, rows in _sections(found):
        if rows:
            show_text(f"\n{'## ' if form is _Form.MARKDOWN else ''}{title}\n\n")
            columns = list(rows[0].__struct_fields__)
            values = [msgspec.structs.astuple(row) for row in rows]
            show(Result(columns=columns, rows=values), form=Format(form))


def _sections(found: CollisionReport) -> list[tuple[str, list[msgspec.Struct]]]:
    return [
        ("Types", [*found.kinds]),
        (_named("pairs of agents", len(found.pairs), found.pairs_total), [*found.pairs]),
        (_named("hot spots", len(found.hotspots), found.hotspots_total), [*found.hotspots]),
        ("Days", [*found.trend]),
    ]


def _named(what: str, shown: int, total: int) -> str:
    if shown == total:
        return what.capitalize()
    return f"The first {shown} of {total:,} {what}"
