"""SQLite errors: what the daemon does about each result code. The writer asks nobody else.

Retry: nothing is committed for certain, and the same batch may succeed later; it is kept. Refuse:
one row is at fault; the batch is settled again row by row, and that row goes to quarantine.
Otherwise the process ends with a named error, nothing of the batch was acknowledged, and clients
send it again. Never opens, reads or writes anything.

SQLite rolls back by itself whatever COMMIT refuses (but for BUSY and a constraint, which leave the
transaction open). Whether a rolled back transaction is in the WAL all the same depends on the last
frame, which commits it: if writing it had no room, it is not there; if it was there when something
later failed (the sync, the growing of the `-shm`), it is found by the next recovery.

After a sync has failed nothing is tried again in the same process: the kernel may have dropped the
pages that it could not write, and the next sync says that all is well.
"""

from __future__ import annotations

import sqlite3
from typing import Final, Literal, TypeAlias

from msgspec import Struct

from ggend.errors import (
    CommitUnknown,
    DatabaseCorrupt,
    DatabaseReplaced,
    DatabaseUnwritable,
    DiskFailed,
    GgendError,
    WriterStopped,
)

__all__ = ["OTHER", "TABLE", "DiskFull", "Response", "TryAgain", "judge", "response_to"]

#: What is done: tried again, refused row by row, or ended with this error.
Action: TypeAlias = Literal["retry", "refuse"] | type[GgendError]


class TryAgain(Exception):
    """Nothing was committed, and the same may succeed later."""


class DiskFull(TryAgain):
    """There is no room on the disk."""


class Response(Struct, frozen=True):
    """What is done about a result code, by the statement that it came from."""

    #: From BEGIN, from any statement before COMMIT, and from a checkpoint.
    statement: Action
    commit: Action
    why: str


#: Every code that is not in the table, and every error of the binding that has none.
OTHER: Final = Response(
    WriterStopped, CommitUnknown, "not expected: ends, so that somebody looks at it"
)

#: By name; an extended code that is not here is answered as its primary code is.
TABLE: Final[dict[str, Response]] = {
    "SQLITE_BUSY": Response(
        "retry", "retry", "another program writes; at COMMIT the transaction is still open"
    ),
    "SQLITE_LOCKED": Response("retry", "retry", "a conflict in the same process, as with BUSY"),
    "SQLITE_PROTOCOL": Response(
        "retry", CommitUnknown, "lost the race for a lock of the WAL several times"
    ),
    "SQLITE_SCHEMA": Response("retry", CommitUnknown, "another program changes the schema"),
    "SQLITE_INTERRUPT": Response("retry", CommitUnknown, "rolled back because it was interrupted"),
    "SQLITE_FULL": Response(
        "retry", "retry", "no room; the frame that commits was not written, also at COMMIT"
    ),
    "SQLITE_NOMEM": Response(
        "retry", CommitUnknown, "at COMMIT also after the frames are in the WAL, for its index"
    ),
    "SQLITE_IOERR": Response(DiskFailed, CommitUnknown, "reading, writing, locking failed"),
    "SQLITE_IOERR_NOMEM": Response("retry", CommitUnknown, "as NOMEM"),
    "SQLITE_IOERR_SHMSIZE": Response(
        "retry", CommitUnknown, "no room for the `-shm`; at COMMIT the frames are in the WAL"
    ),
    "SQLITE_IOERR_SHMMAP": Response("retry", CommitUnknown, "no memory for the `-shm`, likewise"),
    "SQLITE_IOERR_WRITE": Response(
        DiskFailed,
        CommitUnknown,
        "a write failed; a full disk is FULL, an exceeded quota is this",
    ),
    "SQLITE_IOERR_FSYNC": Response(
        DiskFailed, CommitUnknown, "a repeated sync may succeed although data was lost"
    ),
    "SQLITE_IOERR_DIR_FSYNC": Response(DiskFailed, CommitUnknown, "likewise"),
    "SQLITE_IOERR_DATA": Response(
        DatabaseCorrupt, DatabaseCorrupt, "a page does not have its checksum"
    ),
    "SQLITE_CORRUPT": Response(
        DatabaseCorrupt, DatabaseCorrupt, "pages that contradict each other; nothing mends them"
    ),
    "SQLITE_NOTADB": Response(
        DatabaseCorrupt, DatabaseCorrupt, "the header was overwritten while it ran"
    ),
    "SQLITE_READONLY": Response(
        DatabaseUnwritable, DatabaseUnwritable, "opened without permission to write"
    ),
    "SQLITE_READONLY_DBMOVED": Response(
        DatabaseReplaced, DatabaseReplaced, "the file was renamed or removed; so says stat(2) too"
    ),
    "SQLITE_PERM": Response(DatabaseUnwritable, DatabaseUnwritable, "locking is not permitted"),
    "SQLITE_CANTOPEN": Response(
        "retry", CommitUnknown, "no descriptor left, or the directory is away for a moment"
    ),
    "SQLITE_CANTOPEN_ISDIR": Response(
        DatabaseUnwritable, CommitUnknown, "something else is where the `-wal` was"
    ),
    "SQLITE_CANTOPEN_SYMLINK": Response(DatabaseUnwritable, CommitUnknown, "likewise"),
    "SQLITE_CONSTRAINT": Response("refuse", "refuse", "one row breaks a CHECK, a key, a NOT NULL"),
    "SQLITE_MISMATCH": Response("refuse", "refuse", "one value has a type that no rowid can have"),
    "SQLITE_TOOBIG": Response("refuse", "refuse", "one value is over SQLite's limit of length"),
    "SQLITE_MISUSE": Response("refuse", "refuse", "one value cannot be bound"),
    "SQLITE_RANGE": Response("refuse", "refuse", "likewise"),
    "SQLITE_ERROR": Response(
        WriterStopped, WriterStopped, "a table is gone or has other columns; nothing is committed"
    ),
    "SQLITE_AUTH": Response(WriterStopped, CommitUnknown, "nobody sets an authorizer here"),
}

