"""`ggend reload`: have the running daemon read its objectives again."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ggend.cli.common.daemon_client import ask_daemon
from ggend.cli.common.options import SocketOption, chosen_socket
from ggend.cli.render.output import show_line
from ggend.errors import BadConfig

__all__ = ["reload"]


def reload(
    *,
    socket: SocketOption = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for the answer.")] = 2.0,
) -> None:
    """Have the running daemon read its objectives again, as SIGHUP does.

    Exit status: 0 they hold from the next row on, 69 the daemon does not answer, 77 this user may
    not, 78 the file is invalid and the old ones stay.

    Example:

        ggend reload
    """
    answer: dict[str, Any] = ask_daemon(
        chosen_socket(socket), "reload", {}, timeout=timeout, hint=""
    )
    if answer["error"] is not None:
        raise BadConfig(
            str(answer["error"]), hint="the daemon goes on with the objectives that it had"
        )
    show_line(f"objectives that hold from the next row on: {answer['objectives']}")
