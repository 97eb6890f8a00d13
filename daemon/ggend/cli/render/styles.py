"""Styles: the colours of words and the characters of lines, as far as a terminal has them."""

from __future__ import annotations

import sys

__all__ = ["STYLES", "drawable"]

#: Colours of words that fill a whole cell.
STYLES = {
    "passed": "green",
    "completed": "green",
    "ok": "green",
    "partial": "yellow",
    "warning": "yellow",
    "running": "cyan",
    "failed": "red",
    "critical": "red",
    "degraded": "red",
}


def drawable(text: str, otherwise: str) -> str:
    """Return the text if the encoding of the output has it."""
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return otherwise
    return text
