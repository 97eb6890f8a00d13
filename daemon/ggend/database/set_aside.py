"""Set aside: gives the files of a database another name, so that nothing of them is ever lost.

They have both names until the caller removes the old ones. Never deletes.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from ggend.database.files import companion

__all__ = ["EVERYTHING", "name_aside", "sync_directory"]

#: What a database consists of: the file, what SQLite has not moved into it, what it rolls back.
EVERYTHING = ("", "-wal", "-journal")


def name_aside(path: Path, word: str, suffixes: Sequence[str] = EVERYTHING) -> Path:
    """Name what there is of these files `NAME.WORD-<UTC>` as well; return that, which was free.

    A WAL that is empty is none. Raises OSError.
    """
    real = companion(path, "")
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    parts = [suffix for suffix in suffixes if not suffix or _has_bytes(path, suffix)]
    for number in itertools.count(1):
        aside = real.with_name(f"{real.name}.{word}-{stamp}{f'-{number}' * (number > 1)}")
        with contextlib.suppress(FileExistsError):
            for suffix in parts:
                os.link(companion(path, suffix), aside.with_name(aside.name + suffix))
            break
    sync_directory(real.parent)
    return aside


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _has_bytes(path: Path, suffix: str) -> bool:
    part = companion(path, suffix)
    return part.exists() and part.stat().st_size > 0
