"""Outbox: the bounded queue between the threads that emit and the worker.

`offer` runs on any thread, and inside signal handlers and finalizers: it takes no lock, does not
wait and does not raise. It encodes the event, whose fields may change afterwards, into one bytes
object, the msgpack pair [stamp, event], and stores that in a part of the queue (`queue_part`),
which is shared with a file where there is a shelf for it: what was taken outlives the process.

Between reading the place where the next record goes and moving it there is no call, so CPython
switches no thread there, nor runs a handler; the counters rest on the same. (A build without the
global interpreter lock takes a lock. Who traces every line in Python, as a debugger, puts calls
there: beside it, of two that emit at the same moment one can be lost.)

Events have the order of their places. The worker never passes a place that is reserved and not
filled yet, so whoever finds the file of a dead process counts the events as the worker did.

The queue is a chain of parts: when one is full, the next is begun, by who needs it. What is
settled, or in the spool, is let go by the part; one is kept to be used again.
"""

from __future__ import annotations

import mmap
import queue
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from time import monotonic, time_ns
from typing import Any, Protocol, TypeAlias

from ggend_client.drop_counts import DropCounts
from ggend_client.errors import ClientError
from ggend_client.pairs import EVENT_CLASSES, PAIR_BYTES, PAIR_BYTES_MAX, encode, pair_of
from ggend_client.spool.queue_part import HEADER_BYTES, INDEX, LAP, RECORDS, QueuePart
from ggend_schema import Event, limits

__all__ = ["FlushMark", "LockedOutbox", "Outbox", "Shelf", "outbox_class"]

#: Bytes of the first part of a queue: most programs say little.
FIRST_PART_BYTES = 64 * 1024

#: Bytes of the others, unless an event needs more.
PART_BYTES = 1024 * 1024

#: Seconds after which a queue that had to be in memory tries again to be in a file.
RETRY_SECONDS = 5.0

_FULL = "the bound on events or bytes was reached"

#: What the ends of a chain hold.
_NO_CONTENT = mmap.mmap(-1, HEADER_BYTES)


class Shelf(Protocol):
    """Where the files of a queue lie: the spool of its producer."""

    @property
    def producer(self) -> bytes:
        """The id under which the events are sent."""

    def make_part(self, size: int) -> QueuePart:
        """Make a part that is shared with a file. Raises ClientErrors."""

    def remove_part(self, part: QueuePart) -> None:
        """Remove it, and its file."""


class FlushMark:
    """Stands in the queue behind the events that a flush() waits for."""

    __slots__ = ("accepted", "durable")

    def __init__(self, accepted: int) -> None:
        #: Events that were taken before.
        self.accepted = accepted
        self.durable = threading.Event()


#: What the bell rings for; None only makes the worker look up.
_Ring: TypeAlias = FlushMark | None


