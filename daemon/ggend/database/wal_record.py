"""WAL record: beside which file a WAL was made, compared before SQLite may recover it.

A WAL is a list of pages that go into one file as it stood when the WAL began. SQLite knows it by
its name alone, and recovers it into whatever has been put there since. `NAME.wal-record` says of
which file it is (device, inode, time of change), and how it begins (salts). It is written, and
synced, before a checkpoint changes the file and after a WAL has begun anew, so that it is right
after every crash. What it says of the file's time is exact: only a checkpoint changes the file.

Each WAL begins with the first page, and in it with a random schema cookie, its mark: whether a
checkpoint of this WAL has changed the file is seen from the file's first page, which comes first.

Only used by who holds the lock, and by readers when nobody does (docs/adr/0023).
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import msgspec
from msgspec import Struct

from ggend.database.files import companion, give_to_owner
from ggend.database.set_aside import sync_directory
from ggend.database.wal_file import COOKIE_AT, Wal, frames_once_there, has_page_of, read_wal
from ggend.errors import WalNotOurs
from ggend.runtime.boot import boot_id
from ggend_schema.migrations import APPLICATION_ID

__all__ = [
    "RecordFile",
    "WalRecord",
    "check_wal",
    "describe",
    "is_doubtful",
    "read_record",
    "record_path",
]

#: Bytes of one of the two places in the file. Written in turns: a torn one leaves the other.
_SLOT_BYTES = 1024

#: Where the first page has the application id, 4 bytes.
_APPLICATION_ID_AT = 68

_HEAD_BYTES = 100


class WalRecord(Struct, frozen=True, kw_only=True):
    """What was so when it was written."""

    database_id: str = ""
    boot: str
    #: Of the database file.
    device: int
    inode: int
    mtime_ns: int
    bytes: int
    cookie: int | None
    #: Of the WAL; None: there was none, and any that is found was made after this.
    salts: tuple[int, int] | None
    #: The cookie in its first frame.
    mark: int | None = None
    #: A checkpoint is under way: the file may change, and then the WAL begins with `next_mark`.
    moving: bool = False
    next_mark: int | None = None


def record_path(path: Path) -> Path:
    """Return where the record of a database is."""
    return companion(path, ".wal-record")


def describe(status: os.stat_result, cookie: int | None, wal: Wal | None) -> WalRecord:
    """Return a record of a file and its WAL as they are found."""
    return WalRecord(
        boot=boot_id(),
        device=status.st_dev,
        inode=status.st_ino,
        mtime_ns=status.st_mtime_ns,
        bytes=status.st_size,
        cookie=cookie,
        salts=None if wal is None else wal.salts,
        mark=None if wal is None else wal.mark,
    )


class RecordFile:
    """The file that holds the record, in two places of which the newer one that is whole counts."""

    def __init__(self, path: Path) -> None:
        """Open it, made if missing. Raises OSError."""
        where = record_path(path)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._descriptor = os.open(where, flags, 0o600)
        try:
            if os.fstat(self._descriptor).st_size < 2 * _SLOT_BYTES:
                # All of it is there before it is needed: on a full disk it can still be written.
                give_to_owner(self._descriptor, path)
                os.pwrite(self._descriptor, b" " * (2 * _SLOT_BYTES), 0)
                os.fsync(self._descriptor)
                sync_directory(where.parent)
            self._serial, _ = _newest(os.pread(self._descriptor, 2 * _SLOT_BYTES, 0))
        except BaseException:
            os.close(self._descriptor)
            raise

    def write(self, record: WalRecord) -> None:
        """Write and sync. Raises OSError."""
        self._serial += 1
        text = msgspec.json.encode([self._serial, record])
        slot = b"%s %08x\n" % (text, zlib.crc32(text))
        at = self._serial % 2 * _SLOT_BYTES
        os.pwrite(self._descriptor, slot.ljust(_SLOT_BYTES), at)
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        """Close it."""
        os.close(self._descriptor)


def read_record(path: Path) -> WalRecord | None:
    """Return what is recorded; None: nothing that can be read. Raises OSError."""
    try:
        with record_path(path).open("rb") as file:
            return _newest(file.read(2 * _SLOT_BYTES))[1]
    except FileNotFoundError:
        return None


def check_wal(path: Path, *, only_recorded: bool = False) -> None:
    """Raise WalNotOurs where SQLite would recover a WAL into a file that it was not made for.

    With `only_recorded` one of which nothing is known is let pass. Opens the files: nobody in this
    process may have a connection that writes. Raises OSError.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
            status = os.fstat(file.fileno())
    except FileNotFoundError:
        if read_wal(path) is not None:
            raise WalNotOurs.of(path, "it is missing, but its WAL is still there") from None
        return
    wal, record = read_wal(path), read_record(path)
    if not _is_ours(head) and (record is None or wal is None or record.salts != wal.salts):
        return  # what another program made, or we had begun to make
    if record is None and only_recorded:
        return
    found = describe(status, _number(head, COOKIE_AT), wal)
    if wal is None:
        why = None if record is None else _missing(record, found)
    else:
        why = _other_wal(path, record, found, wal) or _cut_short(path, wal, record)
    if why is not None:
        raise WalNotOurs.of(path, why)


