"""NDJSON: the dialogue in NDJSON, made for `printf … | socat` and its like.

No handshake; when the peer shuts down its sending side (or ggend drains), one line answers how
many lines came and what became of them. Lines count from 1 as the peer's editor counts them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

import anyio
import anyio.lowlevel
import msgspec

from ggend.ingest.intake import Entry, Outcome, Rejection, Submission
from ggend.runtime.memory_budget import estimate_json_memory
from ggend.server.connection import HEAVY_BYTES, READ_BYTES, Connection
from ggend.server.decode import block_entries, line_entry
from ggend.server.dialogue import End
from ggend.server.shared_limits import STALL_SECONDS
from ggend.storage.accounts import Sender
from ggend_schema import limits
from ggend_schema.codec import decode_line_number, encode_answer_line
from ggend_schema.codes import EventCode
from ggend_schema.errors import InvalidEvent
from ggend_schema.framing import LineSplitter, OverlongLine
from ggend_schema.messages import LineError, LinesAnswer

__all__ = ["NdjsonDialogue"]

#: Lines that are decoded one by one before others have their turn: some 5 ms of bad ones. All that
#: come in one read would be 100 ms.
_TURN_LINES = 256

#: What a byte weighs in lines that are decoded one by one. To mend a text that is not UTF-8 takes
#: up to 1 µs a byte: a block that is larger than two reads has a long line, and goes apart.
_SINGLE_WEIGHT = HEAVY_BYTES // (2 * READ_BYTES)


class _Run:
    """Lines on their way to becoming one Submission: one sender, consecutive numbers."""

    __slots__ = ("entries", "first_sequence", "lines", "permanent", "producer")

    def __init__(
        self, producer: bytes | None, first_sequence: int | None, *, permanent: bool
    ) -> None:
        self.producer = producer
        self.permanent = permanent
        self.first_sequence = first_sequence
        self.entries: list[Entry] = []
        self.lines: list[int] = []

    def numbers(self) -> list[int]:
        """On which line of the peer's file each entry stands."""
        return self.lines

    def continues_with(self, producer: bytes | None, sequence: int | None) -> bool:
        if producer != self.producer or len(self.entries) >= _TURN_LINES:
            return False
        return self.first_sequence is None or sequence == self.first_sequence + len(self.entries)


