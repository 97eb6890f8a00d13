"""Import report: the problems and the counts of an import, as messages and as a table.

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

#: Problems of one file that are printed; the table counts them all.
_SHOWN_PROBLEMS = 20

#: Columns that are never left out.
_ALWAYS_SHOWN = frozenset({"lines", "rows", "new", "already_there"})


class Problems:
    """The problems of one file: the first ones are printed, the others are counted."""

    __slots__ = ("_count", "_file", "_importers")

    def __init__(self, file: str) -> None:
        self._file = file
        self._count = 0
        self._importers: set[int] = set()

    def tell(self, message: str) -> None:
        """Report a problem; the message contains its position."""
        self._count += 1
        if self._count <= _SHOWN_PROBLEMS:
            complain(f"{self._file}, {message}")

    def tell_line(self, line: int, message: str) -> None:
        """Report a problem of a line."""
        self.tell(f"line {line}: {message}")

    def tell_importers(self, answer: LinesAnswer) -> None:
        """Print once for each user that this user has imported the same file; not a problem."""
        for uid in answer.imported_by or ():
            if uid not in self._importers:
                self._importers.add(uid)
                complain(f"{self._file}: already imported by uid {uid}; nothing is stored twice")

    def end(self) -> None:
        """Print how many problems were not shown."""
        if self._count > _SHOWN_PROBLEMS:
            complain(f"{self._file}: {self._count - _SHOWN_PROBLEMS} more problems are not shown")


def show_reports(reports: Sequence[msgspec.Struct], form: Format) -> None:
    """Print one row for each report.

    On a terminal, counts that are zero everywhere are left out, so that the others fit.
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
