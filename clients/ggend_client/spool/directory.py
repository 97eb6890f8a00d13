"""Directory: where spools lie, whose they are, and who holds them.

Per producer there is a lock, `<id>.lock` (see `lock`), and segments,
`<id>-<first sequence>.segment`. Events that a client has in its queue lie in `<id>-<n>.queue` (see
`queue_part`). What is set aside is renamed: `….corrupt`, `….expired`.
A directory that others could write to, or that is another user's, is refused: what lies there
would be sent under this user's name.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import msgspec

from ggend_client.errors import SpoolUnusable
from ggend_client.spool import segment
from ggend_client.spool.lock import SpoolLock

__all__ = [
    "KEEPING",
    "SpoolSummary",
    "Survey",
    "expired",
    "keeps_stores",
    "list_spools",
    "lock_path",
    "part_path",
    "parts",
    "prepare",
    "segment_path",
    "segments",
    "survey",
    "used_bytes",
]

#: Says of each mount the device (third field) and, behind a dash, the type (proc_pid_mountinfo(5)).
_MOUNTS = Path("/proc/self/mountinfo")

#: File systems that write where they were told to: what is allocated can be written to. Those of
#: containers (overlay) hand a new file to the one below.
KEEPING = frozenset({"ext2", "ext3", "ext4", "overlay", "tmpfs", "xfs"})

_NAME = re.compile(r"([0-9a-f]{32})(\.lock|-(\d{20}\.segment|\d+\.queue)(\.corrupt|\.expired)?)")


class SpoolSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What lies in a spool directory of one producer."""

    producer: bytes
    #: Paths, in the order of their numbers.
    segments: list[Path]
    #: Files of its queue.
    parts: list[Path]
    #: Files that were damaged, or too old: kept for people, never sent.
    set_aside: list[Path]
    bytes: int
    #: Seconds since the oldest segment was last written to.
    age_seconds: float
    #: Whether the process that wrote it still runs.
    is_held: bool
    #: The socket of the daemon that it is meant for, or `default`; empty: not known.
    destination: str
    #: Whether a daemon was, or may have been, sent some of its events.
    is_offered: bool

    @property
    def expired(self) -> list[Path]:
        """Those that were set aside because they are too old."""
        return [path for path in self.set_aside if path.suffix == ".expired"]


class Survey(msgspec.Struct, frozen=True, kw_only=True):
    """What one segment holds, as far as it can be read."""

    #: First and last number of each whole record.
    records: list[tuple[int, int]]
    #: Offset behind the last of them.
    end: int
    #: Wall-clock nanoseconds at which it was begun.
    made_at: int
    #: Whether there is something else than whole records and a torn tail.
    is_flawed: bool


def lock_path(directory: Path, producer: bytes) -> Path:
    """Return the path of a producer's lock."""
    return directory / f"{producer.hex()}.lock"


def segment_path(directory: Path, producer: bytes, first_sequence: int) -> Path:
    """Return the path of the segment that begins with this number."""
    return directory / f"{producer.hex()}-{first_sequence:020}.segment"


def prepare(directory: Path) -> None:
    """Make the directory if there is none, for this user alone. Raises SpoolUnusable."""
    try:
        if not directory.exists():
            _check_home(directory)
        with suppress(FileExistsError):
            directory.mkdir(mode=0o700, parents=True)
        found = directory.lstat()
    except OSError as error:
        raise SpoolUnusable(f"{directory}: {error.strerror or error}") from error
    if not stat.S_ISDIR(found.st_mode):
        raise SpoolUnusable(f"{directory}: not a directory")
    if found.st_uid != os.geteuid():
        raise SpoolUnusable(f"{directory}: belongs to uid {found.st_uid}")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise SpoolUnusable(
            f"{directory}: others may write there (mode {stat.S_IMODE(found.st_mode):o})"
        )


def _check_home(directory: Path) -> None:
    """Keep root, under sudo, from making directories in a user's home that the user cannot use."""
    if os.geteuid() == 0:
        above = next(parent for parent in directory.absolute().parents if parent.exists())
        if (owner := above.stat().st_uid) != 0:
            raise SpoolUnusable(f"{above}: belongs to uid {owner}, but this process is root")


def part_path(directory: Path, producer: bytes, number: int) -> Path:
    """Return the path of a file of a producer's queue."""
    return directory / f"{producer.hex()}-{number}.queue"


