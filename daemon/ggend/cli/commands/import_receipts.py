"""`ggend import receipts`: import receipt documents of ggen's simulator and CLI."""

from __future__ import annotations

import os
import sqlite3
import stat
import sys
import time
from collections import Counter
from contextlib import ExitStack, closing, nullcontext
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
from ggend.cli.render.output import complain
from ggend.database.readonly import open_readonly
from ggend.encodings import WrongEncoding, other_encoding
from ggend.errors import GgendError, UsageMistake
from ggend.importers.delivery import CHUNK_BYTES, LineDelivery, numbered, numbered_line
from ggend.importers.json_texts import Found, values_of
from ggend.importers.receipt_documents import (
    DEFAULT_AGENT,
    Document,
    UnreadableDocument,
    read_document,
)
from ggend.importers.stored_receipts import absent_receipts, differing_receipts
from ggend_client import ClientError, ask
from ggend_schema.codes import EventCode
from ggend_schema.events import StageCompleted
from ggend_schema.limits import REPORTED_ERRORS
from ggend_schema.messages import LinesAnswer

__all__ = ["receipts"]

#: Bytes of a file that is read whole, as one document may fill it: some 70,000 receipts.
_FILE_BYTES = 64 * 1024 * 1024

_encode = msgspec.json.Encoder().encode

#: Documents sent at once: the daemon reports no more errors than this in one answer.
_CHUNK_DOCUMENTS = REPORTED_ERRORS


class _Report(msgspec.Struct, kw_only=True):
    """The result for one file. The last four columns count documents or events."""

    file: str
    documents: int = 0
    receipts: int = 0
    stages: int = 0
    new: int = 0
    already_there: int = 0
    unreadable: int = 0
    rejected: int = 0


class _StageHeldBack(msgspec.Struct, frozen=True, tag_field="type", tag="stage_held_back"):
    """Replaces a stage of a rejected receipt. It is not an event, so it is rejected too."""

    stage: StageCompleted


class _Import:
    """Sends the documents of one file to the daemon, and counts.

    Receipts go first, and then the stages of those that were not rejected: stages must not be
    stored with a different receipt of the same execution. The daemon answers `replayed` also for a
    receipt that was rejected in an earlier import, so the database is asked which receipts differ
    and which are absent. If the database cannot be read, the sequence numbers of such stages are
    used up permanently.
    """

    __slots__ = (
        "_delivery",
        "_has_conflicts",
        "_notes",
        "_problems",
        "_size",
        "_stored",
        "_taken",
        "report",
    )

    def __init__(
        self, file: str, delivery: LineDelivery, stored: sqlite3.Connection | None
    ) -> None:
        self._delivery = delivery
        self._stored = stored
        self._problems = Problems(file)
        self._notes: Counter[str] = Counter()
        self._has_conflicts = False
        self._taken: list[tuple[str, Document, bytes]] = []
        self._size = 0
        self.report = _Report(file=file)

    def take(self, found: Found, *, agent: str, modified_ns: int) -> None:
        """Take in one document. Raises DaemonUnreachable."""
        report = self.report
        report.documents += 1
        where = f"document {report.documents} (line {found.line}"
        where += f", element {found.position})" if found.position else ")"
        problem = found.problem
        if problem is None:
            try:
                document = read_document(found.value, agent=agent, modified_ns=modified_ns)
            except UnreadableDocument as error:
                problem = str(error)
        if problem is not None:
            report.unreadable += 1
            self._problems.tell(f"{where}: {problem}")
            return
        report.receipts += 1
        report.stages += len(document.stages)
        self._notes.update(document.notes)
        encoded = numbered_line(document.receipt, document.producer, 1)
        self._taken.append((where, document, encoded))
        self._size += len(encoded)
        if self._size >= CHUNK_BYTES or len(self._taken) >= _CHUNK_DOCUMENTS:
            self.flush()

    def flush(self) -> None:
        """Wait until what was taken in is stored or refused. Raises DaemonUnreachable."""
        if not self._taken:
            return
        taken, self._taken, self._size = self._taken, [], 0
        differing = self._differing([document for _, document, _ in taken])
        answer = self._send([encoded for _, _, encoded in taken])
        refused = {error.line - 1: error for error in answer.errors}
        for place in sorted(differing.keys() | refused.keys()):
            where, document, _ = taken[place]
            error = refused.get(place)
            if error is None:
                # It was rejected in an earlier import; the daemon answers that it is replayed.
                self.report.already_there -= 1
                self.report.rejected += 1
            if error is None or error.code == EventCode.CONFLICT:
                other = ", ".join(differing.get(place, [])) or "content"
                self._problems.tell(
                    f"{where}: conflict: execution {document.receipt.execution_id} is already "
                    f"stored with different {other}; the stored receipt is kept"
                )
                self._has_conflicts = True
            else:
                self._problems.tell(f"{where}: {error.code}: {error.message}")
        absent = self._absent([document for _, document, _ in taken]) - refused.keys()
        for place in sorted(absent):
            self._problems.tell(
                f"{taken[place][0]}: was imported before, but is not stored: it was rejected or "
                "has been purged"
            )
        held_back = differing.keys() | refused.keys() | absent
        self._flush_stages([one[:2] for place, one in enumerate(taken) if place not in held_back])
        if self._stored is None:
            self._use_up([taken[place][1] for place in refused])

    def _flush_stages(self, taken: list[tuple[str, Document]]) -> None:
        lines = [
            (where, numbered_line(stage, document.producer, sequence))
            for where, document in taken
            for sequence, stage in enumerate(document.stages, start=2)
        ]
        if lines:
            answer = self._send([line for _, line in lines])
            for error in answer.errors:
                self._problems.tell(f"{lines[error.line - 1][0]}: {error.code}: {error.message}")

    def _use_up(self, documents: list[Document]) -> None:
        """Have the daemon reject the replacements of the stages of rejected receipts."""
        stand_ins = [
            numbered(_encode(_StageHeldBack(stage=stage)), document.producer, sequence)
            for document in documents
            for sequence, stage in enumerate(document.stages, start=2)
        ]
        if stand_ins:
            self._delivery.send(stand_ins)

    def _send(self, lines: list[bytes]) -> LinesAnswer:
        answer = self._delivery.send(lines)
        report = self.report
        report.new += answer.stored
        report.already_there += answer.replayed + answer.duplicate
        report.rejected += answer.rejected + answer.refused
        self._problems.tell_importers(answer)
        return answer

    def _differing(self, documents: list[Document]) -> dict[int, list[str]]:
        if self._stored is None:
            return {}
        return differing_receipts(self._stored, [document.receipt for document in documents])

    def _absent(self, documents: list[Document]) -> set[int]:
        if self._stored is None:
            return set()
        return absent_receipts(self._stored, [document.receipt for document in documents])

    def end(self) -> None:
        """Finish, and report the values that are stored differently than in the documents."""
        self.flush()
        self._problems.end()
        if self._has_conflicts:
            complain(
                f"{self.report.file}: conflicting documents were not stored",
                hint="`ggend query execution ID --receipt` shows the stored receipt; to keep both, "
                "give the document a different execution_id",
            )
        for note, documents in self._notes.items():
            many = f" ({documents} documents)" if documents > 1 else ""
            complain(f"{self.report.file}: {note}{many}")


