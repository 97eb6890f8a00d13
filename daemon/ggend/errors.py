"""Errors that end a command or keep the daemon from starting, for people and for scripts.

Each has a stable `code`, an `exit_status` from sysexits.h and a `hint` that says what to do.
Errors about one event or one connection are in `ggend_schema.errors`.
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = [
    "AlreadyRunning",
    "BadConfig",
    "CommitUnknown",
    "DaemonUnreachable",
    "DatabaseCorrupt",
    "DatabaseReplaced",
    "DatabaseUnusable",
    "DatabaseUnwritable",
    "DiskFailed",
    "GgendError",
    "NoDescriptors",
    "NoRoom",
    "NotAllowed",
    "RefusedByDatabase",
    "SocketUnusable",
    "TookTooLong",
    "UsageMistake",
    "WalNotOurs",
    "WriterStopped",
]


class GgendError(Exception):
    """Root of the daemon's errors."""

    code = "error"
    exit_status = os.EX_SOFTWARE

    def __init__(self, message: str, *, hint: str = "") -> None:
        self.message, self.hint = message, hint
        super().__init__(message)


class UsageMistake(GgendError):
    """The command line is wrong."""

    code = "usage"
    exit_status = os.EX_USAGE


class TookTooLong(GgendError):
    """A query was stopped: it exceeded its timeout, or its result was too large."""

    code = "took_too_long"
    exit_status = os.EX_TEMPFAIL


class BadConfig(GgendError):
    """A configuration value is not allowed."""

    code = "bad_config"
    exit_status = os.EX_CONFIG


class AlreadyRunning(GgendError):
    """Another process holds the lock of the socket or of the database."""

    code = "already_running"
    exit_status = os.EX_TEMPFAIL


class NoDescriptors(GgendError):
    """The process or the host cannot open more files and sockets."""

    code = "no_descriptors"
    exit_status = os.EX_OSERR


class SocketUnusable(GgendError):
    """The socket cannot be listened on."""

    code = "socket_unusable"
    exit_status = os.EX_OSERR


class DatabaseUnusable(GgendError):
    """The database cannot be opened, or this version must not write to it."""

    code = "database_unusable"
    exit_status = os.EX_DATAERR


class RefusedByDatabase(GgendError):
    """A trigger or constraint that ggend did not create refuses a change. A retry fails too."""

    code = "refused_by_database"
    exit_status = os.EX_DATAERR


class DatabaseCorrupt(DatabaseUnusable):
    """The content of the database file is not what SQLite wrote."""

    code = "database_corrupt"

    @classmethod
    def of(cls, path: Path, why: str) -> DatabaseCorrupt:
        """Return the error for a damaged file, with the ways to repair it."""
        return cls(
            f"{path} is damaged: {why}",
            hint=f"the file was not changed; `ggend check {path}` shows the damage; restore a "
            "backup, or recover the rows with `.recover` of sqlite3; with `set_aside_corrupt = "
            "true` the daemon renames the file and creates a new one",
        )


class WalNotOurs(DatabaseUnusable):
    """SQLite would recover a WAL into a file that it does not belong to."""

    code = "wal_not_ours"

    @classmethod
    def of(cls, path: Path, why: str) -> WalNotOurs:
        """Return the error for a file whose WAL does not belong to it, with the choices."""
        return cls(
            f"{path} is not opened: {why}",
            hint="nothing was changed. `ggend restore --without-wal` keeps the file and sets its "
            "WAL aside; `ggend restore --with-wal` keeps both, if they were copied together; "
            "`ggend restore FILE` replaces both by a backup",
        )


class DatabaseReplaced(GgendError):
    """The open file is no longer at its path, so everything written to it would be lost."""

    code = "database_replaced"
    exit_status = os.EX_OSFILE


class DatabaseUnwritable(GgendError):
    """The running daemon is no longer allowed to write to its database."""

    code = "database_unwritable"
    exit_status = os.EX_NOPERM


class CommitUnknown(GgendError):
    """COMMIT failed, and it is unknown whether the transaction was committed."""

    code = "commit_unknown"
    #: sysexits.h: "when something you wanted to do doesn't work, but you don't know why".
    exit_status = os.EX_UNAVAILABLE


class DiskFailed(GgendError):
    """A disk operation failed, and nothing was committed."""

    code = "disk_failed"
    exit_status = os.EX_IOERR


class NoRoom(GgendError):
    """The disk is full; the requested change was not made."""

    code = "no_room"
    exit_status = os.EX_IOERR


class WriterStopped(GgendError):
    """SQLite rejected one of ggend's own bookkeeping rows: a defect, or a changed schema."""

    code = "writer_stopped"


class DaemonUnreachable(GgendError):
    """No daemon answers on the socket."""

    code = "daemon_unreachable"
    exit_status = os.EX_UNAVAILABLE


class NotAllowed(GgendError):
    """This user is not allowed to request the change."""

    code = "not_allowed"
    exit_status = os.EX_NOPERM
