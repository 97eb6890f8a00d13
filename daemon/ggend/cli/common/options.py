"""Options: the options that several commands share, and how they find the daemon and the database.

A flag wins, then the configuration; without either, the user's own paths and then those of the
system service.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from ggend.cli.render.output import Format
from ggend.config import load_config
from ggend.errors import UsageMistake
from ggend_schema.limits import NAME_CHARS
from ggend_schema.places import SYSTEM_DATABASE

__all__ = [
    "DatabaseOption",
    "FormatOption",
    "LimitOption",
    "SocketOption",
    "check_agent",
    "chosen_database",
    "chosen_socket",
]

DatabaseOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--database",
        "-d",
        help="The SQLite file. Default: the configured, the user's or the system's database.",
    ),
]
FormatOption: TypeAlias = Annotated[
    Format,
    typer.Option(
        "--format",
        "-f",
        help="Output format. NDJSON has one JSON object per line.",
    ),
]
LimitOption: TypeAlias = Annotated[
    int, typer.Option("--limit", "-n", min=1, help="Maximum number of rows.")
]
SocketOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--socket",
        "-s",
        help="The daemon's socket. Default: the configured, the user's or the system's socket.",
    ),
]


def chosen_database(flag: Path | None) -> Path:
    """Return the database to read."""
    loaded = load_config(path=None, environ=os.environ, flags={"database": flag})
    chosen = loaded.config.database
    if loaded.sources["database"] == "default" and not chosen.exists() and SYSTEM_DATABASE.exists():
        return SYSTEM_DATABASE
    return chosen


def check_agent(agent: str) -> None:
    """Raise UsageMistake unless this is a valid agent name for an import."""
    if not (agent.isprintable() and 1 <= len(agent) <= NAME_CHARS):
        raise UsageMistake(
            f"{agent!r} is not a valid agent name",
            hint=f"--agent takes 1 to {NAME_CHARS} printable characters",
        )


def chosen_socket(flag: Path | None) -> Path | None:
    """Return the socket to use; None: the client looks at the user's and then at the system's."""
    loaded = load_config(path=None, environ=os.environ, flags={"socket": flag})
    return None if loaded.sources["socket"] == "default" else loaded.config.socket
