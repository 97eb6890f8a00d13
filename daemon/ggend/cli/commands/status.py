"""`ggend status`: the health and the counters of the running daemon."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ggend.cli.common.options import SocketOption, chosen_socket
from ggend.cli.render.output import show, show_json
from ggend.errors import DaemonUnreachable
from ggend.queries.result import Result
from ggend_client import ClientError, ask

__all__ = ["status"]

#: Exit status of a daemon that runs but is not healthy.
_DEGRADED = 1


def status(
    *,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the whole answer as JSON.")
    ] = False,
    socket: SocketOption = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Timeout in seconds.")] = 2.0,
) -> None:
    """Show the daemon's health and counters.

    Exit status: 0 healthy, 1 degraded (`trouble` and `hook_errors` show why), 69 not reachable.

    Example:

        ggend status --json
    """
    try:
        answer: dict[str, Any] = ask(chosen_socket(socket), "status", timeout=timeout)
    except ClientError as error:
        raise DaemonUnreachable(str(error), hint=error.hint) from error
    if as_json:
        show_json(answer)
    else:
        rows: list[tuple[object, ...]] = list(_flat("", answer))
        show(Result(columns=["what", "value"], rows=rows))
    if answer.get("health") != "ok":
        raise typer.Exit(_DEGRADED)


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