class Outbox:
    """Takes events or refuses them, and counts both.

    A record is a place in the queue; all but the voids, which are rare, hold an event. Counted
    from the beginning of the queue:

        records  read ≤ reserved
        events   taken ≤ read ≤ accepted
    """

    __slots__ = (
        "_base",
        "_bell",
        "_chain_bytes",
        "_events_read",
        "_first",
        "_is_awaited",
        "_is_enabled",
        "_max_bytes",
        "_max_events",
        "_on_memory",
        "_part",
        "_read",
        "_reading",
        "_ready",
        "_released",
        "_reserved",
        "_retry_at",
        "_shelf",
        "_spare",
        "_voids",
        "drops",
        "is_closed",
        "last_error",
        "taken",
    )

    def __init__(
        self,
        *,
        max_events: int,
        max_bytes: int,
        is_enabled: bool = True,
        shelf: Shelf | None = None,
        on_memory: Callable[[str], object] = lambda _: None,
    ) -> None:
        """Without a `shelf`, or where it makes no file, the queue is in memory alone.

        `on_memory` is told why the shelf makes none.
        """
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._is_enabled = is_enabled
        self._shelf = shelf
        self._on_memory = on_memory
        self.is_closed = not is_enabled
        #: Parts: where events are stored, where the worker reads, the oldest that is kept, and
        #: one to be used again. The chain begins with an end, which takes nothing.
        self._part = self._reading = self._first = _end_of_chain()
        self._spare: QueuePart | None = None
        #: Bytes of the chain.
        self._chain_bytes = 0
        #: Records stored, or about to be, and those of them that hold no event.
        self._reserved = self._voids = 0
        #: Records read, how many of them hold an event, those that nobody took yet, and how many
        #: were taken.
        self._read = self._events_read = 0
        self._ready: deque[bytes] = deque()
        self.taken = 0
        #: The number of an event is this and how many were read before it.
        self._base = 1
        #: Events that do not count against the bound any more.
        self._released = 0
        self._bell: queue.SimpleQueue[_Ring] = queue.SimpleQueue()
        #: Whether the worker waits for the bell.
        self._is_awaited = False
        self._retry_at = 0.0
        #: Why the queue is in memory alone.
        self.last_error: str | None = None
        #: What was not taken.
        self.drops = DropCounts()

    @property
    def accepted(self) -> int:
        """Events taken by `offer`."""
        return self._reserved - self._voids

    def offer(self, event: Event) -> bool:
        """Encode the event and put it in the queue; False: it is not taken (see `refuse`)."""
        if (
            self._reserved - self._released >= self._max_events
            or self.is_closed
            or type(event) not in EVENT_CLASSES
        ):
            return False
        try:
            pair = encode((time_ns(), event))
        except Exception:  # a field is the caller's object: encoding it can raise anything
            try:
                pair = pair_of(event)
            except Exception:
                return False
        size = len(pair) + 1
        # From here to the move of `tail` there must be no call (see above).
        part = self._part
        at = part.tail
        end = at + size
        if end > part.limit:
            # Once a part. It is encoded again: nothing must come between here and the next lines.
            fits = size <= PAIR_BYTES_MAX + 1 and self._begin_next(part, size)
            return fits and self.offer(event)
        part.tail = end
        self._reserved += 1
        try:
            part.content[at + 1 : end] = pair
            part.content[at] = part.lap
        except ValueError:  # unmapped: this is a forked child
            self._voids += 1
            return False
        except BaseException:  # a debugger's, or no memory: the worker must not wait for it
            self._voids += 1
            part.void(at, end)
            raise
        if self._is_awaited:
            self._is_awaited = False
            self._bell.put(None)
        return True

    def refuse(self, event: Event) -> str:
        """Find out why `offer` did not take the event, count it, and return the cause."""
        count = self.drops.count
        if not self._is_enabled:
            return count("disabled", "the client is not enabled")
        if self.is_closed:
            return count("closed", "the client was closed")
        try:
            pair = pair_of(event)
        except Exception as error:  # see `offer`
            return count("invalid", _reason(error))
        if len(pair) > PAIR_BYTES_MAX:
            size = len(pair) - PAIR_BYTES
            return count("too_large", f"an event of {size} bytes, over {limits.EVENT_BYTES}")
        return count("full", _FULL)

    def mark(self) -> FlushMark:
        """Put a mark behind everything accepted so far."""
        mark = FlushMark(self.accepted)
        self._bell.put(mark)
        return mark

    def close(self) -> None:
        """Refuse everything from now on, and make the worker look up."""
        self.is_closed = True
        self._append(_end_of_chain())
        self._bell.put(None)

    def nudge(self) -> None:
        """Make the worker look up."""
        self._bell.put(None)

    def abandon(self) -> None:
        """In a forked child: unmap what is the parent's, and take nothing more."""
        self.is_closed = True
        end = _end_of_chain()
        self._part.next = end  # not `_append`, which would tell the parent's file
        self._part = end
        for part in (*_chain(self._first), self._spare):
            if part is not None and part.size:
                part.close()

    # What follows belongs to the worker.

    def waiting(self) -> int:
        """Events that were accepted and not taken."""
        return self.accepted - self.taken

    @property
    def is_half_full(self) -> bool:
        """Whether the queue holds more than half of what it may."""
        held = self.accepted - self._released
        return 2 * held > self._max_events or (held > 0 and 2 * self._chain_bytes > self._max_bytes)

    def wait(self, seconds: float) -> list[FlushMark]:
        """Wait until there is an event, a mark or a nudge; return the marks."""
        self._is_awaited = True
        try:
            return self.marks(0 if self._ready or self._refill() else seconds)
        finally:
            self._is_awaited = False

    def marks(self, seconds: float = 0) -> list[FlushMark]:
        """Return the marks that were put, after waiting for the first ring."""
        found: list[FlushMark] = []
        try:
            ring = self._bell.get(timeout=seconds) if seconds > 0 else self._bell.get_nowait()
            while True:
                if ring is not None:
                    found.append(ring)
                ring = self._bell.get_nowait()
        except queue.Empty:
            return found

    def take(self, most_events: int, most_bytes: int) -> list[bytes]:
        """Take the next events: at most so many, and no more once they have so many bytes."""
        ready = self._ready
        pairs: list[bytes] = []
        size = 0
        while len(pairs) < most_events and size < most_bytes and (ready or self._refill()):
            pair = ready.popleft()
            pairs.append(pair)
            size += len(pair)
        self.taken += len(pairs)
        return pairs

    def release(self, events: int) -> None:
        """Note how many events do not count against the bound any more (a running total)."""
        self._released = events

    def let_go(self, sequence: int) -> None:
        """Let go of what has a number up to this one: it is settled, or elsewhere on the disk."""
        while (
            self._first is not self._reading
            and self._first.last_sequence <= sequence
            and (following := self._first.next) is not None
        ):
            part, self._first = self._first, following
            self._dispose(part)
        if self._first.path is not None:
            self._first.settle(sequence)

    def return_to_file(self) -> None:
        """Where the queue had to be in memory, and is empty: go on in a file, if there can be one.

        Not before it is empty: whoever finds the file must know the number of its first event.
        """
        part = self._part
        if part.path is not None or not part.size or monotonic() < self._retry_at:
            return
        if self._reserved != self._read or self._ready or self.is_closed:
            return
        fresh = self._in_file(FIRST_PART_BYTES, self._base + self._events_read)
        if fresh is None:
            return
        if self._append(fresh, behind=part, only_if_read=True):
            self.last_error = None
        else:
            self._remove(fresh)

    def move(self, shelf: Shelf | None, sequence: int) -> None:
        """Go on for another shelf, in memory at first, and remove the files from this one.

        `sequence` is the last number that was given to an event that was taken.
        """
        fresh = _in_memory(FIRST_PART_BYTES)
        fresh.begin(b"", first_sequence=0)
        self._append(fresh)
        while self._reading is not fresh and self._refill():
            pass
        for part in _chain(self._first):
            if part is not self._reading:
                self._chain_bytes -= part.size
                self._remove(part)
            else:
                break
        self._first = self._reading
        self._remove_spare()
        self._shelf = shelf
        self._base = sequence + 1 - self.taken

    def finish(self, sequence: int) -> bool:
        """After `close`: remove the files if everything up to this number was all, else leave them.

        False: something was not, and was in memory alone. The worker is called no more after that.
        """
        self.let_go(sequence)
        self._remove_spare()
        is_all = self._base + self.accepted - 1 <= sequence
        is_kept = True
        for part in _chain(self._first):
            is_kept = is_kept and (part.path is not None or not part.size)
            if is_all:
                self._remove(part)
            elif part.size:
                part.close()
        self._first = self._reading = self._part
        return is_all or is_kept

    def _refill(self) -> bool:
        """Read what was published; whether there are events ready to be taken."""
        while True:
            part = self._reading
            following = part.next
            # No call in between: the place and the count belong together.
            tail = part.tail
            reserved = self._reserved if following is None else part.end_record
            if self._read < reserved:
                pairs, records = part.read(tail, reserved - self._read, has_voids=self._voids > 0)
                self._read += records
                self._events_read += len(pairs)
                self._ready.extend(pairs)
                if pairs:
                    return True
                if not records:
                    return False  # who reserved the place is about to fill it, and will ring
            elif following is None:
                return False
            else:
                sequence = self._base + self._events_read
                part.last_sequence = sequence - 1
                if following.path is not None:
                    following.number(sequence)
                self._reading = following

    def _begin_next(self, part: QueuePart, size: int) -> bool:
        """On a thread that emits: make room in this part, or behind it; False: there is none.

        True also if somebody else did that meanwhile.
        """
        if self.is_closed:
            return False
        if self._part is not part or part.grow(size):
            return True
        room = self._max_bytes
        if self.accepted > self._released:
            room -= self._chain_bytes
        if size > room:
            return False
        usual = PART_BYTES if self._chain_bytes else FIRST_PART_BYTES
        try:
            fresh = self._next_part(part, max(HEADER_BYTES + size, min(usual, room)))
        except (OSError, MemoryError):
            return False
        if not self._append(fresh, behind=part):
            self._remove(fresh)
        return True

    def _next_part(self, part: QueuePart, size: int) -> QueuePart:
        """Begin a part that can stand behind this one. Raises OSError, MemoryError."""
        # The number of its first event is known at the beginning; later the worker says it.
        first_sequence = 0 if part.size else self._base
        # Behind one in memory alone nobody would know the number of a first event.
        if self._shelf is not None and (part.path is not None or not part.size):
            if size <= PART_BYTES:
                spare, self._spare = self._spare, None
                if spare is not None:
                    spare.begin(self._shelf.producer, first_sequence=first_sequence)
                    return spare
            fresh = self._in_file(size, first_sequence)
            if fresh is not None:
                return fresh
        fresh = _in_memory(size)
        fresh.begin(b"", first_sequence=first_sequence)
        return fresh

    def _in_file(self, size: int, first_sequence: int) -> QueuePart | None:
        if self._shelf is None:
            return None
        try:
            fresh = self._shelf.make_part(_rounded(size))
        except ClientError as error:
            self.last_error = f"the queue is only in memory: {error.message}"
            self._retry_at = monotonic() + RETRY_SECONDS
            self._on_memory(self.last_error)
            return None
        fresh.begin(self._shelf.producer, first_sequence=first_sequence)
        return fresh

    def _append(
        self, fresh: QueuePart, *, behind: QueuePart | None = None, only_if_read: bool = False
    ) -> bool:
        """Put a part at the end of the chain: if `behind` is there, and if all was read."""
        # No call until `_part` is another: nothing is stored meanwhile.
        part = self._part
        if behind is not None and part is not behind:
            return False
        if only_if_read and self._reserved != self._read:
            return False
        fresh.begin_record = part.end_record = self._reserved
        part.words[RECORDS] = part.end_record - part.begin_record
        # From here on, who finds the file reads it: not before its place in the queue is certain.
        fresh.words[INDEX] = fresh.index = part.index + 1
        fresh.content[LAP] = fresh.lap
        part.next = fresh
        self._part = fresh
        self._chain_bytes += fresh.size
        return True

    def _dispose(self, part: QueuePart) -> None:
        """Let go of a part of the chain, or keep it to be used again."""
        self._chain_bytes -= part.size
        if part.path is None or part.size != PART_BYTES or self._spare is not None:
            self._remove(part)
        else:
            part.end_lap()
            self._spare = part

    def _remove(self, part: QueuePart) -> None:
        if part.path is not None and self._shelf is not None:
            self._shelf.remove_part(part)
        elif part.size:
            part.close()

    def _remove_spare(self) -> None:
        spare, self._spare = self._spare, None
        if spare is not None:
            self._remove(spare)


