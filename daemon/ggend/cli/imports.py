"""`ggend import`: bring in what other programs have logged."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import IO, Annotated

import msgspec
import typer

from ggend.cli.delivery import Delivery, require_daemon
from ggend.cli.options import FormatOption, SocketOption, chosen_socket
from ggend.cli.output import Format, complain, progress, show
from ggend.errors import UsageMistake
from ggend.ggen_log import DEFAULT_AGENT, LogLine, LogReader
from ggend.queries import Result
from ggend_schema.events import ReceiptEmitted
from ggend_schema.limits import NAME_CHARS

__all__ = ["imports"]

imports = typer.Typer(
    help="Bring in what other programs have logged. Importing again adds nothing.",
    no_args_is_help=True,
)

#: Bytes of a log read at once: some hundred lines.
_CHUNK_BYTES = 1024 * 1024

_CLIENT_NAME = "ggend import"

#: Problems of one file that are spelled out; the table counts them all.
_SHOWN_PROBLEMS = 20


class _Report(msgspec.Struct, kw_only=True):
    """What one file brought."""

    file: str
    lines: int = 0
    receipts: int = 0
    audit_entries: int = 0
    chain_breaks: int = 0
    unreadable_lines: int = 0
    rejected: int = 0


@imports.callback()
def _group() -> None:
    """Bring in what other programs have logged. Importing again adds nothing."""


@imports.command(name="ggen-log")
def ggen_log(
    files: Annotated[
        list[Path],
        typer.Argument(
            exists=True, dir_okay=False, readable=True, metavar="FILE", help="Logs to read."
        ),
    ],
    *,
    agent: Annotated[
        str, typer.Option(help="The agent of the receipts: these logs name none.")
    ] = DEFAULT_AGENT,
    socket: SocketOption = None,
    timeout: Annotated[
        float, typer.Option(min=0.1, help="Seconds to wait for the daemon to store a part.")
    ] = 30.0,
    form: FormatOption = Format.TABLE,
) -> None:
    """Import receipt-log.jsonl files of ggen sync.

    A line becomes a receipt, and an audit entry for each file that it wrote or injected into. The
    daemon recognises what it has already, so a log that has grown can be imported again. A line
    that cannot be read, and a break in the chain of hashes, are reported with their line; the rest
    goes in.

    Exit status: 0 everything is stored (chain breaks or not), 65 some lines could not be read or
    were rejected, 69 the daemon is not there.

    Example:
        ggend import ggen-log ~/project/.ggen/receipt-log.jsonl
    """
    if not (agent.isprintable() and 1 <= len(agent) <= NAME_CHARS):
        raise UsageMistake(
            f"{agent!r} cannot be an agent",
            hint=f"--agent takes 1 to {NAME_CHARS} printable characters",
        )
    place = chosen_socket(socket)
    require_daemon(place)
    reports = []
    with progress() as bar:
        for file in files:
            task = bar.add_task(file.name, total=file.stat().st_size)
            reports.append(_import(file, agent, place, timeout, partial(bar.advance, task)))
    columns = list(_Report.__struct_fields__)
    rows = [msgspec.structs.astuple(report) for report in reports]
    show(Result(columns=[column.replace("_", " ") for column in columns], rows=rows), form=form)
    if any(report.unreadable_lines or report.rejected for report in reports):
        raise typer.Exit(os.EX_DATAERR)


def _import(
    file: Path,
    agent: str,
    socket: Path | None,
    timeout: float,
    advance: Callable[[int], None],
) -> _Report:
    report = _Report(file=str(file))
    delivery: Delivery | None = None
    with ExitStack() as stack:
        log = stack.enter_context(file.open("rb"))
        reader = LogReader(agent=agent, modified_ns=os.fstat(log.fileno()).st_mtime_ns)
        for line in _lines(log, reader, advance):
            _count(report, line)
            if line.events and delivery is None:
                # The first readable line decides who the producer is.
                delivery = stack.enter_context(
                    Delivery(
                        socket, name=_CLIENT_NAME, timeout_seconds=timeout, producer=reader.producer
                    )
                )
            if delivery is not None:
                delivery.send(line.events, size=line.size)
        report.lines = reader.lines
        if delivery is not None:
            delivery.flush()
            report.rejected = delivery.rejected
            for reject in delivery.rejects()[:_SHOWN_PROBLEMS]:
                complain(f"{file}: event {reject.sequence} rejected: {reject.message}")
    _count_hidden(report)
    return report


def _lines(log: IO[bytes], reader: LogReader, advance: Callable[[int], None]) -> Iterator[LogLine]:
    while chunk := log.read(_CHUNK_BYTES):
        yield from reader.feed(chunk)
        advance(len(chunk))
    yield from reader.finish()


def _count_hidden(report: _Report) -> None:
    problems = (report.unreadable_lines, report.chain_breaks, report.rejected)
    hidden = sum(max(0, count - _SHOWN_PROBLEMS) for count in problems)
    if hidden:
        complain(f"{report.file}: {hidden} more problems are not shown")


def _count(report: _Report, line: LogLine) -> None:
    if line.problem is not None:
        report.unreadable_lines += 1
        if report.unreadable_lines <= _SHOWN_PROBLEMS:
            complain(f"{report.file}, line {line.number}: {line.problem}")
    if line.chain_break is not None:
        report.chain_breaks += 1
        if report.chain_breaks <= _SHOWN_PROBLEMS:
            complain(f"{report.file}, line {line.number}: the chain is broken: {line.chain_break}")
    for event in line.events:
        if isinstance(event, ReceiptEmitted):
            report.receipts += 1
        else:
            report.audit_entries += 1
