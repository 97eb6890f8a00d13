"""`ggend import`: import data of other programs; one module for each kind of file."""

from __future__ import annotations

import typer

from ggend.cli.common.lazy_group import lazy_group

__all__ = ["imports"]

imports = typer.Typer(
    cls=lazy_group(
        {
            "ggen-log": "ggend.cli.commands.import_log:ggen_log",
            "receipts": "ggend.cli.commands.import_receipts:receipts",
            "events": "ggend.cli.commands.import_events:events",
            "database": "ggend.cli.commands.import_database:database",
        }
    ),
    help="Import data of other programs. Importing it again adds nothing.",
    no_args_is_help=True,
)


@imports.callback()
def _group() -> None:
    """Import data of other programs. Importing it again adds nothing."""
