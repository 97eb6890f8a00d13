"""Formats: rows and values as text for programs and people, without terminal control characters.

Pure, and piece by piece if the format allows it. Stored text came from other programs, so control
and escape characters in it are always escaped here. Never prints.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum

import msgspec

__all__ = [
    "Format",
    "cell",
    "escape",
    "is_numeric",
    "json_text",
    "pieces",
    "with_zones",
]


class Format(StrEnum):
    """How rows are printed."""

    TABLE = "table"
    JSON = "json"
    NDJSON = "ndjson"
    CSV = "csv"
    MARKDOWN = "markdown"


#: Characters that a terminal may interpret, reorder or not show: C0 and C1 controls, line and
#: paragraph separators, marks that change the direction of text, what has no width, the tags that
#: spell invisible text, and lone surrogates.
_UNSAFE = (
    r"\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    r"\ufff9-\ufffb\U000e0000-\U000e007f\ud800-\udfff"
)
_UNSAFE_CHARACTER = re.compile(f"[{_UNSAFE}]")
#: In CSV a quoted field may hold line breaks and tabs.
_UNSAFE_IN_CSV = re.compile(rf"(?![\n\t])[{_UNSAFE}]")
#: Between the tokens of JSON there is white space; inside them the encoder escapes it already.
_UNSAFE_IN_JSON = re.compile(rf"(?![\n])[{_UNSAFE}]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
#: Characters that would end a cell of a Markdown table, or turn stored text into markup.
_MARKDOWN = re.compile(r"[\\`*\[\]<>|]")

#: Below this, each whole number is a float of its own.
_EXACT = 2**53

#: Columns that hold JSON: in JSON output they are JSON, and not a text.
_JSON_COLUMNS = frozenset({"receipt_json", "memory_json", "collision_history", "context_json"})

#: Columns that SQLite's CURRENT_TIMESTAMP fills, or the daemon in the same notation: UTC.
_SQLITE_TIMES = frozenset({"created_at", "updated_at"})
_SQLITE_TIME = re.compile(r"^(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d(?:\.\d+)?)$")

Row = Sequence[object]


def escape(text: str) -> str:
    """Escape the characters that a terminal would interpret."""
    return _UNSAFE_CHARACTER.sub(_escaped, text)


def cell(value: object) -> str:
    """Show one value in a table; a number without its `.0`."""
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        value = int(value)
    return "-" if value is None else escape(str(_plain(value)))


def is_numeric(column: Iterable[object]) -> bool:
    """Return whether a column of values is right-aligned."""
    return all(value is None or isinstance(value, (int, float)) for value in column)


def json_text(value: object, *, indent: int = 2) -> str:
    """Return one JSON value as text; negative `indent`: on one line."""
    try:
        encoded = msgspec.json.encode(value, enc_hook=str)
    except UnicodeEncodeError:
        import json

        # Only file names hold lone surrogates. JSON cannot, so they are escaped as in a table.
        plain = json.dumps(msgspec.to_builtins(value, enc_hook=str), ensure_ascii=False)
        encoded = _SURROGATE.sub(lambda found: "\\" + _escaped(found), plain).encode()
    text = msgspec.json.format(encoded, indent=indent).decode()
    return _UNSAFE_IN_JSON.sub(_escaped_in_json, text)


def pieces(columns: Sequence[str], rows: Iterable[Row], form: Format) -> Iterator[str]:
    """Return rows as text, header first; each piece ends with a line break.

    All forms but the table are made row by row.
    """
    match form:
        case Format.TABLE:
            return _aligned(columns, list(with_zones(columns, rows)))
        case Format.JSON:
            return _json_array(columns, rows)
        case Format.NDJSON:
            return _json_lines(columns, rows)
        case Format.CSV:
            return _csv(columns, rows)
        case Format.MARKDOWN:
            return _markdown(columns, rows)


def _escaped_in_json(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape", "surrogatepass").decode()


def _plain(value: object) -> object:
    return value.hex() if isinstance(value, bytes) else value


def _distinct(names: Sequence[str]) -> list[str]:
    """Make column names distinct: `SELECT a, a` has two equal ones, a JSON object cannot."""
    seen: dict[str, int] = {}
    distinct = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        distinct.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return distinct


def _objects(columns: Sequence[str], rows: Iterable[Row]) -> Iterator[dict[str, object]]:
    names = _distinct(columns)
    for row in with_zones(columns, rows):
        yield {
            name: _json_value(value) if column in _JSON_COLUMNS else _plain(value)
            for name, column, value in zip(names, columns, row, strict=True)
        }


def _json_value(value: object) -> object:
    """Return what a JSON column holds, digit by digit as it was stored; text if it is no JSON."""
    if not isinstance(value, str):
        return _plain(value)
    try:
        return msgspec.json.decode(value, type=msgspec.Raw)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return value


def with_zones(columns: Sequence[str], rows: Iterable[Row]) -> Iterable[Row]:
    """Give the times that SQLite itself wrote the zone that they are in, and their `T`."""
    places = [place for place, column in enumerate(columns) if column in _SQLITE_TIMES]
    if not places:
        return rows
    return (
        [
            _SQLITE_TIME.sub(r"\1T\2Z", value)
            if place in places and isinstance(value, str)
            else value
            for place, value in enumerate(row)
        ]
        for row in rows
    )


def _json_array(columns: Sequence[str], rows: Iterable[Row]) -> Iterator[str]:
    before = "[\n"
    for row in _objects(columns, rows):
        # Strings hold no line breaks in JSON: these are all the formatter's.
        yield before + "  " + json_text(row).replace("\n", "\n  ")
        before = ",\n"
    yield "[]\n" if before == "[\n" else "\n]\n"


def _json_lines(columns: Sequence[str], rows: Iterable[Row]) -> Iterator[str]:
    for row in _objects(columns, rows):
        yield json_text(row, indent=-1) + "\n"


def _csv(columns: Sequence[str], rows: Iterable[Row]) -> Iterator[str]:
    import csv
    import io

    line = io.StringIO()
    writer = csv.writer(line, lineterminator="\n")
    for row in _with_header(columns, with_zones(columns, rows)):
        writer.writerow(
            _UNSAFE_IN_CSV.sub(_escaped, value) if isinstance(value, str) else value
            for value in map(_plain, row)
        )
        yield line.getvalue()
        line.seek(0)
        line.truncate()


def _markdown(columns: Sequence[str], rows: Iterable[Row]) -> Iterator[str]:
    yield _markdown_line(map(_markdown_cell, columns))
    yield _markdown_line("---" for _ in columns)
    for row in with_zones(columns, rows):
        yield _markdown_line(map(_markdown_cell, row))


def _markdown_line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |\n"


def _markdown_cell(value: object) -> str:
    return _MARKDOWN.sub(lambda found: "\\" + found[0], cell(value))


def _aligned(columns: Sequence[str], rows: Sequence[Row]) -> Iterator[str]:
    cells = [[cell(value) for value in row] for row in _with_header(columns, rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    numeric = [is_numeric(column) for column in zip(*rows, strict=True)]
    numeric = numeric or [False] * len(widths)
    for row in cells:
        aligned = (
            text.rjust(width) if is_number else text.ljust(width)
            for text, width, is_number in zip(row, widths, numeric, strict=True)
        )
        yield "  ".join(aligned).rstrip() + "\n"


def _with_header(columns: Sequence[str], rows: Iterable[Row]) -> Iterator[Row]:
    yield columns
    yield from rows
