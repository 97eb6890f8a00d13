"""A spool that is damaged anywhere is delivered once, whoever comes to deliver it, how often."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from threading import Thread

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ggend_client import Audit
from ggend_client.pairs import pair_of
from ggend_client.replay import replay
from ggend_client.spool.segment import HEADER_BYTES, RECORD_BYTES
from ggend_client.spool.spool import Spool
from support.daemon_process import Daemon, free_place
from support.examples import share_of_examples
from support.framed_peer import unbalanced_accounts
from support.patience import PATIENCE_SECONDS

#: Programs that come one after the other, and those that come at once.
_IN_TURN, _AT_ONCE = 2, 3


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with free_place() as name, Daemon(Path(name)) as running:
        yield running
        assert unbalanced_accounts(running) == []


@settings(max_examples=share_of_examples(0.6))
@given(
    counts=st.lists(st.integers(1, 4), min_size=1, max_size=6),
    damage=st.lists(
        st.tuples(st.floats(0, 1), st.sampled_from(["flip", "zeros", "cut"])), max_size=3
    ),
)
def test_what_is_intact_is_stored_once_and_the_rest_is_lost(
    daemon: Daemon, counts: list[int], damage: list[tuple[float, str]]
) -> None:
    producer = os.urandom(16)
    with free_place() as name:
        directory = Path(name) / "spool"
        records = _spooled(directory, producer, counts)
        [path] = directory.glob("*.segment")
        intact = _intact(path, records, damage)
        for programs in (1,) * _IN_TURN + (_AT_ONCE,):
            threads = [Thread(target=_replay, args=(directory, daemon)) for _ in range(programs)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(PATIENCE_SECONDS)
        assert list(directory.glob("*.segment")) == []
        found = daemon.query("SELECT operation FROM audit_log WHERE agent_id = ?", producer.hex())
    assert Counter(operation for (operation,) in found) == Counter(map(str, intact))


def _replay(directory: Path, daemon: Daemon) -> None:
    replay(directory, lambda: [daemon.socket], timeout=PATIENCE_SECONDS, all_sockets=True)


def _spooled(directory: Path, producer: bytes, counts: list[int]) -> list[tuple[int, int, int]]:
    """Spool so many events a record; return offset, first and last number of each record."""
    records: list[tuple[int, int, int]] = []
    with closing(Spool(directory, producer)) as spool:
        for count in counts:
            first = spool.last_sequence + 1
            numbers = range(first, first + count)
            at = HEADER_BYTES
            if records:
                [path] = directory.glob("*.segment")
                at = path.stat().st_size
            spool.append(first, [pair_of(_audit(producer, number)) for number in numbers])
            records.append((at, first, numbers[-1]))
    return records


def _audit(producer: bytes, number: int) -> Audit:
    return Audit(agent_id=producer.hex(), operation=str(number), status="completed")


def _intact(
    path: Path, records: list[tuple[int, int, int]], damage: list[tuple[float, str]]
) -> list[int]:
    """Damage the file behind its header; return the numbers of the records that are as before."""
    before = path.read_bytes()
    content = bytearray(before)
    for share, kind in damage:
        at = HEADER_BYTES + round(share * (len(content) - HEADER_BYTES - 1))
        if kind == "flip":
            content[at] ^= 0x10
        elif kind == "zeros":
            content[at : at + RECORD_BYTES] = bytes(len(content[at : at + RECORD_BYTES]))
        else:
            del content[max(at, HEADER_BYTES + 1) :]
    path.write_bytes(content)
    ends = [at for at, _, _ in records[1:]] + [len(before)]
    return [
        number
        for (at, first, last), end in zip(records, ends, strict=True)
        if content[at:end] == before[at:end]
        for number in range(first, last + 1)
    ]
