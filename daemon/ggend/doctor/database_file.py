"""Database file: what can be said of a database without reading its pages one by one.

Where a daemon has it open, it is read as every query reads it. Where none has, SQLite is told that
the file does not change (`immutable=1`): so it makes no `-shm` and recovers no WAL.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

from msgspec import Struct

from ggend.database.files import companion, database_uri, wal_size
from ggend.database.readonly import open_readonly
from ggend.database.wal_record import check_wal
from ggend.doctor.conversation import Answer
from ggend.doctor.diagnosis import Diagnosis, failed, ok, warning
from ggend.doctor.installation import Installation
from ggend.doctor.locks import is_unknown, lock_holder
from ggend.doctor.rights import closed_directory, kind_of, status_of, user_name
from ggend.errors import GgendError
from ggend_schema.migrations import schema_version

__all__ = ["Contents", "look_at_database", "read_contents"]

_SUBJECT = "database"


class Contents(Struct, frozen=True, kw_only=True):
    """What was read of a database."""

    #: The schema version that the file says it has.
    version: int = 0
    #: When its newest receipt was stored, as text; None: it has none.
    newest: str | None = None
    #: Rows in a WAL that no daemon has open; they were not read.
    unread_wal_bytes: int = 0
    #: Why it could not be read.
    error: GgendError | None = None


def read_contents(path: Path, answer: Answer) -> Contents | None:
    """Read what is quickly read; None: there is no file with content. Never raises."""
    found = status_of(path)
    if found is None or not stat.S_ISREG(found.st_mode) or not found.st_size:
        return None
    try:
        return _read(path, answer)
    except GgendError as error:
        return Contents(error=error)
    except sqlite3.Error as error:
        return Contents(error=_unreadable(path, error))
    except OSError as error:
        return Contents(error=_Unreadable(f"{path} cannot be read: {error.strerror}"))


def look_at_database(
    installation: Installation, answer: Answer, path: Path, contents: Contents | None
) -> Diagnosis:
    """Say whether the database exists, may be read, and has the schema of this version."""
    named = f"{path} ({_why(installation, answer, path)})"
    found = status_of(path)
    if found is None:
        return _absent(path, named, answer)
    if not stat.S_ISREG(found.st_mode):
        hint = "name the SQLite file with GGEND_DATABASE or `database` in the configuration file"
        return failed(_SUBJECT, f"{named} is {kind_of(found)}, not a file", hint, os.EX_DATAERR)
    if not os.access(path, os.R_OK, effective_ids=True):
        owner = user_name(found.st_uid)
        return _not_for_this_user(answer, f"{named} belongs to {owner}: {_NOT_READ}", owner)
    if contents is None:
        hint = f"`ggend serve` and `ggend init {path}` make a database of it"
        return warning(_SUBJECT, f"{named} is empty", hint)
    if contents.error is not None:
        hint = contents.error.hint or f"`ggend check {path}` says more"
        return failed(_SUBJECT, contents.error.message, hint, contents.error.exit_status)
    journal = companion(path, "-journal")
    if (left := status_of(journal)) is not None and left.st_size and not _is_served(path, answer):
        return warning(
            _SUBJECT,
            f"{named}: a program was killed while it wrote; {journal.name} has its old pages",
            f"keep both files together; `ggend init {path}` lets SQLite undo that transaction",
        )
    return _judge(installation, path, named, found.st_size, contents)


def _judge(
    installation: Installation, path: Path, named: str, size: int, contents: Contents
) -> Diagnosis:
    detail = f"{named}, {_size(size)}, schema version {contents.version}"
    current, wal = schema_version(), _wal_size(path)
    if contents.version > current:
        return failed(
            _SUBJECT,
            f"{detail}; this ggend knows versions up to {current}",
            "a newer ggend has upgraded the file: install that version",
            os.EX_DATAERR,
        )
    if contents.unread_wal_bytes:
        return warning(
            _SUBJECT,
            f"{detail}, and {_size(contents.unread_wal_bytes)} in the WAL that a daemon left",
            "the next start takes them in; never remove the -wal file",
        )
    if contents.version < current:
        return warning(
            _SUBJECT,
            f"{detail}; this ggend writes version {current}",
            "restart the daemon: it upgrades the file after a backup (unless --no-upgrade)",
        )
    if wal >= installation.wal_alarm_bytes:
        return warning(
            _SUBJECT,
            f"{detail}, and {_size(wal)} in its WAL",
            "a reader keeps it from shrinking: `ggend status` names it as wal_pinned_by",
        )
    aside = _set_aside(path)
    if aside:
        return warning(
            _SUBJECT,
            f"{detail}; a damaged file was set aside: {aside[-1]}",
            f"`ggend check {aside[-1]}` shows the damage; recover its rows, then move it away",
        )
    return ok(_SUBJECT, detail)


def _absent(path: Path, named: str, answer: Answer) -> Diagnosis:
    closed = closed_directory(path)
    if closed is not None:
        status = status_of(closed)
        owner = "its owner" if status is None else user_name(status.st_uid)
        return _not_for_this_user(answer, f"{named}: this user may not enter {closed}", owner)
    if os.path.islink(path):  # noqa: PTH114 - never raises
        hint = "restore its target, or remove the link"
        return failed(_SUBJECT, f"{named} is a symbolic link to nothing", hint, os.EX_DATAERR)
    if _is_served(path, answer):
        return failed(
            _SUBJECT,
            f"{path} is gone, and the daemon still runs",
            "stop the daemon and put the file back; what it stores now is lost when it ends",
            os.EX_DATAERR,
        )
    wal = companion(path, "-wal")
    if (left := status_of(wal)) is not None and left.st_size:
        return failed(
            _SUBJECT,
            f"{named} is gone, and its WAL is still there",
            "put the file back beside it, or restore a backup: `ggend restore FILE`",
            os.EX_DATAERR,
        )
    return warning(_SUBJECT, f"{named} does not exist yet", "the first `ggend serve` makes it")


def _not_for_this_user(answer: Answer, detail: str, owner: str) -> Diagnosis:
    """Programs that emit need only the socket."""
    hint = f"commands that read need it: run them as {owner}, or ask for access"
    if answer.status is not None:
        return warning(_SUBJECT, detail, hint)
    return failed(_SUBJECT, detail, hint, os.EX_NOPERM)


def _check_regular(path: Path) -> None:
    """Refuse what is read beside a database and would hold up who opens it."""
    for end in ("-wal", ".wal-record"):
        found = status_of(beside := companion(path, end))
        if found is not None and not stat.S_ISREG(found.st_mode):
            raise _Unreadable(f"{beside} is {kind_of(found)}, not a file", hint="move it away")


def _read(path: Path, answer: Answer) -> Contents:
    _check_regular(path)
    holder = lock_holder(path)
    is_open = holder is not None or _is_served(path, answer) or is_unknown(path)
    if is_open and os.path.exists(companion(path, "-shm")):  # noqa: PTH110 - never raises
        with closing(open_readonly(path)) as connection:
            return _contents(connection)
    with contextlib.suppress(OSError):  # this user may not look at the record
        check_wal(path, only_recorded=True)
    unread = _wal_size(path)
    with closing(sqlite3.connect(database_uri(path, "immutable=1"), uri=True)) as connection:
        tables = connection.execute(_TABLES).fetchone()[0]
        if not tables and not unread:
            raise _Unreadable(
                f"{path} is an SQLite file, but not a tier 2 database: it has no table `receipts`",
                hint="name the right file with GGEND_DATABASE",
            )
        if not tables:
            return Contents(unread_wal_bytes=unread)
        found = _contents(connection)
    return Contents(version=found.version, newest=found.newest, unread_wal_bytes=unread)


def _contents(connection: sqlite3.Connection) -> Contents:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    newest = connection.execute(_NEWEST).fetchone()
    # Version 1.0.0 did not number its schema.
    return Contents(version=version or 1, newest=None if newest is None else str(newest[0]))


def _unreadable(path: Path, error: sqlite3.Error) -> GgendError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_NOTADB:
        return _Unreadable(
            f"{path} is not an SQLite database", hint="name the right file with GGEND_DATABASE"
        )
    if code == sqlite3.SQLITE_CORRUPT:
        return _Unreadable(
            f"{path} is damaged: {error}",
            hint=f"keep the file; `ggend check {path}` shows the damage; restore a backup with "
            "`ggend restore FILE`",
        )
    return _Unreadable(f"{path} cannot be read: {error}", hint=f"`ggend check {path}` says more")


class _Unreadable(GgendError):
    """The database cannot be read."""

    exit_status = os.EX_DATAERR


def _why(installation: Installation, answer: Answer, path: Path) -> str:
    if path == installation.database:
        return installation.database_source
    return "the daemon's" if path == answer.database else "default"


def _is_served(path: Path, answer: Answer) -> bool:
    """Whether it is the database of the daemon that answers."""
    theirs = answer.database
    return theirs is not None and os.path.realpath(path) == os.path.realpath(theirs)


def _wal_size(path: Path) -> int:
    try:
        return wal_size(path)
    except OSError:
        return 0


def _set_aside(path: Path) -> list[Path]:
    """Return the damaged files that `set_aside_corrupt` has renamed, the oldest first."""
    try:
        names = sorted(os.listdir(path.parent))  # noqa: PTH208 - one call, no pattern in the name
    except OSError:
        return []
    ends = ("-wal", "-shm", "-journal", ".lock")
    prefix = f"{path.name}.corrupt-"
    return [
        path.with_name(name)
        for name in names
        if name.startswith(prefix) and not name.endswith(ends)
    ]


def _size(count: int) -> str:
    return f"{count / 2**20:,.1f} MiB" if count >= 2**20 else f"{count / 2**10:,.0f} KiB"


_NOT_READ = "this user may not read it"

_TABLES = "SELECT COUNT(*) FROM sqlite_schema WHERE type = 'table' AND name = 'receipts'"
_NEWEST = "SELECT created_at FROM receipts ORDER BY id DESC LIMIT 1"
