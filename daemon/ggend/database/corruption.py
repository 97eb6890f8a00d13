"""Corruption: a damaged database file is checked in full, refused, or set aside.

Code that finds damage in a running daemon leaves `NAME.suspect` next to the file, and the next
start reads every page before it accepts an event: a damaged file is then refused at the start,
instead of failing every batch. A file that is set aside keeps its bytes and its WAL as
`NAME.corrupt-<UTC>`, where `.recover` finds both. Never repairs, and never renames a file that may
not be ggend's own.
"""

from __future__ import annotations

import contextlib
import sqlite3
from contextlib import closing
from pathlib import Path

from ggend.database.backup import Tell, watch
from ggend.database.files import companion, database_uri
from ggend.database.readonly import primary_code
from ggend.database.set_aside import name_aside, sync_directory
from ggend.errors import DatabaseCorrupt, DatabaseUnusable
from ggend_schema.migrations import APPLICATION_ID

__all__ = ["check_suspect", "is_ours", "is_sound", "mark_suspect", "set_aside"]

_MAGIC = b"SQLite format 3\0"

#: Where the header has the application id (https://www.sqlite.org/fileformat.html), 4 bytes.
_APPLICATION_ID_AT = 68

#: Bytes read to see whose file it is. The schema is written first, into the first 204 KiB.
_HEAD_BYTES = 1024 * 1024

#: What the pages of the schema say, also where the first page was overwritten.
_TELLING = (b"CREATE TABLE receipts", b"CREATE TABLE pipeline_metrics")


def mark_suspect(path: Path, why: str) -> None:
    """Have the next start look at every page. Where that cannot be written, it does not."""
    with contextlib.suppress(OSError):
        mark = companion(path, ".suspect")
        mark.touch(mode=0o600)
        mark.write_text(f"{why}\n", encoding="utf-8")


def check_suspect(path: Path, tell: Tell) -> None:
    """Read every page of a file that was marked. Raises DatabaseCorrupt; unmarks a sound one."""
    mark = companion(path, ".suspect")
    if not mark.exists():
        return
    with closing(sqlite3.connect(database_uri(path, "mode=ro"), uri=True)) as connection:
        watch(connection, "checking every page, because damage was found", tell)
        try:
            (found,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
        except sqlite3.DatabaseError as error:
            if primary_code(error) not in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                raise
            found = str(error)
    if found != "ok":
        raise DatabaseCorrupt.of(path, " ".join(str(found).split()))
    mark.unlink(missing_ok=True)


def is_sound(path: Path) -> bool:
    """Look once more: a read that fails can look like damage, and the next one may succeed."""
    try:
        with closing(sqlite3.connect(database_uri(path, "mode=ro"), uri=True)) as connection:
            return bool(connection.execute("PRAGMA integrity_check(1)").fetchone() == ("ok",))
    except sqlite3.Error as error:
        return primary_code(error) not in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def is_ours(path: Path) -> bool:
    """Whether what is left of a damaged file tells that it was a tier 2 database, or only zeros.

    A text, a picture or the database of another application is somebody's, whatever a
    configuration says. Only called while this process has no connection to the file.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return False
    if head.startswith(_MAGIC):
        application = int.from_bytes(head[_APPLICATION_ID_AT:][:4], "big")
        if application:
            return application == APPLICATION_ID
    has_schema = b"\0" in head and all(statement in head for statement in _TELLING)
    return has_schema or (bool(head) and not head.strip(b"\0"))


def set_aside(path: Path) -> Path:
    """Rename the file together with its WAL or journal; return its new name, which was free.

    At no moment is a part of it without a name, or the old name's WAL beside a new file: SQLite
    would delete it. Raises DatabaseUnusable.
    """
    try:
        aside = name_aside(path, "corrupt")
        for suffix in ("", "-wal", "-journal", "-shm", ".suspect"):
            companion(path, suffix).unlink(missing_ok=True)
        sync_directory(companion(path, "").parent)
    except OSError as error:
        raise DatabaseUnusable(
            f"{path} is damaged and cannot be set aside: {error.strerror}",
            hint="move it away together with its -wal, then start again",
        ) from error
    return aside
