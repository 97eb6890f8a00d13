"""`ggend rejected`: the quarantine, looked at, tried again, and emptied."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ggend.cli.commands.rejected_changes import CodeOption, moment_of, purge_rejected, requeue
from ggend.cli.common import filters as by
from ggend.cli.common.options import DatabaseOption, FormatOption, LimitOption, chosen_database
from ggend.cli.render.output import Format, complain, show, show_json, show_text
from ggend.cli.render.rejected_view import as_json, rejected_view, short
from ggend.errors import UsageMistake
from ggend.queries.rejected import Chosen, count_by_code, read_one, read_rejected
from ggend.queries.snapshot import snapshot

__all__ = ["rejected"]

rejected = typer.Typer(
    help="Look at the events in quarantine, try them again, or throw them away.",
    no_args_is_help=True,
)


@rejected.command("list")
def list_rejected(
    *,
    code: CodeOption = None,
    since: by.Since = None,
    until: by.Until = None,
    before: by.Before = None,
    database: DatabaseOption = None,
    form: FormatOption = Format.TABLE,
    limit: LimitOption = 20,
) -> None:
    """List the events that were rejected, the newest first; --since and --until look at then.

    event_type is what the bytes say, as far as they can be read; kept is 0 where only hash and
    length are there.

    Examples:

        ggend rejected list --since 24h
        ggend rejected list --code conflict --format ndjson
    """
    chosen = Chosen(code=code, since=moment_of(since), until=moment_of(until), before=before)
    with snapshot(chosen_database(database)) as connection:
        found = read_rejected(connection, chosen, limit=limit)
        counts = count_by_code(connection, chosen) if found.has_more else {}
    show(short(found) if form is Format.TABLE else found, form=form, fit=True)
    if counts:
        by_code = ", ".join(f"{count:,} {name}" for name, count in counts.items())
        complain(f"there are {sum(counts.values()):,}: {by_code}")


@rejected.command("show")
def show_rejected(
    rejected_id: Annotated[
        int, typer.Argument(metavar="ID", min=1, help="The id that the list shows.")
    ],
    *,
    json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    raw: Annotated[
        bool, typer.Option("--raw", help="Print the bytes of the event alone, as they came.")
    ] = False,
    database: DatabaseOption = None,
) -> None:
    """Show one rejected event: who sent it, why it was rejected, and what is in it.

    The event is shown as JSON; where its bytes are none, their beginning in hexadecimal.

    Examples:

        ggend rejected show 1
        ggend rejected show 1 --raw > event.bin
    """
    if json and raw:
        raise UsageMistake("--json and --raw exclude each other", hint="give one of them")
    with snapshot(chosen_database(database)) as connection:
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
            f"of rejected event {rejected_id} only hash and length were kept",
            hint="rejected_max_mib and undecodable_max_bytes say how much is kept",
        )
    if sys.stdout.isatty():
        raise UsageMistake(
            "these bytes are not for a terminal, which would act on some of them",
            hint=f"ggend rejected show {rejected_id} --raw > event.bin",
        )
    sys.stdout.flush()
    sys.stdout.buffer.write(event)


rejected.command()(requeue)
rejected.command("purge")(purge_rejected)
