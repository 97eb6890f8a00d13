"""Frames: the dialogue in framed msgpack, protocol 1 (docs/WIRE.md).

Frames are taken in by the chunk: consecutive Batches of one read become one Submission, and are
answered by one Ack.
"""

from __future__ import annotations

import logging
import sqlite3

import msgspec

from ggend.ingest.intake import Outcome, Submission
from ggend.ingest.store import DURABILITY
from ggend.runtime.memory_budget import estimate_memory
from ggend.server.connection import Connection
from ggend.server.decode import batch_entries, check_batch
from ggend.server.dialogue import End
from ggend.server.request_answers import answer_request
from ggend.server.shared_limits import STALL_SECONDS
from ggend.storage.accounts import NotYours, Sender, UnknownProducer, account_key
from ggend.storage.writer_state import WriterState
from ggend_schema import limits
from ggend_schema.codec import SalvagedBatch, decode_client_message, encode_frame
from ggend_schema.codes import EventCode, GoodbyeCode
from ggend_schema.errors import MessageMalformed, ProtocolError
from ggend_schema.framing import FrameSplitter
from ggend_schema.messages import (
    PROTOCOL,
    Ack,
    Batch,
    Goodbye,
    Hello,
    Limits,
    Reject,
    Request,
    Welcome,
)

__all__ = ["FramedDialogue"]

log = logging.getLogger("ggend.frames")


class _Run:
    """Consecutive Batches of one read, on their way to becoming one Submission."""

    __slots__ = ("batches", "events", "first_sequence", "lost", "next_sequence", "shed", "size")

    def __init__(self, batch: Batch | SalvagedBatch) -> None:
        self.batches: list[tuple[Batch | SalvagedBatch, memoryview]] = []
        self.first_sequence = self.next_sequence = batch.first_sequence
        self.lost = batch.lost
        self.shed = 0
        self.size = 0
        self.events = 0

    def add(self, batch: Batch | SalvagedBatch, payload: memoryview, reserved: int) -> None:
        self.batches.append((batch, payload))
        self.events += len(batch.events)
        self.next_sequence += len(batch.events)
        self.size += reserved
        self.shed = max(self.shed, batch.shed)


