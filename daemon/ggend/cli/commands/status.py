"""`ggend status`: the health and the counters of the running daemon."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ggend.cli.common.chosen import chosen_socket
from ggend.cli.common.command import command
from ggend.cli.common.options import format_option, socket_option, timeout_option
from ggend.cli.render.output import Format, show, show_json, show_text
from ggend.cli.render.status_view import status_view
from ggend.errors import DaemonUnreachable
from ggend.queries.result import Result
from ggend_client import ClientError, ask

__all__ = ["status"]

#: Exit status of a daemon that runs but is not healthy.
_DEGRADED = 1


@command()
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@format_option
@socket_option
@timeout_option(2.0)
def status(*, as_json: bool, form: Format, socket: Path | None, timeout: float) -> None:
    """Show the daemon's health, rates and counters.

    The counters are those of `ggend accounts`. The first column counts since the database was
    created. The second is what changed since the daemon started; it may be negative, because parked
    events are stored later and rejected events are requeued.

    Exit status: 0 healthy, 1 degraded (`trouble` and `hook_errors` show why), 69 not reachable.

    Example:

        ggend status --json
    """
    try:
        answer: dict[str, Any] = ask(chosen_socket(socket), "status", timeout=timeout)
    except ClientError as error:
        raise DaemonUnreachable(str(error), hint=error.hint) from error
    if as_json or form is Format.JSON:
        show_json(answer)
    elif form is Format.TABLE:
        show_text(status_view(answer))
    else:
        show(Result(columns=["name", "value"], rows=list(_flat("", answer))), form=form)
    if answer.get("health") != "ok":
        raise click.exceptions.Exit(_DEGRADED)


def _flat(prefix: str, value: object) -> list[tuple[object, ...]]:
    if isinstance(value, dict):
        return [
            row
            for key, part in value.items()
            for row in _flat(f"{prefix}.{key}" if prefix else str(key), part)
        ]
    if isinstance(value, list) and value:
        return _flat(prefix, {str(number): part for number, part in enumerate(value)})
    return [(prefix, None if value == [] else value)]
