"""Command line: the `ggend` command, assembled from one module for each group of commands.

No command does work of its own: each reads its options, calls what does, and prints through
`output`.
"""

from __future__ import annotations

from typing import Annotated

import typer

from ggend import version
from ggend.cli.commands.accounts import accounts
from ggend.cli.commands.analytics import analytics
from ggend.cli.commands.check import check
from ggend.cli.commands.config import config
from ggend.cli.commands.emit import emit
from ggend.cli.commands.export import export
from ggend.cli.commands.imports import imports
from ggend.cli.commands.init import init
from ggend.cli.commands.maintain import maintain
from ggend.cli.commands.parked import parked
from ggend.cli.commands.purge import purge
from ggend.cli.commands.query import query
from ggend.cli.commands.rejected import rejected
from ggend.cli.commands.reload import reload
from ggend.cli.commands.report import report
from ggend.cli.commands.reset import reset
from ggend.cli.commands.restore import restore
from ggend.cli.commands.serve import serve
from ggend.cli.commands.slo import slo
from ggend.cli.commands.spool import spool
from ggend.cli.commands.stats import stats
from ggend.cli.commands.status import status
from ggend.cli.render.output import show_line

__all__ = ["app"]

app = typer.Typer(
    name="ggend",
    help="The event-ingestion daemon of ggen: typed events in over a Unix socket, durable SQLite "
    "rows out, exactly once.",
    epilog="Exit statuses follow sysexits.h: 65 bad input, 69 no daemon, 71 no socket, 74 the "
    "database cannot be written, 75 another daemon runs, 77 not allowed, 78 bad configuration; 2 "
    "and 64 are usage.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command()(serve)
app.command()(status)
app.command()(reload)
app.command()(emit)
app.command()(init)
app.command()(check)
app.command()(maintain)
app.command()(purge)
app.command()(reset)
app.command()(restore)
app.command()(accounts)
app.command()(stats)
app.command()(analytics)
app.command()(export)
app.add_typer(imports, name="import")
app.add_typer(query, name="query")
app.add_typer(parked, name="parked")
app.add_typer(rejected, name="rejected")
app.add_typer(report, name="report")
app.add_typer(slo, name="slo")
app.add_typer(spool, name="spool")
app.add_typer(config, name="config")


def _show_version(*, wanted: bool) -> None:
    if wanted:
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
