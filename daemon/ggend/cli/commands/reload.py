"""`ggend reload`: make the running daemon reload its objectives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ggend.cli.common.chosen import chosen_socket
from ggend.cli.common.command import command
from ggend.cli.common.daemon_client import ask_daemon
from ggend.cli.common.options import socket_option, timeout_option
from ggend.cli.render.output import show_line
from ggend.errors import BadConfig

__all__ = ["reload"]


@command()
@socket_option
@timeout_option(2.0)
def reload(*, socket: Path | None, timeout: float) -> None:
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
