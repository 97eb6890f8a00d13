"""Spool: one producer's events on disk, in the order of their numbers, until they are settled.

Owns the producer's lock, its segments and the files of its queue. Appending, reading and settling
may happen on different threads, one after the other. It knows nothing of sockets, and never decides
when to spool.

What lies here is safe from the end of the process once `append` has returned, and from a power
cut once `sync` has. Segments have no cursor: how far delivery got is what the daemon says it has
settled, and a segment is removed only after that.
"""

from __future__ import annotations

import itertools
import mmap
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from ggend_client.errors import SpoolFull, SpoolUnusable
from ggend_client.sequence_ranges import SequenceRanges
from ggend_client.spool import directory as spool_directory
from ggend_client.spool import segment
from ggend_client.spool.lock import SpoolLock, boot_id, destination_of
from ggend_client.spool.queue_part import LeftPart, QueuePart, read_part
from ggend_client.spool.segment_file import LoadedSegment, SegmentFile, unusable
from ggend_client.turn import Turn, in_turn

__all__ = ["DIRECTORY_BYTES", "SPOOL_BYTES", "Loaded", "Spool"]

#: Bytes of one producer's segments, at most.
SPOOL_BYTES = 64 * 1024 * 1024

#: Bytes of a directory, at most: what many producers leave while the daemon is away for long.
DIRECTORY_BYTES = 1024 * 1024 * 1024

#: A segment that has reached this size is followed by a new one: what is settled is removed in
#: pieces of it.
SEGMENT_BYTES = 4 * 1024 * 1024

#: Events, and bytes, of a record that is made of what a dead process had in its queue.
RECORD_EVENTS = 512
RECORD_BYTES = 256 * 1024

#: Nanoseconds after which a segment is not sent any more: the daemon forgets a silent producer
#: after 60 days, and would then take its events for new ones.
EXPIRY_NS = 30 * 24 * 3600 * 1_000_000_000

#: Nanoseconds since 1970 below which a clock was never set: 2025, before there were spools.
CLOCK_SET_NS = 1_735_689_600 * 1_000_000_000


#: Pauses between attempts to lock: who lists the spools holds each lock for a moment.
_LOOK_SECONDS = (0.001, 0.005, 0.02, 0.05, 0.1, 0)


class Loaded(msgspec.Struct, frozen=True):
    """Events read from the spool: numbered from `first_sequence` on, without a gap."""

    first_sequence: int
    items: list[bytes]


