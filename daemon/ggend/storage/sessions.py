"""Sessions: what the end of a session does to its row, and late receipts to an ended one.

A field that the end event gave is kept; one that it left out is derived from the start time and
the session's receipts, and follows receipts that come later. `session_ends` remembers which is
which.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable
from typing import Literal

from ggend_schema.rows import Row

__all__ = ["count_late_receipts", "end_session"]


def end_session(
    connection: sqlite3.Connection, row: Row
) -> Literal["stored", "duplicate", "conflict"]:
    """Apply a session_ended to its existing row; say what it is to the end stored already."""
    session_id, end_time, status, total, successful, failed = row
    (was, is_recorded, *stored) = connection.execute(_END_OF, (session_id,)).fetchone()
    given = (total, successful, failed)
    if was == "running" and not is_recorded:
        connection.execute(
            _RECORD, (session_id, total is not None, successful is not None, failed is not None)
        )
        connection.execute(
            _END,
            {
                "session_id": session_id,
                "end_time": end_time,
                "status": status,
                "total": total,
                "successful": successful,
                "failed": failed,
            },
        )
        return "stored"
    return "duplicate" if was == status and given == tuple(stored) else "conflict"


def count_late_receipts(connection: sqlite3.Connection, receipts: Iterable[Row]) -> None:
    """Add freshly stored receipts to the derived counts of sessions that have ended already."""
    counts = Counter(
        (session_id, row[3])
        for row in receipts
        if (session_id := row[13]) is not None and row[3] in ("passed", "failed")
    )
    if not counts:
        return
    sessions = {session_id for session_id, _ in counts}
    connection.executemany(
        _ADD_LATE,
        [
            (counts[session_id, "passed"], counts[session_id, "failed"], session_id)
            for session_id in sorted(sessions)
        ],
    )


_END_OF = """
    SELECT
        s.status,
        e.session_id IS NOT NULL,
        iif(e.duration_given IS NOT 0, s.total_duration_ms, NULL),
        iif(e.successful_given IS NOT 0, s.successful_operations, NULL),
        iif(e.failed_given IS NOT 0, s.failed_operations, NULL)
    FROM workflow_sessions AS s
    LEFT JOIN session_ends AS e USING (session_id)
    WHERE s.session_id = ?"""
_RECORD = """
    INSERT INTO session_ends (session_id, duration_given, successful_given, failed_given)
    VALUES (?, ?, ?, ?)"""
_END = """
    UPDATE workflow_sessions
    SET end_time = :end_time,
        status = :status,
        total_duration_ms = coalesce(
            :total,
            max(0, CAST(round((julianday(:end_time) - julianday(start_time)) * 86400000) AS INT))),
        successful_operations = coalesce(
            :successful,
            (SELECT COUNT(*) FROM receipts AS r
             WHERE r.session_id = :session_id AND r.status = 'passed')),
        failed_operations = coalesce(
            :failed,
            (SELECT COUNT(*) FROM receipts AS r
             WHERE r.session_id = :session_id AND r.status = 'failed'))
    WHERE session_id = :session_id"""
_ADD_LATE = """
    UPDATE workflow_sessions
    SET successful_operations = successful_operations + iif(e.successful_given, 0, ?),
        failed_operations = failed_operations + iif(e.failed_given, 0, ?)
    FROM session_ends AS e
    WHERE e.session_id = workflow_sessions.session_id
      AND workflow_sessions.session_id = ?"""