class NdjsonDialogue:
    """One peer that speaks NDJSON."""

    def __init__(self, connection: Connection, clock: Callable[[], int] = time.time_ns) -> None:
        self._connection = connection
        self._clock = clock
        self._splitter = LineSplitter()
        self._line = 1
        self._counts = dict.fromkeys(
            ("stored", "replayed", "duplicate", "superseded", "rejected", "refused", "parked"), 0
        )
        self._errors: list[LineError] = []
        self._errors_omitted = 0
        self._imported_by: set[int] = set()

    @property
    def is_partial(self) -> bool:
        """Whether half a line is waiting for the rest."""
        return self._splitter.is_partial

    @property
    def partial_bytes(self) -> int:
        """How many bytes of the unfinished line are kept."""
        return self._splitter.partial_bytes

    @property
    def completed(self) -> int:
        """How many blocks of lines are complete so far."""
        return self._splitter.completed

    async def feed(self, chunk: bytes) -> bool:
        """Take in the lines that this chunk completes."""
        for block in self._splitter.feed(chunk):
            if isinstance(block, OverlongLine):
                await self._feed_overlong(block)
            else:
                await self._feed_block(block)
        return True

    async def feed_end(self) -> None:
        """Take in the last line, which needs no LF."""
        last = self._splitter.finish()
        if last:
            await self._feed_block(last)

    def end(self, reason: End) -> None:
        """Answer with what became of the lines."""
        counts = self._counts
        if reason in (End.HALF_SENT, End.STALLED) and not self._splitter.is_skipping:
            seconds = self._connection.services.config.partial_timeout_seconds
            why = (
                f"{seconds:g} s"
                if reason is End.HALF_SENT
                else f"{STALL_SECONDS:g} s while other connections waited for memory"
            )
            counts["refused"] += 1
            told = f"an incomplete line, then nothing for {why}"
            self._report([(0, EventCode.MALFORMED, told)], lambda: [self._line])
        self._connection.send(
            encode_answer_line(
                LinesAnswer(
                    lines=sum(counts.values()) - counts["parked"],
                    **counts,
                    errors=sorted(self._errors, key=lambda error: error.line),
                    errors_omitted=self._errors_omitted,
                    imported_by=sorted(self._imported_by) or msgspec.UNSET,
                )
            )
        )

    async def _feed_block(self, block: bytes) -> None:
        stamp_ns = self._clock()
        first_line = self._line
        self._line += block.count(b"\n") + 1
        size = estimate_json_memory(block)
        reserved = self._connection.try_reserve(size)
        if reserved is None:
            reserved = await self._connection.reserve(size)
        entries = await self._connection.offload_if_large(size, block_entries, block, stamp_ns)
        if entries is None:
            await self._feed_singly(block, first_line, stamp_ns, reserved)
        elif entries:
            await self._submit(
                self._connection.peer,
                None,
                entries,
                reserved,
                lambda: _nonblank_lines(block, first_line),
            )
        else:
            self._connection.release(reserved)

    async def _feed_singly(
        self, block: bytes, first_line: int, stamp_ns: int, reserved: int
    ) -> None:
        """Submit lines that must be looked at one by one; the last run holds what they weigh."""
        runs = _runs(block.split(b"\n"), first_line, stamp_ns)
        weight = len(block) * _SINGLE_WEIGHT
        run = await self._connection.offload_if_large(weight, next, runs, None)
        taken = _TURN_LINES
        while run is not None:
            # Lines taken one by one are slow: others have their turn in between, though not after
            # each where each is a run: a turn of the event loop costs more than a line.
            taken += len(run.entries)
            if taken >= _TURN_LINES:
                taken = 0
                await anyio.lowlevel.checkpoint()
            following = await self._connection.offload_if_large(weight, next, runs, None)
            await self._submit(
                self._sender(run),
                run.first_sequence,
                run.entries,
                reserved if following is None else 0,
                run.numbers,
            )
            if following is None:
                return
            run = following
        self._connection.release(reserved)

    async def _feed_overlong(self, overlong: OverlongLine) -> None:
        line = self._line
        self._line += 1
        message = f"a line is over the limit of {limits.EVENT_BYTES} bytes"
        refused = Rejection(EventCode.TOO_LARGE, message, overlong.head, "json")
        await self._submit(
            self._connection.peer,
            None,
            [(refused, self._clock(), None)],
            0,
            lambda: [line],
        )

    def _sender(self, run: _Run) -> Sender:
        peer = self._connection.peer
        if run.producer is None:
            return peer
        return msgspec.structs.replace(
            peer, producer=run.producer, permanent=run.permanent, client="ndjson"
        )

    async def _submit(
        self,
        sender: Sender,
        first_sequence: int | None,
        entries: list[Entry],
        size: int,
        numbers: Callable[[], Sequence[int]],
    ) -> None:
        """Submit entries; `numbers` tells on which line each stands, once and only if need be."""

        def done(submission: Submission, outcome: Outcome) -> None:
            self._connection.settled(submission)
            self._count(outcome, len(submission.entries), numbers)

        await self._connection.submit(
            Submission(sender, entries, done, size=size, first_sequence=first_sequence)
        )

    def _count(self, outcome: Outcome, lines: int, numbers: Callable[[], Sequence[int]]) -> None:
        counts = self._counts
        if outcome.failure is not None:
            counts["refused"] += lines
            why = (
                f"events after {outcome.last_sequence} are missing; send them first"
                if outcome.failure is EventCode.GAP
                else "the producer id belongs to another user"
            )
            self._report([(at, outcome.failure, why) for at in range(lines)], numbers)
            return
        if outcome.imported_by is not None and outcome.duplicate:
            self._imported_by.add(outcome.imported_by)
        counts["stored"] += outcome.stored + outcome.parked
        counts["parked"] += outcome.parked
        counts["replayed"] += outcome.replayed
        counts["duplicate"] += outcome.duplicate
        counts["superseded"] += outcome.superseded
        counts["rejected"] += outcome.rejected
        first = outcome.first_sequence
        self._report([(at - first, code, why) for at, code, why in outcome.rejects], numbers)

    def _report(
        self,
        errors: Sequence[tuple[int, EventCode, str]],
        numbers: Callable[[], Sequence[int]],
    ) -> None:
        """Report errors at these positions, as many as the answer spells out."""
        told = errors[: limits.REPORTED_ERRORS - len(self._errors)]
        self._errors_omitted += len(errors) - len(told)
        if told:
            # A block is looked through once, however many of its lines are at fault.
            line = numbers()
            self._errors += [
                LineError(line=line[at], code=code, message=message) for at, code, message in told
            ]


def _nonblank_lines(block: bytes, first_line: int) -> list[int]:
    return [at for at, line in enumerate(block.split(b"\n"), first_line) if line.strip()]


def _runs(lines: Sequence[bytes], first_line: int, stamp_ns: int) -> Iterator[_Run]:
    """Decode lines singly, and gather those that one Submission can carry."""
    run: _Run | None = None
    for number, line in enumerate(lines, first_line):
        if not line.strip():
            continue
        entry: Entry
        producer: bytes | None = None
        sequence: int | None = None
        permanent = False
        try:
            producer, sequence, permanent = decode_line_number(line)
            entry = line_entry(line, stamp_ns)
        except InvalidEvent as error:
            entry = Rejection(error.code, error.message, line, "json"), stamp_ns, None
        if run is None or not run.continues_with(producer, sequence):
            if run is not None:
                yield run
            run = _Run(producer, sequence, permanent=permanent)
        run.entries.append(entry)
        run.lines.append(number)
    if run is not None:
        yield run
