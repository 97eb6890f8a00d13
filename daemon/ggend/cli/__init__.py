"""Command line: the `ggend` command, assembled from one module for each group of commands.

A command only reads its options, calls the module that does the work, and prints through `output`.
"""

from __future__ import annotations

from typing import Annotated

import typer

from ggend import version
from ggend.cli.common.lazy_group import lazy_group

__all__ = ["app"]

_COMMANDS = {
    "serve": "serve:serve",
    "status": "status:status",
    "reload": "reload:reload",
    "emit": "emit:emit",
    "init": "init:init",
    "check": "check:check",
    "maintain": "maintain:maintain",
    "purge": "purge:purge",
    "reset": "reset:reset",
    "restore": "restore:restore",
    "accounts": "accounts:accounts",
    "stats": "stats:stats",
    "analytics": "analytics:analytics",
    "export": "export:export",
    "import": "imports:imports",
    "query": "query:query",
    "parked": "parked:parked",
    "rejected": "rejected:rejected",
    "report": "report:report",
    "slo": "slo:slo",
    "spool": "spool:spool",
    "config": "config:config",
}

app = typer.Typer(
    name="ggend",
    cls=lazy_group({name: f"ggend.cli.commands.{place}" for name, place in _COMMANDS.items()}),
    help="The event-ingestion daemon of ggen. It receives typed events over a Unix socket and "
    "stores each event exactly once in an SQLite database.",
    epilog="Exit statuses follow sysexits.h: 1 degraded, or you answered no; 2 and 64 wrong usage; "
    "65 invalid input or database; 69 no daemon answers, or events still wait; 70 an internal "
    "error; 71 the socket cannot be used; 72 the database file was replaced; 74 a write failed; "
    "75 in use, or a timeout: try again; 77 not allowed; 78 invalid configuration.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(*, wanted: bool) -> None:
    if wanted:
        from ggend.cli.render.output import show_line

        show_line(f"ggend {version()}")
        raise typer.Exit


@app.callback()
def _ggend(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Callback of the whole command."""
