"""Wrapped: text in lines of a width, counted in the columns of a terminal."""

from __future__ import annotations

import unicodedata

__all__ = ["wrapped"]


def wrapped(text: str, room: int, *, breaks_words: bool = False) -> list[str]:
    """Return the words in lines of `room` columns; text that fits stays as it is.

    A word that is wider is broken, or stands alone, so that it can be copied. Nothing is cut.
    """
    if _columns(text) <= room:
        return [text]
    lines: list[str] = []
    line, used = "", 0
    for word in text.split(" "):
        size = _columns(word)
        if line and used + 1 + size > room:
            lines.append(line)
            line, used = "", 0
        elif line:
            line, used = f"{line} ", used + 1
        for part in word if breaks_words and size > room else (word,):
            size = _columns(part)
            if line and used + size > room:
                lines.append(line)
                line, used = "", 0
            line, used = line + part, used + size
    return [*lines, line]


def _columns(text: str) -> int:
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(one) else 1 + (unicodedata.east_asian_width(one) in "FW")
        for one in text
    )
