"""`ggend import events`: import each line of an NDJSON file exactly once."""

from __future__ import annotations

import hashlib
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import IO

import click
import msgspec

from ggend.cli.common.chosen import chosen_socket
from ggend.cli.common.command import command
from ggend.cli.common.delivery import require_daemon
from ggend.cli.common.options import PATH, batch_timeout_option, format_option, socket_option
from ggend.cli.render.formats import Format
from ggend.cli.render.import_report import Problems, show_reports
from ggend.cli.render.output import complain, progress
from ggend.encodings import checked_chunks
from ggend.errors import UsageMistake
from ggend.importers.delivery import CHUNK_BYTES, CHUNK_LINES, LineDelivery, numbered
from ggend.importers.one_document import LOOK_BYTES, check_lines
from ggend_schema.codec import decode_line, decode_line_number
from ggend_schema.errors import InvalidEvent
from ggend_schema.framing import LineSplitter, OverlongLine
from ggend_schema.limits import EVENT_BYTES, PRODUCER_BYTES
from ggend_schema.rows import check_row

__all__ = ["events"]

#: Bytes read at once.
_READ_BYTES = 1024 * 1024

#: Bytes kept of a line to which no number can be added.
_HEAD_BYTES = 1024


class _Report(msgspec.Struct, kw_only=True):
    """The result for one file, in lines that are not blank."""

    file: str
    lines: int = 0
    new: int = 0
    already_there: int = 0
    superseded: int = 0
    rejected: int = 0


class _Import:
    """Numbers the lines of one file, sends them to the daemon, and counts.

    A line without its own sequence gets the next number of the file's producer, permanently. An
    invalid line gets one too, because a later version may accept it: it is sent, and the daemon
    rejects it. Invalid lines go in separate chunks, so that the answers to the others count only
    valid lines.
    """

    __slots__ = (
        "_are_valid",
        "_delivery",
        "_lines",
        "_numbers",
        "_problems",
        "_producer",
        "_sequence",
        "_size",
        "report",
    )

    def __init__(self, file: str, producer: bytes, delivery: LineDelivery) -> None:
        self._producer = producer
        self._delivery = delivery
        self._problems = Problems(file)
        self._sequence = 0
        self._lines: list[bytes] = []
        self._numbers: list[int] = []
        self._size = 0
        self._are_valid = True
        self.report = _Report(file=file)

    def take(self, number: int, line: bytes | OverlongLine) -> None:
        """Take in one line. Raises DaemonUnreachable."""
        self.report.lines += 1
        problem = None
        if isinstance(line, OverlongLine):
            problem = f"over the limit of {EVENT_BYTES} bytes"
            encoded = self._numbered(_stand_in(line.head))
        else:
            try:
                check_row(decode_line(line))
            except InvalidEvent as error:
                problem = str(error)
            encoded = self._with_number(line)
        if problem is not None:
            self.report.rejected += 1
            self._problems.tell_line(number, problem)
        if self._lines and (problem is None) is not self._are_valid:
            self.flush()
        self._are_valid = problem is None
        self._lines.append(encoded)
        self._numbers.append(number)
        self._size += len(encoded)
        if self._size >= CHUNK_BYTES or len(self._lines) >= CHUNK_LINES:
            self.flush()

    def flush(self) -> None:
        """Wait until what was taken in is stored or refused. Raises DaemonUnreachable."""
        if not self._lines:
            return
        answer = self._delivery.send(self._lines)
        if self._are_valid:
            report = self.report
            report.new += answer.stored
            report.already_there += answer.replayed + answer.duplicate
            report.superseded += answer.superseded
            report.rejected += answer.rejected + answer.refused
            self._problems.tell_importers(answer)
            for error in answer.errors:
                self._problems.tell_line(
                    self._numbers[error.line - 1], f"{error.code}: {error.message}"
                )
        self._lines, self._numbers, self._size = [], [], 0

    def end(self) -> None:
        """Finish."""
        self.flush()
        self._problems.end()

    def _with_number(self, line: bytes) -> bytes:
        """Return the line with a number: its own, or the next, or else what stands for it."""
        try:
            if decode_line_number(line)[0] is not None:
                return line + b"\n"
        except InvalidEvent:
            return self._numbered(_stand_in(line))
        return self._numbered(line)

    def _numbered(self, line: bytes) -> bytes:
        self._sequence += 1
        encoded = numbered(line, self._producer, self._sequence)
        if len(encoded) > EVENT_BYTES:
            encoded = numbered(_stand_in(line), self._producer, self._sequence)
        return encoded


