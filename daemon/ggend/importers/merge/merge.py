"""Merge: the rows of another tier 2 database that this one has not, as events to be sent.

Never writes to either database. Rows of audit_log, pipeline_metrics and collision_detection have
no identity of their own, so what is missing is found by comparing content: each row is read back
into the event that would write it, and so are the rows here that could be the same. The third of
three equal rows there is missing if fewer than three are here. Stopped at any moment and begun
again, a merge therefore adds what the first run had not, and nothing twice.

Parents go first: a stage or a collision goes only where its receipt or session is here, with the
content that it has there. Memory is bounded: rows stream in `id` order and are compared chunk by
chunk, through indexes; what must be remembered of all of them is in `scratch`.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TypeAlias

import msgspec

from ggend.importers.merge.candidates import Counterparts, is_text
from ggend.importers.merge.equality import (
    Reading,
    differing_columns,
    is_same_memory,
    missing_of_session,
    saved_us,
)
from ggend.importers.merge.row_to_event import COLUMNS, read_back
from ggend.importers.merge.scratch import Scratch
from ggend.queries.snapshot import columns_of
from ggend_schema.errors import InvalidEvent
from ggend_schema.events import (
    Audit,
    Collision,
    Event,
    MemorySaved,
    ReceiptEmitted,
    SessionEnded,
    SessionStarted,
    StageCompleted,
)
from ggend_schema.rows import Row
from ggend_schema.timestamps import format_ms

__all__ = ["TABLES", "Merge", "Tally"]

#: Rows and bytes of text that are compared at a time.
_CHUNK_ROWS = 2_000
_CHUNK_BYTES = 4 * 1024 * 1024

#: The tables that are merged, parents first. Violations are not: the daemon evaluates the rows.
TABLES = (
    "workflow_sessions",
    "receipts",
    "pipeline_metrics",
    "collision_detection",
    "audit_log",
    "agent_memory",
)

#: Row id and stored columns.
_Found: TypeAlias = tuple[int, Row]


class Tally(msgspec.Struct, kw_only=True):
    """What became of the rows of one table of the other database."""

    table: str
    rows: int = 0
    new: int = 0
    already_there: int = 0
    superseded: int = 0
    conflicts: int = 0
    #: Their parent is in conflict, or could not be read.
    skipped: int = 0
    #: Their parent is in neither database.
    orphans: int = 0
    unreadable: int = 0


class Merge:
    """One merge of `other` into `own`, both open for reading."""

    def __init__(
        self,
        other: sqlite3.Connection,
        own: sqlite3.Connection,
        *,
        send: Callable[[Event, int], None],
        flush: Callable[[], int],
        tell: Callable[[str], None],
        advance: Callable[[int], None],
    ) -> None:
        """Change the text factory of both connections.

        `send` takes an event of about so many bytes; `flush` waits until all are stored and returns
        how many were rejected in all; `tell` is told of every row that cannot go.
        """
        self._other = other
        self._send, self._flush = send, flush
        self._tell, self._advance = tell, advance
        self._scratch = Scratch()
        self._here = Counterparts(own, self._scratch)
        self._columns = columns_of(other)
        self._rejected = 0
        # What is not UTF-8 becomes surrogates, which are spelled out in what is sent (`portable`).
        other.text_factory = own.text_factory = _text

    def run(self) -> list[Tally]:
        """Send what is missing; return what became of the rows of each table."""
        merges: tuple[Callable[[Tally], None], ...] = (
            self._merge_sessions,
            self._merge_receipts,
            partial(self._merge_rows, kind=StageCompleted, parent="receipts"),
            partial(self._merge_rows, kind=Collision, parent="workflow_sessions"),
            partial(self._merge_rows, kind=Audit),
            self._merge_memories,
        )
        tallies = [Tally(table=table) for table in TABLES]
        try:
            for tally, merge in zip(tallies, merges, strict=True):
                merge(tally)
                rejected, self._rejected = self._rejected, self._flush()
                tally.new -= self._rejected - rejected
                tally.conflicts += self._rejected - rejected
        finally:
            self._scratch.close()
        return tallies

    def _chunks(self, tally: Tally, *kinds: type[Event], also: str = "") -> Iterator[list[_Found]]:
        """Return the rows of a table there; columns that it has not are NULL."""
        known = self._columns[tally.table]
        columns = dict.fromkeys(column for kind in kinds for column in COLUMNS[kind])
        selected = ", ".join(f"t.{c}" if c in known else f"NULL AS {c}" for c in columns)
        chunk: list[_Found] = []
        size = 0
        for row_id, *stored in self._other.execute(
            f"SELECT t.id, {selected}{also} "  # noqa: S608 - constants of this module and COLUMNS
            f"FROM {tally.table} AS t {_ALSO_FROM[also]} ORDER BY t.id"
        ):
            chunk.append((row_id, tuple(stored)))
            size += _size(stored)
            if len(chunk) >= _CHUNK_ROWS or size >= _CHUNK_BYTES:
                yield self._counted(tally, chunk)
                chunk, size = [], 0
        yield self._counted(tally, chunk)

    def _counted(self, tally: Tally, chunk: list[_Found]) -> list[_Found]:
        tally.rows += len(chunk)
        self._advance(len(chunk))
        return chunk

    def _hold_back(self, tally: Tally, key: object, row_id: int, why: str) -> None:
        """A parent stays there, and with it what belongs to it."""
        self._tell(f"{tally.table}, id {row_id}: {why}")
        if isinstance(key, str) and is_text(key):
            self._scratch.hold_back(tally.table, key)

    def _merge_receipts(self, tally: Tally) -> None:
        has_session = "session_id" in self._columns["receipts"]
        for chunk in self._chunks(tally, ReceiptEmitted):
            there = {stored[0]: stored for _, stored in chunk}
            # One at a time: rows here may be larger than those there.
            differing = {
                own[0]: differing_columns(there[own[0]], own, has_session=has_session)
                for own in self._here.of("receipts", there)
            }
            for row_id, stored in chunk:
                key = stored[0]
                if key in differing:
                    if not differing[key]:
                        tally.already_there += 1
                        continue
                    tally.conflicts += 1
                    columns = ", ".join(differing[key])
                    why = f"{key!r} exists here with different {columns}"
                else:
                    try:
                        event, _ = read_back(ReceiptEmitted, stored)
                    except InvalidEvent as error:
                        tally.unreadable += 1
                        why = error.message
                    else:
                        tally.new += 1
                        self._send(event, _size(stored))
                        continue
                self._hold_back(tally, key, row_id, why)

    def _merge_sessions(self, tally: Tally) -> None:
        also = _GIVEN if "session_ends" in self._columns else ""
        for chunk in self._chunks(tally, SessionStarted, SessionEnded, also=also):
            own = {row[0]: row for row in self._here.of(tally.table, (r[0] for _, r in chunk))}
            for row_id, stored in chunk:
                try:
                    missing = missing_of_session(stored, own.get(stored[0]))
                except InvalidEvent as error:
                    tally.unreadable += 1
                    self._hold_back(tally, stored[0], row_id, error.message)
                    continue
                if missing is None:
                    tally.conflicts += 1
                    why = f"{stored[0]!r} exists here with different content"
                    self._hold_back(tally, stored[0], row_id, why)
                    continue
                if missing:
                    tally.new += 1
                else:
                    tally.already_there += 1
                for event in missing:
                    self._send(event, _size(stored))

    def _merge_rows(
        self,
        tally: Tally,
        kind: type[Event],
        parent: str | None = None,
    ) -> None:
        """Merge a table whose rows have no identity. `parent` is the table of what they need."""
        for chunk in self._chunks(tally, kind):
            read = [Reading(kind, stored) for _, stored in chunk]
            wanted = {one.fingerprint for one in read}
            parents = {stored[0] for _, stored in chunk} if parent else set()
            candidates = self._here.of(tally.table, parents) if parent else self._here.audits(read)
            here: Counter[str] = Counter()
            for row in candidates:
                found = Reading(kind, row).fingerprint
                if found in wanted:
                    here[found] += 1
            ranks = self._scratch.ranks([one.fingerprint for one in read])
            present, held = set(), set()
            if parent is not None:
                present = self._here.present(parent, parents)
                held = self._scratch.held_back(parent, filter(is_text, parents))
            for (row_id, stored), one, rank in zip(chunk, read, ranks, strict=True):
                if stored[0] in held and parent is not None:
                    tally.skipped += 1
                elif here[one.fingerprint] >= rank:
                    tally.already_there += 1
                elif one.event is None:
                    tally.unreadable += 1
                    self._tell(f"{tally.table}, id {row_id}: {one.problem}")
                elif parent is not None and stored[0] not in present:
                    tally.orphans += 1
                else:
                    tally.new += 1
                    self._send(one.event, _size(stored))

    def _merge_memories(self, tally: Tally) -> None:
        also = _ORDER if "memory_order" in self._columns else ""
        for chunk in self._chunks(tally, MemorySaved, also=also):
            own = {row[0]: row for row in self._here.of(tally.table, (r[0] for _, r in chunk))}
            for row_id, stored in chunk:
                here = own.get(stored[0])
                if here is not None and stored[:6] == here[:6]:
                    tally.already_there += 1
                    continue
                try:
                    event, row = read_back(MemorySaved, stored[:6])
                except InvalidEvent as error:
                    tally.unreadable += 1
                    self._tell(f"{tally.table}, id {row_id}: {error.message}")
                    continue
                there_us, own_us = saved_us(stored), -1 if here is None else saved_us(here)
                if here is not None and is_same_memory(row, here):
                    tally.already_there += 1
                elif there_us < own_us:
                    tally.superseded += 1
                elif there_us == own_us:
                    tally.conflicts += 1
                    why = f"{row[0]!r} saved a different memory here at the same time"
                    self._tell(f"{tally.table}, id {row_id}: {why}")
                else:
                    tally.new += 1
                    exact = f"{format_ms(there_us // 1000)[:-1]}{there_us % 1000:03}Z"
                    self._send(msgspec.structs.replace(event, timestamp=exact), _size(stored))


def _size(stored: Iterable[object]) -> int:
    return sum(len(value) for value in stored if isinstance(value, str))


def _text(stored: bytes) -> str:
    return stored.decode(errors="surrogateescape")


#: Columns of ggend's own tables, which version 1.0.0 has not, and where they come from.
_GIVEN = ", e.duration_given IS NOT 0, e.successful_given IS NOT 0, e.failed_given IS NOT 0"
_ORDER = ", o.timestamp_us"
_ALSO_FROM = {
    "": "",
    _GIVEN: "LEFT JOIN session_ends AS e USING (session_id)",
    _ORDER: "LEFT JOIN memory_order AS o USING (agent_id)",
}
