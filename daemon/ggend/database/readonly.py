"""Readonly: opens a tier 2 database for reading, beside a running daemon or without one.

Never writes, never checkpoints, and never opens the file, its `-wal` or its `-shm` outside SQLite.

While a daemon runs, and wherever the directory is writable, `mode=ro` is enough. Where SQLite
cannot make the `-shm` it needs, `immutable=1` reads the file alone; that is right only while
nobody writes (the lock beside the file is free) and no committed row is still in the `-wal`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from pathlib import Path

from ggend.database.files import companion, database_uri
from ggend.database.lock import lock_path
from ggend.database.wal_record import check_wal
from ggend.errors import DatabaseUnusable, NoRoom

__all__ = [
    "STEPS_BETWEEN_LOOKS",
    "open_readonly",
    "primary_code",
]

#: How long a reader waits for a lock. Readers of a WAL file wait for nobody; a file of version
#: 1.0.0 may still be in rollback mode, where a writer's commit locks them out for a moment.
_BUSY_SECONDS = 5.0

#: SQLite instructions between two looks at Ctrl-C, and at the clock: a few milliseconds.
STEPS_BETWEEN_LOOKS = 100_000

#: Bytes of one value or row that a query may make: eight times the largest that is stored, a
#: rejected frame. SQLite's own limit is a gigabyte, made in one go by `zeroblob(1000000000)`.
_VALUE_BYTES = 32 * 1024 * 1024

#: What would write elsewhere, which `mode=ro` does not prevent. (A list of what is allowed
#: instead would have to allow INSERT: the constructor of json_each asks for it.)
_WRITING_ELSEWHERE = frozenset({sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH})

#: Pragmas that only look.
_LOOKING = frozenset(
    {
        "application_id",
        "collation_list",
        "compile_options",
        "database_list",
        "encoding",
        "foreign_key_check",
        "foreign_key_list",
        "function_list",
        "index_info",
        "index_list",
        "index_xinfo",
        "integrity_check",
        "journal_mode",
        "page_count",
        "page_size",
        "quick_check",
        "schema_version",
        "table_info",
        "table_list",
        "table_xinfo",
        "user_version",
    }
)
#: Of these, the ones that change something when they are given a value.
_LOOKING_WITHOUT_VALUE = frozenset(
    {"application_id", "encoding", "journal_mode", "page_size", "schema_version", "user_version"}
)


def open_readonly(path: Path, *, is_copy: bool = False) -> sqlite3.Connection:
    """Open a tier 2 database for reading. Raises DatabaseUnusable.

    A WAL beside it that was made for another file is refused; beside a copy that nobody writes to
    it is not asked for, and where there is none, none is made.
    """
    _check_is_file(path)
    if not is_copy:
        _check_wal(path)
    is_alone = is_copy and not any(companion(path, end).exists() for end in ("-wal", "-journal"))
    try:
        connection = _connect(path, "immutable=1" if is_alone else "mode=ro")
    except sqlite3.DatabaseError as error:
        if primary_code(error) not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
            raise _unusable(path, error) from error
        _check_nobody_writes(path, error)
        try:
            connection = _connect(path, "immutable=1")
        except sqlite3.DatabaseError as second:
            raise _unusable(path, second) from second
    return connection


def primary_code(error: BaseException) -> int:
    """Return SQLite's primary result code of an error, 0 where it has none."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        database_uri(path, mode), uri=True, isolation_level=None, timeout=_BUSY_SECONDS
    )
    try:
        connection.text_factory = _text
        connection.execute("PRAGMA query_only = ON")
        # Nothing is read before the first statement: this one finds out what the file is.
        found = connection.execute(
            "SELECT COUNT(*) FROM sqlite_schema WHERE type = 'table' AND name = 'receipts'"
        ).fetchone()
    except BaseException:
        connection.close()
        raise
    if found != (1,):
        connection.close()
        raise DatabaseUnusable(
            f"{path} is an SQLite file, but not a tier 2 database: it has no table `receipts`",
            hint=f"create one with `ggend init {path}`, or give another with --database",
        )
    connection.set_authorizer(_authorize)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _VALUE_BYTES)
    # Python notices Ctrl-C only between two of its own instructions; this gives it some.
    connection.set_progress_handler(lambda: 0, STEPS_BETWEEN_LOOKS)
    return connection


def _text(stored: bytes) -> str:
    """Show what is not UTF-8 (other programs may have written it) instead of failing."""
    return stored.decode(errors="backslashreplace")


