"""Export: whole tables as bytes, row by row, every stored value as it is.

Never writes to the database, and holds a few rows at a time. The columns are those of the file at
hand, in their order; rows come in order of `id`, or of the primary key.

JSON and NDJSON lose nothing. Texts stay texts, those that hold JSON too: what is inside one is
written exactly as it was stored. What JSON has no word for is an object with one key that begins
with `$`; no stored value looks like that, because stored values are never objects:

    {"$blob": "00ff"}   a BLOB, in hex
    {"$text": "ff"}     a TEXT that is not UTF-8, its bytes in hex
    {"$real": "inf"}    a REAL that is not finite

CSV quotes every text and nothing else, so that NULL (an empty field) and '' differ; a BLOB, a TEXT
that is not UTF-8 and a REAL that is not finite stand as `$blob:00ff`, unquoted.
"""

from __future__ import annotations

import math
import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum

import msgspec

from ggend.errors import UsageMistake
from ggend.queries.schema import PUBLIC_TABLES
from ggend.queries.snapshot import columns_of
from ggend.queries.time_filters import MOMENT
from ggend_schema.spelling import or_nearest

__all__ = ["ExportForm", "TableExport", "encode", "exports"]

#: Rows that are fetched and encoded at a time: a MiB or so, where rows are as large as usual.
_FETCH_ROWS = 1_000

#: What a terminal would act on and JSON lets stand inside its strings.
_UNSAFE = re.compile(r"[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")

#: Table: its moments as a text that julianday() reads. The others have no time of their own.
_MOMENTS = {
    "receipts": "timestamp",
    "agent_memory": "updated_at",
    "audit_log": "timestamp",
    "workflow_sessions": "start_time",
    "collision_detection": "timestamp",
    "pipeline_metrics": "timestamp",
    "slo_violations": "timestamp",
    "slo_breaches": "timestamp",
    "recent_executions": "timestamp",
    "rejected_events": "received_at",
    "producers": "last_seen",
    "parked_events": "strftime('%Y-%m-%dT%H:%M:%fZ', arrival_ns / 1e9, 'unixepoch')",
    "memory_order": "strftime('%Y-%m-%dT%H:%M:%fZ', timestamp_us / 1e6, 'unixepoch')",
}


class ExportForm(StrEnum):
    """How tables are written."""

    NDJSON = "ndjson"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


class TableExport(msgspec.Struct, frozen=True, kw_only=True):
    """One table to export. `total`: rows that will be looked at."""

    table: str
    columns: list[str]
    #: The declared type of each column; empty: none, as in a view.
    types: list[str]
    total: int
    sql: str
    parameters: list[str]

    def blocks(self, connection: sqlite3.Connection) -> Iterator[list[tuple[object, ...]]]:
        """Yield the rows, some at a time."""
        connection.text_factory = _text
        cursor = connection.execute(self.sql, self.parameters)
        while rows := cursor.fetchmany(_FETCH_ROWS):
            yield rows


def exports(
    connection: sqlite3.Connection,
    wanted: str,
    *,
    since: str | None = None,
    until: str | None = None,
    with_own: bool = False,
) -> list[TableExport]:
    """Return what to export for the name of a table or view, or for `all` public tables.

    `with_own`: `all` includes ggend's own tables. Raises UsageMistake.
    """
    columns = columns_of(connection, ("table", "view"))
    if wanted != "all" and wanted not in columns:
        raise UsageMistake(
            f"there is no table or view {wanted!r}{or_nearest(wanted, columns)}",
            hint=f"give `all` or one of {', '.join(columns)}",
        )
    if wanted != "all" and (since or until) and wanted not in _MOMENTS:
        raise UsageMistake(
            f"the rows of {wanted} have no timestamp", hint="leave out --since and --until"
        )
    if wanted != "all":
        tables = [wanted]
    elif with_own:
        tables = list(columns_of(connection))
    else:
        tables = [table for table in columns if table in PUBLIC_TABLES]
    return [_export(connection, table, columns[table], since, until) for table in tables]


def encode(
    export: TableExport,
    blocks: Iterable[Sequence[tuple[object, ...]]],
    form: ExportForm,
    *,
    with_table: bool = False,
) -> Iterator[bytes]:
    """Encode rows, a piece a block. `with_table`: each NDJSON object names its table first."""
    match form:
        case ExportForm.NDJSON:
            first: dict[str, object] = {"table": export.table} if with_table else {}
            for rows in blocks:
                yield "".join(_object(export.columns, row, first) + "\n" for row in rows).encode()
        case ExportForm.JSON:
            before = "[\n"
            for rows in blocks:
                yield (
                    before + ",\n".join(_object(export.columns, row, {}) for row in rows)
                ).encode()
                before = ",\n"
            yield b"[]\n" if before == "[\n" else b"\n]\n"
        case ExportForm.CSV:
            yield (",".join(map(_field, export.columns)) + "\n").encode()
            for rows in blocks:
                yield "".join(",".join(map(_field, row)) + "\n" for row in rows).encode()
        case ExportForm.PARQUET:
            raise ValueError("not row by row: see `parquet`")


def _export(
    connection: sqlite3.Connection,
    table: str,
    columns: list[str],
    since: str | None,
    until: str | None,
) -> TableExport:
    moment = _MOMENTS.get(table)
    limits = []
    if moment is not None and since is not None:
        limits.append((f"{MOMENT.format(time=moment)} >= julianday(?)", since))
    if moment is not None and until is not None:
        limits.append((f"{MOMENT.format(time=moment)} < julianday(?)", until))
    where = f" WHERE {' AND '.join(limit for limit, _ in limits)}" if limits else ""
    order = " ORDER BY id" if "id" in columns and table != "database_identity" else ""
    total = connection.execute(f"SELECT COUNT(*) FROM {_name(table)}").fetchone()[0]  # noqa: S608
    names = ", ".join(map(_name, columns))
    return TableExport(
        table=table,
        columns=columns,
        types=[kind for (kind,) in connection.execute(_TYPES, (table,))],
        total=total,
        # Names of the file's own schema, quoted, and constants of this module.
        sql=f"SELECT {names} FROM {_name(table)}{where}{order}",  # noqa: S608
        parameters=[value for _, value in limits],
    )


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


class _NotUtf8(bytes):
    """A TEXT whose bytes are not UTF-8."""


def _text(stored: bytes) -> str | _NotUtf8:
    try:
        return stored.decode()
    except UnicodeDecodeError:
        return _NotUtf8(stored)


def _marked(value: object) -> tuple[str, str] | None:
    """Return the mark of a value that JSON has no word for, and its text."""
    if isinstance(value, _NotUtf8):
        return "$text", value.hex()
    if isinstance(value, bytes):
        return "$blob", value.hex()
    if isinstance(value, float) and not math.isfinite(value):
        return "$real", str(value)
    return None


def _object(columns: list[str], row: tuple[object, ...], first: dict[str, object]) -> str:
    values = dict(first)
    for name, value in zip(columns, row, strict=True):
        mark = None if type(value) in _PLAIN else _marked(value)
        values[name] = value if mark is None else {mark[0]: mark[1]}
    line = _encode(values).decode()
    if line.isprintable():
        return line
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", line)


def _field(value: object) -> str:
    if value is None:
        return ""
    if type(value) is str:
        return '"' + value.replace('"', '""') + '"'
    mark = None if type(value) is int else _marked(value)
    return repr(value) if mark is None else ":".join(mark)


_TYPES = "SELECT type FROM pragma_table_info(?) ORDER BY cid"
_PLAIN = frozenset({str, int, type(None)})
_encode = msgspec.json.Encoder().encode
