"""Connection: one peer on the socket, whichever encoding it speaks.

Owns the bytes in both directions: reads until there is enough that is not settled, sends what the
peer is to be told, and ends in order: what was read is settled, what was settled is told. It never
looks into an event; `frames` and `ndjson` do.
"""

from __future__ import annotations

import fcntl
import logging
import select
import socket
import sqlite3
import struct
import termios
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar, TypeVarTuple

import anyio
import anyio.lowlevel
import anyio.to_thread
from anyio.abc import SocketAttribute, SocketStream

from ggend.config import Config
from ggend.ingest.intake import Call, Intake, Lane, Submission
from ggend.runtime.memory_budget import FREE_BYTES, MemoryBudget
from ggend.runtime.metrics import Metrics
from ggend.server.dialogue import Dialogue, End, Owner
from ggend.server.shared_limits import SharedLimit
from ggend.storage.accounts import Sender
from ggend.storage.writer_state import WriterState
from ggend_schema import limits

__all__ = ["HEAVY_BYTES", "READ_BYTES", "Connection", "Services"]

log = logging.getLogger("ggend.connection")

#: Bytes read at a time: some 800 events. Half as many cost a few percent more each; twice as many
#: keep the event loop from the others for longer.
READ_BYTES = 128 * 1024

#: Bytes that are decoded as soon as they were read. What is longer waits until no other connection
#: has decoded in this round of the event loop, so that what is brief is never far behind.
_BRIEF_BYTES = 4 * 1024

#: Events of one connection that may wait to be settled. Two batches: one on its way to the disk,
#: one gathering.
UNSETTLED_EVENTS = 8_192

#: Share of the budget that one connection may hold, besides what is larger than that by itself.
_SHARE = 4

#: Weight from which on decoding takes so long (about 10 ms) that it is done in a thread.
HEAVY_BYTES = 8 * 1024 * 1024

#: Bytes of an unfinished frame or line that are not worth asking for.
_PARTIAL_FREE_BYTES = 64 * 1024

#: Bytes that unfinished frames and lines may take in all: 16 of the largest frames.
PARTIAL_BYTES = 64 * 1024 * 1024

#: Bytes of an unfinished frame or line that are progress.
_PROGRESS_BYTES = 16 * 1024

#: Bytes sent at a time: that a peer has taken so many is progress.
_SEND_BYTES = 64 * 1024

#: Bytes that answers from the database may take that are on their way to their peers.
ANSWER_BYTES = 64 * 1024 * 1024

#: Bytes that may wait for a peer to read them before nothing more is read from it.
OUTBOX_BYTES = 256 * 1024

T = TypeVar("T")
Args = TypeVarTuple("Args")

_UCRED = struct.Struct("iII")


class Services:
    """What every connection of one daemon shares."""

    __slots__ = (
        "answers",
        "budget",
        "config",
        "connections",
        "database_id",
        "decoding",
        "intake",
        "metrics",
        "owners",
        "partials",
        "reload",
        "status",
    )

    def __init__(
        self,
        *,
        config: Config,
        intake: Intake,
        metrics: Metrics,
        database_id: str,
        status: Callable[[], dict[str, object]],
        reload: Callable[[], dict[str, object]],
    ) -> None:
        self.config = config
        self.intake = intake
        self.metrics = metrics
        self.database_id = database_id
        self.status = status
        self.reload = reload
        self.budget = MemoryBudget(config.intake_mib * 1024 * 1024)
        self.partials = SharedLimit(PARTIAL_BYTES)
        self.answers = SharedLimit(ANSWER_BYTES)
        self.decoding = anyio.Lock()
        self.connections: set[Connection] = set()
        #: Who speaks for each account of a producer at the moment.
        self.owners: dict[object, Owner] = {}


