"""Disk: room for the database and the spool, and file systems that ggend does not work on."""

from __future__ import annotations

import os
from pathlib import Path

from ggend.database.check.environment import check_environment
from ggend.doctor.diagnosis import Diagnosis, Verdict, failed, ok, warning
from ggend.doctor.rights import nearest_directory

__all__ = ["look_at_disk"]

_SUBJECT = "disk"

#: Bytes below which the daemon or a client may not be able to write at all: one checkpointed WAL.
_NO_ROOM_BYTES = 16 * 1024 * 1024


def look_at_disk(database: Path, socket: Path, spool: Path | None) -> Diagnosis:
    """Say how much room there is, and on which kinds of file systems."""
    places = {"database": database} | ({"spool": spool / "x"} if spool is not None else {})
    rooms: dict[tuple[int, int], list[str]] = {}
    worst: list[Diagnosis] = []
    for what, path in places.items():
        directory = nearest_directory(path)
        try:
            found = os.statvfs(directory)
        except OSError as error:
            worst.append(warning(_SUBJECT, f"{directory}: {error.strerror}", "run it as the owner"))
            continue
        free = found.f_bavail * found.f_frsize
        where = f"{_size(free)} free for the {what}"
        rooms[found.f_fsid, free] = [*rooms.get((found.f_fsid, free), []), what]
        # Some file systems (btrfs) count no inodes.
        if found.f_flag & os.ST_RDONLY:
            detail = f"the file system of {directory} ({what}) is mounted read-only"
            hint = "mount it for writing; a disk that failed is remounted so: see `dmesg`"
            worst.append(failed(_SUBJECT, detail, hint, os.EX_IOERR))
        elif free < _NO_ROOM_BYTES or (found.f_files and not found.f_favail):
            inodes = "" if free < _NO_ROOM_BYTES else ", but no free inode"
            detail = f"{where}{inodes} at {directory}: the disk is full"
            hint = "free some room; the daemon goes on by itself as soon as it can write"
            worst.append(failed(_SUBJECT, detail, hint, os.EX_IOERR))
        worst += _of_environment(directory / path.name, what)
    socket_kind = _of_environment(nearest_directory(socket) / "s", "socket")
    worst += [one for one in socket_kind if one.verdict is Verdict.FAILED]
    for verdict in (Verdict.FAILED, Verdict.WARNING):
        for one in worst:
            if one.verdict is verdict:
                return one
    told = [f"{_size(free)} free for the {' and the '.join(of)}" for (_, free), of in rooms.items()]
    return ok(_SUBJECT, ", ".join(told))


def _of_environment(path: Path, what: str) -> list[Diagnosis]:
    """Return what the check of a database's place finds wrong with its file system."""
    found = {one.what: one for one in check_environment(path)}
    told: list[Diagnosis] = []
    kind = found.get("file system")
    if kind is not None and kind.verdict is Verdict.FAILED:
        hint = f"move the {what} to a local disk"
        told.append(failed(_SUBJECT, f"{path.parent} ({what}): {kind.detail}", hint, os.EX_CONFIG))
    elif kind is not None and kind.verdict is Verdict.WARNING:
        hint = f"move the {what} to a disk, if it matters"
        told.append(warning(_SUBJECT, f"{path.parent} ({what}): {kind.detail}", hint))
    room = found.get("free space")
    if room is not None and room.verdict is Verdict.WARNING:
        hint = "free some room: below 256 MiB a burst of events may fill the disk"
        told.append(warning(_SUBJECT, f"{path.parent} ({what}): only {room.detail}", hint))
    return told


def _size(count: int) -> str:
    return f"{count / 2**30:,.1f} GiB" if count >= 2**30 else f"{count / 2**20:,.0f} MiB"
