"""Places: where the socket, the database and the spool are when nobody says otherwise.

These are the user's own (XDG Base Directory Specification), also for runs by hand as root; the
units of the host's service name the host's. `GGEND_SOCKET` and `GGEND_DATABASE` win over both.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

__all__ = [
    "SYSTEM_DATABASE",
    "SYSTEM_SOCKET",
    "client_sockets",
    "default_sockets",
    "spool_directory",
    "user_config",
    "user_database",
    "user_socket",
]

SYSTEM_SOCKET = Path("/run/ggend/ggend.sock")
SYSTEM_DATABASE = Path("/var/lib/ggend/tier2.db")


def user_socket(environ: Mapping[str, str]) -> Path:
    """`$XDG_RUNTIME_DIR/ggend/ggend.sock`; without a runtime directory, beside the database."""
    runtime = environ.get("XDG_RUNTIME_DIR")
    if runtime:
        return Path(runtime) / "ggend" / "ggend.sock"
    return user_database(environ).with_name("ggend.sock")


def user_database(environ: Mapping[str, str]) -> Path:
    """`$XDG_DATA_HOME/ggend/tier2.db`, by default below `~/.local/share`."""
    return _home(environ, "XDG_DATA_HOME", ".local/share") / "ggend" / "tier2.db"


def user_config(environ: Mapping[str, str]) -> Path:
    """`$XDG_CONFIG_HOME/ggend/config.toml`, by default below `~/.config`."""
    return _home(environ, "XDG_CONFIG_HOME", ".config") / "ggend" / "config.toml"


def spool_directory(environ: Mapping[str, str]) -> Path:
    """`GGEND_SPOOL_DIR`, else `$XDG_STATE_HOME/ggend/spool`, by default below `~/.local/state`."""
    chosen = environ.get("GGEND_SPOOL_DIR")
    if chosen:
        return Path(chosen)
    return _home(environ, "XDG_STATE_HOME", ".local/state") / "ggend" / "spool"


def client_sockets(environ: Mapping[str, str]) -> list[Path]:
    """Where a client looks, in order: `GGEND_SOCKET` alone, else the `default_sockets`."""
    chosen = environ.get("GGEND_SOCKET")
    return [Path(chosen)] if chosen else default_sockets(environ)


def default_sockets(environ: Mapping[str, str]) -> list[Path]:
    """Where the user's daemon can be, however it was started, and then the system's.

    Under cron, su and sudo there is no XDG_RUNTIME_DIR: the daemon of a login session is found all
    the same, and so is one that cron started.
    """
    runtime = environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    beside_the_database = user_database(environ).with_name("ggend.sock")
    return [Path(runtime) / "ggend" / "ggend.sock", beside_the_database, SYSTEM_SOCKET]


def _home(environ: Mapping[str, str], variable: str, default: str) -> Path:
    chosen = environ.get(variable)
    if chosen and Path(chosen).is_absolute():
        return Path(chosen)
    home = environ.get("HOME")
    return (Path(home) if home else Path(os.path.expanduser("~"))) / default  # noqa: PTH111
