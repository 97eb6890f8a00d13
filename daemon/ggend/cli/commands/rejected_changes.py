"""Rejected changes: `ggend rejected requeue` and `purge`, by the daemon or in the file itself."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

import click
import msgspec

from ggend.cli.common.changes import Changes, confirm_deletion
from ggend.cli.common.choice import OneOf
from ggend.cli.common.chosen import chosen_database, chosen_socket
from ggend.cli.common.command import command
from ggend.cli.common.completion import complete_rejected
from ggend.cli.common.daemon_client import ask_daemon
from ggend.cli.common.options import (
    database_option,
    format_option,
    socket_option,
)
from ggend.cli.render.output import Format, complain, progress, show, show_line
from ggend.errors import UsageMistake
from ggend.queries.rejected import Chosen, read_ids
from ggend.queries.result import Result
from ggend.queries.snapshot import snapshot
from ggend.queries.time_filters import parse_moment
from ggend_schema.codes import EventCode

__all__ = ["code_option", "purge_rejected", "requeue"]

#: Up to this many outcomes are shown one by one; more are summed up in a table.
_SHOWN = 20

#: Outcomes that leave the event in quarantine.
_STAYS = frozenset({"rejected", "not_kept"})

#: Beyond every id.
_END = 2**63

T = TypeVar("T")

ids_argument = click.argument(
    "ids",
    nargs=-1,
    type=int,
    metavar="[ID]...",
    help="The ids of events, as shown by `rejected list`.",
    shell_complete=complete_rejected,
)
code_option = click.option(
    "--code", type=OneOf(EventCode), metavar="CODE", help="Only events rejected with this code."
)


@command()
@ids_argument
@code_option
@click.option("--all", "everything", is_flag=True, help="All rejected events.")
@database_option
@socket_option
@format_option
def requeue(
    *,
    ids: tuple[int, ...],
    code: EventCode | None,
    everything: bool,
    database: Path | None,
    socket: Path | None,
    form: Format,
) -> None:
    """Process rejected events again, in id order, and show the outcome of each.

    An event is processed like a new one, with its original producer, sequence and time, and the
    accounts count it under its new outcome. The outcome `gone` means that the event is no longer in
    quarantine; `not_kept` means that only its hash and length were kept. A running daemon does the
    work; only its own user and root may request it. Without a daemon, the file is changed directly.

    Exit status: 0 no event was rejected again, 65 some events stay in quarantine, 69 the daemon
    does not answer, 75 another daemon has the database open, 77 not allowed.

    Examples:

        ggend rejected requeue 1017 1018
        ggend rejected requeue --code parked_full
    """
    from ggend.maintenance.requeue import Requeued, requeue_file

    path = chosen_database(database)
    wanted = _wanted(path, ids, code=code, everything=everything)
    done: list[Requeued] = []
    for part in _in_parts(
        path,
        wanted,
        "requeue",
        socket=chosen_socket(socket),
        here=requeue_file,
        answer=lambda result: msgspec.convert(result, list[Requeued]),
    ):
        done += part
    show(_outcomes(done, form), form=form, kept=("id", "outcome", "code", "message", "events"))
    stays = sum(one.outcome in _STAYS for one in done)
    if stays:
        sys.stdout.flush()
        complain(f"{stays:,} of {len(done):,} events stay in quarantine")
        raise click.exceptions.Exit(os.EX_DATAERR)


@command("purge")
@ids_argument
@code_option
@click.option(
    "--older-than", metavar="AGE", help="Only older events: an age such as 30d, or a date."
)
@click.option("--all", "everything", is_flag=True, help="All rejected events.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask for confirmation.")
@database_option
@socket_option
def purge_rejected(
    *,
    ids: tuple[int, ...],
    code: EventCode | None,
    older_than: str | None,
    everything: bool,
    yes: bool,
    database: Path | None,
    socket: Path | None,
) -> None:
    """Delete rejected events permanently; the accounts count them as purged.

    Select the events by id, by --code and --older-than, or with --all. A running daemon does the
    work; only its own user and root may request it. `ggend purge` removes old rows of all tables.

    Exit status: 0 done, 1 you answered no, 64 --yes is missing without a terminal, 69 the daemon
    does not answer, 75 another daemon has the database open, 77 not allowed.

    Examples:

        ggend rejected purge 1017 1018 --yes
        ggend rejected purge --code unknown_type --older-than 30d --yes
    """
    from ggend.maintenance.requeue import purge_rejected_file

    path = chosen_database(database)
    wanted = _wanted(path, ids, code=code, older_than=older_than, everything=everything)
    if not yes and wanted:
        confirm_deletion(len(wanted), "rejected event", "rejected events")
    deleted = sum(
        _in_parts(
            path,
            wanted,
            "purge_rejected",
            socket=chosen_socket(socket),
            here=purge_rejected_file,
            answer=lambda result: int(result["deleted"]),
        )
    )
    show_line(f"{deleted:,} events deleted")


def _wanted(
    path: Path,
    ids: Sequence[int],
    *,
    code: EventCode | None,
    everything: bool,
    older_than: str | None = None,
) -> list[int]:
    """Return the selected ids. Raises UsageMistake unless exactly one selection was made."""
    is_filtered = code is not None or older_than is not None
    if bool(ids) + is_filtered + everything != 1:
        raise UsageMistake(
            "select the rejected events by id, by filter, or with --all",
            hint="`ggend rejected list` shows the ids; --all selects every event",
        )
    if ids:
        if not all(0 < rejected_id < _END for rejected_id in ids):
            raise UsageMistake(
                "an id is a positive whole number", hint="`ggend rejected list` shows the ids"
            )
        return sorted(set(ids))
    with snapshot(path) as connection:
        end = None if older_than is None else parse_moment(older_than, now=datetime.now(UTC))
        return read_ids(connection, Chosen(code=code, until=end))


def _in_parts(
    path: Path,
    ids: Sequence[int],
    op: str,
    *,
    socket: Path | None,
    here: Callable[[Path, Sequence[int]], T],
    answer: Callable[..., T],
) -> Iterator[T]:
    """Do the work part by part: in the file, or by the daemon that has it open."""
    from ggend.maintenance.requeue import REQUEUED_IDS

    def by_daemon(part: list[int], daemon: Path) -> T:
        return answer(ask_daemon(daemon, op, {"ids": part}))

    changes = Changes(path, socket)
    with progress(rows=True) as bar:
        task = bar.add_task(op.replace("_", " "), total=len(ids))
        for first in range(0, len(ids), REQUEUED_IDS):
            part = list(ids[first : first + REQUEUED_IDS])
            yield changes.apply(partial(here, path, part), partial(by_daemon, part))
            bar.advance(task, len(part))


def _outcomes(done: Sequence[msgspec.Struct], form: Format) -> Result:
    rows: list[tuple[object, ...]] = [msgspec.structs.astuple(one) for one in done]
    if form is not Format.TABLE or len(rows) <= _SHOWN:
        return Result(columns=["id", "outcome", "code", "message"], rows=rows)
    counts = Counter((row[1], row[2]) for row in rows)
    return Result(
        columns=["outcome", "code", "events"],
        rows=[(*what, count) for what, count in counts.most_common()],
    )