@command()
@click.argument(
    "files",
    nargs=-1,
    type=PATH,
    required=True,
    metavar="FILE|-",
    help="JSON files; - is standard input.",
)
@agents_option(DEFAULT_AGENT, "The agent of receipts that do not name one.")
@socket_option
@batch_timeout_option
@format_option
def receipts(
    *, files: tuple[Path, ...], agent: str, socket: Path | None, timeout: float, form: Format
) -> None:
    """Import receipt documents of ggen's simulator and CLI.

    A file holds one or more receipts: pretty-printed, one per line, or in an array; each may be
    wrapped as {"receipt": ...}. Each document is stored as a receipt with its stages. A document
    is identified by its content, so it is imported only once, whatever its file or its formatting.

    Some words are translated: completed and success become passed, error becomes failed, dry-run
    becomes dry_run. An operation that ggend does not know is stored as the nearest known operation,
    and reported. The column receipt_json keeps the document. A receipt without an execution_id gets
    one derived from its content.

    A document that has an unknown status or is not a receipt is reported with its position, and
    the others are imported. The same happens if its execution is stored with different content:
    the stored receipt is kept.

    Exit status: 0 all documents are stored, 65 some documents were unreadable or rejected, 69 the
    daemon is not reachable.

    Examples:

        ggend import receipts receipt.json
        ggend import receipts --format json - < receipt.json
    """
    place = chosen_socket(socket)
    contents = [_content(file) for file in files]
    require_daemon(place)
    delivery = LineDelivery(
        place, timeout_seconds=timeout, patience_seconds=timeout, notice=complain
    )
    reports = []
    with ExitStack() as stack:
        stored = _daemons_database(place, timeout)
        if stored is not None:
            stack.enter_context(closing(stored))
        for file, (content, modified_ns) in zip(files, contents, strict=True):
            taken = _Import(str(file), delivery, stored)
            for found in values_of(content):
                taken.take(found, agent=agent, modified_ns=modified_ns)
            taken.end()
            reports.append(taken.report)
    show_reports(reports, form)
    if any(report.unreadable or report.rejected for report in reports):
        raise click.exceptions.Exit(os.EX_DATAERR)


def _content(file: Path) -> tuple[bytes, int]:
    """Return the content of a file, and when it was changed. Raises UsageMistake, WrongEncoding."""
    try:
        # Standard input stays open: it may be named twice, and is empty then.
        is_stdin = str(file) == "-"
        with nullcontext(sys.stdin.buffer) if is_stdin else file.open("rb") as stream:
            content = stream.read(_FILE_BYTES + 1)
            found = os.fstat(stream.fileno())
    except OSError as error:
        raise UsageMistake(
            f"{file} cannot be read: {error.strerror or error}",
            hint="give a file of receipts as JSON, or - for standard input",
        ) from error
    if len(content) > _FILE_BYTES:
        raise UsageMistake(
            f"{file} is over the limit of {_FILE_BYTES} bytes", hint="split the file"
        )
    if (encoding := other_encoding(content)) is not None:
        raise WrongEncoding(str(file), encoding)
    is_file = stat.S_ISREG(found.st_mode)
    return content, found.st_mtime_ns if is_file else time.time_ns()


def _daemons_database(socket: Path | None, timeout: float) -> sqlite3.Connection | None:
    """Open the daemon's database; None where this user may not read it."""
    try:
        return open_readonly(Path(ask(socket, "status", timeout=timeout)["database"]))
    except (ClientError, GgendError, OSError, sqlite3.Error):
        return None
