"""Releases: stores in slices what was too much to be released together with its parent.

`settle` releases the first 4,096 events with the parent itself.

In slices about as large as a batch, each a call in the writer's turn, one after another: whatever
comes meanwhile is committed in between. A slice and its counts are one transaction. What is left
is in the database (`pending_releases`): after a crash the next daemon goes on.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable

import anyio

from ggend.ingest.intake import Call, Intake, Lane
from ggend.ingest.settle import settle_released
from ggend.storage.parking import SLICE_PARENTS, Note
from ggend.storage.writer_state import WriterState

__all__ = ["RETRY_SECONDS", "Releases", "release_slice"]

log = logging.getLogger("ggend.releases")

#: Seconds until a parent is tried again whose events the database does not let go.
RETRY_SECONDS = 5.0

#: Events of a slice in which each is settled alone, which takes some 0.1 ms.
CAREFUL_EVENTS = 500


class Releases:
    """Releases what parents are noted for, until none is."""

    __slots__ = ("_after", "_at", "_changed", "_intake", "_is_careful", "_lane", "_noted", "_seen")

    def __init__(self, intake: Intake, noted: Callable[[], int]) -> None:
        self._intake = intake
        self._lane = Lane()
        #: How often a parent was noted; what was noted since `_seen` is not released yet.
        self._noted = noted
        self._seen = 0
        self._changed = anyio.Event()
        #: The parents up to here were tried in this round in vain.
        self._after: Note | None = None
        #: The first parent of the slice that was tried last.
        self._at: Note | None = None
        #: Whether each event is settled alone, and each parent has its own slice.
        self._is_careful = False

    def look(self) -> None:
        """Something was committed."""
        if self._noted() != self._seen:
            self._changed.set()

    async def run(self) -> None:
        """Run slices whenever there is something to release. Ends cancelled."""
        while True:
            while self._noted() == self._seen:
                self._changed = anyio.Event()
                await self._changed.wait()
            if await self._slice():
                self._is_careful = False
            elif self._after is not None and self._at is None:
                self._after = None
                await anyio.sleep(RETRY_SECONDS)

    async def _slice(self) -> bool:
        """Run one slice; return whether it was the last, and nothing is left."""
        done = anyio.Event()
        is_last = False

        def run(connection: sqlite3.Connection, state: WriterState) -> tuple[int, bool]:
            parking = state.parking
            self._at = parking.next_note(connection, self._after)
            return parking.noted, release_slice(
                connection, state, after=self._after, is_careful=self._is_careful
            )

        def take(_call: Call, result: tuple[int, bool]) -> None:
            nonlocal is_last
            noted, is_at_end = result
            if is_at_end:
                self._at = None
                is_last = self._after is None
            if is_last:
                self._seen = noted
            done.set()

        def fail(_call: Call, error: Exception) -> None:
            if self._is_careful:
                log.warning("releasing parked events failed, retrying", extra={"error": error})
                self._after = self._at
            self._is_careful = True
            done.set()

        await self._intake.put(Call(run, take, fail), self._lane)
        await done.wait()
        return is_last


def release_slice(
    connection: sqlite3.Connection,
    state: WriterState,
    *,
    after: Note | None = None,
    is_careful: bool = False,
) -> bool:
    """Release some of what waits for noted parents; return whether it came to the end of them.

    In a careful slice one parent's events are settled each alone, and those that the database
    refuses are rejected. Raises TakenBack then, as `settle` does.
    """
    part = state.parking.release_slice(
        connection,
        after=after,
        room=state.parking.room(CAREFUL_EVENTS if is_careful else None),
        parents=1 if is_careful else SLICE_PARENTS,
    )
    if part.released:
        settle_released(connection, state, part.released, isolate=is_careful)
        log.debug("released", extra={"events": len(part.released)})
    return part.is_last
