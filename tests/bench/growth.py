"""Growth: whether writing costs the same at the end of ten million events as at the beginning.

One daemon and one database take the standard mix, a segment at a time; after each, the yardstick
stores the same rows, in batches as large as the daemon's largest, in a second database that grows
beside it. What both lose is what the indexes over random ids cost; what only the daemon loses is
its own.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec import Struct
from rich.table import Table

from bench import yardstick
from bench.machine import memory_mib
from bench.mix import streams
from bench.producers import blast, feed_of_frames
from ggend.config import Config
from support.daemon_process import Daemon

__all__ = ["Segment", "measure", "table_of"]

#: Events a frame.
_FRAME_EVENTS = 128

#: What the last segment may be slower than the first, as a share.
AIM = 0.85


class Segment(Struct, frozen=True):
    """What it took to store some events behind all the others."""

    events: int
    seconds: float
    yardstick_seconds: float
    #: Of the file, after it; written by the daemon, to the WAL and the file, during it.
    database_mib: float
    written_mib: float
    rss_mib: float

    @property
    def rate(self) -> float:
        """Events a second."""
        return self.events / self.seconds

    @property
    def ratio(self) -> float:
        """The daemon's speed as a share of the yardstick's."""
        return self.yardstick_seconds / self.seconds


def measure(
    *, events: int, segments: int, parent: Path | None, report: Callable[[Segment], object]
) -> list[Segment]:
    """Send `events` in all, in segments of the same size; `report` is told of each."""
    results: list[Segment] = []
    with (
        tempfile.TemporaryDirectory(prefix="ggend-", dir=parent) as name,
        Daemon(Path(name)) as daemon,
    ):
        config = Config(socket=daemon.socket, database=daemon.database)
        newest = dict.fromkeys(yardstick.TABLES, 0)
        with yardstick.opened(Path(name) / "yardstick.db", config) as connection:
            for number in range(segments):
                result = _segment(daemon, events // segments, number, connection, config, newest)
                report(result)
                results.append(result)
    return results


def table_of(results: Sequence[Segment]) -> Table:
    """Return the table that a person reads."""
    last = results[-1].rate / results[0].rate
    yardstick_last = (results[-1].events / results[-1].yardstick_seconds) / (
        results[0].events / results[0].yardstick_seconds
    )
    colour = "green" if last >= AIM else "red"
    table = Table(
        title=f"Standard mix; last segment to first [{colour}]{last:.2f}[/] (aim {AIM}), "
        f"of the yardstick {yardstick_last:.2f}"
    )
    for heading in ("events", "events/s", "yardstick", "ratio", "file MiB", "written MiB", "RSS"):
        table.add_column(heading, justify="right")
    so_far = 0
    for result in results:
        so_far += result.events
        table.add_row(
            f"{so_far:,}",
            f"{result.rate:,.0f}",
            f"{result.events / result.yardstick_seconds:,.0f}",
            f"{result.ratio:.2f}",
            f"{result.database_mib:,.0f}",
            f"{result.written_mib:,.0f}",
            f"{result.rss_mib:.0f}",
        )
    return table


def _segment(
    daemon: Daemon,
    events: int,
    number: int,
    connection: sqlite3.Connection,
    config: Config,
    newest: dict[str, int],
) -> Segment:
    assert daemon.process is not None
    pid = daemon.process.pid
    feeds = [
        feed_of_frames(stream, _FRAME_EVENTS)
        for stream in streams("standard", events=events, producers=1, seed=number + 1)
    ]
    written = _written_mib(pid)
    seconds = blast(daemon.socket, feeds)
    daemon.wait_for_hooks()
    sent = sum(feed.events for feed in feeds)
    return Segment(
        events=sent,
        seconds=seconds,
        yardstick_seconds=yardstick.store_more(
            connection, _batches(daemon.database, newest, -(-sent // config.batch_events)), config
        ),
        database_mib=daemon.database.stat().st_size / 2**20,
        written_mib=_written_mib(pid) - written,
        rss_mib=memory_mib(pid, "VmRSS"),
    )


def _batches(database: Path, newest: dict[str, int], count: int) -> yardstick.Plan:
    """Cut the rows behind the newest into batches of like size, each stage behind its receipt."""
    rows: dict[str, list[yardstick.Row]] = {}
    with yardstick.reading(database) as connection:
        for table in yardstick.TABLES:
            columns = ", ".join(yardstick.columns_of(connection, table))
            rows[table] = connection.execute(
                f"SELECT {columns} FROM {table} WHERE id > ? ORDER BY id", (newest[table],)
            ).fetchall()
            newest[table] = connection.execute(f"SELECT max(id) FROM {table}").fetchone()[0]
    position = {row[0]: number for number, row in enumerate(rows["receipts"], 1)}
    taken = 0
    batches: yardstick.Plan = []
    for number in range(count):
        batch = {
            table: found[len(found) * number // count : len(found) * (number + 1) // count]
            for table, found in rows.items()
        }
        needed = max((position[row[0]] for row in batch["pipeline_metrics"]), default=0)
        upto = len(position) if number == count - 1 else max(taken, needed)
        batch["receipts"] = rows["receipts"][taken:upto]
        batch["workflow_sessions"] = rows["workflow_sessions"] if number == 0 else []
        batches.append(batch)
        taken = upto
    return batches


def _written_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/io").read_text(encoding="ascii").splitlines():
        if line.startswith("wchar:"):
            return int(line.split()[1]) / 2**20
    raise LookupError("wchar")
