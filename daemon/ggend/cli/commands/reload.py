"""`ggend reload`: make the running daemon reload its objectives."""

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
    timeout: Annotated[float, typer.Option(min=0.1, help="Timeout in seconds.")] = 2.0,
) -> None:
    """Make the running daemon reload its objectives, as SIGHUP does.

    Exit status: 0 the objectives apply from the next row on, 69 the daemon does not answer, 77 not
    allowed, 78 the file is invalid and the previous objectives stay in force.

    Example:

        ggend reload
    """
    answer: dict[str, Any] = ask_daemon(
        chosen_socket(socket), "reload", {}, timeout=timeout, hint=""
    )
    if answer["error"] is not None:
        raise BadConfig(str(answer["error"]), hint="the daemon keeps its previous objectives")
    show_line(f"reloaded {answer['objectives']} objectives; they apply from the next row on")
