"""Readers: what eight heavy readers cost a producer that waits for its acks.

The same producer on the same daemon and database, alone and beside readers that run a heavy
statement again and again, as `ggend query sql` does it and without giving way.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct
from rich.table import Table

from bench.filled import fill
from bench.producers import FramedPeer, frames
from ggend_schema import Audit
from support.daemon_process import Daemon

__all__ = ["Waited", "measure", "table_of"]

#: Heavy readers.
READERS = 8

#: Seconds between two events of the producer.
_PAUSE_SECONDS = 0.005

#: Reads 200,000 receipts, their JSON too, and sorts what it made of them.
_HEAVY = """
    SELECT agent_id, substr(receipt_json, 1, 9), COUNT(*), AVG(duration_ms), MAX(receipt_json)
    FROM receipts GROUP BY 1, 2 ORDER BY 4 DESC"""

#: One reader: statement after statement, through the function that `query sql` uses.
_READER = """
import os, sys
from pathlib import Path
from ggend.errors import TookTooLong
from ggend.queries.run import open_readonly, run
os.nice(int(sys.argv[2]))
connection = open_readonly(Path(sys.argv[1]))
print("begins", flush=True)
while True:
    try:
        run(connection, sys.argv[3], 1000, seconds=10)
    except TookTooLong:
        pass
"""


class Waited(Struct, frozen=True):
    """How long the producer waited for its acks, beside which readers."""

    readers: str
    ack_ms: list[float]


def measure(*, receipts: int, events: int, parent: Path | None) -> list[Waited]:
    """Measure each case twice, in turn, on one daemon; return them together."""
    with tempfile.TemporaryDirectory(prefix="ggend-", dir=parent) as name:
        place = Path(name)
        fill(place / "tier2.db", receipts=receipts, report=lambda _: None)
        with Daemon(place) as daemon:
            _acks(daemon.socket, events // 10)
            cases: dict[str, Callable[[], list[float]]] = {
                "none": lambda: _acks(daemon.socket, events),
                f"{READERS}, as `query sql`": lambda: _beside(daemon, events, niceness=10),
                f"{READERS}, without giving way": lambda: _beside(daemon, events, niceness=0),
            }
            found: dict[str, list[float]] = {case: [] for case in cases}
            for _ in range(2):
                for case, run in cases.items():
                    found[case] += run()
    return [Waited(case, times) for case, times in found.items()]


def table_of(results: Sequence[Waited]) -> Table:
    """Return the table that a person reads."""
    table = Table(title="One event each 5 ms, beside heavy readers: ms to its ack")
    table.add_column("heavy readers")
    for heading in ("acks", "p50", "p99", "max"):
        table.add_column(heading, justify="right")
    for result in results:
        times = sorted(result.ack_ms)
        table.add_row(
            result.readers,
            f"{len(times):,}",
            f"{statistics.median(times):.2f}",
            f"{times[len(times) * 99 // 100]:.2f}",
            f"{times[-1]:.2f}",
        )
    return table


def _acks(address: Path, events: int) -> list[float]:
    peer = FramedPeer(address, os.urandom(16))
    event = Audit(agent_id="agent-1", operation="resolve_imports", status="completed")
    times = []
    with peer.socket:
        for sequence, frame in enumerate(frames([event] * events, 1), 1):
            begin = time.perf_counter()
            peer.socket.sendall(frame)
            peer.wait(sequence)
            times.append((time.perf_counter() - begin) * 1000)
            time.sleep(_PAUSE_SECONDS)
    return times


def _beside(daemon: Daemon, events: int, *, niceness: int) -> list[float]:
    with _reading(daemon.database, niceness):
        return _acks(daemon.socket, events)


@contextmanager
def _reading(database: Path, niceness: int) -> Iterator[None]:
    command = [sys.executable, "-c", _READER, os.fspath(database), str(niceness), _HEAVY]
    readers = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(READERS)]
    try:
        for reader in readers:
            assert reader.stdout is not None
            assert reader.stdout.readline() == b"begins\n"
        yield
        assert all(reader.poll() is None for reader in readers), "a reader ended"
    finally:
        for reader in readers:
            reader.kill()
            reader.communicate()
