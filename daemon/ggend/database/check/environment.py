"""Environment: checks that SQLite and ggend can work in the directory of a database.

Checks the directory, the permissions, the file system and SQLite itself. Never opens the database.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

from ggend.database.findings import Finding, Verdict

__all__ = ["check_environment"]

#: PRAGMA table_list; everything else that ggend uses is older.
_SQLITE_MINIMUM = (3, 37, 0)

#: The releases that repaired the WAL-reset bug: 3.51.3, and two older lines.
_WAL_RESET_FIXED = (3, 51, 3)
_WAL_RESET_FIXED_IN = {(3, 44): 6, (3, 50): 7}

#: Bytes below which a disk is nearly full: the WAL alone may grow to 64 MiB.
_FREE_BYTES = 256 * 1024 * 1024

#: Shared memory and locks of several hosts do not agree: SQLite says not to use WAL there.
_NETWORK_FILE_SYSTEMS = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "lustre"})


def check_environment(path: Path) -> list[Finding]:
    """Look at everything that can be known before the database is opened."""
    directory = path.parent
    if not directory.is_dir():
        where = Finding("directory", Verdict.FAILED, f"{directory} does not exist")
        return [where, *_sqlite()]
    if not os.access(directory, os.X_OK):  # nothing in it can be looked at
        return [_directory(directory), *_sqlite()]
    return [_directory(directory), _file(path), _file_system(directory), _room(path), *_sqlite()]


def _directory(directory: Path) -> Finding:
    if not os.access(directory, os.W_OK | os.X_OK):
        detail = f"this user may not write to {directory}; SQLite keeps the -wal and -shm there"
        return Finding("directory", Verdict.FAILED, detail)
    return Finding("directory", Verdict.OK, str(directory))


def _file(path: Path) -> Finding:
    if not path.exists():
        return Finding("permissions", Verdict.OK, "there is no file yet")
    if not os.access(path, os.R_OK | os.W_OK):
        return Finding("permissions", Verdict.FAILED, f"this user may not write to {path}")
    mode = path.stat().st_mode
    if mode & 0o022:
        detail = f"{path} can be written by other users (mode {mode & 0o777:04o})"
        return Finding("permissions", Verdict.WARNING, detail)
    return Finding("permissions", Verdict.OK, f"mode {mode & 0o777:04o}")


def _file_system(directory: Path) -> Finding:
    kind = _mounted(directory)
    if kind in _NETWORK_FILE_SYSTEMS:
        detail = f"{kind} is a network file system; SQLite's WAL needs a local one"
        return Finding("file system", Verdict.FAILED, detail)
    if kind == "tmpfs":
        return Finding("file system", Verdict.WARNING, "tmpfs loses everything at a power cut")
    return Finding("file system", Verdict.OK, kind or "unknown")


def _mounted(directory: Path) -> str:
    """Return the type of the file system that holds a directory, as /proc/mounts names it."""
    wanted, best, kind = directory.resolve(), 0, ""
    try:
        lines = Path("/proc/mounts").read_text(errors="replace").splitlines()
    except OSError:
        return ""
    for line in lines:
        _, mount, found, *_ = line.split(" ")
        point = Path(mount.encode().decode("unicode_escape"))
        if wanted.is_relative_to(point) and len(point.parts) >= best:
            best, kind = len(point.parts), found
    return kind


def _room(path: Path) -> Finding:
    free = shutil.disk_usage(path.parent).free
    detail = f"{free // 2**20:,} MiB are free"
    return Finding("free space", Verdict.OK if free >= _FREE_BYTES else Verdict.WARNING, detail)


def _sqlite() -> list[Finding]:
    version = sqlite3.sqlite_version_info
    if version < _SQLITE_MINIMUM:
        needed = ".".join(map(str, _SQLITE_MINIMUM))
        detail = f"Python is linked with SQLite {sqlite3.sqlite_version}; ggend needs {needed}"
        return [Finding("SQLite", Verdict.FAILED, detail)]
    is_fixed = version >= _WAL_RESET_FIXED or version[2] >= _WAL_RESET_FIXED_IN.get(
        version[:2], version[2] + 1
    )
    bug = Finding(
        "WAL-reset bug",
        Verdict.OK if is_fixed else Verdict.WARNING,
        "fixed in this version"
        if is_fixed
        else f"SQLite {sqlite3.sqlite_version} has it: two programs that write or checkpoint at "
        "once can damage the file. Let only the daemon write; open it elsewhere with mode=ro",
    )
    return [Finding("SQLite", Verdict.OK, sqlite3.sqlite_version), bug]
