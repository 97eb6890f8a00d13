"""Quarantine: rejected events in `rejected_events`, with their bytes and the reason.

Full means that an event is still rejected and counted, but not kept.
"""

from __future__ import annotations

import hashlib
import sqlite3

from ggend_schema.codes import EventCode

__all__ = ["Quarantine"]

#: Bytes kept of a rejected event. The largest valid event is 2.25 MiB, so that what can be
#: repaired and put back is kept whole.
KEPT_BYTES = 2_359_296


class Quarantine:
    """The rejected events of one database. Lives on the writer's thread."""

    __slots__ = ("_pending", "_schema_version", "count", "limit", "now")

    def __init__(self, *, count: int, limit: int, schema_version: int) -> None:
        self.count = count
        self.limit = limit
        #: The time of the batch, as stored.
        self.now = ""
        self._schema_version = schema_version
        self._pending: list[tuple[object, ...]] = []

    def reject(
        self,
        *,
        code: EventCode,
        message: str,
        account_id: int,
        producer: bytes | None,
        sequence: int | None,
        uid: int,
        client: str | None,
        encoded: bytes,
        encoding: str,
        stamp_ns: int,
    ) -> None:
        """Take a rejected event in; `save` writes it."""
        if self.count >= self.limit:
            return
        self.count += 1
        self._pending.append(
            (
                self.now,
                code,
                message,
                account_id,
                producer,
                sequence,
                uid,
                client,
                self._schema_version,
                encoding,
                stamp_ns,
                len(encoded),
                hashlib.sha256(encoded).digest(),
                encoded if len(encoded) <= KEPT_BYTES else None,
            )
        )

    def purge(self, rows: int) -> None:
        """Make room: so many rejected events were deleted in this transaction."""
        self.count -= rows

    def save(self, connection: sqlite3.Connection) -> None:
        """Write what was rejected in this batch."""
        connection.executemany(_REJECT, self._pending)
        self._pending.clear()

    def forget(self, count: int) -> None:
        """Drop what was not saved: the transaction was rolled back to `count` rejected events."""
        self._pending.clear()
        self.count = count


_REJECT = """
    INSERT INTO rejected_events (
        received_at, code, message, account_id, producer, sequence, uid, client, schema_version,
        encoding, stamp_ns, size_bytes, sha256, event)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
