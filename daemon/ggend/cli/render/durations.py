"""Durations: ages as text for people."""

from __future__ import annotations

__all__ = ["age_text"]

#: Seconds of a unit; an age is shown in the largest that fits and the next one.
_UNITS = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))

#: The unit in which an age is shown, and the next smaller one.
_PARTS = 2


def age_text(seconds: float) -> str:
    """Return an age such as `6d 4h`; a negative one is `0s`."""
    left = max(0, int(seconds))
    parts: list[str] = []
    for unit, size in _UNITS:
        count, left = divmod(left, size)
        if count or parts:
            parts.append(f"{count}{unit}")
        if len(parts) == _PARTS:
            break
    return " ".join(parts) or "0s"
