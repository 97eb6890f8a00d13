"""WAL file: reads the header and the frames of a `-wal`, without SQLite.

The format is https://www.sqlite.org/fileformat.html, chapter 4. SQLite takes no lock on a `-wal`,
so it may be opened beside a connection; the database file and the `-shm` may not.
"""

from __future__ import annotations

import itertools
import os
import struct
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from ggend.database.files import companion

__all__ = ["COOKIE_AT", "Wal", "frames_once_there", "has_page_of", "read_salts", "read_wal"]

#: Where the first page has the schema cookie, 4 bytes.
COOKIE_AT = 40

_HEADER_BYTES = 32
_FRAME_HEADER_BYTES = 24

#: The first 4 bytes; the lowest bit says in which order the bytes of a checksum's words are.
_MAGIC = 0x377F0682

_HEADER = struct.Struct(">8I")
_FRAME = struct.Struct(">6I")
_SALTS, _SALTS_AT = struct.Struct(">2I"), 16

#: The first header of the `-shm`: frames, and both salts.
_INDEX = struct.Struct("=16xI12x2I")


class Wal(Struct, frozen=True):
    """A WAL from which SQLite may recover something."""

    #: Both random numbers of the header. The first counts up by one whenever the WAL begins anew.
    salts: tuple[int, int]
    #: The schema cookies that its frames of the first page have, in their order.
    cookies: list[int]
    #: Frames that belong to these salts; the last ones may be torn.
    frames: int
    #: The cookie in the first frame, if that has the first page.
    mark: int | None
    page_bytes: int
    #: Where the last frame of each page has its content.
    places: dict[int, int]


def read_wal(path: Path, *, whole: bool = True) -> Wal | None:
    """Read the WAL of a database, or only its first frame; None where SQLite finds nothing in it.

    Raises OSError.
    """
    try:
        descriptor = os.open(companion(path, "-wal"), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        header = os.pread(descriptor, _HEADER_BYTES, 0)
        if len(header) < _HEADER_BYTES:
            return None
        magic, _version, page_bytes, _count, *salts, sum_1, sum_2 = _HEADER.unpack(header)
        words = ">" if magic & 1 else "<"
        if magic & ~1 != _MAGIC or _checksum(header[:24], words) != (sum_1, sum_2):
            return None
        first = os.pread(descriptor, _FRAME_HEADER_BYTES + page_bytes, _HEADER_BYTES)
        if not _is_whole(first, words, (sum_1, sum_2)):
            return None
        frames = _frames(descriptor, page_bytes, (salts[0], salts[1]))
        found = list(frames if whole else itertools.islice(frames, 1))
        if not found:
            return None
        cookies = [cookie for _, page, cookie in found if page == 1]
        return Wal(
            salts=(salts[0], salts[1]),
            cookies=cookies,
            frames=len(found),
            mark=cookies[0] if found[0][1] == 1 else None,
            page_bytes=page_bytes,
            places={page: at + _FRAME_HEADER_BYTES for at, page, _ in found},
        )
    finally:
        os.close(descriptor)


def read_salts(descriptor: int) -> tuple[int, int] | None:
    """Read the salts of an open WAL; None where it is empty. Raises OSError."""
    found = os.pread(descriptor, _SALTS.size, _SALTS_AT)
    return _SALTS.unpack(found) if len(found) == _SALTS.size else None


def frames_once_there(path: Path, salts: tuple[int, int]) -> int:
    """Return how many frames a WAL had at the last commit, as the `-shm` tells; 0: it does not.

    The `-shm` is never synced: it says so only in the boot in which it was written. It is to be
    opened by nobody who has a connection. The format is https://www.sqlite.org/walformat.html.
    """
    try:
        with companion(path, "-shm").open("rb") as shm:
            head = shm.read(_INDEX.size)
    except OSError:
        return 0
    if len(head) < _INDEX.size:
        return 0
    frames, salt_1, salt_2 = _INDEX.unpack(head)
    # The salts stand in it as they do in the WAL, the numbers as the machine has them.
    return frames if struct.pack("<2I", salt_1, salt_2) == struct.pack(">2I", *salts) else 0


def has_page_of(path: Path, wal: Wal) -> bool:
    """Whether a page of the file is as a frame of its WAL has it: a checkpoint has begun.

    Opens the file: nobody in this process may have a connection. Raises OSError.
    """
    with companion(path, "").open("rb") as file, companion(path, "-wal").open("rb") as frames:
        for page, at in sorted(wal.places.items()):
            file.seek((page - 1) * wal.page_bytes)
            frames.seek(at)
            if file.read(wal.page_bytes) == frames.read(wal.page_bytes):
                return True
    return False


def _frames(
    descriptor: int, page_bytes: int, salts: tuple[int, int]
) -> Iterator[tuple[int, int, int]]:
    """Yield place, page number and, for the first page, its cookie, of frames with these salts."""
    size = os.fstat(descriptor).st_size
    wanted = _FRAME_HEADER_BYTES + COOKIE_AT + 4
    for at in range(_HEADER_BYTES, size - page_bytes - _FRAME_HEADER_BYTES + 1, page_bytes + 24):
        head = os.pread(descriptor, wanted, at)
        page, _pages, salt_1, salt_2, _, _ = _FRAME.unpack_from(head)
        if (salt_1, salt_2) != salts:
            return
        yield at, page, int.from_bytes(head[-4:], "big")


def _is_whole(frame: bytes, words: str, before: tuple[int, int]) -> bool:
    """Whether a frame is as it was written: its header and its page are not written at once."""
    if len(frame) <= _FRAME_HEADER_BYTES:
        return False
    _page, _pages, _salt_1, _salt_2, *sums = _FRAME.unpack_from(frame)
    seed = _checksum(frame[:8], words, before)
    page = frame[_FRAME_HEADER_BYTES:]
    return len(page) % 8 == 0 and _checksum(page, words, seed) == tuple(sums)


def _checksum(content: bytes, words: str, seed: tuple[int, int] = (0, 0)) -> tuple[int, int]:
    numbers = struct.unpack(f"{words}{len(content) // 4}I", content)
    first, second = seed
    for one, other in zip(numbers[::2], numbers[1::2], strict=True):
        first = (first + one + second) & 0xFFFFFFFF
        second = (second + other + first) & 0xFFFFFFFF
    return first, second