class Connection:
    """One peer: what it sent that is not settled, and what it has not been told yet."""

    def __init__(self, stream: SocketStream, services: Services) -> None:
        self.services = services
        self._stream = stream
        raw = stream.extra(SocketAttribute.raw_socket)  # noqa: S610 - anyio's, not Django's
        pid, uid, gid = _UCRED.unpack(
            raw.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        )
        self._socket: socket.socket = raw
        self.peer = Sender(uid=uid, gid=gid, pid=pid)
        self._lane = Lane()
        self.unsettled = 0
        self._held = self._unsettled_bytes = 0
        self._partial = services.partials.hold(self._receiving_seconds, self._stop_receiving)
        self._answers = services.answers.hold(self._sending_seconds, self._stop_sending)
        self._share = services.budget.limit // _SHARE
        self._has_free = True
        self._outbox = bytearray()
        self._sending = 0
        self._sending_since = 0.0
        #: What the kernel had for the peer when that was looked at last.
        self._unread = b""
        self._sending_scope = anyio.CancelScope()
        #: Since when the peer is waited for; None while it is not.
        self._receiving_since: float | None = None
        #: What of an unfinished frame or line came since the last progress, in so many seconds.
        self._trickled_bytes = 0
        self._trickled_seconds = 0.0
        self._end = End.DRAINING
        #: When the peer was last heard of, by the clock of the event loop.
        self.heard = anyio.current_time()
        self._is_closing = False
        #: Renewed whenever something that a task of this connection waits for has changed.
        self._changed = anyio.Event()
        self._reading = anyio.CancelScope()

    async def run(self, choose: Callable[[Connection, int], Dialogue]) -> None:
        """Serve the peer to the end. `choose` picks the dialogue by the first byte."""
        async with self._stream, anyio.create_task_group() as tasks:
            tasks.start_soon(self._send_outbox)
            dialogue: Dialogue | None = None
            try:
                with self._reading:
                    chunk = await self._receive(None)
                    if chunk:
                        dialogue = choose(self, chunk[0])
                        self._end = await self._listen(dialogue, chunk)
            finally:
                # What was read and never submitted; the rest is given back as it is settled.
                self.release(self._held - self._unsettled_bytes)
                self._partial.release()
                self._answers.release()
            if dialogue is not None:
                await self.wait_until_settled()
                dialogue.end(self._end)
            self._is_closing = True
            self._notify()

    async def _listen(self, dialogue: Dialogue, chunk: bytes) -> End:
        partial_since: float | None = None
        completed = 0
        while chunk:
            if len(chunk) > _BRIEF_BYTES:
                async with self.services.decoding:
                    await anyio.lowlevel.checkpoint()
            if not await dialogue.feed(chunk):
                return End.PEER_FINISHED
            if not dialogue.is_partial or dialogue.completed > completed:
                completed = dialogue.completed
                partial_since = None
                self._partial.release()
            if dialogue.is_partial:
                now = anyio.current_time()
                if partial_since is None:
                    partial_since = now
                    self._note_progress()
                self._partial.shrink(dialogue.partial_bytes)  # an over-long line is not kept
                if dialogue.partial_bytes > _PARTIAL_FREE_BYTES:
                    await self._partial.grow(dialogue.partial_bytes)
                    partial_since += anyio.current_time() - now  # it is not the peer that waited
            try:
                chunk = await self._receive(partial_since)
            except TimeoutError:
                return End.HALF_SENT
        await dialogue.feed_end()
        return End.PEER_FINISHED

    async def _receive(self, partial_since: float | None) -> bytes:
        """Return the next bytes, b"" at the end. Raises TimeoutError for half-sent input."""
        await self.wait_for_reader()
        began = self._receiving_since = anyio.current_time()
        try:
            if partial_since is None:
                chunk = await self._stream.receive(READ_BYTES)
            else:
                patience = self.services.config.partial_timeout_seconds
                with anyio.fail_after(partial_since + patience - began):
                    chunk = await self._stream.receive(READ_BYTES)
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            return b""
        finally:
            self._receiving_since = None
        self.heard = anyio.current_time()
        self._trickled_seconds += self.heard - began
        self._trickled_bytes += len(chunk)
        if self._trickled_bytes >= _PROGRESS_BYTES:
            self._note_progress()
        return chunk

    def _note_progress(self) -> None:
        self._trickled_bytes = 0
        self._trickled_seconds = 0.0

    def _receiving_seconds(self) -> float:
        """Return how long the peer was waited for since it last brought something worth it."""
        since = self._receiving_since
        return self._trickled_seconds + (0.0 if since is None else anyio.current_time() - since)

    def _stop_receiving(self) -> None:
        self.drain(End.STALLED)

    def _sending_seconds(self) -> float:
        """Return how long the peer has taken nothing of what it is told, since this is asked."""
        if not self._sending:
            return 0.0
        # The kernel takes more only when most of what it has was read: what it has tells sooner.
        with suppress(OSError):
            unread = fcntl.ioctl(self._socket, termios.TIOCOUTQ, bytes(4))
            if unread != self._unread:
                self._unread = unread
                self._sending_since = anyio.current_time()
        return anyio.current_time() - self._sending_since

    def _stop_sending(self) -> None:
        self._sending_scope.cancel()

    def is_abandoned(self) -> bool:
        """Whether the peer is gone for good: one that has only finished sending still reads.

        While something of this connection is unsettled, also on another thread.
        """
        poller = select.poll()
        poller.register(self._socket, 0)  # a hang-up is told unasked
        return any(event & select.POLLHUP for _, event in poller.poll(0))

    async def wait_for_reader(self) -> None:
        """Wait until the peer has read enough of what it was told."""
        self._answers.shrink(len(self._outbox) + self._sending)
        while len(self._outbox) + self._sending >= OUTBOX_BYTES:
            await self._changed_once()

    async def wait_until_settled(self) -> None:
        """Wait until nothing of this peer is on its way."""
        while self.unsettled:
            await self._changed_once()

    async def offload_if_large(
        self, size: int, function: Callable[[*Args], T], *arguments: *Args
    ) -> T:
        """Call a function on what weighs so much; in a thread where others would notice."""
        if size <= HEAVY_BYTES:
            return function(*arguments)
        return await anyio.to_thread.run_sync(function, *arguments)

    def try_reserve(self, size: int) -> int | None:
        """Return the bytes taken from the budget for what is to be decoded; None: wait for them."""
        if self._has_free and size <= FREE_BYTES:
            self._has_free = False
            return 0
        is_over = self._held and self._held + size > self._share
        if is_over or not self.services.budget.try_take(size):
            return None
        self._held += size
        return size

    async def reserve(self, size: int) -> int:
        """Wait for bytes of the budget. What holds some already must be submitted before."""
        while self._held and self._held + size > self._share:
            await self._changed_once()
        await self.services.budget.take(size)
        self._held += size
        return size

    def release(self, size: int) -> None:
        """Give bytes of the budget back."""
        self._held -= size
        self.services.budget.give(size)

    @asynccontextmanager
    async def answering(self) -> AsyncIterator[None]:
        """Hold room for an answer of any size, until the peer has read enough of it."""
        await self._answers.grow(limits.FRAME_BYTES)
        try:
            yield
        finally:
            self._answers.release()

    async def submit(self, item: Submission | Call) -> None:
        """Hand on to the intake; wait while too much of this peer's, or of all, is unsettled."""
        while self.unsettled >= UNSETTLED_EVENTS:
            await self._changed_once()
        await self.services.intake.put(item, self._lane)
        if isinstance(item, Submission):
            self.unsettled += len(item.entries) + 1
            self._unsettled_bytes += item.bytes
        else:
            self.unsettled += 1

    async def call_writer(
        self,
        run: Callable[[sqlite3.Connection, WriterState], object],
        done: Callable[[Any], None],
        failed: Callable[[Exception], None],
        *,
        waits: bool = True,
    ) -> None:
        """Have something run on the writer's connection, in turn; tell `done` or `failed` of it.

        `waits`: see Call.
        """

        def settled_then(tell: Callable[[Any], None]) -> Callable[[Call, Any], None]:
            def settle(call: Call, value: Any) -> None:
                self.settled(call)
                tell(value)

            return settle

        await self.submit(Call(run, settled_then(done), settled_then(failed), waits=waits))

    def settled(self, item: Submission | Call) -> None:
        """The writer is done with this item."""
        if isinstance(item, Submission):
            self.unsettled -= len(item.entries) + 1
            self._unsettled_bytes -= item.bytes
            self.release(item.bytes)
        else:
            self.unsettled -= 1
        self._has_free = not self.unsettled
        self._notify()

    def send(self, encoded: bytes) -> None:
        """Send bytes to the peer: what it has room for at once, the rest when it reads."""
        if not self._outbox and not self._sending:
            with suppress(OSError):  # no room, or nobody there: that is noticed below
                encoded = encoded[self._socket.send(encoded) :]
        if encoded:
            self._outbox += encoded
            self._notify()

    def drain(self, reason: End = End.DRAINING) -> None:
        """Read nothing more; what was read is still settled and told."""
        self._end = reason
        self._reading.cancel()

    async def _send_outbox(self) -> None:
        while True:
            while self._outbox:
                encoded = memoryview(bytes(self._outbox))
                self._outbox.clear()
                patience = self.services.config.answer_timeout_seconds
                self._sending_scope = anyio.move_on_after(patience)
                # A peer that is gone reads nothing; what it sent is settled all the same.
                with (
                    suppress(anyio.BrokenResourceError, anyio.ClosedResourceError),
                    self._sending_scope,
                ):
                    while encoded:
                        self._sending = len(encoded)
                        self._sending_since = anyio.current_time()
                        await self._stream.send(bytes(encoded[:_SEND_BYTES]))
                        encoded = encoded[_SEND_BYTES:]
                        self._notify()
                if self._sending_scope.cancelled_caught:
                    log.warning("a peer does not read its answers", extra={"pid": self.peer.pid})
                    self._reading.cancel()
                    self._notify()
                    return  # half a message may be out: nothing that follows would be understood
                self._sending = 0
                self._notify()
            if self._is_closing:
                return
            await self._changed_once()

    def _notify(self) -> None:
        self._changed.set()

    async def _changed_once(self) -> None:
        self._changed = anyio.Event() if self._changed.is_set() else self._changed
        await self._changed.wait()
