"""Files: where SQLite keeps what belongs to a database, and how it is told a path."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from urllib.parse import quote_from_bytes

from ggend.errors import DatabaseUnusable

__all__ = ["companion", "database_uri", "give_to_owner", "is_there", "wal_size"]


def database_uri(path: Path, mode: str) -> str:
    """Return the SQLite URI of a path, which may hold any bytes; `mode` is such as `mode=ro`."""
    # Path.as_uri would do, but refuses relative paths; `?`, `#` and `%` in a name must be escaped.
    return f"file:{quote_from_bytes(bytes(path.absolute()))}?{mode}"


def companion(path: Path, suffix: str) -> Path:
    """Return where SQLite keeps the `-wal` or `-journal`: beside the file that a link names."""
    real = Path(os.path.realpath(path))
    return real.with_name(real.name + suffix)


def is_there(path: Path) -> bool:
    """Whether something is at a path. Raises DatabaseUnusable where that cannot be known."""
    try:
        return path.exists()
    except OSError as error:  # a closed directory, a name that is too long
        raise DatabaseUnusable(
            f"{path} cannot be accessed: {error.strerror}",
            hint="give the path of the SQLite file with --database",
        ) from error


def give_to_owner(descriptor: int, path: Path) -> None:
    """Give a file that root has made to whoever has the database, or its directory.

    SQLite does the same with the `-wal`: a daemon that is not root must be able to open it.
    """
    if os.geteuid() != 0:
        return
    with contextlib.suppress(OSError):
        real = companion(path, "")
        owner = (real if real.exists() else real.parent).stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def wal_size(path: Path) -> int:
    """Return the bytes of the `-wal` of a database; 0 where there is none."""
    try:
        return companion(path, "-wal").stat().st_size
    except FileNotFoundError:
        return 0
