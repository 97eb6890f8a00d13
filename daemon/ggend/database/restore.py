"""Restore: replaces a database by a copy, or decides whether its WAL belongs to it.

The old file is set aside with its WAL, never deleted. The copy is verified before anything is
changed. If the process is killed, either the old files or the new file have the old name.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from contextlib import closing
from pathlib import Path

from msgspec import Struct

from ggend.database.backup import Tell, copy_pages, damage
from ggend.database.files import companion, database_uri, give_to_owner, wal_size
from ggend.database.migrate import State, recognise
from ggend.database.readonly import open_readonly
from ggend.database.set_aside import name_aside, sync_directory
from ggend.database.wal_keeper import WalKeeper
from ggend.errors import DatabaseCorrupt, DatabaseUnusable

__all__ = ["Restored", "keep_with_wal", "keep_without_wal", "restore_file"]

_WORD = "before-restore"


class Restored(Struct, frozen=True):
    """The result of a restore."""

    database: str
    #: The new path of the old file; None: there was none.
    aside: Path | None
    state: State


def restore_file(path: Path, copy: Path, tell: Tell) -> Restored:
    """Replace this database, whose lock is held, by a copy of another file.

    If it raises DatabaseUnusable, nothing was changed.
    """
    if path.exists() and copy.exists() and path.samefile(copy):
        raise DatabaseUnusable(
            f"{copy} is the database itself",
            hint="give the path of a backup; --with-wal and --without-wal keep the file",
        )
    partial = companion(path, ".restore.partial")
    try:
        with closing(open_readonly(copy, is_copy=True)) as source:
            copy_pages(source, partial, tell)
        _check_alone(partial, tell)
        state = recognise(partial)
    except BaseException as error:
        _remove_partial(partial)
        if isinstance(error, sqlite3.Error | OSError):
            raise DatabaseUnusable(
                f"{copy} cannot be copied: {getattr(error, 'strerror', None) or error}",
                hint="nothing was changed; free disk space and try again",
            ) from error
        raise
    try:
        _be_like(path, partial)
        _remove_companions(partial)
        aside = _set_aside(path) if _is_any(path) else None
        partial.rename(companion(path, ""))
        sync_directory(companion(path, "").parent)
        _remove_companions(path)
        _begin_anew(path)
    except OSError as error:
        raise _stopped(path, error) from error
    return Restored(str(path), aside, state)


def keep_without_wal(path: Path, tell: Tell) -> Restored:
    """Keep the file as it is and set its WAL aside. The lock is held.

    Raises DatabaseUnusable, and then has changed nothing.
    """
    _check_alone(path, tell)
    try:
        aside = name_aside(path, _WORD, ["-wal"]) if wal_size(path) else None
        _remove_companions(path)
        _begin_anew(path)
        return Restored(str(path), aside, recognise(path))
    except OSError as error:
        raise _stopped(path, error) from error


def keep_with_wal(path: Path, tell: Tell) -> Restored:
    """Take the file and the WAL beside it for what belongs together. The lock is held.

    Raises DatabaseCorrupt where both together are no sound database.
    """
    if not path.stat().st_size:  # SQLite would delete the WAL, even to read
        raise DatabaseCorrupt(
            f"{path} is empty",
            hint="nothing was changed; `ggend restore FILE` replaces it by a backup",
        )
    try:
        with closing(sqlite3.connect(database_uri(path, "mode=ro"), uri=True)) as connection:
            problem = damage(
                connection, "checking the file with its WAL", tell, check="integrity_check"
            )
        if problem is not None:
            raise DatabaseCorrupt(
                f"{path} and its WAL do not belong together: {problem}",
                hint="nothing was changed; `--without-wal` keeps only the file, `ggend restore "
                "FILE` replaces it by a backup",
            )
        _begin_anew(path)
        return Restored(str(path), None, recognise(path))
    except sqlite3.Error as error:
        raise DatabaseUnusable(
            f"{path} cannot be read with its WAL: {error}", hint="nothing was changed"
        ) from error
    except OSError as error:
        raise _stopped(path, error) from error


def _check_alone(path: Path, tell: Tell) -> None:
    try:
        with closing(sqlite3.connect(database_uri(path, "immutable=1"), uri=True)) as connection:
            problem = damage(connection, "checking the file", tell, check="integrity_check")
            if problem is None and connection.execute(_RECEIPTS).fetchone() is None:
                problem = "it has no table `receipts`"
    except sqlite3.Error as error:
        problem = str(error)
    if problem is not None:
        raise DatabaseCorrupt(
            f"{path} without its WAL is damaged: {problem}", hint="nothing was changed"
        )


_RECEIPTS = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'receipts'"


def _remove_partial(partial: Path) -> None:
    with contextlib.suppress(OSError):
        partial.unlink(missing_ok=True)
        _remove_companions(partial)


def _be_like(path: Path, partial: Path) -> None:
    """Give the copy the owner and the mode of the file whose place it takes."""
    descriptor = os.open(partial, os.O_RDONLY | os.O_CLOEXEC)
    try:
        give_to_owner(descriptor, path)
        if path.exists():
            os.fchmod(descriptor, path.stat().st_mode & 0o777)
    finally:
        os.close(descriptor)


def _is_any(path: Path) -> bool:
    return any(companion(path, suffix).exists() for suffix in ("", "-wal"))


def _set_aside(path: Path) -> Path:
    if not path.exists():  # where only its WAL is left
        companion(path, "").touch(mode=0o600)
    return name_aside(path, _WORD)


def _remove_companions(path: Path) -> None:
    """Remove what belongs to the former file; what it holds has another name already."""
    for suffix in ("-wal", "-journal", "-shm", ".suspect"):
        companion(path, suffix).unlink(missing_ok=True)
    sync_directory(companion(path, "").parent)


def _begin_anew(path: Path) -> None:
    keeper = WalKeeper(path)
    try:
        keeper.expect_changes()
    finally:
        keeper.close()


def _stopped(path: Path, error: OSError) -> DatabaseUnusable:
    return DatabaseUnusable(
        f"{path} cannot be restored: {error.strerror} ({os.fspath(error.filename or path)})",
        hint="nothing was deleted; free disk space or give this user write permission, then run "
        "it again",
    )
