"""App: the `ggend` command, assembled from one module for each group of commands."""

from __future__ import annotations

import click

from ggend import __version__
from ggend.cli.common.command import LazyGroup

__all__ = ["app"]

#: The commands by what people do.
_SECTIONS = {
    "Run the daemon": {
        "serve": "serve:serve",
        "status": "status:status",
        "doctor": "doctor:doctor",
        "reload": "reload:reload",
        "config": "config:config_group",
        "completion": "completion:completion",
    },
    "Send events": {
        "emit": "emit:emit",
        "spool": "spool:spool",
        "import": "imports:imports",
    },
    "See what happened": {
        "query": "query:query",
        "analytics": "analytics:analytics",
        "report": "report:report",
        "slo": "slo:slo",
        "accounts": "accounts:accounts",
        "stats": "stats:stats",
        "schema": "schema:schema",
        "export": "export:export",
    },
    "Look after the database": {
        "init": "init:init",
        "check": "check:check",
        "maintain": "maintain:maintain",
        "parked": "parked:parked",
        "rejected": "rejected:rejected",
        "purge": "purge:purge",
        "restore": "restore:restore",
        "reset": "reset:reset",
    },
}

app = click.version_option(__version__, message="%(prog)s %(version)s")(
    LazyGroup(
        "ggend",
        {
            title: {name: f"ggend.cli.commands.{place}" for name, place in part.items()}
            for title, part in _SECTIONS.items()
        },
        help="The event-ingestion daemon of ggen. It receives typed events over a Unix socket and "
        "stores each event exactly once in an SQLite database.",
        epilog="Exit statuses follow sysexits.h: 1 degraded, or you answered no; 2 and 64 wrong "
        "usage; 65 invalid input or database; 69 no daemon answers, or events still wait; 70 an "
        "internal error; 71 the socket cannot be used; 72 the database file was replaced; 74 a "
        "write failed; 75 in use, or a timeout: try again; 77 not allowed; 78 invalid "
        "configuration.",
    )
)
