"""`ggend export`: write whole tables for other programs."""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TypeAlias

import click

from ggend.cli.common.choice import OneOf
from ggend.cli.common.chosen import chosen_database
from ggend.cli.common.command import command
from ggend.cli.common.completion import complete_tables
from ggend.cli.common.filters import since_option, until_option
from ggend.cli.common.options import PATH, database_option
from ggend.cli.render.output import escape, progress, show_line
from ggend.errors import GgendError, UsageMistake
from ggend.queries.export import ExportForm, TableExport, encode, exports
from ggend.queries.parquet import write_parquet
from ggend.queries.snapshot import snapshot
from ggend.queries.time_filters import parse_period

__all__ = ["export"]

_Block: TypeAlias = list[tuple[object, ...]]


class _NotWritten(GgendError):
    """The output could not be written."""

    code = "not_written"
    exit_status = os.EX_IOERR


@command()
@click.argument(
    "table",
    metavar="TABLE",
    help="The name of a table or view, or `all`.",
    shell_complete=complete_tables,
)
@database_option
@click.option(
    "--format",
    "-f",
    "form",
    type=OneOf(ExportForm),
    help="Output format. Default: by the ending of --output, else ndjson. Parquet needs --output "
    "and the extra `parquet`.",
)
@since_option
@until_option
@click.option("--own", is_flag=True, help="With `all`: include ggend's own tables.")
@click.option(
    "--output", "-o", type=PATH, help="A file, or a directory for `all`. Default: standard output."
)
def export(
    *,
    table: str,
    database: Path | None,
    form: ExportForm | None,
    since: str | None,
    until: str | None,
    own: bool,
    output: Path | None,
) -> None:
    """Export a table or view, or all public tables from a single snapshot, as they are stored.

    JSON columns are exported as text, so that nothing is lost. --since and --until compare a row's
    timestamp; `all` exports tables without a timestamp completely. On standard output, `all`
    writes NDJSON objects whose first key is `table`. An output file is created, or replaced, only
    when it is complete.

    Examples:

        ggend export receipts --format csv --output receipts.csv
        ggend export audit_log --since 7d > audit.ndjson
        ggend export all --output exported
        ggend export recent_executions --format csv
    """
    form = form or _form_of(output)
    begin, end = parse_period(since, until, now=datetime.now(UTC))
    if table == "all" and output is None and form is not ExportForm.NDJSON:
        raise UsageMistake(
            f"several tables cannot be written as one {form} text",
            hint="use --output DIRECTORY to write one file per table, or use --format ndjson",
        )
    if form is ExportForm.PARQUET and output is None:
        raise UsageMistake("Parquet needs a file", hint=f"give --output {table}.parquet")
    with snapshot(chosen_database(database)) as connection:
        wanted = exports(
            connection,
            table,
            since=begin,
            until=end,
            with_own=own,
        )
        if output is None:
            for part in wanted:
                pieces = encode(part, part.blocks(connection), form, with_table=table == "all")
                _to_standard_output(pieces)
            return
        try:
            directory = output if table == "all" or output.is_dir() else None
            if directory is not None:
                directory.mkdir(parents=True, exist_ok=True)
            targets = {
                output if directory is None else directory / f"{part.table}.{form}": part
                for part in wanted
            }
            _refuse_others(targets)
            _to_files(connection, targets, form)
            sizes = {path: path.stat().st_size for path in targets}
        except OSError as error:
            raise _NotWritten(
                f"{output} cannot be written: {error.strerror or error}",
                hint="no incomplete file was left under its final name",
            ) from error
    for path, size in sizes.items():
        show_line(f"{path}: {size:,} bytes")


def _refuse_others(targets: Iterable[Path]) -> None:
    """Raise _NotWritten where a device, a FIFO or a directory would be replaced by a file."""
    for path in targets:
        if path.exists() and not path.is_file():
            raise _NotWritten(
                f"{path} is not a file, and is not replaced by one",
                hint="without --output the rows go to standard output",
            )


def _form_of(output: Path | None) -> ExportForm:
    """Return the format that the ending of a file names."""
    ending = "" if output is None else output.suffix.removeprefix(".")
    return ExportForm(ending) if ending in list(ExportForm) else ExportForm.NDJSON


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
    """Write all files under temporary names, and rename them when all are on the disk."""
    with ExitStack() as cleanup:
        bar = cleanup.enter_context(progress(rows=True))
        for path, part in targets.items():
            cleanup.callback(_partial(path).unlink, missing_ok=True)
            task = bar.add_task(part.table, total=part.total)
            blocks = _counted(part.blocks(connection), partial(bar.advance, task))
            _write(part, blocks, form, _partial(path))
        for path in targets:
            _partial(path).replace(path)


def _write(part: TableExport, blocks: Iterable[_Block], form: ExportForm, path: Path) -> None:
    if form is ExportForm.PARQUET:
        write_parquet(part, blocks, path)
    else:
        with path.open("wb") as file:
            for piece in encode(part, blocks, form):
                file.write(piece)
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _counted(blocks: Iterable[_Block], count: Callable[[int], None]) -> Iterator[_Block]:
    for block in blocks:
        yield block
        count(len(block))


def _partial(path: Path) -> Path:
    return path.with_name(path.name + ".partial")
