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
    """What was typed cannot be done."""

    code = "usage"
    exit_status = os.EX_USAGE


class TookTooLong(GgendError):
    """A query was ended: it ran longer than it may, or its result is larger than it may be."""

    code = "took_too_long"
    exit_status = os.EX_TEMPFAIL


class BadConfig(GgendError):
    """A configuration value is not what is allowed there."""

    code = "bad_config"
    exit_status = os.EX_CONFIG


class AlreadyRunning(GgendError):
    """Another process holds the lock of the socket or of the database."""

    code = "already_running"
    exit_status = os.EX_TEMPFAIL


class NoDescriptors(GgendError):
    """The process, or the host, may have no more files and sockets open."""

    code = "no_descriptors"
    exit_status = os.EX_OSERR


class SocketUnusable(GgendError):
    """The socket cannot be listened on."""

    code = "socket_unusable"
    exit_status = os.EX_OSERR


class DatabaseUnusable(GgendError):
    """The database cannot be opened, or is not one that this version may write to."""

    code = "database_unusable"
    exit_status = os.EX_DATAERR


class RefusedByDatabase(GgendError):
    """A trigger or a constraint that somebody added refuses a change; it would again."""

    code = "refused_by_database"
    exit_status = os.EX_DATAERR


class DatabaseCorrupt(DatabaseUnusable):
    """What the database file holds is not what SQLite wrote there."""

    code = "database_corrupt"

    @classmethod
    def of(cls, path: Path, why: str) -> DatabaseCorrupt:
        """Say of a file what is wrong with it, and what helps."""
        return cls(
            f"{path} is damaged: {why}",
            hint=f"it was not touched: `ggend check {path}` says what is broken; restore a backup, "
            "or read it with `.recover` of sqlite3; with `set_aside_corrupt = true` it is renamed "
            "and a new one begun",
        )


class WalNotOurs(DatabaseUnusable):
    """SQLite would recover a WAL into a file that it was not made for."""

    code = "wal_not_ours"

    @classmethod
    def of(cls, path: Path, why: str) -> WalNotOurs:
        """Say of a file what is wrong with its WAL, and which choices there are."""
        return cls(
            f"{path} is not opened: {why}",
            hint="nothing was touched. `ggend restore --without-wal` keeps the file and sets its "
            "WAL aside; `ggend restore --with-wal` takes both, if they were copied together; "
            "`ggend restore FILE` puts a backup in their place",
        )


class DatabaseReplaced(GgendError):
    """The path names another file than the open one, or none: what is written would be lost."""

    code = "database_replaced"
    exit_status = os.EX_OSFILE


class DatabaseUnwritable(GgendError):
    """The running daemon may not write to its database any more."""

    code = "database_unwritable"
    exit_status = os.EX_NOPERM


class CommitUnknown(GgendError):
    """COMMIT failed in a way that leaves open whether it happened."""

    code = "commit_unknown"
    #: sysexits.h: "when something you wanted to do doesn't work, but you don't know why".
    exit_status = os.EX_UNAVAILABLE


class DiskFailed(GgendError):
    """The disk did not do what it was told, and nothing was committed."""

    code = "disk_failed"
    exit_status = os.EX_IOERR


class NoRoom(GgendError):
    """The disk is full; nothing of what was asked for was changed."""

    code = "no_room"
    exit_status = os.EX_IOERR


class WriterStopped(GgendError):
    """The database refused what it must not refuse: a defect in ggend, or somebody's new schema."""

    code = "writer_stopped"


class DaemonUnreachable(GgendError):
    """No daemon answers on the socket."""

    code = "daemon_unreachable"
    exit_status = os.EX_UNAVAILABLE


class NotAllowed(GgendError):
    """This user may not have that done."""

    code = "not_allowed"
    exit_status = os.EX_NOPERM
