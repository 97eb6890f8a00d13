"""`ggend emit`: send events from a shell."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec

from ggend.cli.common.chosen import chosen_socket
from ggend.cli.common.command import Command, command
from ggend.cli.common.completion import complete_event_types, complete_fields
from ggend.cli.common.emitting import TIMEOUT_SECONDS, emit_and_go_on, emit_lines, emit_one
from ggend.cli.common.options import socket_option, timeout_option
from ggend.errors import UsageMistake
from ggend.importers.event_args import VARIABLES
from ggend_schema.events import EVENT_TYPES
from ggend_schema.value_words import requirement

__all__ = ["emit"]


class _Emit(Command):
    """Its help lists the fields of an event type that stands before --help."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Note the event type: --help is handled before arguments are."""
        ctx.obj = next((word for word in args if word in EVENT_TYPES), "")
        return super().parse_args(ctx, args)

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the help of the command, or that of the event type."""
        struct = EVENT_TYPES.get(ctx.obj)
        if struct is None:
            super().format_help(ctx, formatter)
            return
        kind = str(struct.__struct_config__.tag)
        formatter.write_usage(f"{ctx.command_path} {kind}", "KEY=VALUE...")
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text(" ".join((struct.__doc__ or "").split()))
        with formatter.section("Fields"):
            formatter.write_dl(list(_fields_of(struct)))
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text(
                "key=value is text, read as a number where the field is one; key:=json is any JSON "
                "value. `ggend emit --help` shows the options."
            )


def _fields_of(struct: type[msgspec.Struct]) -> Iterator[tuple[str, str]]:
    for field in msgspec.structs.fields(struct):
        words = requirement(struct, field.name) or "any JSON value"
        variable = VARIABLES.get(field.name)
        if field.required:
            words += f" (required{f' unless {variable} is set' if variable else ''})"
        elif variable:
            words += f" (default: {variable})"
        yield field.name, words


@command(cls=_Emit)
@click.argument(
    "kind",
    default=None,
    required=False,
    metavar="[TYPE]",
    help="Event type, such as audit.",
    shell_complete=complete_event_types,
)
@click.argument(
    "fields",
    nargs=-1,
    metavar="[KEY=VALUE]...",
    help="A field: key=value for text and numbers, key:=json for JSON.",
    shell_complete=complete_fields,
)
@click.option(
    "--stdin", is_flag=True, help="Read events from standard input, one JSON object per line."
)
@click.option("--strict", is_flag=True, help="Fail if an event is not stored, and spool nothing.")
@socket_option
@timeout_option(TIMEOUT_SECONDS, "Timeout in seconds for the daemon to store events.")
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
    session_started and stage_completed; `ggend emit TYPE --help` lists the fields of a type. Each
    event is validated before it is sent; an error message names the invalid key. With --stdin, an
    invalid line is reported with its number, and the other lines are sent. With TYPE, a missing
    agent_id, execution_id or session_id is taken from GGEND_AGENT, GGEND_EXECUTION or
    GGEND_SESSION.

    Exit status: 0 also if an event is invalid, rejected or spooled, so that the command is safe in
    any script; problems are reported on standard error. With --strict: 0 all events are stored, 65
    some were invalid or rejected, 69 the daemon is not reachable. In both cases: 2 or 64 wrong
    usage, 78 invalid configuration.

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
