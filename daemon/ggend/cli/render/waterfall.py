"""Waterfall: the stages of an execution as bars over its time.

Pure: positions and characters, no styles and no terminal.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

__all__ = ["Span", "waterfall"]

#: Minimum width of the bars in columns: narrower bars are not readable.
_NARROWEST = 10


class Span(msgspec.Struct, frozen=True, gc=False):
    """A time span, in milliseconds after the start of the execution. No start means unknown."""

    start_ms: int | None
    duration_ms: int


def waterfall(
    spans: Sequence[Span], *, duration_ms: int, width: int, block: str = "█"
) -> list[str]:
    """Return one bar for each span, `width` columns each; an empty one where the start is unknown.

    The bars share one scale that covers the execution and all its spans. A span that is too short
    to be seen is one block.
    """
    width = max(width, _NARROWEST)
    known = [(span.start_ms, span.duration_ms) for span in spans if span.start_ms is not None]
    first = min([0, *(start for start, _ in known)])
    last = max([duration_ms, *(start + lasted for start, lasted in known)])
    scale = width / max(last - first, 1)
    bars = []
    for span in spans:
        if span.start_ms is None:
            bars.append("")
            continue
        left = min(int((span.start_ms - first) * scale), width - 1)
        right = round((span.start_ms - first + span.duration_ms) * scale)
        bars.append((" " * left + block * max(right - left, 1))[:width].ljust(width))
    return bars
