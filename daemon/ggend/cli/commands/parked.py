"""`ggend parked`: list the events that wait for their parent."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

import click
import msgspec

from ggend.cli.common.choice import OneOf
from ggend.cli.common.chosen import chosen_database
from ggend.cli.common.command import group
from ggend.cli.common.options import columns_option, database_option, format_option, limit_option
from ggend.cli.render.durations import age_text
from ggend.cli.render.output import Format, complain, show
from ggend.queries.parked import Waiting, read_parked
from ggend.queries.result import Result
from ggend.queries.snapshot import require_table, snapshot
from ggend.queries.time_filters import parse_moment
from ggend_schema.timestamps import parse_us

__all__ = ["parked"]

parked = group("parked", "Show parked events, which wait for their receipt or session.")


class _Parent(StrEnum):
    RECEIPT = "receipt"
    SESSION = "session"


@parked.command("list")
@click.option(
    "--parent", type=OneOf(_Parent), help="Only events that wait for this kind of parent."
)
@click.option(
    "--older-than",
    metavar="AGE",
    help="Only events parked for longer: an age such as 2h, or a date.",
)
@columns_option
@database_option
@format_option
@limit_option(20)
def list_parked(
    *,
    parent: _Parent | None,
    older_than: str | None,
    columns: str | None,
    database: Path | None,
    form: Format,
    limit: int,
) -> None:
    """List the missing parents and the events parked for each, oldest first.

    A stage waits for its receipt; a collision and the end of a session wait for the session. They
    are stored as rows when the parent arrives. Events parked for longer than the daemon's setting
    `parked_max_age_days` go to quarantine with the code `orphaned`.

    Examples:

        ggend parked list
        ggend parked list --parent session --older-than 1h --format json
    """
    now = datetime.now(UTC)
    before_us = None if older_than is None else parse_us(parse_moment(older_than, now=now))
    path = chosen_database(database)
    with snapshot(path) as connection:
        require_table(connection, path, "parked_events", lacks="parks no events")
        found = read_parked(
            connection,
            now_ns=time.time_ns(),
            limit=limit,
            parent=parent,
            before_ns=None if before_us is None else before_us * 1000,
        )
    waiting = found.waiting
    is_for_programs = form in (Format.JSON, Format.NDJSON)
    rows = [msgspec.structs.asdict(one) if is_for_programs else _in_words(one) for one in waiting]
    names = Waiting.__struct_fields__ if is_for_programs else _COLUMNS
    show(
        Result(columns=list(names), rows=[tuple(row[name] for name in names) for row in rows]),
        form=form,
        kept=("waits_for", "parent_id", "events", "age"),
        columns=columns,
    )
    if len(waiting) < found.parents:
        sys.stdout.flush()
        complain(
            f"only the first {len(waiting):,} of {found.parents:,} missing parents are shown; "
            f"{found.events:,} events are parked in all",
            hint="--limit shows more",
        )


_COLUMNS = (*("waits_for", "parent_id", "events", "age", "types", "since", "clients", "producers"),)


def _in_words(one: Waiting) -> dict[str, object]:
    row = msgspec.structs.asdict(one)
    return {
        **row,
        "age": age_text(one.age_seconds),
        "types": ", ".join(f"{count:,} {name}" for name, count in one.types.items()),
        "clients": ", ".join(one.clients) or None,
        "producers": ", ".join(one.producers) or None,
    }
