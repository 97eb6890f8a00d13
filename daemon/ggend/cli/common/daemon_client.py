"""Daemon client: requests to the daemon that holds the lock of a database.

That daemon is identified by its pid, which is in the lock file: another daemon that happens to
listen on the configured socket has another database.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ggend.database.lock import lock_path
from ggend.errors import (
    AlreadyRunning,
    DaemonUnreachable,
    NoRoom,
    NotAllowed,
    RefusedByDatabase,
)
from ggend_client import ClientError, RequestRefused, ask
from ggend_schema.places import client_sockets

__all__ = ["REFUSED_HINT", "ask_daemon", "daemon_socket"]

#: The hint after a user's own trigger or constraint refused a change.
REFUSED_HINT = "drop the trigger or constraint that refused the change, and run it again"

#: Seconds that the daemon may take for one request: it may wait for the disk, or a long batch.
_PATIENCE_SECONDS = 30.0


def daemon_socket(path: Path, socket: Path | None, *, otherwise: AlreadyRunning) -> Path:
    """Return the socket of the daemon that holds the lock of a database.

    Raises AlreadyRunning, with the message of `otherwise`, if no socket belongs to that daemon.
    """
    try:
        holder = lock_path(path).read_text(encoding="ascii").strip()
    except OSError:
        holder = ""
    for place in client_sockets(os.environ) if socket is None else [socket]:
        if holder and _pid_at(place) == holder:
            return place
    raise AlreadyRunning(
        f"{otherwise.message}, and does not answer on this socket",
        hint="give its socket with --socket or GGEND_SOCKET, or stop it",
    )


def ask_daemon(
    place: Path | None,
    op: str,
    arguments: Mapping[str, Any],
    *,
    timeout: float = _PATIENCE_SECONDS,
    hint: str = "run it again to resume",
    refused_hint: str = REFUSED_HINT,
) -> Any:
    """Return the daemon's answer.

    Raises NotAllowed, RefusedByDatabase, NoRoom, DaemonUnreachable.
    """
    try:
        return ask(place, op, arguments, timeout=timeout)
    except ClientError as error:
        if error.code == NotAllowed.code:
            raise NotAllowed(str(error), hint="run the command as that user") from error
        if isinstance(error, RequestRefused) and error.code == RefusedByDatabase.code:
            raise RefusedByDatabase(error.message, hint=refused_hint) from error
        if isinstance(error, RequestRefused) and error.code == NoRoom.code:
            raise NoRoom(
                error.message, hint="free some MiB on that disk, and run it again"
            ) from error
        raise DaemonUnreachable(str(error), hint=hint or error.hint) from error


def _pid_at(place: Path) -> str | None:
    """Return the pid of the daemon that answers there."""
    try:
        return str(ask(place, "status")["pid"])
    except ClientError:
        return None
