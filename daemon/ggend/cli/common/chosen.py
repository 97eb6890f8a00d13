"""Chosen: how a command finds the daemon and the database.

A flag wins, then the configuration; without either, the user's own paths and then those of the
system service.
"""

from __future__ import annotations

import os
from pathlib import Path

from ggend.config import load_config
from ggend.errors import UsageMistake
from ggend_schema.places import SYSTEM_DATABASE

__all__ = ["chosen_database", "chosen_socket", "one_path"]


def chosen_database(flag: Path | None) -> Path:
    """Return the database to read."""
    loaded = load_config(path=None, environ=os.environ, flags={"database": flag})
    chosen = loaded.config.database
    # os.path: a directory that this user may not look into has none for them.
    is_missing = loaded.sources["database"] == "default" and not os.path.exists(chosen)  # noqa: PTH110
    return SYSTEM_DATABASE if is_missing and os.path.exists(SYSTEM_DATABASE) else chosen  # noqa: PTH110


def chosen_socket(flag: Path | None) -> Path | None:
    """Return the socket to use; None: the client looks at the user's and then at the system's."""
    loaded = load_config(path=None, environ=os.environ, flags={"socket": flag})
    return None if loaded.sources["socket"] == "default" else loaded.config.socket


def one_path(path: Path | None, database: Path | None) -> Path | None:
    """Return the database that is given as an argument or as an option. Raises UsageMistake."""
    if path is not None and database is not None and path != database:
        raise UsageMistake(f"{path} and {database} are given", hint="give one database")
    return path or database
