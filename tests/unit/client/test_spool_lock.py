"""Spool lock: one process holds it, and nobody takes it from that process by looking."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ggend_client.spool.lock import SpoolLock
from support.daemon_process import free_place


@pytest.fixture
def path() -> Iterator[Path]:
    with free_place() as place:
        yield Path(place) / "a.lock"


def is_held_elsewhere(path: Path) -> bool:
    """Ask a forked child, for which the parent's lock is another process's."""
    child = os.fork()
    if child == 0:
        os._exit(SpoolLock.look(path).is_held)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1


def take(path: Path) -> SpoolLock:
    lock = SpoolLock(path)
    assert lock.take()
    return lock


def test_it_is_held_until_it_is_released(path: Path) -> None:
    lock = take(path)
    assert is_held_elsewhere(path)
    lock.release()
    assert not is_held_elsewhere(path)
    assert path.exists()
    take(path).release(remove=True)
    assert not path.exists()


def test_a_second_one_of_the_same_process_does_not_get_it(path: Path) -> None:
    lock = take(path)
    assert not SpoolLock(path).take()
    assert is_held_elsewhere(path)
    lock.release()
    take(path).release()


def test_looking_at_ones_own_lock_does_not_lose_it(path: Path) -> None:
    lock = take(path)
    lock.write("/run/a.sock", "this boot", is_offered=False)
    seen = SpoolLock.look(path)
    assert (seen.is_held, seen.destination, seen.boot_id) == (True, "/run/a.sock", "this boot")
    assert is_held_elsewhere(path)
    lock.release()
    seen = SpoolLock.look(path)
    assert (seen.is_held, seen.destination, seen.boot_id) == (False, "/run/a.sock", "this boot")
    assert not seen.is_offered


def test_a_child_neither_holds_its_parents_lock_nor_loses_it(path: Path) -> None:
    lock = take(path)
    child = os.fork()
    if child == 0:
        lock.release()
        os._exit(SpoolLock(path).take())
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert is_held_elsewhere(path)
    lock.release()


def test_a_child_does_not_keep_the_lock_of_a_parent_that_is_gone(path: Path) -> None:
    """Whatever made the child: it may be one that no hook of Python's has seen."""
    reader, writer = os.pipe()
    parent = os.fork()
    if parent == 0:
        os.close(writer)
        lock = SpoolLock(path)
        if not lock.take():
            os._exit(1)
        if os.fork() == 0:
            os.read(reader, 1)  # until the test has looked
        os._exit(0)
    os.close(reader)
    assert os.waitstatus_to_exitcode(os.waitpid(parent, 0)[1]) == 0
    assert not SpoolLock.look(path).is_held
    take(path).release()
    os.close(writer)


def test_a_lock_that_was_removed_meanwhile_is_worth_nothing(path: Path) -> None:
    first = take(path)
    path.unlink()
    child = os.fork()
    if child == 0:
        os._exit(not SpoolLock(path).take())
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    first.release()


def test_what_is_not_there_or_no_file_is_held_by_nobody(path: Path) -> None:
    assert not SpoolLock.look(path).is_held
    path.symlink_to("elsewhere")
    assert not SpoolLock.look(path).is_held
    with pytest.raises(OSError, match="symbolic link"):
        SpoolLock(path).take()
    path.unlink()
    take(path).release()
