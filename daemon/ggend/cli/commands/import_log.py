"""`ggend import ggen-log`: import receipt logs of `ggen sync`, once or continuously."""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import click
import msgspec

from ggend.cli.common.chosen import chosen_socket
from ggend.cli.common.command import command
from ggend.cli.common.delivery import require_daemon
from ggend.cli.common.options import (
    PATH,
    agents_option,
    batch_timeout_option,
    format_option,
    socket_option,
)
from ggend.cli.render.formats import Format
from ggend.cli.render.import_report import Problems, show_reports
from ggend.cli.render.output import complain, progress
from ggend.encodings import checked_chunks
from ggend.errors import DaemonUnreachable, UsageMistake
from ggend.importers.delivery import CHUNK_BYTES, CHUNK_LINES, LineDelivery, numbered_line
from ggend.importers.ggen_log import DEFAULT_AGENT, LogLine, LogReader
from ggend.importers.log_follower import Stopped, follow
from ggend.importers.one_document import LOOK_BYTES, check_lines, lines_checked
from ggend_schema.events import ReceiptEmitted

__all__ = ["ggen_log"]

#: Bytes of a log read at once: some hundred lines.
_READ_BYTES = 1024 * 1024


class _Report(msgspec.Struct, kw_only=True):
    """The result for one file. The last five columns count lines or events."""

    file: str
    lines: int = 0
    receipts: int = 0
    audit_entries: int = 0
    new: int = 0
    already_there: int = 0
    chain_breaks: int = 0
    unreadable: int = 0
    rejected: int = 0


class _Import:
    """Sends the lines of one log to the daemon, and counts."""

    __slots__ = ("_delivery", "_lines", "_numbers", "_problems", "_size", "report")

    def __init__(self, file: Path, delivery: LineDelivery) -> None:
        self._delivery = delivery
        self._problems = Problems(str(file))
        self._lines: list[bytes] = []
        self._numbers: list[int] = []
        self._size = 0
        self.report = _Report(file=str(file))

    def take(self, line: LogLine) -> None:
        """Take in one line. Raises DaemonUnreachable."""
        report = self.report
        if line.problem is not None:
            report.unreadable += 1
            self._problems.tell_line(line.number, line.problem)
        if line.chain_break is not None:
            report.chain_breaks += 1
            self._problems.tell_line(line.number, f"the chain is broken: {line.chain_break}")
        for sequence, event in enumerate(line.events, start=1):
            if isinstance(event, ReceiptEmitted):
                report.receipts += 1
            else:
                report.audit_entries += 1
            encoded = numbered_line(event, line.producer, sequence)
            self._lines.append(encoded)
            self._numbers.append(line.number)
            self._size += len(encoded)
        if self._size >= CHUNK_BYTES or len(self._lines) >= CHUNK_LINES:
            self.flush()

    def flush(self) -> None:
        """Wait until what was taken in is stored or refused. Raises DaemonUnreachable."""
        if not self._lines:
            return
        answer = self._delivery.send(self._lines)
        report = self.report
        report.new += answer.stored
        report.already_there += answer.replayed + answer.duplicate
        report.rejected += answer.rejected + answer.refused
        self._problems.tell_importers(answer)
        for error in answer.errors:
            self._problems.tell_line(
                self._numbers[error.line - 1], f"{error.code}: {error.message}"
            )
        self._lines, self._numbers, self._size = [], [], 0

    def end(self, lines: int) -> None:
        """Finish: so many lines were read."""
        self.flush()
        self.report.lines = lines
        self._problems.end()


