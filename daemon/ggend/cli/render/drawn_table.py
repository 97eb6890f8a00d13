"""Drawn table: rows on a terminal, fitted to its width.

What a person came for is never cut. Step by step until the table fits: empty columns are left out,
times lose what is below seconds, ids are shortened in the middle, headings are broken, sentences
are wrapped, or shown under their row. Then the last columns that need not be kept are left out, and
named under the table. Then times lose their year, and what there is still no room for is shown
under its row.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.text import Text

from ggend.cli.render.formats import cell, escape, is_numeric, with_zones
from ggend.cli.render.styles import STYLES, drawable

if TYPE_CHECKING:
    from rich.console import Console

    from ggend.queries.result import Result

__all__ = ["draw", "shortened"]

#: Columns between two cells, and before what is shown under a row.
_GAP = 2
_INDENT = "  "

#: The least width in which a sentence is wrapped beside other columns.
_SENTENCE = 24

#: Characters of a sentence that are shown: four lines of a narrow terminal.
_SHOWN = 320

#: An id of more characters is shortened to this many at its beginning and its end.
_LONG_ID = 20
_BEGINNING, _END = 8, 4

#: A heading is broken if that makes its column narrower by so much.
_BREAK_SAVES = 3

_TIME = re.compile(r"(\d{4}-)(\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)?")
_ID = re.compile(rf"[0-9A-Za-z_.:-]{{{_LONG_ID + 1},}}")
_HASH = re.compile(r"\b[0-9a-fA-F]{32,}\b")


class _Column:
    """One column: its cells as text, and what may be done to make it narrower."""

    def __init__(self, name: str, values: Sequence[object], *, is_kept: bool) -> None:
        self.name = name
        self.heading = [escape(name)]
        self.cells = [cell(value) for value in values]
        self.is_kept = is_kept
        told = [text for text in self.cells if text != "-"]
        self.is_empty = not told
        self.is_numeric = bool(told) and is_numeric(values)
        self.is_time = bool(told) and all(map(_TIME.fullmatch, told))
        self.is_sentence = any(len(text) > _SENTENCE and " " in text for text in told)
        if self.is_sentence:
            self.cells = [_bounded(text) for text in self.cells]
        #: The width in which sentences are wrapped; None: they are not.
        self.wrapped_to: int | None = None

    @property
    def width(self) -> int:
        """Columns of the terminal that it takes."""
        longest = max(map(cell_len, self.cells), default=0)
        if self.wrapped_to is not None:
            longest = min(longest, self.wrapped_to)
        return max(longest, *map(cell_len, self.heading))

    def replace(self, pattern: re.Pattern[str], by: str) -> None:
        """Change its cells."""
        self.cells = [pattern.sub(by, text) for text in self.cells]


def draw(
    console: Console,
    result: Result,
    *,
    kept: Iterable[str] | None,
    width: int,
    choice: str = "--columns chooses",
) -> None:
    """Print the rows. `kept` names the columns that are shown in any case.

    None: all of them, row by row if there is no room for a table. `choice` says how to see what is
    not shown.
    """
    rows = list(with_zones(result.columns, result.rows))
    wanted = frozenset(result.columns if kept is None else kept)
    columns = [
        _Column(name, values, is_kept=name in wanted)
        for name, values in zip(result.columns, zip(*rows, strict=True), strict=True)
    ]
    beside, below, left_out = _fitted(columns, width)
    if kept is None and below:
        _draw_rows(console, result.columns, rows)
        return
    for line in _lines(beside, below, width, console):
        console.print(line, soft_wrap=True)
    if left_out:
        names = ", ".join(escape(column.name) for column in left_out)
        console.print(Text(f"not shown: {names} ({choice})", style="dim"))


def _bounded(text: str) -> str:
    return text if len(text) <= _SHOWN else text[:_SHOWN] + drawable("…", "...")


def shortened(text: str) -> str:
    """Shorten an id in its middle. Every command takes it as it is shown."""
    if len(text) <= _LONG_ID:
        return text
    return f"{text[:_BEGINNING]}{drawable('…', '...')}{text[-_END:]}"


def _fitted(
    columns: list[_Column], width: int
) -> tuple[list[_Column], list[_Column], list[_Column]]:
    """Return the columns of the table, those under the rows, and those that are not shown."""
    if _width_of(columns) <= width:
        return columns, [], []
    beside = [column for column in columns if not column.is_empty] or columns
    for make_narrower in (_drop_fractions, _shorten_ids, _break_headings, _wrap_sentences(width)):
        if _width_of(beside) <= width:
            return beside, [], []
        make_narrower(beside)
    sentences = [column for column in beside if column.is_sentence and column.is_kept]
    below = _take_out(beside, sentences, width)
    left_out = _take_out(beside, [column for column in beside if not column.is_kept], width)
    if _width_of(beside) > width:
        _drop_years(beside)
    below = _take_out(beside, beside[1:], width) + below
    return beside, below, left_out


def _take_out(beside: list[_Column], some: Sequence[_Column], width: int) -> list[_Column]:
    """Take columns out of a table, the last first, until it fits; return them in their order."""
    taken: list[_Column] = []
    for column in reversed(some):
        if _width_of(beside) <= width or len(beside) == 1:
            break
        beside.remove(column)
        taken.insert(0, column)
    return taken


def _width_of(columns: Sequence[_Column]) -> int:
    return sum(column.width + _GAP for column in columns) - _GAP


def _drop_fractions(columns: list[_Column]) -> None:
    for column in columns:
        if column.is_time:
            column.replace(_TIME, r"\1\2 \3")


def _drop_years(columns: list[_Column]) -> None:
    for column in columns:
        if column.is_time:
            column.replace(_TIME, r"\2 \3")


def _shorten_ids(columns: list[_Column]) -> None:
    for column in columns:
        if column.is_time or column.is_numeric:
            continue
        pattern = _HASH if column.is_sentence else _ID
        if column.name.endswith("_id") or column.name in _IDS or pattern is _HASH:
            column.cells = [
                pattern.sub(lambda found: shortened(found[0]), text) for text in column.cells
            ]


#: Columns of ids whose name does not end in `_id`.
_IDS = frozenset({"account", "producer", "agent_id_1", "agent_id_2", "parent", "meant_for"})


def _break_headings(columns: list[_Column]) -> None:
    for column in columns:
        words = re.findall(r"[^_ ]+[_ ]?", column.heading[0])
        least = max(map(cell_len, [*column.cells, *words]), default=0)
        if cell_len(column.heading[0]) - least < _BREAK_SAVES:
            continue
        lines = [""]
        for word in words:
            if lines[-1] and cell_len(lines[-1] + word) > least:
                lines.append("")
            lines[-1] += word
        column.heading = [line.rstrip() for line in lines]


def _wrap_sentences(width: int) -> Callable[[list[_Column]], None]:
    def wrap(columns: list[_Column]) -> None:
        sentences = [column for column in columns if column.is_sentence]
        if not sentences:
            return
        room = width - _width_of([column for column in columns if not column.is_sentence])
        each = room // len(sentences) - _GAP
        if each >= _SENTENCE:
            for column in sentences:
                column.wrapped_to = each

    return wrap


def _lines(
    beside: Sequence[_Column], below: Sequence[_Column], width: int, console: Console
) -> Iterator[Text]:
    if beside:
        for line in range(max(len(column.heading) for column in beside)):
            parts = [
                _padded(Text(_at(column.heading, line), style="bold"), column) for column in beside
            ]
            yield _joined(parts)
        yield Text(drawable("─", "-") * min(width, _width_of(beside)), style="dim")
    for number in range(len((beside or below)[0].cells)):
        cells = [_wrapped(column, number, console) for column in beside]
        for line in range(max(map(len, cells), default=0)):
            yield _joined(
                _padded(text[line] if line < len(text) else Text(), column)
                for text, column in zip(cells, beside, strict=True)
            )
        yield from _under(below, number, width, console)


def _under(columns: Sequence[_Column], number: int, width: int, console: Console) -> Iterator[Text]:
    """What there is no room for beside a row: names and values, then sentences."""
    told = [column for column in columns if column.cells[number] != "-"]
    values = [f"{column.name} {column.cells[number]}" for column in told if not column.is_sentence]
    sentences = [column.cells[number] for column in told if column.is_sentence]
    parts = ["  ".join([*values, *sentences[:1]]), *sentences[1:]] if told else []
    for part in parts:
        for line in Text(part).wrap(console, width - len(_INDENT)):
            line.rstrip()
            yield Text(_INDENT, style="dim") + line


def _draw_rows(console: Console, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    names = [escape(name) for name in columns]
    indent = max(map(cell_len, names))
    for number, row in enumerate(rows, start=1):
        console.rule(f"row {number}", align="left", style="dim")
        for name, value in zip(names, row, strict=True):
            # The terminal wraps long lines, so that text copied from it has no line breaks.
            console.print(Text(name.ljust(indent)), Text(cell(value)), soft_wrap=True)


def _wrapped(column: _Column, number: int, console: Console) -> list[Text]:
    text = column.cells[number]
    whole = Text(text, style=STYLES.get(text, ""))
    if column.wrapped_to is None or cell_len(text) <= column.wrapped_to:
        return [whole]
    lines = list(whole.wrap(console, column.wrapped_to))
    for line in lines:
        line.rstrip()
    return lines


def _at(lines: Sequence[str], number: int) -> str:
    return lines[number] if number < len(lines) else ""


def _padded(text: Text, column: _Column) -> Text:
    padding = " " * (column.width - cell_len(text.plain))
    return Text(padding) + text if column.is_numeric else text + Text(padding)


def _joined(parts: Iterable[Text]) -> Text:
    line = Text(" " * _GAP).join(parts)
    line.rstrip()
    return line