def is_doubtful(path: Path) -> bool:
    """Whether a WAL is gone and the file was changed: by whoever moved it there, if all of it.

    A file that is at rest has no WAL on record. Raises OSError.
    """
    record = read_record(path)
    if record is None or record.salts is None or not path.exists():
        return False
    status = path.stat()
    is_same = status.st_ino == record.inode and status.st_mtime_ns != record.mtime_ns
    return is_same and read_wal(path) is None


def _is_ours(head: bytes) -> bool:
    """Whether the header of a file says that it is a tier 2 database that ggend made."""
    return _number(head, _APPLICATION_ID_AT) == APPLICATION_ID


def _other_wal(path: Path, record: WalRecord | None, found: WalRecord, wal: Wal) -> str | None:
    """Say why a WAL does not belong to the file, if so."""
    if record is None:
        return "ggend has no record of the file that its WAL belongs to"
    same_boot = record.boot == found.boot
    # The number of a device may be another one after a boot.
    if found.inode != record.inode or (same_boot and found.device != record.device):
        return "its WAL belongs to another file"
    untouched = (found.mtime_ns, found.bytes) == (record.mtime_ns, record.bytes)
    if record.salts is not None and record.salts != wal.salts:
        # Begun after a checkpoint, and before that was recorded: with our mark, or without it.
        follows = (record.salts[0] + 1) % 2**32 == wal.salts[0]
        if (wal.mark is not None and wal.mark == record.next_mark) or (
            follows and untouched and not record.moving
        ):
            return None
        return "its WAL was replaced by another one"
    if untouched or (record.moving and record.cookie is None):
        return None  # as it was, or it was still empty then
    if found.cookie in wal.cookies:
        # A checkpoint of this WAL changed the file: ours, or that of another program.
        is_moved = record.moving or record.cookie not in wal.cookies
    else:
        # A power cut may keep any part of a checkpoint, the first page not among it, or half; and
        # one that a reader holds up leaves out the first page if it has changed since.
        is_old = found.cookie == record.cookie
        is_moved = record.moving and (
            is_old and has_page_of(path, wal)
            if same_boot
            else is_old or _is_torn(found.cookie, record.cookie, wal.cookies)
        )
    return None if is_moved else "it was overwritten after its WAL had been created"


def _is_torn(found: int | None, old: int | None, new: list[int]) -> bool:
    """Whether a cookie is another one up to some byte, and the old one from there."""
    if found is None or old is None:
        return False
    before, there = old.to_bytes(4, "big"), found.to_bytes(4, "big")
    return any(
        there == cookie.to_bytes(4, "big")[:cut] + before[cut:]
        for cookie in new
        for cut in (1, 2, 3)
    )


def _cut_short(path: Path, wal: Wal, record: WalRecord | None) -> str | None:
    if record is None or record.boot != boot_id():
        return None
    once = frames_once_there(path, wal.salts)
    if wal.frames >= once:
        return None
    return f"its WAL is truncated: {wal.frames} of {once} frames are left"


def _missing(record: WalRecord, found: WalRecord) -> str | None:
    """Say whether a WAL is gone that nobody has moved into the file."""
    is_old = (found.inode, found.mtime_ns) == (record.inode, record.mtime_ns)
    if is_old and record.salts is not None and record.mark != found.cookie:
        return "its WAL is missing, and was not checkpointed into it"
    return None


def _newest(content: bytes) -> tuple[int, WalRecord | None]:
    newest: tuple[int, WalRecord | None] = (0, None)
    for at in (0, _SLOT_BYTES):
        text, _, crc = content[at : at + _SLOT_BYTES].rstrip().rpartition(b" ")
        if not text or crc != b"%08x" % zlib.crc32(text):
            continue
        try:
            found = msgspec.json.decode(text, type=tuple[int, WalRecord])
        except msgspec.DecodeError:
            continue
        newest = max(newest, found, key=lambda one: one[0])
    return newest


def _number(head: bytes, at: int) -> int | None:
    return int.from_bytes(head[at : at + 4], "big") if len(head) == _HEAD_BYTES else None
