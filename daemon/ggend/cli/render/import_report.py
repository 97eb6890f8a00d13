"""Import report: what the import commands say about one file, in words and as a table.

Never sends anything.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import msgspec

from ggend.cli.render.formats import Format
from ggend.cli.render.output import complain, show
from ggend.queries.result import Result
from ggend_schema.messages import LinesAnswer

__all__ = ["Problems", "show_reports"]

#: Problems of one file that are spelled out; the table counts them all.
_SHOWN_PROBLEMS = 20

#: Columns that are never left out.
_ALWAYS_SHOWN = frozenset({"lines", "rows", "new", "already_there"})


class Problems:
    """What is wrong with one file: the first problems in words, the others as a number."""

    __slots__ = ("_count", "_file", "_importers")

    def __init__(self, file: str) -> None:
        self._file = file
        self._count = 0
        self._importers: set[int] = set()

    def tell(self, message: str) -> None:
        """Complain about something in it; the message says where."""
        self._count += 1
        if self._count <= _SHOWN_PROBLEMS:
            complain(f"{self._file}, {message}")

    def tell_line(self, line: int, message: str) -> None:
        """Complain about a line."""
        self.tell(f"line {line}: {message}")

    def tell_importers(self, answer: LinesAnswer) -> None:
        """Say who else has imported the same; not a problem, and said once for each."""
        for uid in answer.imported_by or ():
            if uid not in self._importers:
                self._importers.add(uid)
                complain(f"{self._file}: already imported by uid {uid}; nothing goes in twice")

    def end(self) -> None:
        """Say how many were not shown."""
        if self._count > _SHOWN_PROBLEMS:
            complain(f"{self._file}: {self._count - _SHOWN_PROBLEMS} more problems are not shown")


def show_reports(reports: Sequence[msgspec.Struct], form: Format) -> None:
    """Print one row for each report.

    On a terminal, what happened to nothing is left out: the rest fits.
    """
    names: tuple[str, ...] = reports[0].__struct_fields__
    if form is Format.TABLE and sys.stdout.isatty():
        names = tuple(
            name
            for name in names
            if name in _ALWAYS_SHOWN or any(getattr(report, name) for report in reports)
        )
    rows = [tuple(getattr(report, name) for name in names) for report in reports]
    show(Result(columns=[name.replace("_", " ") for name in names], rows=rows), form=form)
