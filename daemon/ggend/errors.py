"""Errors that end a command or keep the daemon from starting, for people and for scripts.

Each has a stable `code`, an `exit_status` from sysexits.h and a `hint` that says what to do.
Errors about one event or one connection are in `ggend_schema.errors`.
"""

from __future__ import annotations

import os

__all__ = [
    "AlreadyRunning",
    "BadConfig",
    "DaemonUnreachable",
    "DatabaseUnusable",
    "GgendError",
    "NotAllowed",
    "SocketUnusable",
    "UsageMistake",
]


class GgendError(Exception):
    """Root of the daemon's errors."""

    code = "error"
    exit_status = os.EX_SOFTWARE

    def __init__(self, message: str, *, hint: str = "") -> None:
        self.message, self.hint = message, hint
        super().__init__(message)


class UsageMistake(GgendError):
    """What was typed cannot be done."""

    code = "usage"
    exit_status = os.EX_USAGE


class BadConfig(GgendError):
    """A configuration value is not what is allowed there."""

    code = "bad_config"
    exit_status = os.EX_CONFIG


class AlreadyRunning(GgendError):
    """Another process holds the lock of the socket or of the database."""

    code = "already_running"
    exit_status = os.EX_TEMPFAIL


class SocketUnusable(GgendError):
    """The socket cannot be listened on."""

    code = "socket_unusable"
    exit_status = os.EX_OSERR


class DatabaseUnusable(GgendError):
    """The database cannot be opened, or is not one that this version may write to."""

    code = "database_unusable"
    exit_status = os.EX_DATAERR


class DaemonUnreachable(GgendError):
    """No daemon answers on the socket."""

    code = "daemon_unreachable"
    exit_status = os.EX_UNAVAILABLE


class NotAllowed(GgendError):
    """This user may not have that done."""

    code = "not_allowed"
    exit_status = os.EX_NOPERM
