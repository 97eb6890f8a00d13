"""Output: everything that the commands print, and nothing else prints.

Tables for people, JSON and CSV for programs. What is stored came from other programs: control
and escape characters in it never reach the terminal. On a terminal tables are drawn, in a pipe
they are plain aligned columns of any width. What is wider than the terminal is shown row by row.
"""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

from ggend.queries import Result

if TYPE_CHECKING:
    from rich.progress import Progress
    from rich.table import Table
    from rich.text import Text

__all__ = ["Format", "complain", "escape", "progress", "show", "show_json", "show_line"]


class Format(StrEnum):
    """How rows are printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


#: What a terminal may act on, or show in another place than it stands: C0 and C1 controls, line
#: and paragraph separators, marks that turn the direction of text, and lone surrogates.
_UNSAFE = r"\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff"
_UNSAFE_CHARACTER = re.compile(f"[{_UNSAFE}]")
#: In CSV a quoted field may hold line breaks and tabs.
_UNSAFE_IN_CSV = re.compile(rf"(?![\n\t])[{_UNSAFE}]")
#: Between the tokens of JSON there is white space; inside them the encoder escapes it already.
_UNSAFE_IN_JSON = re.compile(rf"(?![\n])[{_UNSAFE}]")

#: Columns between two cells of a drawn table.
_GAP = 3

_STYLES = {
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


def escape(text: str) -> str:
    """Show the characters that a terminal would act on, instead of sending them to it."""
    return _UNSAFE_CHARACTER.sub(_escaped, text)


def show(result: Result, *, form: Format = Format.TABLE) -> None:
    """Print rows."""
    match form:
        case Format.JSON:
            names = _distinct(result.columns)
            show_json([dict(zip(names, map(_plain, row), strict=True)) for row in result.rows])
        case Format.CSV:
            _show_csv(result)
        case Format.TABLE if sys.stdout.isatty():
            _draw(result)
        case Format.TABLE:
            _show_columns(result)
    if result.has_more:
        complain(f"only the first {len(result.rows)} rows are shown", hint="--limit shows more")


def show_json(value: object) -> None:
    """Print one JSON value, indented."""
    text = msgspec.json.format(msgspec.json.encode(value, enc_hook=str), indent=2).decode()
    show_line_as_is(_UNSAFE_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def show_line(text: str) -> None:
    """Print one line."""
    show_line_as_is(escape(text))


def show_line_as_is(text: str) -> None:
    """Print text that is safe already."""
    sys.stdout.write(text + "\n")


def complain(message: str, *, hint: str = "") -> None:
    """Print what went wrong, and what to do, to standard error."""
    sys.stderr.write(f"ggend: {escape(message)}\n")
    if hint:
        sys.stderr.write(f"  hint: {escape(hint)}\n")


def progress() -> Progress:
    """Make a progress bar that counts bytes, on standard error; invisible in a pipe."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape", "surrogatepass").decode()


def _plain(value: object) -> object:
    return value.hex() if isinstance(value, bytes) else value


def _cell(value: object) -> str:
    return "-" if value is None else escape(str(_plain(value)))


def _distinct(names: Sequence[str]) -> list[str]:
    """`SELECT a, a` has two columns of one name; an object has not."""
    seen: dict[str, int] = {}
    distinct = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        distinct.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return distinct


def _is_numeric(column: Iterable[object]) -> bool:
    return all(value is None or isinstance(value, (int, float)) for value in column)


def _show_csv(result: Result) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in [tuple(result.columns), *result.rows]:
        writer.writerow(
            _UNSAFE_IN_CSV.sub(_escaped, value) if isinstance(value, str) else value
            for value in map(_plain, row)
        )
    sys.stdout.write(text.getvalue())


def _show_columns(result: Result) -> None:
    cells = [[escape(name) for name in result.columns]]
    cells += [[_cell(value) for value in row] for row in result.rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    numeric = [_is_numeric(column) for column in zip(*result.rows, strict=True)]
    numeric = numeric or [False] * len(widths)
    for row in cells:
        aligned = (
            cell.rjust(width) if is_number else cell.ljust(width)
            for cell, width, is_number in zip(row, widths, numeric, strict=True)
        )
        show_line_as_is("  ".join(aligned).rstrip())


def _draw(result: Result) -> None:
    from rich.cells import cell_len
    from rich.console import Console

    if not result.rows:
        show_line_as_is("no rows")
        return
    console = Console()
    header = [escape(name) for name in result.columns]
    cells = [[_cell(value) for value in row] for row in result.rows]
    widths = [max(map(cell_len, column)) for column in zip(header, *cells, strict=True)]
    if sum(widths) + _GAP * (len(widths) - 1) <= console.width:
        console.print(_table(result, header, cells))
    else:
        indent = max(map(len, header))
        for number, row in enumerate(cells, start=1):
            console.rule(f"row {number}", align="left", style="dim")
            for name, cell in zip(header, row, strict=True):
                # The terminal wraps what is long: copied from there it is whole.
                console.print(_text(name.ljust(indent)), _text(cell), soft_wrap=True)


def _table(result: Result, header: list[str], cells: list[list[str]]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name, column in zip(header, zip(*result.rows, strict=True), strict=True):
        table.add_column(_text(name), justify="right" if _is_numeric(column) else "left")
    for row in cells:
        table.add_row(*map(_text, row))
    return table


def _text(cell: str) -> Text:
    """Text, unlike str, is not searched for rich's markup."""
    from rich.text import Text

    return Text(cell, style=_STYLES.get(cell, ""))
