"""Output: the only module through which commands print.

Tables for people; JSON, NDJSON, CSV and Markdown for programs (`formats`). On a terminal, tables
are drawn, or shown row by row if they are too wide; output taller than the terminal goes through a
pager (`pager`). In a pipe, tables are plain aligned columns of any width.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

from ggend.cli.render.formats import Format, cell, escape, is_numeric, json_text, pieces

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table
    from rich.text import Text

    from ggend.queries.result import Result

__all__ = [
    "Format",
    "complain",
    "escape",
    "progress",
    "show",
    "show_json",
    "show_line",
    "show_text",
]

#: Columns between two cells of a drawn table.
_GAP = 3

#: Ids and hashes of 32 hexadecimal digits or more are shortened to this many if a table is too
#: wide. `ggend query execution` accepts a prefix of an id.
_HASH = re.compile(r"\b[0-9a-fA-F]{32,}\b")
_SHORT_HASH = 12

#: Characters of a message or a hint at most.
_MESSAGE_CHARS = 1_800

#: A word that no message shows whole: longer than a usual path.
_LONG_WORD = re.compile(r"(\S{200})\S{200,}(\S{100})")

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


def show(result: Result, *, form: Format = Format.TABLE, fit: bool = False) -> None:
    """Print rows. `fit`: see `table_text`."""
    if form is Format.TABLE:
        show_text(table_text(result, fit=fit))
    else:
        show_text("".join(pieces(result.columns, result.rows, form)))
    if result.has_more:
        sys.stdout.flush()
        complain(
            f"only the first {len(result.rows)} rows are shown",
            hint=result.next_page or "--limit shows more",
        )


def table_text(result: Result, *, fit: bool = False) -> str:
    """Return rows as a table: drawn on a terminal, otherwise plain aligned columns.

    `fit`: if the terminal is too narrow, shorten hashes and leave out the last columns instead of
    showing row by row.
    """
    if not sys.stdout.isatty():
        return "".join(pieces(result.columns, result.rows, Format.TABLE))
    return _drawn(result, fit=fit)


def show_json(value: object) -> None:
    """Print one JSON value, indented."""
    show_text(json_text(value) + "\n")


def show_line(text: str) -> None:
    """Print one line."""
    sys.stdout.write(escape(text) + "\n")


def show_text(text: str) -> None:
    """Print text that is already escaped; on a terminal through a pager if it is too tall."""
    if sys.stdout.isatty():
        from ggend.cli.render.pager import page

        page(text)
    else:
        sys.stdout.write(text)


def complain(message: str, *, hint: str = "") -> None:
    """Print an error message and a hint to standard error."""
    sys.stderr.write(f"ggend: {_cut(escape(message))}\n")
    if hint:
        sys.stderr.write(f"  hint: {_cut(escape(hint))}\n")


def _cut(text: str) -> str:
    """Leave out the middle of what is too long: what was given may be anything."""
    text = _LONG_WORD.sub(r"\1…\2", text)
    return text if len(text) <= _MESSAGE_CHARS else f"{text[: _MESSAGE_CHARS - 200]}…{text[-200:]}"


def progress(*, rows: bool = False) -> Progress:
    """Make a bar that counts bytes, or rows, on standard error; invisible in a pipe."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    counted = (
        (MofNCompleteColumn(), TextColumn("rows")) if rows else (DownloadColumn(binary_units=True),)
    )
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        *counted,
        TimeRemainingColumn(),
        console=console,
        # FORCE_COLOR makes every stream a terminal.
        disable=not (console.is_terminal and sys.stderr.isatty()),
        transient=True,
    )


def _drawn(result: Result, *, fit: bool) -> str:
    from rich.console import Console

    if not result.rows:
        return "no rows\n"
    console = Console()
    header = [escape(name) for name in result.columns]
    cells = [[cell(value) for value in row] for row in result.rows]
    shown = _columns_that_fit(header, cells, console.width)
    if fit and shown < len(header):
        cells = [[_HASH.sub(_shortened, text) for text in row] for row in cells]
        shown = _columns_that_fit(header, cells, console.width)
    with console.capture() as captured:
        if shown == len(header) or (fit and shown):
            console.print(_table(result, header, cells, shown))
            if shown < len(header):
                left_out = f"not shown: {', '.join(header[shown:])} (use --format json)"
                console.print(_text(left_out, style="dim"))
        else:
            _draw_rows(console, header, cells)
    return captured.get()


def _columns_that_fit(header: list[str], cells: list[list[str]], width: int) -> int:
    from rich.cells import cell_len

    left = width + _GAP
    for number, column in enumerate(zip(header, *cells, strict=True)):
        left -= max(map(cell_len, column)) + _GAP
        if left < 0:
            return number
    return len(header)


def _shortened(found: re.Match[str]) -> str:
    return found[0][:_SHORT_HASH] + "…"


def _draw_rows(console: Console, header: list[str], cells: list[list[str]]) -> None:
    indent = max(map(len, header))
    for number, row in enumerate(cells, start=1):
        console.rule(f"row {number}", align="left", style="dim")
        for name, text in zip(header, row, strict=True):
            # The terminal wraps long lines, so that text copied from it has no line breaks.
            console.print(_text(name.ljust(indent)), _text(text), soft_wrap=True)


def _table(result: Result, header: list[str], cells: list[list[str]], shown: int) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    columns = list(zip(*result.rows, strict=True))[:shown]
    for name, column in zip(header, columns, strict=False):
        table.add_column(_text(name), justify="right" if is_numeric(column) else "left")
    for row in cells:
        table.add_row(*map(_text, row[:shown]))
    return table


def _text(text: str, *, style: str = "") -> Text:
    """Text, unlike str, is not searched for rich's markup."""
    from rich.text import Text

    return Text(text, style=STYLES.get(text, style))
