"""Starts: how long a daemon takes to serve a large database, also after a kill with a full WAL."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct
from rich.table import Table

from bench.filled import fill
from bench.machine import memory_mib
from bench.mix import streams
from bench.producers import blast, feed_of_frames
from support.daemon_process import Daemon

__all__ = ["Starts", "measure", "table_of"]

#: Starts of each kind.
_STARTS = 3

#: What fills the WAL before the daemon is killed: events of the standard mix.
_WAL_EVENTS = 60_000

#: Seconds after which a daemon that has started is looked at.
_SETTLED_SECONDS = 1.0


class Starts(Struct, frozen=True):
    """Times from the start of the process to READY, and resident memory."""

    database_mib: float
    clean_seconds: list[float]
    recovery_seconds: list[float]
    wal_mib: list[float]
    #: At its highest: of the daemon that filled the WAL, and of the one that recovered.
    steady_mib: list[float]
    recovering_mib: list[float]


def measure(*, receipts: int, parent: Path | None, report: Callable[[int], object]) -> Starts:
    """Fill a database with so many receipts and ten times as many rows, and start on it."""
    with tempfile.TemporaryDirectory(prefix="ggend-", dir=parent) as name:
        place = Path(name)
        fill(place / "tier2.db", receipts=receipts, report=report)
        daemon = Daemon(place)
        found = Starts((place / "tier2.db").stat().st_size / 2**20, [], [], [], [], [])
        for _ in range(_STARTS):
            found.clean_seconds.append(_seconds(daemon))
            daemon.stop()
        for seed in range(_STARTS):
            daemon.start()
            assert daemon.process is not None
            sent = streams("standard", events=_WAL_EVENTS, producers=1, seed=seed)
            blast(daemon.socket, [feed_of_frames(stream, 128) for stream in sent])
            found.steady_mib.append(memory_mib(daemon.process.pid, "VmHWM"))
            daemon.kill()
            found.wal_mib.append((place / "tier2.db-wal").stat().st_size / 2**20)
            found.recovery_seconds.append(_seconds(daemon))
            time.sleep(_SETTLED_SECONDS)
            found.recovering_mib.append(memory_mib(daemon.process.pid, "VmHWM"))
            daemon.stop()
        return found


def table_of(found: Starts) -> Table:
    """Return the table that a person reads."""
    table = Table(title=f"Start on {found.database_mib:,.0f} MiB, of {_STARTS} each the slowest")
    for heading in ("start", "seconds", "WAL MiB", "peak MiB", "before"):
        table.add_column(heading, justify="left" if heading == "start" else "right")
    table.add_row("clean", f"{max(found.clean_seconds):.2f}", "", "", "")
    table.add_row(
        "after SIGKILL",
        f"{max(found.recovery_seconds):.2f}",
        f"{max(found.wal_mib):.0f}",
        f"{max(found.recovering_mib):.0f}",
        f"{max(found.steady_mib):.0f}",
    )
    return table


def _seconds(daemon: Daemon) -> float:
    begin = time.monotonic()
    daemon.start()
    return time.monotonic() - begin
