"""Scripted daemon: a fake daemon that remembers what it was told, and misbehaves on demand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ggend_client.testing import FakeDaemon
from ggend_client.testing.listening import Peer
from ggend_schema import Audit, Event
from ggend_schema.codec import SalvagedBatch
from ggend_schema.codes import EventCode
from ggend_schema.errors import InvalidEvent
from ggend_schema.messages import (
    Answer,
    Batch,
    ClientMessage,
    DaemonMessage,
    Goodbye,
    Hello,
    Request,
)
from support.patience import PATIENCE_SECONDS

__all__ = ["ScriptedDaemon"]


class ScriptedDaemon(FakeDaemon):
    """Listens from the start, until `stop`."""

    #: As the real one says it.
    durability = "wal, synchronous=FULL"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.path = path
        self.hellos: list[Hello] = []
        self.batches: list[Batch | SalvagedBatch] = []
        self.goodbyes: list[Goodbye] = []
        #: Sequences in the order in which they were settled, per producer, lost ones apart.
        self.stored: dict[bytes, list[int]] = {}
        #: What the last Batch said that its client had shed.
        self.shed = 0
        self.acks = True
        self.says_welcome = True
        #: Close the connection instead of storing, this many times.
        self.breaks = 0
        #: Close the connection after storing, without the Ack, this many times.
        self.swallows = 0
        #: Said in place of the Ack, then the connection is closed.
        self.refusal: Goodbye | None = None
        #: Numbers that are rejected, whatever they are.
        self.rejects: set[int] = set()
        self.start()

    @property
    def operations(self) -> list[str]:
        """The operations of the audit events that are here now, in the order of arrival."""
        with self.changed:
            return [event.operation for event in self._events if isinstance(event, Audit)]

    def await_that(self, predicate: Callable[[], bool]) -> None:
        """Wait until something that arrived makes it true."""
        with self.changed:
            assert self.changed.wait_for(predicate, PATIENCE_SECONDS), self._summary()

    def restore(self, last_sequence: int = 0) -> None:
        """Be as a daemon whose database was replaced by a copy in which this was the last number.

        Connections are kept; `hang_up` too, as the restart of a real one does.
        """
        with self.changed:
            for producer, settled in list(self.settled.items()):
                self.settled[producer] = min(settled, last_sequence)
                if not last_sequence:
                    del self.settled[producer]
            for sequences in self.stored.values():
                sequences[:] = [number for number in sequences if number <= last_sequence]

    def hear(
        self, peer: Peer, message: ClientMessage | SalvagedBatch
    ) -> list[DaemonMessage] | None:
        """Note how a connection begins and ends."""
        if isinstance(message, Hello):
            self.hellos.append(message)
            said = super().hear(peer, message)
            return said if self.says_welcome else []
        if isinstance(message, Goodbye):
            self.goodbyes.append(message)
        return super().hear(peer, message)

    def settle(self, producer: bytes, batch: Batch | SalvagedBatch) -> list[DaemonMessage] | None:
        """Note the Batch; then keep it, unless the mood says otherwise."""
        self.batches.append(batch)
        self.shed = batch.shed
        if self.refusal is not None:
            refusal, self.refusal = self.refusal, None
            return [refusal]
        if self.breaks:
            self.breaks -= 1
            return None
        if not self.acks:
            return []
        before = self.settled.get(producer, 0)
        said = super().settle(producer, batch)
        last_sequence = batch.first_sequence + len(batch.events) - 1
        if self.settled.get(producer, 0) > before:
            first_sequence = max(before + 1, batch.first_sequence)
            self.stored.setdefault(producer, []).extend(range(first_sequence, last_sequence + 1))
        if self.swallows:
            self.swallows -= 1
            return None
        return said

    def judge(self, sequence: int, event: Event | memoryview, stamp_ns: int) -> Event:
        """Refuse the numbers in `rejects`."""
        if sequence in self.rejects:
            raise InvalidEvent(EventCode.INVALID, "not this one")
        return super().judge(sequence, event, stamp_ns)

    def answer(self, request: Request) -> list[DaemonMessage] | None:
        """Know four more requests: `hang_up`, `silence`, `forbidden` and `echo`."""
        if request.op == "hang_up":
            return None
        if request.op == "silence":
            return []
        if request.op == "forbidden":
            return [Answer(id=request.id, code="forbidden", message="not for you")]
        if request.op == "echo":
            result = {"op": request.op, "arguments": request.arguments}
            return [Answer(id=request.id, result=result)]
        return super().answer(request)
