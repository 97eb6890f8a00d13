"""Moved database: a database with its WAL put elsewhere, as if both had been made there.

A person who does that is asked what is meant (`ggend restore`); a test that plays a crash is not.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from msgspec import structs

from ggend.database.wal_record import RecordFile, read_record
from ggend.runtime.boot import boot_id

__all__ = ["FILES", "as_made_here", "copy_as_made_there"]

#: What a database consists of; SQLite makes the `-shm` anew.
FILES = ("", "-wal", "-journal", ".wal-record")


def copy_as_made_there(database: Path, target: Path) -> None:
    """Copy all files of a database to another path."""
    for suffix in FILES:
        if (file := Path(f"{database}{suffix}")).exists():
            shutil.copy2(file, f"{target}{suffix}")
    as_made_here(target)


def as_made_here(database: Path, *, power_cut: bool = False) -> None:
    """Have the record of the WAL name the file that is there now.

    After a power cut the file has the time that was recorded, or that of a checkpoint.
    """
    record = read_record(database)
    if record is None or not database.exists():
        return
    if power_cut:
        time_ns = record.mtime_ns + record.moving
        os.utime(database, ns=(time_ns, time_ns))
    status = database.stat()
    file = RecordFile(database)
    file.write(
        structs.replace(
            record,
            boot="one before the power cut" if power_cut else boot_id(),
            device=status.st_dev,
            inode=status.st_ino,
        )
    )
    file.close()
