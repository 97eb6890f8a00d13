"""Machine: what a number was measured on, and what the disk alone takes."""

from __future__ import annotations

import os
import platform
import sqlite3
import statistics
import time
from datetime import UTC, datetime
from pathlib import Path

__all__ = ["describe", "filesystem", "memory_mib", "sync_ms", "threads_seconds"]

#: Appends of which the median is taken.
_APPENDS = 200

#: A page of a database.
_PAGE_BYTES = 4096


def describe(place: Path) -> str:
    """Return the line that stands above every result."""
    cpus = len(os.sched_getaffinity(0))
    kind = filesystem(place)
    warning = " (in memory: fsync costs nothing, these numbers say little)"
    return (
        f"{cpus} CPUs · Python {platform.python_version()} · SQLite {sqlite3.sqlite_version} · "
        f"{place} on {kind}{warning if kind == 'tmpfs' else ''} · "
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    )


def filesystem(place: Path) -> str:
    """Return the type of the file system that holds a directory."""
    wanted = place.resolve()
    best, kind = Path(), "an unknown file system"
    for line in Path("/proc/mounts").read_text().splitlines():
        _, mount, found, *_ = line.split()
        point = Path(mount)
        if wanted.is_relative_to(point) and len(point.parts) >= len(best.parts):
            best, kind = point, found
    return kind


def memory_mib(pid: int, key: str) -> float:
    """Return VmRSS or VmHWM of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) / 1024
    raise LookupError(key)


def threads_seconds(pid: int) -> tuple[float, float]:
    """Return the CPU seconds of a process's first thread, and of all its others."""
    ticks = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        fields = (task / "stat").read_text().rpartition(")")[2].split()
        ticks[int(task.name)] = int(fields[11]) + int(fields[12])  # utime and stime, proc(5)
    first = ticks.pop(pid)
    a_second = os.sysconf("SC_CLK_TCK")
    return first / a_second, sum(ticks.values()) / a_second


def sync_ms(place: Path) -> float:
    """Return the median time of a page appended and fdatasync'ed."""
    path = place / "sync"
    page = os.urandom(_PAGE_BYTES)
    times = []
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    try:
        for _ in range(_APPENDS):
            begin = time.perf_counter()
            os.write(descriptor, page)
            os.fdatasync(descriptor)
            times.append(time.perf_counter() - begin)
    finally:
        os.close(descriptor)
        path.unlink()
    return statistics.median(times) * 1000
