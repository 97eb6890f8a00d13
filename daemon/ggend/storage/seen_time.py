"""Seen time: how long daemons have run on a database, and whether the wall clock was set meanwhile.

It goes on with CLOCK_BOOTTIME while a daemon runs, and stands still while none does. What expires
is decided by it: a wall clock that is wrong once would expire everything. Lives on the writer's
thread.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable

from ggend.runtime.boot import boot_id, boot_ns

__all__ = ["SeenTime", "open_seen_time"]

#: Nanoseconds by which the wall clock may differ from the time that passed: it is steered, at most
#: by 500 millionths (adjtimex(2)), and both are not read at once.
_STEERED_NS = 2_000_000_000
_STEERED_SHARE = 1_000

_SECOND_NS = 1_000_000_000


class SeenTime:
    """The seen time of one database."""

    __slots__ = ("_began_ns", "_boot", "_boot_id", "_saved_s", "_wall", "_wall_ns", "_was_ns")

    def __init__(
        self,
        saved_s: int,
        wall_ns: int | None,
        was_ns: int,
        *,
        boot: Callable[[], int] = boot_ns,
        wall: Callable[[], int] = time.time_ns,
    ) -> None:
        """`wall_ns` and `was_ns`: both clocks when it was saved; None: nothing is known of them."""
        self._boot, self._wall = boot, wall
        self._boot_id = boot_id()
        self._saved_s = saved_s
        self._began_ns = boot()
        self._wall_ns, self._was_ns = wall_ns, was_ns

    def now(self) -> int:
        """Return the seconds seen until now."""
        return self._saved_s + (self._boot() - self._began_ns) // _SECOND_NS

    def jump(self) -> float:
        """Return by how many seconds the wall clock was set since the last look; 0: it was not."""
        wall_ns, now_ns = self._wall(), self._boot()
        before_ns, was_ns = self._wall_ns, self._was_ns
        self._wall_ns, self._was_ns = wall_ns, now_ns
        if before_ns is None:
            return 0.0
        passed_ns = now_ns - was_ns
        jumped_ns = wall_ns - before_ns - passed_ns
        is_steered = abs(jumped_ns) <= _STEERED_NS + passed_ns // _STEERED_SHARE
        return 0.0 if is_steered else jumped_ns / _SECOND_NS

    def save(self, connection: sqlite3.Connection) -> None:
        """Write it, in the transaction of the caller."""
        connection.execute(_SAVE, (self.now(), self._wall(), self._boot_id, self._boot()))


def open_seen_time(
    connection: sqlite3.Connection,
    *,
    boot: Callable[[], int] = boot_ns,
    wall: Callable[[], int] = time.time_ns,
) -> SeenTime:
    """Return the seen time of a database as it was saved last."""
    seen_s, wall_ns, saved_boot, saved_ns = connection.execute(_LOAD).fetchone()
    if saved_boot and saved_boot == boot_id():
        return SeenTime(seen_s, wall_ns, saved_ns, boot=boot, wall=wall)
    # Nobody knows how long it was between two boots, but it was not less than nothing.
    back = wall_ns > wall()
    return SeenTime(seen_s, wall_ns if back else None, boot(), boot=boot, wall=wall)


_LOAD = "SELECT seen_s, wall_ns, boot_id, boot_ns FROM seen_time WHERE id = 1"
_SAVE = """
    INSERT INTO seen_time (id, seen_s, wall_ns, boot_id, boot_ns)
    VALUES (1, ?, ?, ?, ?)
    ON CONFLICT (id) DO UPDATE
    SET seen_s = excluded.seen_s,
        wall_ns = excluded.wall_ns,
        boot_id = excluded.boot_id,
        boot_ns = excluded.boot_ns"""