class Spool:
    """What one producer has on disk. Nothing is made there before the first event."""

    def __init__(
        self,
        directory: Path,
        producer: bytes,
        *,
        destination: Path | None = None,
        most_bytes: int = SPOOL_BYTES,
        directory_bytes: int = DIRECTORY_BYTES,
        now_ns: Callable[[], int] = time.time_ns,
        boot_id: Callable[[], str] = boot_id,
    ) -> None:
        """`destination` is the socket of the daemon that the events are meant for."""
        self.directory = directory
        self._destination = destination
        self.producer = producer
        self._most_bytes = most_bytes
        self._directory_bytes = directory_bytes
        self._now_ns = now_ns
        self._boot_id = boot_id
        self._turn = Turn()
        # A finalizer or a signal handler that emits may come to it again, see `make_part`.
        self._claiming = threading.RLock()
        self._spool_lock: SpoolLock | None = None
        self._is_claiming = False
        self._segments: deque[SegmentFile] = deque()
        self._numbers = SequenceRanges()
        #: Files of the queue, numbers for their names, and whether there can be any.
        self._parts: set[Path] = set()
        self._part_numbers = itertools.count(1)
        self._keeps_stores: bool | None = None
        #: Whether a daemon may have been sent something under this id.
        self._is_offered = False
        #: Read, and not loaded yet.
        self._ahead: segment.Record | None = None
        self._takes_expired = False
        #: Events that `adopt` set aside because they are too old.
        self.expired = 0
        #: Events that `append_next` wrote.
        self.at_once = 0
        #: Highest number here.
        self.last_sequence = 0
        #: Every number here up to this one was loaded, or never will be.
        self.loaded_sequence = 0

    @property
    def has_unread(self) -> bool:
        """Whether something here was not loaded yet."""
        return self.last_sequence > self.loaded_sequence

    @property
    def first_sequence(self) -> int | None:
        """The lowest number here that is not known to be settled."""
        return self._numbers.first

    def unsettled(self, acked_sequence: int = 0) -> int:
        """Return how many events are here that are not settled, as far as is known.

        Takes no lock. `acked_sequence`: the caller knows that those up to this one are.
        """
        return self._numbers.count(acked_sequence)

    @in_turn
    def adopt(self, *, expired: bool = False) -> bool:
        """Take over what a dead process left under this producer's id.

        What is too old is set aside, or (`expired`) taken up all the same, also what was set aside
        before. False: it is alive, or another adopts it, or nothing is left. Raises SpoolUnusable.
        """
        self._takes_expired = expired
        spool_directory.prepare(self.directory)
        try:
            if not self._take_lock():
                return False
            self._is_offered = self._spool_lock is None or self._spool_lock.is_offered
            for path in self._set_aside() if expired else ():
                path.rename(path.with_suffix(""))
            for path in spool_directory.segments(self.directory, self.producer):
                self._take_up(path)
            self._take_up_queue()
        except OSError as error:
            raise unusable(self.directory, error) from error
        return bool(self._segments)

    @in_turn
    def append(self, first_sequence: int, items: Sequence[bytes], *, loaded: bool = False) -> None:
        """Write these events behind the others; `loaded`: the caller holds them in memory too.

        Raises SpoolFull or SpoolUnusable, or Reentered: then nothing was added.
        """
        self._append(first_sequence, items)
        if loaded:
            self.loaded_sequence = self.last_sequence

    @in_turn
    def append_next(self, item: bytes) -> None:
        """Write an event that gets the next number. Raises as `append` does."""
        self._append(self.last_sequence + 1, [item], is_at_once=True)

    def make_part(self, size: int) -> QueuePart:
        """Make a file of the queue, mapped, for emit(). Raises SpoolFull, SpoolUnusable.

        A signal handler may come here while the same thread is here already: whatever it finds
        half done, it makes a file of its own.
        """
        path = spool_directory.part_path(self.directory, self.producer, next(self._part_numbers))
        try:
            spool_directory.prepare(self.directory)
            if self._keeps_stores is None:
                self._keeps_stores = spool_directory.keeps_stores(self.directory)
            if not self._keeps_stores:
                kinds = ", ".join(sorted(spool_directory.KEEPING))
                raise SpoolUnusable(f"{self.directory}: its file system is not one of {kinds}")
            used = spool_directory.used_bytes(self.directory)
            if used + size > self._directory_bytes:
                raise SpoolFull(f"{self.directory}: it holds {used} bytes already")
            self._claim()
            part = QueuePart(_map_new(path, size), path)
        except OSError as error:
            raise unusable(path, error) from error
        self._parts.add(path)
        return part

    def remove_part(self, part: QueuePart) -> None:
        """Unmap a file of the queue, and remove it."""
        part.retire()  # a process that has become another user cannot remove it
        part.close()
        if part.path is not None:
            with suppress(OSError):
                part.path.unlink()
            self._parts.discard(part.path)

    @in_turn
    def sync(self) -> None:
        """Wait until what was appended would survive a power cut.

        Raises SpoolUnusable, or Reentered.
        """
        if self._segments and self._segments[-1].sync():
            _sync_directory(self.directory)

    def note_offer(self) -> None:
        """Note, before it happens, that a daemon is sent something under this id."""
        if self._is_offered:
            return
        self._is_offered = True
        lock = self._spool_lock
        if lock is not None and lock.is_held and not lock.is_offered:
            with suppress(OSError):  # a full disk: then it counts as never offered for longer
                lock.write(lock.destination, lock.boot_id, is_offered=True)

    @in_turn
    def load(self, most_events: int, most_bytes: int) -> Loaded | None:
        """Return the next events, at least one; None: all were loaded. Raises SpoolUnusable.

        Numbers that are missing between two calls are lost: their record was damaged.
        """
        items: list[bytes] = []
        size = first = 0
        while (record := self._next()) is not None and record.items is not None:
            fresh = record.items[max(0, self.loaded_sequence + 1 - record.first_sequence) :]
            more = sum(map(len, fresh))
            if items and (
                record.first_sequence != first + len(items)
                or len(items) + len(fresh) > most_events
                or size + more > most_bytes
            ):
                break
            first = first or record.last_sequence - len(fresh) + 1
            items += fresh
            size += more
            self._ahead = None
            self._pass_to(record.last_sequence)
        return Loaded(first, items) if items else None

    @in_turn
    def settle(self, sequence: int) -> None:
        """Remove the segments of which everything is settled, up to this number."""
        while self._segments and self._segments[0].last_sequence <= sequence:
            self._segments.popleft().remove()
        self._numbers.remove_to(sequence)
        self._pass_to(min(sequence, self.last_sequence))

    def close(self) -> None:
        """Sync what is left, or remove the lock when nothing is; the next one takes it up."""
        with suppress(SpoolUnusable):
            self.sync()
        self._close()

    def abandon(self) -> None:
        """In a forked child: close the parent's descriptors, touch nothing else, take no lock."""
        for one in list(self._segments):
            one.stop_reading()
            one.stop_writing()
        if self._spool_lock is not None:
            self._spool_lock.release()

    # Everything below is called in turn, but for `_claim`, which has a lock of its own.

    @in_turn
    def _close(self) -> None:
        for one in self._segments:
            one.stop_reading()
            one.stop_writing()
        if self._spool_lock is not None and self._spool_lock.is_held:
            # What was set aside may still be asked for, and then it matters what the lock says.
            is_empty = not (self._segments or self._parts or self._set_aside())
            self._spool_lock.release(remove=is_empty)

    def _append(
        self,
        first_sequence: int,
        items: Sequence[bytes],
        *,
        is_bounded: bool = True,
        is_at_once: bool = False,
    ) -> None:
        record = segment.pack_record(first_sequence, items)
        last = first_sequence + len(items) - 1
        target = self._room_for(len(record), first_sequence, is_bounded=is_bounded)
        try:
            target.append(record, last)
        finally:
            # A signal handler may have raised behind the write: what is in the file has its number.
            if target.last_sequence >= last:
                self.last_sequence = last
                self.at_once += is_at_once
                self._numbers.add(first_sequence, last)

    def _claim(self) -> None:
        """Lock what is about to be begun, and say whom it is for. Raises OSError, SpoolUnusable."""
        with self._claiming:
            # In the second case a signal handler has interrupted this very thread in here.
            if self._is_claimed() or self._is_claiming:
                return
            self._is_claiming = True
            try:
                if not self._take_lock(is_new=True) or self._spool_lock is None:
                    raise SpoolUnusable(f"{self.directory}: the lock of a new producer is held")
                to = "" if self._destination is None else destination_of(self._destination)
                self._spool_lock.write(to, self._boot_id(), is_offered=self._is_offered)
            finally:
                self._is_claiming = False

    def _is_claimed(self) -> bool:
        lock = self._spool_lock
        return lock is not None and lock.is_there() and bool(lock.boot_id)

    def _set_aside(self) -> list[Path]:
        return spool_directory.expired(self.directory, self.producer)

    def _take_lock(self, *, is_new: bool = False) -> bool:
        if self._spool_lock is None or not self._spool_lock.is_there():
            if self._spool_lock is not None:
                self._spool_lock.release()
            path = spool_directory.lock_path(self.directory, self.producer)
            self._spool_lock = SpoolLock(path)
        for pause in _LOOK_SECONDS:
            if self._spool_lock.take(is_new=is_new):
                return True
            time.sleep(pause)
        return False

    def _is_of_this_boot(self) -> bool:
        return self._spool_lock is not None and self._spool_lock.boot_id == self._boot_id()

    def _is_too_old(self, path: Path, made_at: int) -> bool:
        """Whether its header and its file agree that it is, and its clock can be believed.

        A board without a battery begins in 1970, or where it was switched off, and is set right
        later: what was written since this boot, or by a clock that was never set, is not old.
        """
        if self._takes_expired:
            return False
        written_at = path.stat().st_mtime_ns
        if min(made_at, written_at) < CLOCK_SET_NS:
            return False
        age_ns = self._now_ns() - max(made_at, written_at)
        return age_ns > EXPIRY_NS and not self._is_of_this_boot()

    def _take_up(self, path: Path) -> None:
        """Take up a segment, or set it aside, or remove one in which nothing was written whole."""
        found = SegmentFile(path)
        content = spool_directory.survey(path, self.producer, above=self.last_sequence)
        found.end, found.is_flawed = content.end, content.is_flawed
        if not content.records:
            found.remove()
        elif self._is_too_old(path, content.made_at):
            found.set_aside("expired")
            self.expired += sum(last - first + 1 for first, last in content.records)
        else:
            for first, last in content.records:
                self._numbers.add(first, last)
                found.last_sequence = self.last_sequence = last
            self._segments.append(found)
            self.loaded_sequence = (self._numbers.first or 1) - 1

    def _take_up_queue(self) -> None:
        """Take over what is in the files of a queue, as segments, and remove them.

        Where there is no room for segments, they stay until what is in them is settled. Raises
        OSError, SpoolUnusable: then the next one goes on.
        """
        found = self._left_parts()
        settled = max((part.settled for part in found), default=0)
        is_of_this_boot = self._is_of_this_boot()
        runs: list[tuple[int, list[bytes]]] = []
        paths: list[Path] = []
        # The number of the next part's first event, and that part's index; None: not known.
        sequence: int | None = None
        follows = 0
        for part in found:
            if part.first_sequence:
                sequence = part.first_sequence
            elif part.index != follows:
                sequence = None
            if sequence is None:
                part.path.rename(part.path.with_name(f"{part.path.name}.corrupt"))
                continue
            runs += _runs(part, sequence, above=max(settled, self.last_sequence))
            paths.append(part.path)
            follows = part.index + 1
            # After a power cut a file may have lost some of its pages.
            is_counted = part.is_whole or is_of_this_boot
            sequence = sequence + len(part.items) if is_counted else None
        paths.reverse()  # the first one knows the numbers of all: it goes last
        for number, (first_sequence, items) in enumerate(runs):
            try:
                self._append(first_sequence, items, is_bounded=False)
            except SpoolFull:
                self._hold(paths, runs[number:])
                break
        else:
            for path in paths:
                path.unlink(missing_ok=True)
        self.loaded_sequence = (self._numbers.first or 1) - 1

    def _hold(self, paths: Sequence[Path], runs: Sequence[tuple[int, list[bytes]]]) -> None:
        """Have these events behind the others, in memory and in files that go when they do."""
        records = [segment.Record(first, len(items), items, 0) for first, items in runs]
        for record in records:
            self._numbers.add(record.first_sequence, record.last_sequence)
        self.last_sequence = records[-1].last_sequence
        self._segments.append(LoadedSegment(paths, records))

    def _left_parts(self) -> list[LeftPart]:
        """Read the files of a queue in their order; set aside what is none, or too old."""
        found = []
        for path in spool_directory.parts(self.directory, self.producer):
            try:
                part = read_part(path, self.producer)
            except ValueError:
                path.rename(path.with_name(f"{path.name}.corrupt"))
                continue
            if part is None:
                path.unlink()
            elif self._is_too_old(path, part.begun_at):
                path.rename(path.with_name(f"{path.name}.expired"))
                self.expired += len(part.items)
            else:
                found.append(part)
        return sorted(found, key=lambda part: part.index)

    def _room_for(self, size: int, first_sequence: int, *, is_bounded: bool = True) -> SegmentFile:
        """Return the segment to append to: the last one, or a new one."""
        used = sum(one.end for one in self._segments)
        if is_bounded and used + size > self._most_bytes:
            raise SpoolFull(f"{self.directory}: it holds {used} bytes of this process already")
        if self._segments and not (self._segments[-1].is_open or self._segments[-1].last_sequence):
            self._segments.pop()  # its first record was not written: the next has its path
        if self._segments and self._segments[-1].is_open:
            if self._segments[-1].end + size <= SEGMENT_BYTES:
                return self._segments[-1]
            self._segments[-1].stop_writing()
        begun = self._begin(first_sequence, size, is_bounded=is_bounded)
        self._segments.append(begun)
        return begun

    def _begin(self, first_sequence: int, size: int, *, is_bounded: bool) -> SegmentFile:
        path = spool_directory.segment_path(self.directory, self.producer, first_sequence)
        spool_directory.prepare(self.directory)
        try:
            used = spool_directory.used_bytes(self.directory)
            self._claim()
        except OSError as error:
            raise unusable(path, error) from error
        if is_bounded and used + size > self._directory_bytes:
            raise SpoolFull(f"{self.directory}: it holds {used} bytes already")
        begun = SegmentFile(path)
        begun.create(segment.Header(self.producer, first_sequence, max(0, self._now_ns())))
        return begun

    def _next(self) -> segment.Record | None:
        """Return the next record that can be sent and is not loaded, without passing it."""
        while self._ahead is None and self.has_unread:
            one = next(one for one in self._segments if one.last_sequence > self.loaded_sequence)
            record = one.next_record()
            if record is None:
                self._pass_to(one.last_sequence)
            elif record.items is None:
                one.is_flawed = True
                self._pass_to(record.last_sequence)
            elif record.last_sequence > self.loaded_sequence:
                self._ahead = record
        return self._ahead

    def _pass_to(self, sequence: int) -> None:
        self.loaded_sequence = max(self.loaded_sequence, sequence)


def _runs(part: LeftPart, first_sequence: int, *, above: int) -> Iterator[tuple[int, list[bytes]]]:
    """Yield the events of a part with numbers `above` this one: a record's worth at a time."""
    run: list[bytes] = []
    size = 0
    for sequence, item in enumerate([*part.items, None], start=first_sequence):
        if run and (item is None or len(run) == RECORD_EVENTS or size >= RECORD_BYTES):
            yield sequence - len(run), run
            run, size = [], 0
        if item is not None and sequence > above:
            run.append(item)
            size += len(item)


def _map_new(path: Path, size: int) -> mmap.mmap:
    """Make a file of this size, all of it allocated, and map it. Raises OSError."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, size)
        return mmap.mmap(descriptor, size)
    except OSError:
        with suppress(OSError):
            path.unlink()
        raise
    finally:
        os.close(descriptor)


def _sync_directory(directory: Path) -> None:
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise unusable(directory, error) from error
