"""The queue of the log: nobody waits for its reader, and what is missing is said in one line."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from ggend.runtime.log_queue import QUEUE_BYTES, LogQueue
from support.patience import PATIENCE_SECONDS

#: As small as a pipe can be.
PIPE_BYTES = 4096


@pytest.fixture
def pipe() -> Iterator[list[int]]:
    """A small pipe: [reading, writing]. A test that closes an end takes it out."""
    ends = list(os.pipe())
    fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    yield ends
    for end in ends:
        os.close(end)


def notice(count: int) -> bytes:
    return b"%d missing\n" % count


def write_lines(queue: LogQueue, numbers: range, *, width: int = 0) -> None:
    for number in numbers:
        queue.write(b"%d".rjust(4) % number + b" " * width + b"\n")


def read_until(descriptor: int, end: bytes) -> list[bytes]:
    """Return the lines up to one that is `end`."""
    read = b""
    while not read.endswith(end + b"\n"):
        read += os.read(descriptor, 1 << 20)
    return [line.strip() for line in read.splitlines()]


def test_lines_come_out_in_order(pipe: list[int]) -> None:
    queue = LogQueue(pipe[1], notice)
    write_lines(queue, range(5000))
    assert read_until(pipe[0], b"4999") == [b"%d" % number for number in range(5000)]
    assert queue.dropped == 0


def test_what_a_full_queue_drops_is_one_gap_with_one_line(pipe: list[int]) -> None:
    """Nobody reads: the writing ends all the same. Then somebody does: nothing else is missing."""
    queue = LogQueue(pipe[1], notice)
    fitting = QUEUE_BYTES // 1000
    write_lines(queue, range(2 * fitting), width=1000)
    dropped = queue.dropped
    assert fitting // 2 < dropped < 2 * fitting
    told = b"%d missing" % dropped
    assert read_until(pipe[0], told) == [
        *(b"%d" % number for number in range(2 * fitting - dropped)),
        told,
    ]
    write_lines(queue, range(3))
    assert read_until(pipe[0], b"2") == [b"0", b"1", b"2"]
    assert queue.dropped == dropped


def test_a_line_longer_than_the_queue_is_written_too(pipe: list[int]) -> None:
    queue = LogQueue(pipe[1], notice)
    write_lines(queue, range(1), width=2 * QUEUE_BYTES)
    assert read_until(pipe[0], b" ") == [b"0"]


def test_a_reader_that_is_gone_is_counted_and_no_error(pipe: list[int]) -> None:
    os.close(pipe.pop(0))
    queue = LogQueue(pipe[0], notice)
    write_lines(queue, range(100))
    queue.drain(PATIENCE_SECONDS)
    assert queue.dropped == 100


def test_what_could_not_be_written_is_said_when_something_can(pipe: list[int]) -> None:
    """A full disk, until somebody makes room."""
    full = os.open("/dev/full", os.O_WRONLY)
    queue = LogQueue(full, notice)
    write_lines(queue, range(7))
    queue.drain(PATIENCE_SECONDS)
    os.dup2(pipe[1], full)
    write_lines(queue, range(7, 9))
    assert read_until(pipe[0], b"8") == [b"7 missing", b"7", b"8"]
    os.close(full)


def test_a_descriptor_that_somebody_made_non_blocking_loses_nothing(pipe: list[int]) -> None:
    os.set_blocking(pipe[1], False)
    queue = LogQueue(pipe[1], notice)
    write_lines(queue, range(5000))
    assert read_until(pipe[0], b"4999") == [b"%d" % number for number in range(5000)]
    assert queue.dropped == 0


def test_the_end_waits_for_the_reader_and_not_for_ever(pipe: list[int]) -> None:
    queue = LogQueue(pipe[1], notice)
    write_lines(queue, range(2), width=PIPE_BYTES)
    queue.drain(0.01)  # returns, though nobody reads
    write_lines(queue, range(2, 3))
    with ThreadPoolExecutor() as reader:
        read = reader.submit(read_until, pipe[0], b"2")
        queue.drain(PATIENCE_SECONDS)
    assert (read.result()[0], read.result()[-1]) == (b"0", b"2")