def expired(directory: Path, producer: bytes) -> list[Path]:
    """Return the files of a producer that were set aside because they are too old."""
    return _own_files(sorted(directory.glob(f"{producer.hex()}-*.expired")))


def parts(directory: Path, producer: bytes) -> list[Path]:
    """Return the files of a producer's queue, in no order. Raises OSError."""
    return _own_files(directory.glob(f"{producer.hex()}-*.queue"))


def segments(directory: Path, producer: bytes) -> list[Path]:
    """Return a producer's segments in the order of their numbers. Raises OSError."""
    return _own_files(sorted(directory.glob(f"{producer.hex()}-*.segment")))


def survey(path: Path, producer: bytes, *, above: int = 0) -> Survey:
    """Read which records a segment holds, with numbers that rise `above`. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        size = os.fstat(descriptor).st_size
        header = segment.read_header(descriptor)
        if header is None or header.producer != producer:
            # One that was cut while its header was written never held anything.
            torn = size < segment.HEADER_BYTES
            return Survey(records=[], end=0, made_at=time.time_ns(), is_flawed=not torn)
        found: list[tuple[int, int]] = []
        end = at = segment.HEADER_BYTES
        flawed = False
        while at < size:
            record = segment.read_record(descriptor, at, size)
            if record is None:
                intact = segment.find_record(descriptor, at + 1, size)
                if intact is None:
                    flawed = flawed or not segment.is_torn(descriptor, at, size)
                    break
                at, flawed = intact, True
            elif record.first_sequence <= above:
                flawed = True  # not written by us
                break
            else:
                above, end = record.last_sequence, record.end
                at = end
                found.append((record.first_sequence, above))
    finally:
        os.close(descriptor)
    return Survey(records=found, end=end, made_at=header.made_at, is_flawed=flawed)


def used_bytes(directory: Path) -> int:
    """Return what all spools of the directory take, set aside or not. Raises OSError."""
    total = 0
    for entry in os.scandir(directory):
        try:
            total += entry.stat(follow_symlinks=False).st_size
        except FileNotFoundError:
            continue  # settled and removed meanwhile
    return total


def keeps_stores(directory: Path) -> bool:
    """Whether a store into a mapping of a file here, made beforehand, can never fail.

    On a file system that copies what it writes (btrfs, zfs), or that is on another machine, it
    can, when the disk is full: then the kernel ends the process (SIGBUS). Raises OSError.
    """
    device = directory.stat().st_dev
    found = f"{os.major(device)}:{os.minor(device)}"
    with _MOUNTS.open("rb") as mounts:
        for line in mounts:
            fields = os.fsdecode(line).split(" ")
            if fields[2] == found:
                return fields[fields.index("-") + 1] in KEEPING
    return False


def list_spools(directory: Path) -> list[SpoolSummary]:
    """Return what lies there by producer, the oldest first. Raises OSError."""
    files: dict[bytes, list[Path]] = {}
    if not directory.is_dir():
        return []
    for name in sorted(entry.name for entry in os.scandir(directory)):
        if match := _NAME.fullmatch(name):
            files.setdefault(bytes.fromhex(match[1]), []).append(directory / name)
    found = [_summary(directory, producer, paths) for producer, paths in files.items()]
    return sorted(found, key=lambda summary: -summary.age_seconds)


def _summary(directory: Path, producer: bytes, paths: Iterable[Path]) -> SpoolSummary:
    segments = _own_files(path for path in paths if path.suffix == ".segment")
    parts = _own_files(path for path in paths if path.suffix == ".queue")
    set_aside = [path for path in paths if path.suffix in {".corrupt", ".expired"}]
    sizes, times = [0], [time.time()]
    for path in (*segments, *parts, *set_aside):
        try:
            found = path.lstat()
        except FileNotFoundError:
            continue
        sizes.append(found.st_size)
        times.append(found.st_mtime)
    lock = SpoolLock.look(lock_path(directory, producer))
    return SpoolSummary(
        producer=producer,
        segments=segments,
        parts=parts,
        set_aside=set_aside,
        bytes=sum(sizes),
        age_seconds=max(0.0, time.time() - min(times)),
        is_held=lock.is_held,
        destination=lock.destination,
        is_offered=lock.is_offered,
    )


def _own_files(paths: Iterable[Path]) -> list[Path]:
    """Leave out what somebody else put there: only this user's files are read."""
    return [path for path in paths if _is_own_file(path)]


def _is_own_file(path: Path) -> bool:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid()
