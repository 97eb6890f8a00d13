"""Output: the only module through which commands print.

Tables for people; JSON, NDJSON, CSV and Markdown for programs (`formats`). On a terminal, tables
are drawn to fit its width (`drawn_table`); output taller than the terminal goes through a pager
(`pager`). In a pipe, tables are plain aligned columns of any width.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec

from ggend.cli.render.formats import Format, escape, json_text, pieces
from ggend.errors import UsageMistake
from ggend_schema.spelling import or_nearest

if TYPE_CHECKING:
    from rich.progress import Progress

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

#: Characters of a message or a hint at most.
_MESSAGE_CHARS = 1_800

#: A word that no message shows whole: longer than a usual path.
_LONG_WORD = re.compile(r"(\S{200})\S{200,}(\S{100})")


def show(
    result: Result,
    *,
    form: Format = Format.TABLE,
    kept: Iterable[str] | None = None,
    columns: str | None = None,
    local: bool = False,
    choice: str = "--columns chooses",
) -> None:
    """Print rows. `kept` and `columns`: see `table_text` and `chosen`; `local`: in local time.

    `choice` says how to see the columns for which a terminal has no room.
    """
    if local:
        from ggend.cli.render.local_time import in_local_time

        result = in_local_time(result)
    if columns is not None:
        result, kept = chosen(result, columns), None
    if form is Format.TABLE:
        show_text(table_text(result, kept=kept, choice=choice))
    else:
        parts = pieces(result.columns, result.rows, form)
        if form is Format.CSV and sys.stdout.isatty():  # quotes do not keep a terminal from acting
            parts = (escape(part.removesuffix("\n")) + "\n" for part in parts)
        show_text("".join(parts))
    if result.has_more:
        sys.stdout.flush()
        shown = len(result.rows)
        complain(
            f"only the first {'row is' if shown == 1 else f'{shown:,} rows are'} shown",
            hint=(result.next_page or "--limit shows more")
            + ("" if form is Format.TABLE else "; `ggend export` writes whole tables"),
        )


def chosen(result: Result, columns: str) -> Result:
    """Return only these columns, `a,b`, in this order. Raises UsageMistake."""
    wanted = [name.strip() for name in columns.split(",") if name.strip()]
    for name in wanted or [columns]:
        if name not in result.columns:
            raise UsageMistake(
                f"there is no column `{name}`{or_nearest(name, result.columns)}",
                hint=f"the columns are {', '.join(result.columns)}",
            )
    places = [result.columns.index(name) for name in wanted]
    rows = [tuple(row[place] for place in places) for row in result.rows]
    return msgspec.structs.replace(result, columns=wanted, rows=rows)


def table_text(
    result: Result, *, kept: Iterable[str] | None = None, choice: str = "--columns chooses"
) -> str:
    """Return rows as a table: drawn on a terminal, otherwise plain aligned columns.

    `kept` names the columns that are shown even if the terminal is too narrow for them; None: all.
    """
    if not sys.stdout.isatty():
        return "".join(pieces(result.columns, result.rows, Format.TABLE))
    if not result.rows:
        return "no rows\n"
    from rich.console import Console

    from ggend.cli.render.drawn_table import draw

    console = Console()
    with console.capture() as captured:
        draw(console, result, kept=kept, width=console.width, choice=choice)
    return captured.get()


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
