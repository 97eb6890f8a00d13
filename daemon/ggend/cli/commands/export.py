"""`ggend export`: whole tables for other programs."""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from ggend.cli.common.options import DatabaseOption, chosen_database
from ggend.cli.render.output import escape, progress, show_line
from ggend.errors import GgendError, UsageMistake
from ggend.queries.export import ExportForm, TableExport, encode, exports
from ggend.queries.snapshot import snapshot
from ggend.queries.time_filters import parse_moment

__all__ = ["export"]

_Block: TypeAlias = list[tuple[object, ...]]


class _NotWritten(GgendError):
    """The output could not be written."""

    code = "not_written"
    exit_status = os.EX_IOERR


def export(
    table: Annotated[str, typer.Argument(metavar="TABLE", help="A table's name, or `all`.")],
    *,
    database: DatabaseOption = None,
    form: Annotated[
        ExportForm, typer.Option("--format", "-f", help="One JSON a line, CSV, or one JSON value.")
    ] = ExportForm.NDJSON,
    since: Annotated[
        str | None, typer.Option(help="Not what is older: an age such as 24h or 7d, or a date.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="Only what is older: an age such as 24h or 7d, or a date.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="A file; for `all` a directory. Default: standard output."
        ),
    ] = None,
) -> None:
    """Export a table, or all of them as of one moment; every value as it is stored.

    JSON columns stay texts, so that nothing is lost. --since and --until go by the timestamp of a
    row; `all` exports tables without one whole. To standard output, `all` is NDJSON whose objects
    name their `table` first. A file appears, and replaces an older one, only when it is complete.

    Examples:

        ggend export receipts --format csv --output receipts.csv
        ggend export audit_log --since 7d > audit.ndjson
        ggend export all --output exported
    """
    now = datetime.now(UTC)
    if table == "all" and output is None and form is not ExportForm.NDJSON:
        raise UsageMistake(
            f"several tables are not one {form} text",
            hint="--output DIRECTORY makes a file of each; or use --format ndjson",
        )
    with snapshot(chosen_database(database)) as connection:
        wanted = exports(
            connection,
            table,
            since=since and parse_moment(since, now=now),
            until=until and parse_moment(until, now=now),
        )
        if output is None:
            for part in wanted:
                pieces = encode(part, part.blocks(connection), form, with_table=table == "all")
                _to_standard_output(pieces)
            return
        directory = output if table == "all" or output.is_dir() else None
        try:
            if directory is not None:
                directory.mkdir(parents=True, exist_ok=True)
            targets = {
                output if directory is None else directory / f"{part.table}.{form}": part
                for part in wanted
            }
            _to_files(connection, targets, form)
            sizes = {path: path.stat().st_size for path in targets}
        except OSError as error:
            raise _NotWritten(
                f"{output} cannot be written: {error.strerror or error}",
                hint="nothing that looks complete was left behind",
            ) from error
    for path, size in sizes.items():
        show_line(f"{path}: {size:,} bytes")


def _to_standard_output(pieces: Iterator[bytes]) -> None:
    if sys.stdout.isatty():
        for piece in pieces:
            for line in piece.decode().removesuffix("\n").split("\n"):
                sys.stdout.write(escape(line) + "\n")
        return
    sys.stdout.flush()
    for piece in pieces:
        sys.stdout.buffer.write(piece)


def _to_files(
    connection: sqlite3.Connection, targets: dict[Path, TableExport], form: ExportForm
) -> None:
    """Write all files under other names, and give them theirs when all are on the disk."""
    with ExitStack() as cleanup:
        bar = cleanup.enter_context(progress(rows=True))
        for path, part in targets.items():
            cleanup.callback(_partial(path).unlink, missing_ok=True)
            task = bar.add_task(part.table, total=part.total)
            blocks = _counted(part.blocks(connection), partial(bar.advance, task))
            with _partial(path).open("wb") as file:
                for piece in encode(part, blocks, form):
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
        for path in targets:
            _partial(path).replace(path)


def _counted(blocks: Iterable[_Block], count: Callable[[int], None]) -> Iterator[_Block]:
    for block in blocks:
        yield block
        count(len(block))


def _partial(path: Path) -> Path:
    return path.with_name(path.name + ".partial")
