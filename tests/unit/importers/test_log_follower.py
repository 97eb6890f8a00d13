"""Following one log: growth, rotation, truncation, absence. Real files, no process."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ggend.encodings import WrongEncoding
from ggend.errors import UsageMistake
from ggend.importers.ggen_log import LogLine
from ggend.importers.log_follower import LogTail
from ggend_schema.events import ReceiptEmitted
from ggend_schema.limits import EVENT_BYTES


def line(number: int, *, previous: int | None = None) -> str:
    before = number - 1 if previous is None else previous
    return (
        f'{{"record":{{"chain_hash_hex":"{number:064x}","prev_chain_hash_hex":"{before:064x}",'
        f'"payload_hash_hex":"ab","andon":"Green"}},"payload":{{}}}}\n'
    )


class Follower:
    """A log and its tail."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "receipt-log.jsonl"
        self.tail = LogTail(self.path, agent="me")

    def append(self, text: str) -> None:
        """Write at the end, as ggen does."""
        with self.path.open("a") as log:
            log.write(text)

    def new(self) -> list[str]:
        """Look until nothing more happens; return the last digit of each line, `!` for breaks."""
        found = []
        while (lines := self.tail.poll()) is not None:
            found += list(lines)
        return [_short(one) for one in found]


def _short(one: LogLine) -> str:
    receipt = one.events[0]
    assert isinstance(receipt, ReceiptEmitted)
    return receipt.execution_id[-1] + ("!" if one.chain_break else "")


@pytest.fixture
def log(tmp_path: Path) -> Follower:
    """A log that is not there yet."""
    return Follower(tmp_path)


def test_a_log_that_is_not_there_yet_is_waited_for(log: Follower) -> None:
    assert log.new() == []
    log.append(line(1) + line(2))
    assert log.new() == ["1", "2"]
    log.append(line(3))
    assert log.new() == ["3"]
    assert log.new() == []
    assert list(log.tail.finish()) == []


def test_half_a_line_waits_for_its_rest(log: Follower) -> None:
    log.append(line(1) + line(2)[:30])
    assert log.new() == ["1"]
    log.append(line(2)[30:])
    assert log.new() == ["2"]
    log.append(line(3)[:-1])
    assert log.new() == []
    assert [one.problem for one in log.tail.finish()] == [None], "whole, but for its line break"
    assert log.tail.lines == 3


def test_rotation_loses_nothing_of_either_file(log: Follower) -> None:
    log.append(line(1))
    assert log.new() == ["1"]
    log.append(line(2) + line(3)[:-1])
    log.path.rename(log.path.with_suffix(".1"))
    assert log.new() == ["2"], "the old file is still read while there is no new one"
    log.append(line(4) + line(5))
    assert log.new() == ["3", "4", "5"], "and the chain goes on"
    assert list(log.tail.finish()) == []
    assert log.tail.lines == 5


def test_a_truncated_log_is_read_from_the_beginning(log: Follower) -> None:
    log.append(line(1) + line(2))
    assert log.new() == ["1", "2"]
    os.truncate(log.path, 0)
    log.append(line(7, previous=0))
    assert log.new() == ["7"]
    assert list(log.tail.finish()) == []


def test_a_log_that_was_truncated_and_has_outgrown_itself_is_noticed(log: Follower) -> None:
    log.append(line(1))
    assert log.new() == ["1"]
    log.path.write_text(line(5, previous=0) + line(6) + line(7))
    assert log.new() == ["5", "6", "7"]
    assert list(log.tail.finish()) == []


def test_a_writer_that_writes_on_behind_a_truncation_leaves_a_hole(log: Follower) -> None:
    """`copytruncate` beside a writer without O_APPEND: NULs, and then each line once."""
    before = line(1) + line(2)
    with log.path.open("w") as writer:
        writer.write(before)
        writer.flush()
        assert log.new() == ["1", "2"]
        os.truncate(log.path, 0)
        writer.write(line(3))
        writer.flush()
        assert log.path.read_bytes().startswith(bytes(len(before)))
        assert log.new() == ["3"]
        writer.write(line(4))
    assert log.new() == ["4"]


def test_a_hole_larger_than_a_line_may_be_is_passed(log: Follower) -> None:
    log.append(line(1))
    assert log.new() == ["1"]
    os.truncate(log.path, 0)
    os.truncate(log.path, 3 * EVENT_BYTES + 1)
    log.append(line(2))
    assert log.new() == ["2"]
    assert log.tail.lines == 2


def test_a_byte_order_mark_is_skipped_also_after_rotation_and_truncation(log: Follower) -> None:
    log.append("\ufeff" + line(1))
    assert log.new() == ["1"]
    log.path.rename(log.path.with_suffix(".1"))
    log.append("\ufeff" + line(2))
    assert log.new() == ["2"]
    os.truncate(log.path, 0)
    log.append("\ufeff" + line(3))
    assert log.new() == ["3"]


def test_utf_16_is_refused_once(log: Follower) -> None:
    log.path.write_text(line(1) + line(2), encoding="utf-16")
    with pytest.raises(WrongEncoding, match="is UTF-16, not UTF-8"):
        log.tail.poll()
    list(log.tail.finish())


def test_a_log_that_is_gone_for_a_moment_goes_on(log: Follower) -> None:
    log.append(line(1))
    assert log.new() == ["1"]
    aside = log.path.with_suffix(".aside")
    log.path.rename(aside)
    assert log.new() == []
    aside.rename(log.path)
    log.append(line(2))
    assert log.new() == ["2"]
    assert list(log.tail.finish()) == []


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    tail = LogTail(tmp_path, agent="me")
    with pytest.raises(UsageMistake):
        tail.poll()


def test_a_log_that_was_written_anew_with_the_same_size_is_noticed(log: Follower) -> None:
    log.append(line(1) + line(2))
    assert log.new() == ["1", "2"]
    log.path.write_text(line(7, previous=2) + line(8))
    os.utime(log.path, ns=(1, 1))
    assert log.new() == ["7", "8"]


def test_a_pipe_is_refused_and_not_waited_for(log: Follower) -> None:
    os.mkfifo(log.path)
    with pytest.raises(UsageMistake, match="cannot be read"):
        log.tail.poll()
    list(log.tail.finish())
