"""Queue: what was taken is read once and in order, and a stranger finds it in the files."""

from __future__ import annotations

import gc
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ggend_client.errors import SpoolUnusable
from ggend_client.spool import directory as spool_directory
from ggend_client.spool.directory import lock_path
from ggend_client.spool.lock import SpoolLock
from ggend_client.spool.queue_part import HEADER_BYTES, QueuePart, read_part
from ggend_client.spool.spool import Spool
from ggend_client.transport import outbox as outbox_module
from ggend_client.transport.outbox import LockedOutbox, Outbox
from ggend_schema import Audit, Event
from support.daemon_process import free_place

PRODUCER = bytes(range(16))
SMALL_PART = 512


@pytest.fixture
def directory() -> Iterator[Path]:
    with free_place() as place:
        yield Path(place) / "spool"


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A part holds a few events."""
    monkeypatch.setattr(outbox_module, "FIRST_PART_BYTES", SMALL_PART)
    monkeypatch.setattr(outbox_module, "PART_BYTES", 2 * SMALL_PART)


def audit(number: int, size: int = 0) -> Event:
    return Audit(
        agent_id="a",
        operation=str(number),
        status="completed",
        context="x" * size if size else None,
    )


def number_of(pair: bytes) -> int:
    _, event = msgspec.msgpack.decode(pair, type=tuple[int, Audit])
    return int(event.operation)


def make(directory: Path, *, max_events: int = 10**6, max_bytes: int = 10**8) -> Outbox:
    spool = Spool(directory, PRODUCER, destination=Path("/run/g.sock"))
    return Outbox(max_events=max_events, max_bytes=max_bytes, shelf=spool)


def found_by_a_stranger(directory: Path, copy: Path) -> dict[int, int]:
    """Return which event has which number for whoever comes next, if the process ends here.

    The copy has locks that nobody holds.
    """
    shutil.copytree(directory, copy)
    spool = Spool(copy, PRODUCER)
    found = {}
    if spool.adopt():
        while (loaded := spool.load(100, 10**6)) is not None:
            for offset, pair in enumerate(loaded.items):
                assert loaded.first_sequence + offset not in found
                found[loaded.first_sequence + offset] = number_of(pair)
    spool.settle(spool.last_sequence)
    spool.close()
    assert list(copy.iterdir()) == []
    copy.rmdir()
    return found


STEPS = st.one_of(
    st.tuples(st.just("offer"), st.integers(0, 700)),
    st.tuples(st.just("many"), st.integers(1, 30)),
    st.tuples(st.just("take"), st.integers(1, 40)),
    st.tuples(st.just("let go"), st.integers(0, 20)),
    st.tuples(st.just("kill"), st.just(0)),
)


@given(steps=st.lists(STEPS, max_size=30))
def test_whoever_finds_the_files_numbers_the_events_as_the_worker_did(
    steps: list[tuple[str, int]],
) -> None:
    offered = taken = settled = 0
    with free_place() as place:
        directory = Path(place) / "spool"
        outbox = make(directory)
        try:
            for step, amount in [*steps, ("kill", 0)]:
                if step in ("offer", "many"):
                    for _ in range(amount if step == "many" else 1):
                        offered += 1
                        assert outbox.offer(audit(offered, amount if step == "offer" else 0))
                elif step == "take":
                    for pair in outbox.take(amount, 10**6):
                        taken += 1
                        assert number_of(pair) == taken
                    assert taken == outbox.taken == outbox.accepted - outbox.waiting()
                elif step == "let go":
                    settled = min(settled + amount, taken)
                    outbox.let_go(settled)
                elif directory.exists():
                    found = found_by_a_stranger(directory, Path(place) / "copy")
                    assert all(number == event for number, event in found.items())
                    assert set(found) >= set(range(settled + 1, offered + 1))
                    assert not set(found) & set(range(1, settled + 1)) or settled == 0
        finally:
            outbox.close()
            outbox.finish(offered)
        assert not directory.exists() or [path.suffix for path in directory.iterdir()] in (
            [],
            [".lock"],
        )


def test_a_part_is_used_again_and_nothing_old_is_read(directory: Path) -> None:
    outbox = make(directory)
    for number in range(1, 400):
        assert outbox.offer(audit(number))
        assert [number_of(pair) for pair in outbox.take(10, 10**6)] == [number]
        outbox.let_go(number)
        assert len(list(directory.glob("*.queue"))) <= 3
    [part, *_] = outbox_module._chain(outbox._first)
    assert part.lap > 3
    assert outbox.offer(audit(400))
    assert found_by_a_stranger(directory, directory.parent / "copy") == {400: 400}


def test_the_worker_waits_at_a_place_that_is_not_filled_yet(directory: Path) -> None:
    """As when a finalizer emits in the middle of an emit, and the process is killed there."""
    outbox = make(directory)
    assert outbox.offer(audit(1))
    part = outbox._part
    hole = part.tail
    part.tail += 30
    outbox._reserved += 1
    assert outbox.offer(audit(3))
    assert [number_of(pair) for pair in outbox.take(10, 10**6)] == [1]
    assert outbox.take(10, 10**6) == []
    # Nobody was told that the second one is taken: it has no number.
    assert found_by_a_stranger(directory, directory.parent / "copy") == {1: 1, 2: 3}
    part.void(hole, hole + 30)
    outbox._voids += 1
    assert [number_of(pair) for pair in outbox.take(10, 10**6)] == [3]
    assert (outbox.accepted, outbox.waiting()) == (2, 0)
    assert found_by_a_stranger(directory, directory.parent / "copy") == {1: 1, 2: 3}


class Emitting:
    """What emits when the garbage collector finds it."""

    def __init__(self, outbox: Outbox, taken: list[str], name: str) -> None:
        self.itself = self
        self.outbox, self.taken, self.name = outbox, taken, name

    def __del__(self) -> None:
        event = Audit(agent_id="a", operation=self.name, status="completed", context={"x": [1]})
        if self.outbox.offer(event):
            self.taken.append(self.name)


@pytest.mark.parametrize("kind", [Outbox, LockedOutbox])
def test_threads_and_finalizers_may_emit_at_any_moment(directory: Path, kind: type[Outbox]) -> None:
    outbox = kind(max_events=10**6, max_bytes=10**8, shelf=Spool(directory, PRODUCER))
    taken: list[str] = []
    thresholds = gc.get_threshold()

    def work(thread: int) -> None:
        for number in range(500):
            Emitting(outbox, taken, f"finalizer {thread} {number}")
            name = f"{thread} {number}"
            held = [slice(n) for n in range(3)]  # so that the next ones are new objects
            if outbox.offer(Audit(agent_id="a", operation=name, status="completed")):
                taken.append(name)
            held.clear()

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(3)]
    gc.set_threshold(3, 2, 2)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        gc.set_threshold(*thresholds)
        gc.collect()
    pairs = []
    while found := outbox.take(500, 10**6):
        pairs += [
            msgspec.msgpack.decode(pair, type=tuple[int, Audit])[1].operation for pair in found
        ]
    assert sorted(pairs) == sorted(taken)
    assert len(pairs) == outbox.accepted == 3000
    outbox.close()
    outbox.finish(outbox.accepted)


class UncertainSpool(Spool):
    """A spool that may refuse."""

    refuses = True

    def make_part(self, size: int) -> QueuePart:
        """Make one, or not."""
        if self.refuses:
            raise SpoolUnusable("there is no room")
        return super().make_part(size)


def test_where_there_can_be_no_file_the_queue_is_in_memory_and_comes_back(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "RETRY_SECONDS", 0.0)
    shelf = UncertainSpool(directory, PRODUCER)
    outbox = Outbox(max_events=1000, max_bytes=10**6, shelf=shelf)
    for number in range(1, 51):
        assert outbox.offer(audit(number))
    assert outbox.last_error == "the queue is only in memory: there is no room"
    shelf.refuses = False
    outbox.return_to_file()
    assert not directory.exists(), "there is something to read"
    assert len(outbox.take(100, 10**6)) == 50
    outbox.return_to_file()
    assert outbox.last_error is None
    assert outbox.offer(audit(51))
    assert found_by_a_stranger(directory, directory.parent / "copy") == {51: 51}
    assert [number_of(pair) for pair in outbox.take(100, 10**6)] == [51]


@pytest.mark.parametrize("moment", ["file", "claim"])
def test_what_comes_while_a_part_is_begun_makes_one_of_its_own(
    directory: Path, moment: str
) -> None:
    """As from a signal handler: it must neither wait nor send the queue into memory for good."""
    handlers: list[Callable[[], bool]] = [lambda: outbox.offer(audit(1))]

    class InterruptedSpool(Spool):
        """A spool in which a handler emits while a file is made."""

        def make_part(self, size: int) -> QueuePart:
            """Emit before, and make one."""
            if moment == "file":
                interrupt()
            return super().make_part(size)

    def interrupt() -> str:
        while handlers:
            assert handlers.pop()()
        return "this boot"

    shelf = InterruptedSpool(directory, PRODUCER, boot_id=interrupt)
    outbox: Outbox = Outbox(max_events=10, max_bytes=10**6, shelf=shelf)
    assert outbox.offer(audit(2))
    assert outbox.offer(audit(3))
    assert outbox.last_error is None
    assert found_by_a_stranger(directory, directory.parent / "copy") == {1: 1, 2: 2, 3: 3}
    assert [number_of(pair) for pair in outbox.take(10, 10**6)] == [1, 2, 3]
    assert len(list(directory.glob("*.queue"))) == 1


def test_two_that_begin_a_part_at_once_leave_one(directory: Path) -> None:
    """The other one is never read, though it may still lie there when the process is killed."""
    outbox = make(directory)
    assert outbox.offer(audit(1))
    part = outbox._part
    loser = outbox._next_part(part, SMALL_PART)
    for number in range(2, 31):
        assert outbox.offer(audit(number))
    expected = {number: number for number in range(1, 31)}
    assert found_by_a_stranger(directory, directory.parent / "copy") == expected
    assert not outbox._append(loser, behind=part)
    assert found_by_a_stranger(directory, directory.parent / "copy") == expected


def test_a_late_one_stands_where_it_comes_to_stand(directory: Path) -> None:
    """The part that it was made for was let go, used again, and is the last one once more."""
    outbox = make(directory)
    for number in range(1, 20):
        assert outbox.offer(audit(number))
    part = outbox._part
    late = outbox._next_part(part, SMALL_PART)
    number = 20
    while outbox._part is not part or part.lap == 1:
        assert outbox.offer(audit(number))
        outbox.take(100, 10**6)
        outbox.let_go(number)
        number += 1
    assert outbox._append(late, behind=part)
    assert outbox.offer(audit(number))
    found = found_by_a_stranger(directory, directory.parent / "copy")
    assert found[number] == number
    assert all(event == place for place, event in found.items())


def test_large_events_do_not_leave_the_spare_file_behind(directory: Path) -> None:
    outbox = make(directory)
    number = 0
    for _ in range(10):
        while outbox._spare is None or outbox._part.size > 2 * SMALL_PART:
            number += 1
            assert outbox.offer(audit(number))
            outbox.take(100, 10**6)
            outbox.let_go(number)
        number += 1
        assert outbox.offer(audit(number, 5 * SMALL_PART))
    assert len(list(directory.glob("*.queue"))) <= 4


def test_a_directory_that_was_removed_is_made_again_with_its_lock(directory: Path) -> None:
    outbox = make(directory)
    assert outbox.offer(audit(1))
    shutil.rmtree(directory)
    for number in range(2, 31):
        assert outbox.offer(audit(number))
    assert SpoolLock.look(lock_path(directory, PRODUCER)).is_held
    child = os.fork()
    if child == 0:
        os._exit(SpoolLock.look(lock_path(directory, PRODUCER)).is_held)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1


def test_an_event_that_is_nested_deeply_stops_nobody(directory: Path) -> None:
    outbox = make(directory)
    nested: list[object] = []
    for _ in range(900):
        nested = [nested]
    deep = Audit(agent_id="a", operation="2", status="completed", context=nested)
    assert outbox.offer(audit(1))
    assert outbox.offer(deep)
    assert outbox.offer(audit(3))

    def dig(depth: int) -> int:
        """Take with as little stack as the worker can have."""
        return dig(depth - 1) if depth else len(outbox.take(10, 10**6))

    found = sum(dig(depth) for depth in (sys.getrecursionlimit() - 250, 0))
    assert found == 3


def test_for_another_id_it_goes_on_with_other_numbers(directory: Path) -> None:
    outbox = make(directory)
    for number in range(1, 31):
        assert outbox.offer(audit(number))
    assert len(outbox.take(10, 10**6)) == 10
    other = Spool(directory, bytes(16))
    outbox.move(other, 3)
    assert list(directory.glob("*.queue")) == []
    assert outbox.offer(audit(31))
    assert [number_of(pair) for pair in outbox.take(50, 10**6)] == [*range(11, 32)]
    outbox.let_go(24)
    outbox.return_to_file()
    assert outbox.offer(audit(32))
    [path] = directory.glob("*.queue")
    part = read_part(path, bytes(16))
    assert part is not None
    assert part.first_sequence == 3 + 21 + 1


def test_a_child_leaves_its_parents_queue_alone(directory: Path) -> None:
    outbox = make(directory)
    assert outbox.offer(audit(1))
    child = os.fork()
    if child == 0:
        outbox.abandon()
        os._exit(outbox.offer(audit(2)))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert outbox.offer(audit(2))
    assert [number_of(pair) for pair in outbox.take(10, 10**6)] == [1, 2]
    assert found_by_a_stranger(directory, directory.parent / "copy") == {1: 1, 2: 2}


@pytest.mark.parametrize(("cut", "survivors"), [(20, [*range(1, 6), *range(7, 41)]), (200, [1, 2])])
def test_after_a_power_cut_nothing_is_sent_of_which_the_number_is_not_known(
    directory: Path, cut: int, survivors: list[int]
) -> None:
    """A page was not written: half of a record is gone, or so much that none can be counted."""
    outbox = make(directory)
    for number in range(1, 41):
        assert outbox.offer(audit(number))
    first = outbox._first.next
    assert first is not None
    assert first.path is not None
    first.content[first.tail - cut : first.tail] = bytes(cut)
    copy = directory.parent / "copy"
    shutil.copytree(directory, copy)
    spool = Spool(copy, PRODUCER, boot_id=lambda: "another boot")
    assert spool.adopt()
    found = []
    while (loaded := spool.load(100, 10**6)) is not None:
        for offset, pair in enumerate(loaded.items):
            with suppress(msgspec.ValidationError):  # the daemon will put it in quarantine
                assert number_of(pair) == loaded.first_sequence + offset
                found.append(number_of(pair))
    assert found == survivors
    assert list(copy.glob("*.queue")) == []
    assert bool(list(copy.glob("*.corrupt"))) == (cut > 100)


@pytest.mark.parametrize("content", [b"", b"x", bytes(4096), b"rubbish" * 100])
def test_what_is_no_part_of_a_queue_is_set_aside_or_removed(
    directory: Path, content: bytes
) -> None:
    directory.mkdir(mode=0o700)
    path = spool_directory.part_path(directory, PRODUCER, 1)
    path.write_bytes(content)
    spool = Spool(directory, PRODUCER)
    assert not spool.adopt()
    spool.close()
    left = [path.name for path in directory.iterdir()]
    assert left == (
        [f"{path.name}.corrupt"] if len(content) > HEADER_BYTES and any(content) else []
    )


def test_where_a_store_could_fail_there_is_no_file(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy-on-write file system, as far as the list of mounts says."""
    mounts = directory.parent / "mountinfo"
    device = directory.parent.stat().st_dev
    mounts.write_text(
        f"1 1 0:99 / / rw - ext4 /dev/a rw\n"
        f"2 1 {os.major(device)}:{os.minor(device)} / /home rw shared:1 - btrfs /dev/b rw\n"
    )
    monkeypatch.setattr(spool_directory, "_MOUNTS", mounts)
    outbox = make(directory)
    assert outbox.offer(audit(1))
    assert outbox.last_error is not None
    assert "the queue is only in memory" in outbox.last_error
    assert len(outbox.take(1, 100)) == 1


def test_the_bound_on_bytes_is_free_again_when_everything_is_settled(directory: Path) -> None:
    outbox = make(directory, max_bytes=SMALL_PART)
    for lap in range(20):
        count = 0
        while outbox.offer(audit(0)):
            count += 1
        assert count > 3, lap
        assert len(outbox.take(1000, 10**6)) == count
        outbox.release(outbox.accepted)
        outbox.let_go(outbox.accepted)
