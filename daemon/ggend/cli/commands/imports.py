"""`ggend import`: bring in what other programs have logged; one module for each kind."""

from __future__ import annotations

import typer

from ggend.cli.commands.import_database import database
from ggend.cli.commands.import_events import events
from ggend.cli.commands.import_log import ggen_log
from ggend.cli.commands.import_receipts import receipts

__all__ = ["imports"]

imports = typer.Typer(
    help="Bring in what other programs have logged. Importing again adds nothing.",
    no_args_is_help=True,
)


@imports.callback()
def _group() -> None:
    """Bring in what other programs have logged. Importing again adds nothing."""


imports.command(name="ggen-log")(ggen_log)
imports.command(name="receipts")(receipts)
imports.command(name="events")(events)
imports.command(name="database")(database)
