"""Installation: which configuration, socket, database and spool a command of this user would use.

A wrong configuration ends nothing here: the rest is looked at where the defaults put it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from ggend.config import LoadedConfig, load_config
from ggend.errors import BadConfig, GgendError
from ggend_client.options import Options
from ggend_schema.places import SYSTEM_DATABASE, client_sockets, user_database

__all__ = ["Installation", "find_installation"]


class Installation(Struct, frozen=True, kw_only=True):
    """What is where, and who said so."""

    environ: Mapping[str, str]
    #: What `--config` named.
    config_file: Path | None
    #: None: it is wrong, as `error` says.
    loaded: LoadedConfig | None
    error: GgendError | None
    #: Where a client looks, in this order.
    sockets: list[Path]
    socket_source: str
    database: Path
    database_source: str
    #: None: spooling is off.
    spool: Path | None

    @property
    def wal_alarm_bytes(self) -> int:
        """The size of a WAL that is worth a warning."""
        return (self.loaded.config.wal_alarm_mib if self.loaded else 128) * 2**20


def find_installation(
    *,
    environ: Mapping[str, str],
    config: Path | None = None,
    socket: Path | None = None,
    database: Path | None = None,
) -> Installation:
    """Return what the commands use with these flags. Never raises for a wrong configuration."""
    flags = {"socket": socket, "database": database}
    loaded: LoadedConfig | None = None
    error: GgendError | None = None
    try:
        loaded = load_config(path=config, environ=environ, flags=flags)
    except GgendError as wrong:
        error = wrong
    except OSError as wrong:  # a directory on the way to it is closed
        error = BadConfig(
            f"{wrong.filename or 'the working directory'}: {wrong.strerror}",
            hint="this user must be able to read it; set GGEND_CONFIG or HOME to another place"
            if wrong.filename
            else "go to a directory that exists, or use absolute paths",
        )
    sockets, socket_source = _sockets(environ, loaded, socket)
    file, database_source = _database(environ, loaded, database)
    spool = Options.of(environ).spool_directory
    return Installation(
        environ=environ,
        config_file=config,
        loaded=loaded,
        error=error,
        sockets=sockets,
        socket_source=socket_source,
        database=file,
        database_source=database_source,
        spool=None if spool is None else _absolute(spool),
    )


def _absolute(path: Path) -> Path:
    try:
        return path.absolute()
    except OSError:  # the working directory is gone
        return Path("/", path)


def _sockets(
    environ: Mapping[str, str], loaded: LoadedConfig | None, flag: Path | None
) -> tuple[list[Path], str]:
    if loaded is not None and loaded.sources["socket"] != "default":
        return [loaded.config.socket], loaded.sources["socket"]
    if flag is not None:
        return [_absolute(flag)], "--socket"
    source = "GGEND_SOCKET" if environ.get("GGEND_SOCKET") else "default"
    # The user's runtime directory may also be the one beside the database.
    return list(dict.fromkeys(map(_absolute, client_sockets(environ)))), source


def _database(
    environ: Mapping[str, str], loaded: LoadedConfig | None, flag: Path | None
) -> tuple[Path, str]:
    if loaded is not None and loaded.sources["database"] != "default":
        return loaded.config.database, loaded.sources["database"]
    if flag is not None:
        return _absolute(flag), "--database"
    if environ.get("GGEND_DATABASE"):
        return _absolute(Path(environ["GGEND_DATABASE"])), "GGEND_DATABASE"
    own = _absolute(user_database(environ))
    if not os.path.exists(own) and os.path.exists(SYSTEM_DATABASE):  # noqa: PTH110 - never raises
        return SYSTEM_DATABASE, "default"
    return own, "default"
