"""Yardstick: the rows that a daemon stored, stored again by plain `executemany`.

The same rows, in the same batches, at the same durability, in one process without a socket: what
is missing to its speed is what ggend costs. Its clock sees BEGIN, one `executemany` a table,
COMMIT and the checkpoints, nothing else.

The rows are read back from the daemon's database, by id and without `id` and `created_at`. Only
the number of events of each commit is known (the daemon's debug log), so which rows belong to a
batch is worked out from the order in which they were sent: exact for one producer; several are
taken to have advanced at the same pace. A stage counts in the batch of its receipt if it came
earlier: parked events are never written here. Neither is what hooks write.
"""

from __future__ import annotations

import gc
import re
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeAlias

from ggend.config import Config
from ggend.database.upgrade import prepare_database
from ggend_schema import Audit, Collision, Event, ReceiptEmitted, SessionStarted, StageCompleted

__all__ = [
    "TABLES",
    "Plan",
    "Row",
    "columns_of",
    "committed_batches",
    "count_rows",
    "opened",
    "plan",
    "reading",
    "store",
    "store_more",
]

#: Each table after those that it refers to, with the event that makes its rows.
TABLES: dict[str, type[Event]] = {
    "workflow_sessions": SessionStarted,
    "receipts": ReceiptEmitted,
    "pipeline_metrics": StageCompleted,
    "collision_detection": Collision,
    "audit_log": Audit,
}

#: Table: the table it refers to. Its first column is the reference.
_PARENTS = {"pipeline_metrics": "receipts", "collision_detection": "workflow_sessions"}

_COMMITTED = re.compile(r"msg=committed .*?events=(\d+)")

Row: TypeAlias = tuple[Any, ...]
#: For each batch the rows of each table.
Plan: TypeAlias = list[dict[str, list[Row]]]


def committed_batches(log: str) -> list[int]:
    """Return the number of events of each commit, from a daemon's debug log."""
    return [events for found in _COMMITTED.findall(log) if (events := int(found))]


def count_rows(streams: Sequence[Sequence[Event]]) -> dict[str, int]:
    """Return how many rows each table has when all events are stored."""
    kinds = Counter(type(event) for stream in streams for event in stream)
    return {table: kinds[kind] for table, kind in TABLES.items()}


def plan(database: Path, streams: Sequence[Sequence[Event]], batches: Sequence[int]) -> Plan:
    """Read the rows back and cut them into the batches in which they were committed."""
    rows = {}
    with reading(database) as connection:
        for table in TABLES:
            columns = ", ".join(columns_of(connection, table))
            rows[table] = connection.execute(
                f"SELECT {columns} FROM {table} ORDER BY id"
            ).fetchall()
    taken = dict.fromkeys(TABLES, 0)
    due = dict.fromkeys(TABLES, 0)
    stored: dict[str, set[object]] = {parent: set() for parent in _PARENTS.values()}
    batches_of_rows: Plan = []
    for counts in _due(streams, batches):
        batch = {}
        for table, new in counts.items():
            due[table] += new
            start = end = taken[table]
            parents = stored.get(_PARENTS.get(table, ""))
            while end < due[table] and (parents is None or rows[table][end][0] in parents):
                end += 1
            taken[table] = end
            batch[table] = rows[table][start:end]
            if table in stored:
                stored[table].update(row[0] for row in batch[table])
        batches_of_rows.append(batch)
    assert taken == {table: len(rows[table]) for table in TABLES}, "a row is in no batch"
    return batches_of_rows


def _due(streams: Sequence[Sequence[Event]], batches: Sequence[int]) -> Iterator[dict[str, int]]:
    """Yield how many rows of each table each batch adds."""
    table_of = {kind: table for table, kind in TABLES.items()}
    arrivals = iter([event for together in zip(*streams, strict=True) for event in together])
    receipts: set[str] = set()
    waiting: Counter[str] = Counter()
    for events in batches:
        counts = dict.fromkeys(TABLES, 0)
        for _ in range(events):
            event = next(arrivals)
            if isinstance(event, StageCompleted):
                waiting[event.execution_id] += 1
                continue
            counts[table_of[type(event)]] += 1
            if isinstance(event, ReceiptEmitted):
                receipts.add(event.execution_id)
        ready = [execution_id for execution_id in waiting if execution_id in receipts]
        counts["pipeline_metrics"] = sum(waiting.pop(execution_id) for execution_id in ready)
        yield counts
    assert next(arrivals, None) is None, "events were sent that no commit accounts for"


def columns_of(connection: sqlite3.Connection, table: str) -> list[str]:
    """Return the columns that are given, not made by SQLite."""
    return [
        name
        for _, name, *_ in connection.execute(f"PRAGMA table_info({table})")
        if name not in ("id", "created_at")
    ]


@contextmanager
def reading(database: Path) -> Iterator[sqlite3.Connection]:
    """Open a database that is only read."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        yield connection


def store(database: Path, batches: Plan, config: Config) -> float:
    """Store the batches in a new database as a daemon with this config would; return seconds."""
    with opened(database, config) as connection:
        return store_more(connection, batches, config)


@contextmanager
def opened(database: Path, config: Config) -> Iterator[sqlite3.Connection]:
    """Make a database, and open it as a daemon with this config would."""
    prepare_database(database)
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        for pragma in (
            "journal_mode = WAL",
            "synchronous = FULL",
            "foreign_keys = ON",
            "wal_autocheckpoint = 0",
            f"cache_size = -{config.page_cache_mib * 1024}",
            "temp_store = MEMORY",
        ):
            connection.execute(f"PRAGMA {pragma}").fetchall()
        yield connection


def store_more(connection: sqlite3.Connection, batches: Plan, config: Config) -> float:
    """Store the batches behind what is there; return seconds."""
    inserts = {}
    for table in TABLES:
        columns = columns_of(connection, table)
        marks = ", ".join("?" * len(columns))
        inserts[table] = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})"
    gc.collect()
    gc.disable()
    try:
        return _store(connection, batches, inserts, config.checkpoint_events)
    finally:
        gc.enable()


def _store(
    connection: sqlite3.Connection,
    batches: Plan,
    inserts: dict[str, str],
    checkpoint_events: int,
) -> float:
    since_checkpoint = 0
    begin = end = time.monotonic()
    for batch in batches:
        if since_checkpoint >= checkpoint_events:
            since_checkpoint = 0
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        connection.execute("BEGIN IMMEDIATE")
        for table, rows in batch.items():
            if rows:
                connection.executemany(inserts[table], rows)
                since_checkpoint += len(rows)
        connection.execute("COMMIT")
        end = time.monotonic()
    return end - begin
