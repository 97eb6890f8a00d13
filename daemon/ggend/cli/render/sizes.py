"""Sizes: bytes and numbers of things as text for people."""

from __future__ import annotations

__all__ = ["counted", "size_text"]

_KIB = 1024


def size_text(count: float) -> str:
    """Return a size such as `2.2 MiB`."""
    for unit in ("bytes", "KiB", "MiB"):
        if abs(count) < _KIB:
            return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:,.1f} {unit}"
        count /= _KIB
    return f"{count:,.2f} GiB"


def counted(count: int, one: str, many: str = "") -> str:
    """Return `1 event`, or `1,234 events`: `many` is `one` with an s."""
    return f"1 {one}" if count == 1 else f"{count:,} {many or one + 's'}"