#: What a person does, by how it ended.
_HINTS: Final[dict[type[GgendError], str]] = {
    CommitUnknown: "no event of the batch was acknowledged; clients send it again, and committed "
    "events are not stored twice",
    DatabaseCorrupt: "the next start checks every page; `ggend check` shows the damage: then "
    "restore a backup",
    DatabaseReplaced: "clients resend the events that were not acknowledged; put the file back, or "
    "start with the new one",
    DatabaseUnwritable: "check that the file and its directory may be written by this user",
    DiskFailed: "no event of the batch was acknowledged; clients send it again; check the "
    "kernel's log and the disk",
    WriterStopped: "no event of the batch was acknowledged; `ggend check` shows whether the schema "
    "is correct",
}

_BY_CODE: Final = {
    getattr(sqlite3, name): response for name, response in TABLE.items() if hasattr(sqlite3, name)
}


def response_to(code: int) -> Response:
    """Look up an extended result code, then its primary one."""
    return _BY_CODE.get(code) or _BY_CODE.get(code & 0xFF) or OTHER


def judge(error: BaseException, *, committing: bool) -> GgendError | TryAgain | None:
    """Return what to raise instead of an error, None for one that is not the database's.

    A row that is refused is not the database's trouble either.
    """
    code = _code(error)
    # Cleaning up after an error that took the transaction back already (`no such savepoint`).
    cause = error.__context__
    if code == sqlite3.SQLITE_ERROR and cause is not None and _code(cause) is not None:
        return judge(cause, committing=committing)
    if code is None:
        return None
    response = response_to(code)
    action = response.commit if committing else response.statement
    if action == "refuse":
        return None
    said = f"{str(error) or 'out of memory'} ({_name(error)})"
    if action == "retry":
        return DiskFull(said) if code & 0xFF == sqlite3.SQLITE_FULL else TryAgain(said)
    begin = "COMMIT failed" if committing else "the database cannot be written"
    return action(f"{begin}: {said}", hint=_HINTS[action])


def _code(error: BaseException) -> int | None:
    """SQLite's code; MemoryError is what the binding makes of NOMEM. None: not SQLite's error."""
    if isinstance(error, MemoryError):
        return sqlite3.SQLITE_NOMEM
    code = getattr(error, "sqlite_errorcode", None)
    if code is not None:
        return int(code)
    # Made by the binding itself: what it says of values and parameters is about one row.
    if isinstance(error, sqlite3.OperationalError | sqlite3.InternalError):
        return 0
    return 0 if type(error) is sqlite3.DatabaseError else None


def _name(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return "SQLITE_NOMEM"
    return str(getattr(error, "sqlite_errorname", "no result code"))