@command()
@click.argument("file", type=PATH, metavar="FILE|-", help="NDJSON events; - is standard input.")
@socket_option
@batch_timeout_option
@format_option
def events(*, file: Path, socket: Path | None, timeout: float, form: Format) -> None:
    """Import events from a file with one JSON object per line.

    Importing the same file again adds nothing, also after an interrupted run. The lines are
    numbered, under a producer id derived from the whole content. A file that has grown is therefore
    a different file, and all its lines would be imported again. For growing files, give each event
    its own `producer` and `sequence`, which are sent unchanged; or pipe the new lines to `ggend
    emit --stdin`.

    An invalid line is reported with its number and kept in the table `rejected_events`; the other
    lines are imported. Standard input is first copied to a temporary file. A single JSON document
    that spans several lines is refused, and nothing is sent.

    Exit status: 0 all events are stored, 65 some lines were invalid or rejected, 69 the daemon is
    not reachable.

    Examples:

        ggend import events events.ndjson
        ggend import events - < events.ndjson
    """
    place = chosen_socket(socket)
    require_daemon(place)
    delivery = LineDelivery(
        place, timeout_seconds=timeout, patience_seconds=timeout, notice=complain
    )
    with ExitStack() as stack:
        try:
            stream = stack.enter_context(_opened(file))
            check_lines(stream.read(LOOK_BYTES), str(file))
            stream.seek(0)
            producer, size = _derived_producer(stream, str(file))
        except OSError as error:
            raise UsageMistake(
                f"{file} cannot be read: {error.strerror or error}",
                hint="give a file of NDJSON events, or - for standard input",
            ) from error
        taken = _Import(str(file), producer, delivery)
        with progress() as bar:
            task = bar.add_task(file.name, total=size)
            lines = _lines(stream, producer, size, partial(bar.advance, task))
            for number, line in enumerate(lines, 1):
                if isinstance(line, OverlongLine) or line.strip():
                    taken.take(number, line)
            taken.end()
    show_reports([taken.report], form)
    if taken.report.rejected:
        raise click.exceptions.Exit(os.EX_DATAERR)


def _opened(file: Path) -> IO[bytes]:
    """Open a file that can be read twice: what comes through a pipe is copied to one."""
    stream = sys.stdin.buffer if str(file) == "-" else file.open("rb")
    if stat.S_ISREG(os.fstat(stream.fileno()).st_mode) and stream is not sys.stdin.buffer:
        return stream
    copy = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    with stream:
        while chunk := stream.read(_READ_BYTES):
            copy.write(chunk)
    copy.seek(0)
    return copy


def _derived_producer(stream: IO[bytes], name: str) -> tuple[bytes, int]:
    """Return the producer id that the content gives, and the size of what it was made of.

    Raises WrongEncoding.
    """
    content = _content()
    size = 0
    for chunk in checked_chunks(iter(partial(stream.read, _READ_BYTES), b""), name):
        content.update(chunk)
        size += len(chunk)
    stream.seek(0)
    return content.digest(), size


def _content() -> hashlib.blake2b:
    return hashlib.blake2b(digest_size=PRODUCER_BYTES, person=b"ggend events")


def _lines(
    stream: IO[bytes], producer: bytes, size: int, advance: Callable[[int], None]
) -> Iterator[bytes | OverlongLine]:
    """Read the lines of the content that this producer was derived from."""
    splitter = LineSplitter()
    content = _content()
    # What is appended meanwhile is not part of the content that was looked at.
    while size and (chunk := stream.read(min(size, _READ_BYTES))):
        size -= len(chunk)
        content.update(chunk)
        for part in splitter.feed(chunk):
            if isinstance(part, OverlongLine):
                yield part
            else:
                yield from part.split(b"\n")
        advance(len(chunk))
    if content.digest() != producer:
        raise UsageMistake(
            "the file was changed while it was read: lines after the change are stored under "
            "the sequence numbers of the original lines",
            hint="compare the stored events with the file; import copies of files that change",
        )
    yield splitter.finish()


def _stand_in(line: bytes) -> bytes:
    """Return an object that the daemon rejects, for a line that cannot carry a number."""
    text = line[:_HEAD_BYTES].decode(errors="backslashreplace")
    return msgspec.json.encode({"type": "unreadable_line", "line": text})
