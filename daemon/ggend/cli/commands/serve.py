"""`ggend serve`: run the daemon in the foreground, as systemd and people like it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from ggend.config import load_config
from ggend.errors import GgendError
from ggend.runtime.logs import queue_standard_error, set_up_logs

__all__ = ["serve"]


def serve(
    *,
    socket: Annotated[
        Path | None, typer.Option("--socket", "-s", help="Listen on this path.")
    ] = None,
    database: Annotated[
        Path | None,
        typer.Option("--database", "-d", help="Write to this file; created if missing."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="Read this TOML file, and no other.")
    ] = None,
    log_level: Annotated[
        str | None, typer.Option("--log-level", help="debug, info, warning or error.")
    ] = None,
    upgrade: Annotated[
        bool | None,
        typer.Option(
            "--upgrade/--no-upgrade", help="Whether to upgrade a database of an older version."
        ),
    ] = None,
) -> None:
    """Run the daemon until SIGTERM or Ctrl-C.

    Every setting can also be given in the configuration file or as GGEND_<KEY>; `ggend config
    show` lists them. On SIGTERM what was read is committed and acknowledged before it exits. A
    database of an older version is upgraded first, after a verified backup copy beside it.

    Example:

        ggend serve --database ./tier2.db --socket ./ggend.sock
    """
    queue_standard_error()
    loaded = load_config(
        path=config,
        environ=os.environ,
        flags={"socket": socket, "database": database, "log_level": log_level, "upgrade": upgrade},
    )
    # The parts that only the daemon needs are imported when it is sure to start.
    import anyio

    from ggend.runtime.descriptors import raise_limit
    from ggend.topology import run_daemon

    set_up_logs(loaded.config.log_level)
    raise_limit()
    try:
        anyio.run(run_daemon, loaded.config, os.environ)
    except (BaseExceptionGroup, OSError) as error:
        # Not `except*`: what is raised in one arrives in a group of its own on Python 3.11.2.
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
