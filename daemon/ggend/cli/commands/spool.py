"""`ggend spool`: list the events that clients left on disk, and send them to the daemon.

It only touches the spool of the calling user.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import click

from ggend.cli.common.chosen import chosen_socket
from ggend.cli.common.command import group
from ggend.cli.common.delivery import require_daemon
from ggend.cli.common.options import (
    PATH,
    columns_option,
    format_option,
    socket_option,
    timeout_option,
)
from ggend.cli.render.durations import age_text
from ggend.cli.render.output import Format, complain, show, show_line
from ggend.cli.render.sizes import counted
from ggend.errors import DaemonUnreachable, UsageMistake
from ggend.queries.result import Result
from ggend_client.errors import SpoolUnusable
from ggend_client.options import Options
from ggend_client.replay import replay
from ggend_client.spool.counting import waiting_events
from ggend_client.spool.directory import SpoolSummary, list_spools
from ggend_client.spool.lock import destination_of
from ggend_schema.places import client_sockets

__all__ = ["spool"]

spool = group("spool", "List the events that clients left on disk, and send them to the daemon.")


@spool.command("list")
@click.option(
    "--directory",
    type=PATH,
    help="The spool directory. Default: GGEND_SPOOL_DIR, else the user's own.",
)
@columns_option
@format_option
def list_spool(*, directory: Path | None, columns: str | None, form: Format) -> None:
    """List the spooled events: one row for each producer, oldest first.

    A producer that is alive delivers its events itself. Events of ended producers are delivered by
    the next client of the same user, or by `ggend spool replay`. `meant_for` is the socket to which
    the events are addressed; `default` means the user's or the host's default socket.

    Files that were set aside are not sent. A file that ends in .corrupt is damaged: inspect it,
    then remove it. A file that ends in .expired is older than 30 days: `ggend spool replay
    --expired` sends it.

    Exit status: 0 no events of ended producers are waiting, 69 some are.

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
    show(
        Result(columns=list(_COLUMNS), rows=rows),
        form=form,
        kept=("producer", "owner", "events", "age", "meant_for"),
        columns=columns,
    )
    here = destination_of(client_sockets(os.environ)[0])
    waiting = [one for one in found if not one.is_held and waiting_events(one)]
    _refuse_to_forget([one for one in waiting if one.destination not in {"", here}])
    if waiting:
        count = sum(map(waiting_events, waiting))
        raise DaemonUnreachable(
            f"{counted(count, 'event')} {'is' if count == 1 else 'are'} waiting in the spool",
            hint="`ggend spool replay` sends them",
        )


@spool.command("replay")
@click.option(
    "--directory",
    type=PATH,
    help="The spool directory. Default: GGEND_SPOOL_DIR, else the user's own.",
)
@socket_option
@click.option("--all-sockets", is_flag=True, help="Include events addressed to other sockets.")
@click.option("--whomever", is_flag=True, hidden=True, help="The former name of --all-sockets.")
@click.option("--expired", is_flag=True, help="Include files set aside as older than 30 days.")
@click.option(
    "--accept-duplicates", is_flag=True, help="With --expired: send even events that may be stored."
)
@timeout_option(600.0)
def replay_spool(
    *,
    directory: Path | None,
    socket: Path | None,
    all_sockets: bool,
    whomever: bool,
    expired: bool,
    accept_duplicates: bool,
    timeout: float,
) -> None:
    """Send the events that ended processes left in the spool to the daemon.

    Only events addressed to this socket are sent; events for other sockets stay in the spool. The
    command is safe at any time, also while clients run: the events of a producer are sent by one
    process only, and the daemon recognises events that it has stored. If clients run rarely, call
    this command from a user timer.

    --expired also sends events that are older than 30 days if they cannot be stored twice: events
    that were never sent to a daemon, and events of producers that the daemon still knows. A daemon
    forgets a producer after 60 days and may have stored its events before that; to send such events
    anyway, add --accept-duplicates.

    Exit status: 0 no events are left, 69 some are.

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
        all_sockets=all_sockets or whomever,
        expired=expired,
        accept_duplicates=accept_duplicates,
    )
    events, producers = counted(report.events, "event"), counted(report.spools, "producer")
    show_line(f"{events} of {producers} delivered from {place}")
    if report.expired:
        complain(
            f"{report.expired:,} events are over 30 days old and were set aside, not sent",
            hint="`ggend spool replay --expired` sends those that cannot be stored twice",
        )
    if report.left or report.error:
        raise DaemonUnreachable(
            f"{report.left:,} events are left: {report.error}", hint="run it again"
        )
    if report.doubtful:
        producers = ", ".join(one.producer.hex() for one in report.doubtful)
        raise DaemonUnreachable(
            "expired events may be stored already, but the daemon no longer knows their "
            f"producers: {producers}",
            hint="--accept-duplicates sends them anyway",
        )
    _refuse_to_forget(report.elsewhere)


def _refuse_to_forget(elsewhere: Sequence[SpoolSummary]) -> None:
    """Raise DaemonUnreachable for events that wait for another socket."""
    events = sum(map(waiting_events, elsewhere))
    if events:
        sockets = ", ".join(sorted({one.destination for one in elsewhere}))
        raise DaemonUnreachable(
            f"{counted(events, 'event')} addressed to other sockets: {sockets}",
            hint="`ggend spool replay --socket PATH` sends them there; --all-sockets sends them to "
            "this daemon",
        )


def _place(directory: Path | None) -> Path:
    place = Options.of(os.environ).spool_directory if directory is None else directory
    if place is None:
        raise UsageMistake(
            "spooling is off: GGEND_SPOOL_DIR is empty", hint="give a directory with --directory"
        )
    return place


def _row(one: SpoolSummary, *, is_for_programs: bool) -> tuple[object, ...]:
    events = waiting_events(one)
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


_COLUMNS = ("producer", "owner", "events", "bytes", "age", "set_aside", "meant_for")
