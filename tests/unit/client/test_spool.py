"""Spool: what was appended is loaded once and in order, whatever the disk and others do to it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ggend_client.errors import SpoolFull, SpoolUnusable
from ggend_client.spool.directory import list_spools, segment_path
from ggend_client.spool.lock import boot_id
from ggend_client.spool.segment import HEADER_BYTES, Header, pack_header, pack_record
from ggend_client.spool.spool import EXPIRY_NS, Loaded, Spool
from support.daemon_process import free_place

PRODUCER = bytes(range(16))


@pytest.fixture
def directory() -> Iterator[Path]:
    with free_place() as place:
        yield Path(place) / "spool"


def pairs(first: int, count: int, *, size: int = 0) -> list[bytes]:
    """Events that say their own number."""
    return [
        msgspec.msgpack.encode((number, {"n": number, "x": "x" * size}))
        for number in range(first, first + count)
    ]


def load_all(spool: Spool, most_events: int = 100, most_bytes: int = 10**6) -> list[Loaded]:
    found = []
    while (loaded := spool.load(most_events, most_bytes)) is not None:
        found.append(loaded)
    return found


def numbers(found: list[Loaded]) -> list[int]:
    for loaded in found:
        for offset, pair in enumerate(loaded.items):
            assert msgspec.msgpack.decode(pair)[0] == loaded.first_sequence + offset
    return [one.first_sequence + offset for one in found for offset in range(len(one.items))]


def next_boot() -> str:
    """Another boot of the machine than the one in which a spool was written."""
    return "another"


def left_by_the_dead(directory: Path, *counts: int) -> Path:
    """Spool this many events a record, and end without settling; return the one segment."""
    with closing(Spool(directory, PRODUCER)) as spool:
        for count in counts:
            first = spool.last_sequence + 1
            spool.append(first, pairs(first, count))
    [path] = directory.glob("*.segment")
    return path


def names(directory: Path) -> list[str]:
    return sorted(path.name.removeprefix(PRODUCER.hex()) for path in directory.iterdir())


def test_nothing_is_made_before_the_first_event(directory: Path) -> None:
    with closing(Spool(directory, PRODUCER)) as spool:
        assert not spool.has_unread
    assert not directory.exists()


def test_what_was_appended_is_loaded_in_order_and_removed_when_settled(directory: Path) -> None:
    with closing(Spool(directory, PRODUCER)) as spool:
        spool.append(1, pairs(1, 3))
        spool.append(4, pairs(4, 2))
        assert numbers(load_all(spool)) == [1, 2, 3, 4, 5]
        spool.settle(3)
        assert spool.unsettled() == 2
        spool.settle(5)
        assert spool.unsettled() == 0
        assert names(directory) == [".lock"]
    assert names(directory) == []


def test_only_this_user_can_read_it(directory: Path) -> None:
    path = left_by_the_dead(directory, 1)
    assert [one.stat().st_mode & 0o777 for one in (directory, path)] == [0o700, 0o600]


def test_small_records_are_loaded_together_as_far_as_a_frame_takes(directory: Path) -> None:
    with closing(Spool(directory, PRODUCER)) as spool:
        for number in range(1, 8):
            spool.append(number, pairs(number, 1))
        assert [len(loaded.items) for loaded in load_all(spool, most_events=3)] == [3, 3, 1]


def test_what_the_session_holds_already_is_not_loaded_again(directory: Path) -> None:
    with closing(Spool(directory, PRODUCER)) as spool:
        spool.append(1, pairs(1, 3), loaded=True)
        spool.append(4, pairs(4, 1))
        assert numbers(load_all(spool)) == [4]
        assert spool.unsettled() == 4


def test_the_next_one_takes_up_what_a_dead_process_left(directory: Path) -> None:
    left_by_the_dead(directory, 2, 3)
    with closing(Spool(directory, PRODUCER)) as spool:
        assert spool.adopt()
        assert numbers(load_all(spool)) == [1, 2, 3, 4, 5]
        spool.settle(5)
    assert names(directory) == []


def test_what_a_living_process_holds_is_left_alone(directory: Path) -> None:
    with closing(Spool(directory, PRODUCER)) as owner, closing(Spool(directory, PRODUCER)) as next_:
        owner.append(1, pairs(1, 1))
        assert not next_.adopt()
        assert [one.is_held for one in list_spools(directory)] == [True]


@pytest.mark.parametrize("cut", [1, 20, 30, 40])
def test_a_torn_tail_is_cut(directory: Path, cut: int) -> None:
    path = left_by_the_dead(directory, 2, 2)
    os.truncate(path, path.stat().st_size - cut)
    with closing(Spool(directory, PRODUCER)) as spool:
        assert spool.adopt()
        assert numbers(load_all(spool)) == [1, 2]
        spool.settle(2)
    assert names(directory) == []


def test_zeros_after_the_last_record_are_a_torn_tail(directory: Path) -> None:
    path = left_by_the_dead(directory, 2)
    os.truncate(path, path.stat().st_size + 4096)
    with closing(Spool(directory, PRODUCER)) as spool:
        assert spool.adopt()
        assert numbers(load_all(spool)) == [1, 2]
        spool.settle(2)
    assert names(directory) == []


def test_a_damaged_record_is_skipped_and_its_segment_set_aside(directory: Path) -> None:
    path = left_by_the_dead(directory, 2, 3, 2)
    content = bytearray(path.read_bytes())
    content[HEADER_BYTES + len(pack_record(1, pairs(1, 2))) + 30] ^= 1
    path.write_bytes(content)
    with closing(Spool(directory, PRODUCER)) as spool:
        assert spool.adopt()
        assert numbers(load_all(spool)) == [1, 2, 6, 7]
        spool.settle(7)
    assert names(directory) == [f"-{1:020}.segment.corrupt"]


def test_behind_a_damaged_head_of_a_record_the_next_is_found(directory: Path) -> None:
    path = left_by_the_dead(directory, 2, 3, 2)
    content = bytearray(path.read_bytes())
    content[HEADER_BYTES + len(pack_record(1, pairs(1, 2))) + 2] ^= 1
    path.write_bytes(content)
    with closing(Spool(directory, PRODUCER)) as spool:
        assert spool.adopt()
        assert numbers(load_all(spool)) == [1, 2, 6, 7]
        spool.settle(7)
    assert names(directory) == [f"-{1:020}.segment.corrupt"]


def test_damage_that_appears_while_it_is_in_use_is_passed_over(directory: Path) -> None:
    with closing(Spool(directory, PRODUCER)) as spool:
        for number in (1, 2, 3):
            spool.append(number, pairs(number, 1))
        [path] = directory.glob("*.segment")
        content = bytearray(path.read_bytes())
        content[HEADER_BYTES + len(pack_record(1, pairs(1, 1))) + 3] ^= 1
        path.write_bytes(content)
        assert numbers(load_all(spool)) == [1, 3]
        assert not spool.has_unread
        spool.settle(3)
    assert names(directory) == [f"-{1:020}.segment.corrupt"]


def test_what_is_no_segment_is_set_aside(directory: Path) -> None:
    directory.mkdir(mode=0o700)
    segment_path(directory, PRODUCER, 1).write_bytes(b"x" * 200)
    with closing(Spool(directory, PRODUCER)) as spool:
        assert not spool.adopt()
    assert names(directory) == [f"-{1:020}.segment.corrupt"]


def test_a_segment_of_another_producer_under_this_name_is_set_aside(directory: Path) -> None:
    directory.mkdir(mode=0o700)
    header = pack_header(Header(bytes(16), 1, time.time_ns()))
    segment_path(directory, PRODUCER, 1).write_bytes(header + pack_record(1, pairs(1, 1)))
    with closing(Spool(directory, PRODUCER)) as spool:
        assert not spool.adopt()
    assert names(directory) == [f"-{1:020}.segment.corrupt"]


def test_numbers_that_fall_end_a_segment(directory: Path) -> None:
    path = left_by_the_dead(directory, 3)
    with path.open("ab") as file:
        file.write(pack_record(2, pairs(2, 1)))
    with closing(Spool(directory, PRODUCER)) as spool:
        assert spool.adopt()
        assert numbers(load_all(spool)) == [1, 2, 3]
        spool.settle(3)
    assert names(directory) == [f"-{1:020}.segment.corrupt"]


def test_a_segment_of_over_thirty_days_is_set_aside_and_not_sent(directory: Path) -> None:
    left_by_the_dead(directory, 2)
    later = time.time_ns() + EXPIRY_NS + 10**9
    with closing(Spool(directory, PRODUCER, now_ns=lambda: later, boot_id=next_boot)) as spool:
        assert not spool.adopt()
        assert spool.expired == 2
    # The lock says whether it may have been sent.
    assert names(directory) == [f"-{1:020}.segment.expired", ".lock"]


@pytest.mark.parametrize(
    ("made_at", "written_at", "boot"),
    [
        (12 * 10**9, 12 * 10**9, next_boot),  # a board without a battery begins in 1970
        (12 * 10**9, None, next_boot),
        (None, 12 * 10**9, next_boot),
        (-EXPIRY_NS, None, next_boot),  # only the header says that it is old
        (None, -EXPIRY_NS, next_boot),  # only the file says so
        (-EXPIRY_NS, -EXPIRY_NS, boot_id),  # the clock was set right since it was written
    ],
)
def test_nothing_expires_on_the_word_of_one_clock(
    directory: Path, made_at: int | None, written_at: int | None, boot: Callable[[], str]
) -> None:
    now = time.time_ns()

    def moment(given: int | None) -> int:
        return now if given is None else given if given > 0 else now + given - 10**9

    with closing(Spool(directory, PRODUCER, now_ns=lambda: moment(made_at))) as spool:
        spool.append(1, pairs(1, 2))
    [path] = directory.glob("*.segment")
    os.utime(path, ns=(moment(written_at), moment(written_at)))
    with closing(Spool(directory, PRODUCER, boot_id=boot)) as spool:
        assert spool.adopt()
        assert numbers(load_all(spool)) == [1, 2]
        assert spool.expired == 0


def test_a_clock_that_was_stepped_back_expires_nothing(directory: Path) -> None:
    left_by_the_dead(directory, 2)
    with closing(Spool(directory, PRODUCER, now_ns=lambda: 0)) as spool:
        assert spool.adopt()
        assert numbers(load_all(spool)) == [1, 2]


def test_large_spools_are_made_of_segments_that_go_one_by_one(directory: Path) -> None:
    with closing(Spool(directory, PRODUCER)) as spool:
        for first in (1, 3, 5, 7):
            spool.append(first, pairs(first, 2, size=1_500_000))
        assert len(list(directory.glob("*.segment"))) == 4
        assert numbers(load_all(spool)) == list(range(1, 9))
        spool.settle(5)
        assert len(list(directory.glob("*.segment"))) == 2


def test_a_full_spool_says_so_and_takes_events_again_when_some_are_settled(directory: Path) -> None:
    size = len(pack_record(1, pairs(1, 2)))
    with closing(Spool(directory, PRODUCER, most_bytes=2 * size + HEADER_BYTES)) as spool:
        spool.append(1, pairs(1, 2))
        spool.append(3, pairs(3, 2))
        with pytest.raises(SpoolFull):
            spool.append(5, pairs(5, 2))
        assert spool.last_sequence == 4
        spool.settle(4)
        spool.append(5, pairs(5, 2))
        assert numbers(load_all(spool)) == [5, 6]


def test_the_whole_directory_is_bounded(directory: Path) -> None:
    left_by_the_dead(directory, 10)
    other = bytes(16)
    with (
        closing(Spool(directory, other, directory_bytes=100)) as spool,
        pytest.raises(SpoolFull, match="bytes already"),
    ):
        spool.append(1, pairs(1, 1))


def test_a_directory_where_others_may_write_is_refused(directory: Path) -> None:
    directory.mkdir()
    directory.chmod(0o777)
    with (
        closing(Spool(directory, PRODUCER)) as spool,
        pytest.raises(SpoolUnusable, match="others may write"),
    ):
        spool.append(1, pairs(1, 1))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_another_user_is_refused(directory: Path) -> None:
    directory.mkdir(mode=0o700)
    os.chown(directory, 12345, 12345)
    with (
        closing(Spool(directory, PRODUCER)) as spool,
        pytest.raises(SpoolUnusable, match="uid 12345"),
    ):
        spool.append(1, pairs(1, 1))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can do this to somebody")
def test_root_makes_no_spool_in_somebodys_home(directory: Path) -> None:
    os.chown(directory.parent, 12345, 12345)
    with (
        closing(Spool(directory / "below", PRODUCER)) as spool,
        pytest.raises(SpoolUnusable, match="belongs to uid 12345, but this process is root"),
    ):
        spool.append(1, pairs(1, 1))
    assert not directory.exists()


def test_a_symbolic_link_is_no_spool_directory(directory: Path) -> None:
    target = directory.with_name("elsewhere")
    target.mkdir(mode=0o700)
    directory.symlink_to(target)
    with (
        closing(Spool(directory, PRODUCER)) as spool,
        pytest.raises(SpoolUnusable, match="not a directory"),
    ):
        spool.append(1, pairs(1, 1))


@given(
    records=st.lists(st.integers(1, 5), min_size=1, max_size=12),
    settled=st.lists(st.integers(0, 60), max_size=5),
    most=st.integers(1, 8),
)
def test_any_records_are_loaded_once_in_order_above_what_is_settled(
    records: list[int], settled: list[int], most: int
) -> None:
    with free_place() as place, closing(Spool(Path(place) / "spool", PRODUCER)) as spool:
        loaded: list[int] = []
        seen = 0
        for count, step in zip(records, [*settled, *([0] * len(records))], strict=False):
            spool.append(spool.last_sequence + 1, pairs(spool.last_sequence + 1, count))
            if step:
                seen = max(seen, min(step, spool.last_sequence))
                spool.settle(step)
            one = spool.load(most, 10**6)
            loaded += numbers([one] if one else [])
        loaded += numbers(load_all(spool, most))
        assert all(before < after for before, after in pairwise(loaded))
        assert set(range(seen + 1, spool.last_sequence + 1)) <= set(loaded)
        assert spool.unsettled() == spool.last_sequence - seen


#: A segment as version 1 of the format wrote it: two audit entries, numbered from 7 on.
VERSION_1 = bytes.fromhex(
    "676773706f6f6c31000102030405060708090a0b0c0d0e0f0000000000000007187afca767ca0000d356c6be"
    "00000083000000020000000000000007ca5a8c75fb3d954a"
    "dd00000002"
    "92cf187afca767ca000084a474797065a56175646974a86167656e745f6964a161a96f7065726174696f6ea26f30"
    "a6737461747573a9636f6d706c65746564"
    "92cf187afca767ca000184a474797065a56175646974a86167656e745f6964a161a96f7065726174696f6ea26f31"
    "a6737461747573a9636f6d706c65746564"
)


def test_a_spool_of_the_first_version_is_delivered(directory: Path) -> None:
    directory.mkdir(mode=0o700)
    segment_path(directory, PRODUCER, 7).write_bytes(VERSION_1)
    made_at = 1_764_000_000_000_000_000
    with closing(Spool(directory, PRODUCER, now_ns=lambda: made_at)) as spool:
        assert spool.adopt()
        [loaded] = load_all(spool)
    assert loaded.first_sequence == 7
    stamps = [msgspec.msgpack.decode(pair)[0] for pair in loaded.items]
    assert stamps == [made_at, made_at + 1]
    assert [msgspec.msgpack.decode(pair)[1]["operation"] for pair in loaded.items] == ["o0", "o1"]


def test_a_spool_says_for_which_daemon_it_is_meant(directory: Path) -> None:
    with closing(Spool(directory, PRODUCER, destination=Path("/run/a.sock"))) as spool:
        spool.append(1, pairs(1, 1))
    with closing(Spool(directory, PRODUCER, destination=Path("/run/b.sock"))) as next_:
        assert next_.adopt()
        assert [one.destination for one in list_spools(directory)] == ["/run/a.sock"]


def test_a_relative_socket_is_named_by_its_whole_path(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(directory.parent)
    with closing(Spool(directory, PRODUCER, destination=Path("g.sock"))) as spool:
        spool.append(1, pairs(1, 1))
        [summary] = list_spools(directory)
        assert summary.destination == str(directory.parent / "g.sock")


def test_a_file_of_which_the_first_record_failed_is_made_again(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the record nor its undoing could be written; then the disk is well again."""

    def fail(*_: object) -> int:
        raise OSError(5, "Input/output error")

    with closing(Spool(directory, PRODUCER)) as spool:
        spool.remove_part(spool.make_part(4096))  # has its lock from here on
        original = os.write
        writes = iter([original, fail])
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", lambda *given: next(writes)(*given))
            patch.setattr(os, "ftruncate", fail)
            with pytest.raises(SpoolUnusable, match="Input/output"):
                spool.append(1, pairs(1, 1))
        spool.append(1, pairs(1, 2))
        spool.settle(0)
        assert numbers(load_all(spool)) == [1, 2]
        assert len(list(directory.glob("*.segment"))) == 1
