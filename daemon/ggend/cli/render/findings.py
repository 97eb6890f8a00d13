"""Findings: the progress line and the report of `ggend init` and `ggend check`."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import click
import msgspec

from ggend.cli.render.output import escape, show, show_json, show_line
from ggend.database.findings import Finding, Verdict
from ggend.errors import UsageMistake
from ggend.queries.result import Result

__all__ = ["Report", "at_work", "finish", "log_report"]

_STYLES = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.FAILED: "bold red"}


class Tell(Protocol):
    """Reports the current step and, if known, the share of it that is done, from 0 to 1."""

    def __call__(self, what: str, share: float | None = None) -> None: ...


class Report(msgspec.Struct, kw_only=True):
    """The findings of a command about one database."""

    database: str
    #: The change that the command made, in a sentence.
    done: str
    findings: list[Finding]
    bytes: int = 0
    wal_bytes: int = 0
    rows: dict[str, int] = {}


@contextlib.contextmanager
def at_work() -> Iterator[Tell]:
    """Show the current step on standard error while the work lasts, if that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TimeElapsedColumn(),
        console=console,
        # FORCE_COLOR makes every stream a terminal.
        disable=not (console.is_terminal and sys.stderr.isatty()),
        transient=True,
    ) as bar:
        task = bar.add_task("starting", total=None)

        def tell(what: str, share: float | None = None) -> None:
            bar.update(task, description=what, total=None if share is None else 1, completed=share)

        yield tell


def finish(report: Report, *, as_json: bool) -> None:
    """Print the report; exit with status 65 if a check failed."""
    if as_json:
        show_json(report)
    else:
        if report.done:
            show_line(report.done)
        _show_findings(report.findings)
        if report.rows:
            show_line("")
            show(Result(columns=["table", "rows"], rows=list(report.rows.items())))
            show_line(f"{_size(report.bytes)}, plus {_size(report.wal_bytes)} in the WAL")
    if any(one.verdict is Verdict.FAILED for one in report.findings):
        raise click.exceptions.Exit(os.EX_DATAERR)


def log_report(report: Report, file: Path) -> None:
    """Append the report to a file, a line for each finding."""
    now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    lines: Sequence[tuple[str, str, str]] = [
        ("", "done", report.done),
        *((one.verdict, one.what, one.detail) for one in report.findings),
        *(("rows", table, str(rows)) for table, rows in report.rows.items()),
    ]
    text = "".join(
        f"{now} {escape(' '.join((report.database, *filter(None, line))))}\n" for line in lines
    )
    try:
        with open(file, "a", encoding="utf-8", opener=_open_at_once) as log:
            log.write(text)
    except OSError as error:
        raise UsageMistake(
            f"the report cannot be written to {file}: {error.strerror}",
            hint="give --log a file in a directory that this user may write to",
        ) from error


def _open_at_once(path: str, flags: int) -> int:
    """Open a file; a FIFO that nobody reads is an error and not waited for."""
    descriptor = os.open(path, flags | os.O_NONBLOCK, 0o666)
    os.set_blocking(descriptor, True)
    return descriptor


def _show_findings(findings: Sequence[Finding]) -> None:
    """On a terminal long details are wrapped beside their verdict; in a pipe each has a line."""
    if not sys.stdout.isatty():
        rows = [(one.what, one.verdict, one.detail) for one in findings]
        show(Result(columns=["what", "verdict", "detail"], rows=list(rows)))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for one in findings:
        table.add_row(
            Text(one.verdict, style=_STYLES[one.verdict]), one.what, Text(escape(one.detail))
        )
    Console().print(table)


def _size(count: int) -> str:
    return f"{count / 2**20:,.1f} MiB" if count >= 2**20 else f"{count / 2**10:,.0f} KiB"
