"""`ggend doctor`: what is wrong with an installation, and what to do."""

from __future__ import annotations

import os
from pathlib import Path

import click

from ggend import __version__
from ggend.cli.common.command import command
from ggend.cli.common.options import config_option, database_option, socket_option, timeout_option
from ggend.cli.render.diagnoses import show_diagnoses
from ggend.cli.render.output import show_json

__all__ = ["doctor"]


@command()
@config_option
@database_option
@socket_option
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@timeout_option(2.0, "Timeout in seconds for the daemon's answer.")
def doctor(
    *,
    config: Path | None,
    database: Path | None,
    socket: Path | None,
    as_json: bool,
    timeout: float,
) -> None:
    """Find out what is wrong with an installation, and show what to do about it.

    The command examines the configuration, socket, daemon, database, permissions, spool, disk,
    clock and SQLite. Where something is wrong, a hint says what to do. It only reads, and works
    without a daemon, a database or a configuration. The result is for the calling user: run it as
    the user whose programs have the problem.

    Exit status: 0 nothing failed (there may be warnings), else that of the first subject that
    failed: 65 the database is damaged or of another program, 69 no daemon answers, 74 the disk is
    full or read-only, 77 this user or the daemon's is not allowed, 78 the configuration is invalid
    or this SQLite or file system cannot be used.

    Examples:

        ggend doctor
        ggend doctor --json
    """
    from ggend.doctor.diagnosis import first_failure
    from ggend.doctor.examine import examine
    from ggend.doctor.installation import find_installation

    installation = find_installation(
        environ=os.environ, config=config, socket=socket, database=database
    )
    diagnoses = examine(installation, timeout=timeout)
    status = first_failure(diagnoses)
    if as_json:
        show_json({"version": __version__, "exit_status": status, "findings": diagnoses})
    else:
        show_diagnoses(diagnoses)
    if status:
        raise click.exceptions.Exit(status)
