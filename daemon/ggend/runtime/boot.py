"""Boot: which run of the kernel this is, and how long it has lasted; no clock that can be set."""

from __future__ import annotations

import time
from pathlib import Path

__all__ = ["boot_id", "boot_ns"]

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """Return the random id of this boot (random(4)); empty where the system has none."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def boot_ns() -> int:
    """Return the nanoseconds since the boot, those asleep among them (clock_gettime(2))."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
