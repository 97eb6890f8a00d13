"""`ggend spool`: what clients left on disk, and bringing it to the daemon.

It touches the spool of the user who calls it, and no other.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ggend.cli.common.delivery import require_daemon
from ggend.cli.common.options import FormatOption, SocketOption, chosen_socket
from ggend.cli.render.durations import age_text
from ggend.cli.render.output import Format, complain, show, show_line
from ggend.errors import DaemonUnreachable, UsageMistake
from ggend.queries.result import Result
from ggend_client.errors import SpoolUnusable
from ggend_client.options import Options
from ggend_client.replay import replay
from ggend_client.spool.directory import SpoolSummary, list_spools, survey
from ggend_client.spool.lock import destination_of
from ggend_client.spool.queue_part import read_part
from ggend_schema.places import client_sockets

__all__ = ["spool"]

spool = typer.Typer(
    help="Look at what clients left on disk, and bring it to the daemon.", no_args_is_help=True
)

DirectoryOption = Annotated[
    Path | None,
    typer.Option("--directory", help="The spool; default: GGEND_SPOOL_DIR, else the user's own."),
]


@spool.command("list")
def list_spool(*, directory: DirectoryOption = None, form: FormatOption = Format.TABLE) -> None:
    """Show what lies in the spool: one row for each producer, the oldest first.

    A producer that is alive delivers its events itself. What the others left is delivered by the
    next client of the same user, or by `ggend spool replay`. Files that were set aside are not
    sent. A file that ends in .corrupt is damaged: look at it, then remove it. A file that ends in
    .expired is older than 30 days: `ggend spool replay --expired` sends it.
    `meant_for` is the socket of the daemon that gets the events: `default` stands for the user's
    and the host's.

    Exit status: 0 nothing waits, 69 something does.

    Examples:

        ggend spool list
        ggend spool list --format json
    """
    place = _place(directory)
    is_for_programs = form in (Format.JSON, Format.NDJSON)
    try:
        found = list_spools(place)
        rows = [_row(one, is_for_programs=is_for_programs) for one in found]
    except OSError as error:
        raise DaemonUnreachable(
            f"{place}: {error.strerror or error}", hint=SpoolUnusable.hint
        ) from error
    show(Result(columns=list(_COLUMNS), rows=rows), form=form, fit=True)
    here = destination_of(client_sockets(os.environ)[0])
    waiting = [one for one in found if not one.is_held and _events_of(one)]
    _refuse_to_forget([one for one in waiting if one.destination not in {"", here}])
    if waiting:
        raise DaemonUnreachable(
            f"{sum(map(_events_of, waiting)):,} events wait", hint="`ggend spool replay` sends them"
        )


@spool.command("replay")
def replay_spool(
    *,
    directory: DirectoryOption = None,
    socket: SocketOption = None,
    whomever: Annotated[
        bool, typer.Option("--whomever", help="Also what was meant for another socket.")
    ] = False,
    expired: Annotated[
        bool, typer.Option("--expired", help="Also what was set aside as older than 30 days.")
    ] = False,
    accept_duplicates: Annotated[
        bool,
        typer.Option(
            "--accept-duplicates", help="With --expired: even if some may be stored already."
        ),
    ] = False,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds that it may take.")] = 600.0,
) -> None:
    """Bring to the daemon what processes that have ended left in the spool.

    Only what was meant for the same socket is sent to it: events for another daemon wait for that
    one. It may be run at any time, also beside clients: each producer's events are sent by one
    only, and the daemon recognises what it has. A user timer that calls it is a good idea where
    clients are rare.

    --expired also sends events that are older than 30 days, where none can be stored twice: those
    that were never sent to a daemon, and those of producers that the daemon still knows. A daemon
    forgets a producer after 60 days, and may have stored its events before: --accept-duplicates
    sends those, too.

    Exit status: 0 nothing is left, 69 something is.

    Example:

        ggend spool replay
        ggend spool replay --expired
    """
    place, chosen = _place(directory), chosen_socket(socket)
    require_daemon(chosen)
    report = replay(
        place,
        lambda: client_sockets(os.environ) if chosen is None else [chosen],
        timeout=timeout,
        whomever=whomever,
        expired=expired,
        accept_duplicates=accept_duplicates,
    )
    show_line(f"{report.events:,} events of {report.spools:,} producers delivered from {place}")
    if report.expired:
        complain(
            f"{report.expired:,} events are over 30 days old and were set aside, not sent",
            hint="`ggend spool replay --expired` sends what cannot be stored twice by that",
        )
    if report.left or report.error:
        raise DaemonUnreachable(
            f"{report.left:,} events are left: {report.error}", hint="run it again"
        )
    if report.doubtful:
        producers = ", ".join(one.producer.hex() for one in report.doubtful)
        raise DaemonUnreachable(
            "old events may be stored already, and the daemon does not know their producers any "
            f"more: {producers}",
            hint="--accept-duplicates sends them all the same",
        )
    _refuse_to_forget(report.elsewhere)


def _refuse_to_forget(elsewhere: Sequence[SpoolSummary]) -> None:
    """Raise DaemonUnreachable for events that wait for another socket."""
    events = sum(map(_events_of, elsewhere))
    if events:
        sockets = ", ".join(sorted({one.destination for one in elsewhere}))
        raise DaemonUnreachable(
            f"{events:,} events wait for another socket: {sockets}",
            hint="`ggend spool replay --socket PATH` sends them there, --whomever sends them here",
        )


def _place(directory: Path | None) -> Path:
    place = Options.of(os.environ).spool_directory if directory is None else directory
    if place is None:
        raise UsageMistake("there is no spool: GGEND_SPOOL_DIR is empty", hint="give --directory")
    return place


def _row(one: SpoolSummary, *, is_for_programs: bool) -> tuple[object, ...]:
    events = _events_of(one)
    age = round(one.age_seconds)
    return (
        one.producer.hex(),
        "alive" if one.is_held else "ended",
        events,
        one.bytes,
        age if is_for_programs else age_text(age),
        len(one.set_aside),
        one.destination or None,
    )


def _events_of(one: SpoolSummary) -> int:
    """Count what is there; of a queue, what is not known to be settled."""
    spooled = sum(_events(path, one.producer) for path in one.segments)
    return spooled + sum(_events_in_queue(path, one.producer) for path in one.parts)


def _events_in_queue(path: Path, producer: bytes) -> int:
    try:
        part = read_part(path, producer)
    except (OSError, ValueError):
        return 0
    return 0 if part is None else part.unsettled


def _events(path: Path, producer: bytes) -> int:
    try:
        return sum(last - first + 1 for first, last in survey(path, producer).records)
    except OSError:
        return 0  # delivered meanwhile, or not ours to read


_COLUMNS = ("producer", "owner", "events", "bytes", "age", "set_aside", "meant_for")
