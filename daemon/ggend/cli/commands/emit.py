"""`ggend emit`: send events from a shell."""

from __future__ import annotations

import os
from pathlib import Path

import click

from ggend.cli.common.chosen import chosen_socket
from ggend.cli.common.command import command
from ggend.cli.common.completion import complete_event_types, complete_fields
from ggend.cli.common.emitting import TIMEOUT_SECONDS, emit_and_go_on, emit_lines, emit_one
from ggend.cli.common.options import socket_option
from ggend.errors import UsageMistake

__all__ = ["emit"]


@command()
@click.argument(
    "kind",
    default=None,
    required=False,
    metavar="TYPE",
    help="Event type, such as audit.",
    shell_complete=complete_event_types,
)
@click.argument(
    "fields",
    nargs=-1,
    metavar="KEY=VALUE",
    help="A field: key=value for text and numbers, key:=json for JSON.",
    shell_complete=complete_fields,
)
@click.option(
    "--stdin", is_flag=True, help="Read events from standard input, one JSON object per line."
)
@click.option("--strict", is_flag=True, help="Fail if an event is not stored, and spool nothing.")
@socket_option
@click.option(
    "--timeout",
    type=click.FloatRange(min=0.1),
    default=TIMEOUT_SECONDS,
    metavar="SECONDS",
    help="Timeout in seconds for the daemon to store events.",
)
def emit(
    *,
    kind: str | None,
    fields: tuple[str, ...],
    stdin: bool,
    strict: bool,
    socket: Path | None,
    timeout: float,
) -> None:
    """Send one or more events. If no daemon answers, spool them on disk.

    The event types are audit, collision, memory_saved, receipt_emitted, session_ended,
    session_started and stage_completed. Each event is validated before it is sent; an error
    message names the invalid key. With --stdin, an invalid line is reported with its number, and
    the other lines are sent. With TYPE, a missing agent_id, execution_id or session_id is taken
    from GGEND_AGENT, GGEND_EXECUTION or GGEND_SESSION.

    Exit status: always 0, so that the command is safe in any script; problems are reported on
    standard error. With --strict: 0 all events are stored, 65 some were invalid or rejected, 69 the
    daemon is not reachable.

    Examples:

        ggend emit audit agent_id=a1 operation=plan status=completed duration_ms=12
        ggend emit memory_saved agent_id=a1 memory:='{"step": 3}'
        ggend emit --strict --stdin < events.ndjson
    """
    if stdin == (kind is not None):
        raise UsageMistake(
            "give either a TYPE with its fields, or --stdin",
            hint="ggend emit audit agent_id=a1 operation=plan status=completed",
        )
    place = chosen_socket(socket)
    if not strict:
        emit_and_go_on(kind, fields, place, timeout)
    elif kind is not None:
        emit_one(kind, fields, place, timeout)
    elif not emit_lines(place, timeout):
        raise click.exceptions.Exit(os.EX_DATAERR)
