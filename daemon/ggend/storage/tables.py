"""Tables: named SQL for the rows of the seven tables, many rows a statement.

A row at a time, the interpreter lock changes hands once a row, and under load each change waits
for a thread that decodes: measured 334 rows/s beside a busy thread, against 13,000 with 100 rows
a statement (docs/PERFORMANCE.md). So rows are bound in blocks.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain

import msgspec

from ggend_schema.rows import Row

__all__ = [
    "AUDITS",
    "COLLISIONS",
    "METRICS",
    "PARKED",
    "RECEIPTS",
    "SESSIONS",
    "Table",
    "any_text",
    "json_list",
]

#: Rows a statement. The first is as many as keep the variables (15 columns) far below SQLite's
#: limit of 32,766; the others finish a batch in few statements of few shapes, all cached.
_BLOCKS = (256, 64, 16, 4, 1)


class Table:
    """The statements of one table. The first column is the identity where the table has one."""

    __slots__ = ("_columns", "_inserts", "_key", "columns", "name")

    def __init__(self, name: str, columns: str) -> None:
        self.name = name
        self._columns = columns
        #: In the order of the rows.
        self.columns = columns.split(", ")
        self._key = columns.partition(",")[0]
        one = "(" + ", ".join("?" * (columns.count(",") + 1)) + ")"
        self._inserts = tuple(
            (rows, f"INSERT INTO {name} ({columns}) VALUES " + ", ".join([one] * rows))  # noqa: S608
            for rows in _BLOCKS
        )

    def insert(self, connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
        """Insert all rows, in order. Raises sqlite3.IntegrityError if one is refused."""
        offset, left = 0, len(rows)
        for size, statement in self._inserts:
            while left >= size:
                block = rows[offset : offset + size]
                connection.execute(statement, tuple(chain.from_iterable(block)))
                offset += size
                left -= size

    def existing(self, connection: sqlite3.Connection, ids: Collection[str]) -> set[str]:
        """Return those of the ids that are stored already, with one query."""
        return {row[0] for row in self._select(connection, self._key, ids)}

    def stored(self, connection: sqlite3.Connection, ids: Collection[str]) -> Iterator[Row]:
        """Give the stored rows of these ids, in the order of the INSERT's columns.

        One at a time, since each may be large.
        """
        with any_text(connection):
            yield from self._select(connection, self._columns, ids)

    def _select(
        self, connection: sqlite3.Connection, columns: str, ids: Collection[str]
    ) -> Iterable[Row]:
        if not ids:
            return ()
        return connection.execute(
            f"SELECT {columns} FROM {self.name} "  # noqa: S608 - both are this module's constants
            f"WHERE {self._key} IN (SELECT value FROM json_each(?))",
            (json_list(ids),),
        )


RECEIPTS = Table(
    "receipts",
    "execution_id, agent_id, operation, status, timestamp, manifest_hash, ontology_hash, "
    "files_generated, files_modified, duration_ms, receipt_json, error_message, environment, "
    "session_id, duration_source",
)
METRICS = Table(
    "pipeline_metrics",
    "execution_id, stage, duration_ms, input_size_bytes, output_size_bytes, status, "
    "error_message, timestamp, duration_source",
)
AUDITS = Table(
    "audit_log",
    "timestamp, agent_id, operation, status, duration_ms, error_message, context_json, "
    "execution_id, session_id",
)
SESSIONS = Table("workflow_sessions", "session_id, start_time, status, agent_count, context_json")
PARKED = Table(
    "parked_events", "parent_id, parent, arrival_ns, schema_version, events, payload, seen_s"
)
COLLISIONS = Table(
    "collision_detection",
    "session_id, agent_id_1, agent_id_2, collision_type, description, resolution, severity, "
    "timestamp",
)


@contextlib.contextmanager
def any_text(connection: sqlite3.Connection) -> Iterator[None]:
    """Read texts that somebody else may have written: what is not UTF-8 becomes surrogates.

    Otherwise the binding raises OperationalError, as if the database were broken.
    """
    connection.text_factory = lambda text: text.decode(errors="surrogateescape")
    try:
        yield
    finally:
        connection.text_factory = str


def json_list(values: Iterable[str]) -> str:
    """Encode texts for `json_each(?)`, the one-parameter form of a list."""
    return msgspec.json.encode(list(values)).decode()
