"""`ggend serve`: run the daemon in the foreground."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import click

from ggend.cli.common.command import command
from ggend.cli.common.completion import complete_log_levels
from ggend.cli.common.options import PATH
from ggend.config import load_config
from ggend.errors import GgendError
from ggend.runtime.logs import queue_standard_error, set_up_logs
from ggend.variables import unknown_variables

__all__ = ["serve"]

log = logging.getLogger("ggend.config")


@command()
@click.option("--socket", "-s", type=PATH, help="Listen on this path.")
@click.option(
    "--database", "-d", type=PATH, help="Write to this SQLite file; it is created if missing."
)
@click.option("--config", "-c", type=PATH, help="Read only this TOML file.")
@click.option(
    "--log-level",
    help="debug, info, warning or error.",
    shell_complete=complete_log_levels,
)
@click.option(
    "--upgrade/--no-upgrade",
    default=None,
    help="Upgrade a database of an older version, or refuse it.",
)
def serve(
    *,
    socket: Path | None,
    database: Path | None,
    config: Path | None,
    log_level: str | None,
    upgrade: bool | None,
) -> None:
    """Run the daemon until SIGTERM or Ctrl-C.

    Every setting can also be given in the configuration file or as an environment variable named
    GGEND_KEY; `ggend config show` lists them. On SIGTERM, the daemon commits and acknowledges the
    events that it has read, then exits. A database of an older version is first copied to a
    verified backup next to it, then upgraded.

    Example:

        ggend serve --database ./tier2.db --socket ./ggend.sock
    """
    queue_standard_error()
    loaded = load_config(
        path=config,
        environ=os.environ,
        flags={"socket": socket, "database": database, "log_level": log_level, "upgrade": upgrade},
    )
    # Modules that only the daemon needs are imported after the configuration was checked.
    import anyio

    from ggend.runtime.descriptors import raise_limit
    from ggend.topology import run_daemon

    set_up_logs(loaded.config.log_level)
    for name, hint in unknown_variables(os.environ).items():
        log.warning("unknown environment variable", extra={"variable": name, "hint": hint})
    raise_limit()
    try:
        anyio.run(run_daemon, loaded.config, os.environ)
    except (BaseExceptionGroup, OSError) as error:
        # Not `except*`: Python 3.11.2 wraps an error raised inside it in another group.
        named = _named(error)
        if named is None:
            raise
        raise named from None


def _named(error: BaseException) -> GgendError | None:
    """Return the error that ended the daemon: stages that it cancelled add none."""
    from ggend.runtime.descriptors import name_exhaustion

    if isinstance(error, BaseExceptionGroup):
        found = [_named(one) for one in error.exceptions]
        return None if None in found else found[0]
    return error if isinstance(error, GgendError) else name_exhaustion(error)