@command()
@click.argument("files", nargs=-1, type=PATH, required=True, metavar="FILE", help="Logs to read.")
@click.option(
    "--follow",
    "keep_reading",
    is_flag=True,
    help="Keep reading appended lines until Ctrl-C. FILE need not exist yet.",
)
@agents_option(DEFAULT_AGENT, "The agent of the receipts, which these logs do not contain.")
@socket_option
@batch_timeout_option
@format_option
def ggen_log(
    *,
    files: tuple[Path, ...],
    keep_reading: bool,
    agent: str,
    socket: Path | None,
    timeout: float,
    form: Format,
) -> None:
    """Import receipt-log.jsonl files of ggen sync.

    Each line becomes a receipt, plus an audit entry for each file that it wrote or injected into. A
    line is identified by its chain hash and the agent, so it is imported only once, even if the
    file has grown, was repaired or comes from another branch. The table shows how many lines were
    new.

    A record without duration_ms (a whole number, in the record or the payload) is stored with 0 ms
    and marked as having an unknown duration: it counts as an execution, but in no average and no
    objective. An origin that is a short text becomes the environment.

    Each record is checked to continue the record before it. A break is reported with its line
    number, and the import continues, as it does after an unreadable line. Payload hashes (BLAKE3)
    and signatures are not verified: a line that was altered but kept its chain hash is not
    detected.

    With --follow, the command keeps reading logs that are rotated, truncated or briefly missing,
    and waits for a restarting daemon. SIGINT and SIGTERM end it with the table and status 0 (69 if
    lines are still waiting for the daemon).

    Exit status: 0 all events are stored (there may be chain breaks), 65 some lines were unreadable
    or rejected, 69 the daemon is not reachable.

    Examples:

        ggend import ggen-log receipt-log.jsonl
        ggend import ggen-log --format json receipt-log.jsonl
    """
    place = chosen_socket(socket)
    _check_beginnings(files)
    if keep_reading:
        reports = _follow(files, agent, place, timeout)
    else:
        reports = _import_once(files, agent, place, timeout)
    complain(
        "checked: the links between records; not verified: payload hashes (BLAKE3), signatures"
    )
    show_reports(reports, form)
    if not keep_reading and any(report.unreadable or report.rejected for report in reports):
        raise click.exceptions.Exit(os.EX_DATAERR)


def _check_beginnings(files: Sequence[Path]) -> None:
    """Refuse documents before anything is sent. Raises NotLines."""
    for file in files:
        # A file that cannot be opened is reported when it is read; a pipe can be read only once.
        with suppress(OSError):
            if file.is_file():
                with file.open("rb") as log:
                    check_lines(log.read(LOOK_BYTES), str(file))


def _import_once(
    files: Sequence[Path], agent: str, socket: Path | None, timeout: float
) -> list[_Report]:
    for file in files:
        try:
            problem = "it is a directory" if stat.S_ISDIR(file.stat().st_mode) else ""
        except OSError as error:
            problem = error.strerror or str(error)
        if problem:
            raise UsageMistake(
                f"{file} cannot be read: {problem}",
                hint="give the path of a receipt-log.jsonl; --follow waits until the file exists",
            )
    require_daemon(socket)
    delivery = LineDelivery(
        socket, timeout_seconds=timeout, patience_seconds=timeout, notice=complain
    )
    with progress() as bar:
        return [
            _import(
                file,
                agent,
                delivery,
                partial(bar.advance, bar.add_task(file.name, total=file.stat().st_size)),
            )
            for file in files
        ]


def _import(
    file: Path, agent: str, delivery: LineDelivery, advance: Callable[[int], None]
) -> _Report:
    taken = _Import(file, delivery)
    try:
        with file.open("rb") as log:
            reader = LogReader(agent=agent, modified_ns=os.fstat(log.fileno()).st_mtime_ns)
            chunks = iter(partial(log.read, _READ_BYTES), b"")
            for chunk in lines_checked(checked_chunks(chunks, str(file)), str(file)):
                for line in reader.feed(chunk):
                    taken.take(line)
                advance(len(chunk))
    except OSError as error:
        raise UsageMistake(
            f"{file} cannot be read: {error.strerror or error}", hint="earlier lines are stored"
        ) from error
    for line in reader.finish():
        taken.take(line)
    taken.end(reader.lines)
    return taken.report


def _follow(
    files: Sequence[Path], agent: str, socket: Path | None, timeout: float
) -> list[_Report]:
    with Stopped.on_signals() as stopped:
        delivery = LineDelivery(
            socket,
            timeout_seconds=timeout,
            patience_seconds=math.inf,
            notice=complain,
            pause=stopped.pause,
        )
        logs = [(file, _Import(file, delivery)) for file in files]
        complain(f"following {', '.join(map(str, files))}; press Ctrl-C to stop")
        try:
            for (_, taken), lines in zip(logs, follow(logs, agent, stopped.after), strict=True):
                taken.end(lines)
        except Stopped as error:
            raise DaemonUnreachable(
                "stopped while waiting for the daemon: the last lines are not stored",
                hint="run this again when the daemon is running; stored lines are not added twice",
            ) from error
    return [taken.report for _, taken in logs]
