"""Quarantine: rejected events in `rejected_events`, with their bytes and the reason.

Full of events means that an event is still rejected and counted, but not kept; full of bytes, that
only its hash and its length are.
"""

from __future__ import annotations

import hashlib
import sqlite3

from ggend_schema.codes import EventCode
from ggend_schema.limits import EVENT_BYTES

__all__ = ["Quarantine"]

#: What cannot be read as a message at all: nothing in it can be repaired and put back.
_UNDECODABLE = frozenset({EventCode.MALFORMED, EventCode.NOT_UTF8})


class Quarantine:
    """The rejected events of one database. Lives on the writer's thread."""

    __slots__ = (
        "_limit_bytes",
        "_pending",
        "_schema_version",
        "_undecodable_bytes",
        "bytes",
        "count",
        "limit",
        "now",
    )

    def __init__(
        self,
        *,
        count: int,
        size: int,
        limit: int,
        limit_bytes: int,
        undecodable_bytes: int,
        schema_version: int,
    ) -> None:
        self.count = count
        self.bytes = size
        self.limit = limit
        self._limit_bytes = limit_bytes
        self._undecodable_bytes = undecodable_bytes
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
        longest = self._undecodable_bytes if code in _UNDECODABLE else EVENT_BYTES
        is_kept = len(encoded) <= min(longest, self._limit_bytes - self.bytes)
        self.bytes += len(encoded) if is_kept else 0
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
                encoded if is_kept else None,
            )
        )

    def leave(self, events: int, size: int) -> None:
        """Make room: so many rows with so many kept bytes were deleted in this transaction."""
        self.count -= events
        self.bytes -= size

    def save(self, connection: sqlite3.Connection) -> None:
        """Write what was rejected in this batch."""
        connection.executemany(_REJECT, self._pending)
        self._pending.clear()

    def rollback(self, count: int, size: int) -> None:
        """Drop what was not saved: the transaction was rolled back to so many rejected events."""
        self._pending.clear()
        self.count, self.bytes = count, size


_REJECT = """
    INSERT INTO rejected_events (
        received_at, code, message, account_id, producer, sequence, uid, client, schema_version,
        encoding, stamp_ns, size_bytes, sha256, event)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
