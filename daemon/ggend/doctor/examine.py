"""Examine: all subjects of an installation, in the order in which a person repairs them."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from ggend.doctor.clock import is_synchronized, look_at_clock
from ggend.doctor.configuration import look_at_configuration
from ggend.doctor.conversation import Answer, talk
from ggend.doctor.database_file import look_at_database, read_contents
from ggend.doctor.diagnosis import Diagnosis, failed
from ggend.doctor.disk import look_at_disk
from ggend.doctor.installation import Installation
from ggend.doctor.permissions import look_at_permissions
from ggend.doctor.reachability import look_at_daemon, look_at_socket
from ggend.doctor.spooled import look_at_spool
from ggend.doctor.sqlite_library import look_at_sqlite

__all__ = ["database_of", "examine"]


def examine(installation: Installation, *, timeout: float = 2.0) -> list[Diagnosis]:
    """Look at every subject. Never raises: what cannot be looked at has failed."""
    answer = talk(installation.sockets, timeout)
    database = database_of(installation, answer)
    contents = read_contents(database, answer)
    socket = answer.socket or installation.sockets[0]
    now = datetime.now(UTC)
    looks: dict[str, Callable[[], Diagnosis]] = {
        "configuration": partial(look_at_configuration, installation),
        "socket": partial(look_at_socket, installation, answer),
        "daemon": partial(look_at_daemon, installation, answer, database),
        "database": partial(look_at_database, installation, answer, database, contents),
        "permissions": partial(look_at_permissions, answer, database),
        "spool": partial(look_at_spool, installation),
        "disk": partial(look_at_disk, database, socket, installation.spool),
        "clock": partial(look_at_clock, contents, now, synchronized=is_synchronized()),
        "SQLite": look_at_sqlite,
    }
    return [_guarded(subject, look) for subject, look in looks.items()]


def database_of(installation: Installation, answer: Answer) -> Path:
    """Return the database to look at: the one that was named, else the daemon's."""
    if installation.database_source == "default" and answer.database is not None:
        return answer.database
    return installation.database


def _guarded(subject: str, look: Callable[[], Diagnosis]) -> Diagnosis:
    try:
        return look()
    except Exception as error:  # one odd subject must not hide the others
        said = str(error) or type(error).__name__
        hint = "run it as the daemon's user; if that says the same, report it as a bug"
        return failed(subject, f"cannot be examined: {said}", hint, os.EX_NOPERM)
