"""`ggend rejected`: list, show, requeue and purge the rejected events in quarantine."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from ggend.cli.commands.rejected_changes import code_option, purge_rejected, requeue
from ggend.cli.common.chosen import chosen_database
from ggend.cli.common.command import group
from ggend.cli.common.completion import complete_rejected
from ggend.cli.common.filters import before_option, since_option, until_option
from ggend.cli.common.options import (
    columns_option,
    database_option,
    format_option,
    limit_option,
    local_option,
)
from ggend.cli.render.output import Format, complain, show, show_json, show_text
from ggend.cli.render.rejected_view import as_json, rejected_view
from ggend.errors import UsageMistake
from ggend.queries.rejected import Chosen, count_by_code, read_one, read_rejected
from ggend.queries.snapshot import require_table, snapshot
from ggend.queries.time_filters import parse_period
from ggend_schema.codes import EventCode

__all__ = ["rejected"]

rejected = group("rejected", "Show the rejected events in quarantine, requeue them, or purge them.")


@rejected.command("list")
@code_option
@since_option
@until_option
@before_option
@columns_option
@local_option
@database_option
@format_option
@limit_option(20)
def list_rejected(
    *,
    code: EventCode | None,
    since: str | None,
    until: str | None,
    before: int | None,
    columns: str | None,
    local: bool,
    database: Path | None,
    form: Format,
    limit: int,
) -> None:
    """List the rejected events, newest first.

    --since and --until compare the time of rejection. event_type is read from the event's bytes, if
    possible. kept is 0 if only the hash and length were kept.

    Examples:

        ggend rejected list --since 24h
        ggend rejected list --code conflict --format ndjson
    """
    begin, end = parse_period(since, until, now=datetime.now(UTC))
    chosen = Chosen(code=code, since=begin, until=end, before=before)
    path = chosen_database(database)
    with snapshot(path) as connection:
        require_table(connection, path, "rejected_events", lacks="keeps no rejected events")
        found = read_rejected(connection, chosen, limit=limit)
        counts = count_by_code(connection, chosen) if found.has_more else {}
    show(
        found,
        form=form,
        kept=("id", "received_at", "code", "message"),
        columns=columns,
        local=local,
    )
    if counts:
        by_code = ", ".join(f"{count:,} {name}" for name, count in counts.items())
        complain(f"{sum(counts.values()):,} rejected events match: {by_code}")


@rejected.command("show")
@click.argument(
    "rejected_id",
    type=click.IntRange(min=1),
    metavar="ID",
    help="The event's id, as shown by `rejected list`.",
    shell_complete=complete_rejected,
)
@click.option("--json", is_flag=True, help="Print everything as JSON.")
@click.option("--raw", is_flag=True, help="Print only the original bytes of the event.")
@database_option
def show_rejected(*, rejected_id: int, json: bool, raw: bool, database: Path | None) -> None:
    """Show one rejected event: its sender, the reason for the rejection, and its content.

    The event is shown as JSON. If it cannot be decoded, its first bytes are shown in hexadecimal.

    Examples:

        ggend rejected show 1
        ggend rejected show 1 --raw > event.bin
    """
    if json and raw:
        raise UsageMistake("--json and --raw cannot be combined", hint="give one of them")
    path = chosen_database(database)
    with snapshot(path) as connection:
        require_table(connection, path, "rejected_events", lacks="keeps no rejected events")
        found = read_one(connection, rejected_id)
    if json:
        show_json(as_json(found))
    elif raw:
        _write_raw(found["event"], rejected_id)
    else:
        show_text(rejected_view(found))


def _write_raw(event: object, rejected_id: int) -> None:
    if not isinstance(event, bytes):
        raise UsageMistake(
            f"only the hash and length of rejected event {rejected_id} were kept",
            hint="the settings rejected_max_mib and undecodable_max_bytes limit how much is kept",
        )
    if sys.stdout.isatty():
        raise UsageMistake(
            "refusing to write raw bytes to a terminal, which may interpret them as commands",
            hint=f"ggend rejected show {rejected_id} --raw > event.bin",
        )
    sys.stdout.flush()
    sys.stdout.buffer.write(event)


rejected.add_command(requeue)
rejected.add_command(purge_rejected)