class LockedOutbox(Outbox):
    """The same for an interpreter that runs threads at once: there, `offer` takes a lock."""

    __slots__ = ("_lock",)

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._lock = threading.RLock()

    def offer(self, event: Event) -> bool:
        """See `Outbox.offer`."""
        with self._lock:
            return super().offer(event)

    def _append(
        self, fresh: QueuePart, *, behind: QueuePart | None = None, only_if_read: bool = False
    ) -> bool:
        with self._lock:
            return super()._append(fresh, behind=behind, only_if_read=only_if_read)


def outbox_class() -> type[Outbox]:
    """Return the outbox that is right for this interpreter."""
    has_lock: Callable[[], bool] = getattr(sys, "_is_gil_enabled", lambda: True)
    return Outbox if has_lock() and sys.implementation.name == "cpython" else LockedOutbox


def _end_of_chain() -> QueuePart:
    """Return a part that takes nothing."""
    end = QueuePart(_NO_CONTENT)
    end.limit = end.size = 0
    return end


def _in_memory(size: int) -> QueuePart:
    return QueuePart(mmap.mmap(-1, _rounded(size)))


def _rounded(size: int) -> int:
    return size + 7 & -8


def _chain(part: QueuePart | None) -> Iterator[QueuePart]:
    while part is not None:
        following = part.next
        yield part
        part = following


def _reason(error: Exception) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # the message is the caller's object, too
        return type(error).__name__
