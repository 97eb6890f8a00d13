"""`ggend import`: import data of other programs; one module for each kind of file."""

from __future__ import annotations

from ggend.cli.common.command import LazyGroup

__all__ = ["imports"]

imports = LazyGroup(
    "import",
    {
        "Commands": {
            "ggen-log": "ggend.cli.commands.import_log:ggen_log",
            "receipts": "ggend.cli.commands.import_receipts:receipts",
            "events": "ggend.cli.commands.import_events:events",
            "database": "ggend.cli.commands.import_database:import_database",
        }
    },
    help="Import data of other programs. Importing it again adds nothing.",
)