class FramedDialogue:
    """One peer that speaks frames."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._services = connection.services
        self._splitter = FrameSplitter()
        #: Who is at the other end, once that is said.
        self.sender: Sender | None = None
        #: What is said last, once everything that was read is settled and told.
        self._goodbye: Goodbye | None = None

    @property
    def is_partial(self) -> bool:
        """Whether half a frame is waiting for the rest."""
        return self._splitter.is_partial

    @property
    def partial_bytes(self) -> int:
        """How many bytes of the unfinished frame are kept."""
        return self._splitter.partial_bytes

    @property
    def completed(self) -> int:
        """How many frames are complete so far."""
        return self._splitter.completed

    async def feed(self, chunk: bytes) -> bool:
        """Take in the frames that this chunk completes."""
        run: _Run | None = None
        try:
            for payload in self._splitter.feed(chunk):
                size = estimate_memory(payload)
                reserved = self._connection.try_reserve(size)
                if reserved is None:
                    await self._submit(run)
                    run = None
                    reserved = await self._connection.reserve(size)
                message = await self._connection.offload_if_large(
                    size, decode_client_message, payload
                )
                if isinstance(message, (Batch, SalvagedBatch)):
                    if self.sender is None or self.sender.producer is None:
                        raise MessageMalformed("a Batch before a Hello with a producer id")
                    check_batch(message)
                    if (
                        run is None
                        or message.first_sequence != run.next_sequence
                        or message.lost
                        or run.events >= limits.BATCH_EVENTS
                    ):
                        await self._submit(run)
                        run = _Run(message)
                    run.add(message, payload, reserved)
                    continue
                await self._submit(run)
                run = None
                goes_on = await self._handle_message(message)
                del message
                self._connection.release(reserved)
                if not goes_on:
                    return False
            if self._splitter.error is not None:
                raise self._splitter.error
        except ProtocolError as error:
            await self._submit(run)
            self._say_goodbye(error.code, error.message)
        else:
            await self._submit(run)
        return self._goodbye is None

    async def _handle_message(self, message: Hello | Request | Goodbye) -> bool:
        if isinstance(message, Hello):
            await self._handle_hello(message)
        elif isinstance(message, Request):
            await self._handle_request(message)
        else:
            return await self._handle_goodbye(message)
        return True

    async def feed_end(self) -> None:
        """Half a frame at the end is nothing: it was not acked, and will be sent again."""

    def end(self, reason: End) -> None:
        """Say goodbye, unless that was said already."""
        if reason is End.DRAINING:
            self._say_goodbye(GoodbyeCode.DRAINING, "ggend is stopping; what was acked is stored")
        elif reason is End.HALF_SENT:
            seconds = self._services.config.partial_timeout_seconds
            self._say_goodbye(
                GoodbyeCode.TIMEOUT, f"an incomplete frame, then nothing for {seconds:g} s"
            )
        elif reason is End.STALLED:
            self._say_goodbye(
                GoodbyeCode.TIMEOUT,
                f"an incomplete frame, then nothing for {STALL_SECONDS:g} s while other "
                "connections waited for memory",
            )
        elif reason is End.IDLE:
            seconds = self._services.config.idle_timeout_seconds
            self._say_goodbye(GoodbyeCode.TIMEOUT, f"nothing arrived for {seconds:g} s")
        if self._goodbye is not None:
            self._connection.send(encode_frame(self._goodbye))
        if self.sender is not None and self.sender.producer is not None:
            owners = self._services.owners
            key = account_key(self.sender)
            if owners.get(key) is self:
                del owners[key]

    async def _handle_hello(self, hello: Hello) -> None:
        if self.sender is not None:
            raise MessageMalformed("a second Hello on one connection")
        if hello.protocol != PROTOCOL:
            self._say_goodbye(
                GoodbyeCode.UNSUPPORTED_VERSION,
                f"ggend speaks protocol {PROTOCOL}, not {hello.protocol}",
            )
            return
        sender = self.sender = msgspec.structs.replace(
            self._connection.peer,
            producer=hello.producer,
            permanent=hello.permanent,
            client=hello.client,
        )
        if hello.producer is None:
            self._welcome(0)
            return
        producer = hello.producer

        def last_sequence(connection: sqlite3.Connection, state: WriterState) -> int:
            if hello.acked and not state.accounts.is_known(connection, sender):
                raise UnknownProducer(producer, hello.acked)
            last_sequence = state.accounts.of(connection, sender).last_sequence
            # That it was heard of is saved now: the next batch may be rolled back, and whoever was
            # welcomed must not be forgotten for its silence.
            state.accounts.save(connection)
            return last_sequence

        def welcome(last_sequence: int) -> None:
            key = account_key(sender)
            previous = self._services.owners.get(key)
            if previous is not None:
                previous.take_over()
            self._services.owners[key] = self
            self._welcome(last_sequence)

        await self._connection.call_writer(last_sequence, welcome, self._refuse)

    def take_over(self) -> None:
        """A newer connection speaks for the producer now."""
        self._say_goodbye(GoodbyeCode.TAKEN_OVER, "a newer connection uses this producer id")

    def _welcome(self, last_sequence: int) -> None:
        self._connection.send(
            encode_frame(
                Welcome(
                    protocol=PROTOCOL,
                    database=self._services.database_id,
                    last_sequence=last_sequence,
                    limits=Limits(frame_bytes=limits.FRAME_BYTES, batch_events=limits.BATCH_EVENTS),
                    durability=DURABILITY,
                )
            )
        )

    def _refuse(self, error: Exception) -> None:
        if isinstance(error, UnknownProducer):
            code = GoodbyeCode.UNKNOWN_PRODUCER
        elif isinstance(error, NotYours):
            code = GoodbyeCode.NOT_YOURS
        else:
            code = GoodbyeCode.INTERNAL
        self._say_goodbye(code, str(error))

    async def _submit(self, run: _Run | None) -> None:
        if run is None or self.sender is None:
            return
        await self._connection.submit(
            Submission(
                self.sender,
                await self._connection.offload_if_large(run.size, batch_entries, run.batches),
                self._settled,
                size=run.size,
                first_sequence=run.first_sequence,
                lost=run.lost,
                shed=run.shed,
            )
        )

    def _settled(self, submission: Submission, outcome: Outcome) -> None:
        self._connection.settled(submission)
        self._acknowledge(outcome)

    def _acknowledge(self, outcome: Outcome) -> None:
        if outcome.failure is EventCode.GAP:
            self._say_goodbye(
                GoodbyeCode.GAP,
                f"events after {outcome.last_sequence} are missing; send them, or count them in "
                "`lost`",
                last_sequence=outcome.last_sequence,
            )
        elif outcome.failure is EventCode.NOT_YOURS:
            self._say_goodbye(GoodbyeCode.NOT_YOURS, "the producer id belongs to another user")
        else:
            told = [
                encode_frame(Reject(sequence=sequence, code=code, message=message))
                for sequence, code, message in outcome.rejects
            ]
            told.append(encode_frame(Ack(sequence=outcome.last_sequence)))
            self._connection.send(b"".join(told))

    async def _handle_request(self, request: Request) -> None:
        if self.sender is None:
            raise MessageMalformed("a Request before Hello")
        await answer_request(self._connection, request)

    async def _handle_goodbye(self, goodbye: Goodbye) -> bool:
        sender = self.sender
        if goodbye.code == GoodbyeCode.DONE and sender is not None and sender.producer is not None:

            def finish(connection: sqlite3.Connection, state: WriterState) -> None:
                state.accounts.finish(connection, sender)

            await self._connection.call_writer(finish, lambda _: None, self._refuse)
        return False

    def _say_goodbye(
        self, code: GoodbyeCode, message: str, *, last_sequence: int | None = None
    ) -> None:
        """Read nothing more; say goodbye when all is settled. The first reason counts."""
        if self._goodbye is not None:
            return
        self._goodbye = Goodbye(code=code, message=message, last_sequence=last_sequence)
        if code is not GoodbyeCode.DRAINING:
            pid = self._connection.peer.pid
            log.info("closing a connection", extra={"code": code, "why": message, "pid": pid})
        self._connection.drain()
