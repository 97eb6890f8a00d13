"""Record: names and values in sections, one a line, as `status` and `stats` show them.

On a terminal a long value goes on under itself, so that nothing is cut.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from ggend.cli.render.formats import escape
from ggend.cli.render.wrapped import wrapped

__all__ = ["Section", "record_text"]

#: A heading, or nothing, and the lines under it.
Section: TypeAlias = tuple[str, Sequence[tuple[str, str]]]

#: Columns between a name and its value.
_GAP = 2

#: The least columns of a value; narrower terminals wrap by themselves.
_NARROW = 20


def record_text(sections: Iterable[Section]) -> str:
    """Return the sections as text that is safe to print."""
    told = [(heading, lines) for heading, lines in sections if lines]
    indent = max((len(name) for _, lines in told for name, _ in lines), default=0) + _GAP
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    parts: list[str] = []
    for heading, lines in told:
        if parts:
            parts.append("\n")
        if heading:
            parts.append(f"{escape(heading)}\n")
        for name, value in lines:
            parts.append(_line(escape(name).ljust(indent), escape(value), width))
    return "".join(parts)


def _line(name: str, value: str, width: int | None) -> str:
    if width is None or width < len(name) + _NARROW:
        return f"{name}{value}".rstrip() + "\n"
    indent = "\n" + " " * len(name)
    return f"{name}{indent.join(wrapped(value, width - len(name)))}".rstrip() + "\n"