def _authorize(action: int, name: str | None, value: str | None, *_rest: str | None) -> int:
    if action == sqlite3.SQLITE_PRAGMA:
        is_look = name in _LOOKING and (value is None or name not in _LOOKING_WITHOUT_VALUE)
        return sqlite3.SQLITE_OK if is_look else sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_DENY if action in _WRITING_ELSEWHERE else sqlite3.SQLITE_OK


def _check_is_file(path: Path) -> None:
    try:
        if path.is_file():
            if path.stat().st_size:
                return
            # SQLite would delete a WAL beside it, even to read.
            raise DatabaseUnusable(
                f"{path} is empty, so it is not a tier 2 database",
                hint=f"create one with `ggend init {path}`, or give another with --database",
            )
        is_there = path.exists()
    except PermissionError as error:
        raise _no_permission(path) from error
    except OSError as error:  # a name that is too long, a loop of links
        raise DatabaseUnusable(
            f"{path} cannot be accessed: {error.strerror}",
            hint="give the path of the SQLite file with --database",
        ) from error
    if is_there:
        raise DatabaseUnusable(
            f"{path} is not a file", hint="give the path of the SQLite file with --database"
        )
    raise DatabaseUnusable(
        f"there is no database at {path}",
        hint="`ggend serve` and `ggend init` create one; check the path",
    )


def _check_wal(path: Path) -> None:
    """Raise WalNotOurs, unless a daemon has the file: it has looked, and changes it."""
    try:
        with contextlib.suppress(FileNotFoundError), lock_path(path).open("rb") as held:
            fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
            check_wal(path, only_recorded=True)
    except OSError:
        return  # a daemon holds it, or this user may not look


def _check_nobody_writes(path: Path, why: sqlite3.DatabaseError) -> None:
    """Refuse `immutable=1` where it would read a file that changes, or miss committed rows."""
    if not os.access(path, os.R_OK):
        raise _no_permission(path) from why
    lock = lock_path(path)
    if lock.exists() and not os.access(lock, os.R_OK):
        raise DatabaseUnusable(
            f"this user may not read {lock}, so ggend cannot tell whether a daemon runs ({why})",
            hint="run as the daemon's user, or as a user that may write to its directory",
        ) from why
    if _is_locked(lock):
        raise DatabaseUnusable(
            f"{path} is in use by a daemon, and this user may not share it ({why})",
            hint="run as the daemon's user, or as a user that may write to its directory",
        ) from why
    journal = companion(path, "-journal")
    if journal.exists() and journal.stat().st_size:
        raise DatabaseUnusable(
            f"a program was killed while it wrote to {path}, and its transaction must be rolled "
            f"back first ({why})",
            hint="SQLite rolls it back when the file is next opened for writing: run `ggend init`",
        ) from why
    wal = companion(path, "-wal")
    if wal.exists() and wal.stat().st_size:
        raise DatabaseUnusable(
            f"{wal} holds committed rows that cannot be read from a directory that this user "
            f"may not write to ({why})",
            hint="start the daemon, or read the database once as its owner: that moves the rows "
            "into the file",
        ) from why


def _is_locked(lock: Path) -> bool:
    try:
        with lock.open("rb") as held:
            fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:  # held by a daemon, or not to be looked at: the same answer
        return True
    return False


def _no_permission(path: Path) -> DatabaseUnusable:
    return DatabaseUnusable(
        f"this user may not read {path}",
        hint="run as the daemon's user, or ask for membership in the group of the file",
    )


def _unusable(path: Path, error: sqlite3.DatabaseError) -> DatabaseUnusable | NoRoom:
    if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_IOERR_SHMSIZE:
        return NoRoom(
            f"the disk of {path} is full: without a daemon, reading it needs 32 KiB in "
            f"{path.name}-shm",
            hint="free some MiB on that disk and run it again",
        )
    match primary_code(error):
        case sqlite3.SQLITE_NOTADB:
            return DatabaseUnusable(
                f"{path} is not an SQLite database", hint="give the right file with --database"
            )
        case sqlite3.SQLITE_CORRUPT:
            return DatabaseUnusable(
                f"{path} is damaged: {error}", hint="restore a backup; keep the damaged file"
            )
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return DatabaseUnusable(
                f"{path} is locked by another program: {error}", hint="try again in a moment"
            )
        case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM | sqlite3.SQLITE_AUTH:
            return _no_permission(path)
        case _:
            return DatabaseUnusable(f"{path} cannot be read: {error}")
