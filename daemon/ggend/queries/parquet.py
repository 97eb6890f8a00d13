"""Parquet: a table as a file that pandas, DuckDB, Spark and others read. Needs pyarrow.

A column has one type there: that of its declaration, and in a view that of its first values.
Integers are 64 bits; times and JSON are texts, as they are stored. A value of another type, which
SQLite allows, is refused: it would be lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ggend.errors import DatabaseUnusable
from ggend.queries.export import TableExport

__all__ = ["write_parquet"]

#: Rows of a group: some MiB, and what a reader takes at a time.
_GROUP_ROWS = 65_536

Row = tuple[object, ...]


def write_parquet(export: TableExport, blocks: Iterable[Sequence[Row]], path: Path) -> None:
    """Write the rows.

    Raises OSError, DatabaseUnusable for a value of another type than its column, and
    ModuleNotFoundError without pyarrow.
    """
    import pyarrow
    from pyarrow import parquet

    groups = _groups(blocks)
    first: list[Row] = next(groups, [])
    fields = [
        pyarrow.field(name, _type(pyarrow, declared, [row[place] for row in first]))
        for place, (name, declared) in enumerate(zip(export.columns, export.types, strict=True))
    ]
    schema = pyarrow.schema(fields, metadata={"ggend.table": export.table})
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for rows in [first, *groups] if first else []:
            writer.write_table(_table(pyarrow, schema, rows, export.table))


def _groups(blocks: Iterable[Sequence[Row]]) -> Iterator[list[Row]]:
    group: list[Row] = []
    for rows in blocks:
        group += rows
        if len(group) >= _GROUP_ROWS:
            yield group
            group = []
    if group:
        yield group


def _type(pyarrow: Any, declared: str, values: Sequence[object]) -> Any:
    """Return the type of a column: that of its declaration, else that of its first values."""
    kinds = {type(value) for value in values if value is not None}
    declared = declared.upper()
    if declared == "INTEGER" or (not declared and kinds == {int}):
        return pyarrow.int64()
    if declared == "REAL" or (not declared and kinds and kinds <= {int, float}):
        return pyarrow.float64()
    return pyarrow.binary() if declared == "BLOB" else pyarrow.string()


def _table(pyarrow: Any, schema: Any, rows: Sequence[Row], table: str) -> Any:
    arrays = []
    for field, values in zip(schema, zip(*rows, strict=True), strict=True):
        try:
            arrays.append(pyarrow.array(values, field.type))
        except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError, OverflowError) as error:
            raise DatabaseUnusable(
                f"{table}.{field.name} holds a value that is no {field.type}: {error}",
                hint="Parquet has one type for a column; `--format ndjson` exports any value",
            ) from error
    return pyarrow.Table.from_arrays(arrays, schema=schema)
