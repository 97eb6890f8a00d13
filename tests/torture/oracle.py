"""Oracle: what the tables hold of the work of torture producers, while no daemon runs.

Counts and compares; knows nothing of how the daemon was treated.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

__all__ = ["look"]


def look(database: Path, tags: Mapping[bytes, str]) -> tuple[dict[str, int], list[str]]:
    """Return how many rows there are of each kind and producer, and what is there twice.

    `tags` are the names of the producers by their ids. Accounts whose numbers were not all stored
    are problems too.
    """
    found: dict[str, int] = {}
    problems = []
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TEMP TABLE tags (producer, tag)")
        connection.executemany("INSERT INTO tags VALUES (?, ?)", tags.items())
        for sql in _FOUND:
            for key, rows, distinct in connection.execute(sql):
                found[key] = rows
                if rows != distinct:
                    problems.append(f"{key}: {rows} rows, {distinct} of them different")
        sound = connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        found["sound"] = int(sound)
        found["orphans"] = len(connection.execute("PRAGMA foreign_key_check").fetchall())
    return found, problems


#: What is there: a key, how many rows, and how many different ones.
_FOUND = (
    """
    SELECT 'audit_log ' || agent_id, COUNT(*), COUNT(DISTINCT operation)
    FROM audit_log
    GROUP BY agent_id""",
    """
    SELECT 'receipts ' || agent_id, COUNT(*), COUNT(DISTINCT receipt_json)
    FROM receipts
    GROUP BY agent_id""",
    """
    SELECT 'pipeline_metrics ' || r.agent_id, COUNT(*), COUNT(DISTINCT m.execution_id || m.stage)
    FROM pipeline_metrics AS m
    JOIN receipts AS r USING (execution_id)
    GROUP BY r.agent_id""",
    """
    SELECT 'collision_detection ' || agent_id_1, COUNT(*), COUNT(DISTINCT description)
    FROM collision_detection
    GROUP BY agent_id_1""",
    """
    SELECT
        'workflow_sessions ' || substr(session_id, 1, instr(session_id, '-') - 1),
        COUNT(*) FILTER (WHERE status = 'completed'),
        COUNT(*)
    FROM workflow_sessions
    GROUP BY 1""",
    """
    SELECT
        'passed in sessions ' || substr(session_id, 1, instr(session_id, '-') - 1),
        SUM(successful_operations),
        SUM(successful_operations + failed_operations)
    FROM workflow_sessions
    GROUP BY 1""",
    """
    SELECT
        'slo_breaches ' || substr(subject, 1, instr(subject, '-') - 1),
        COUNT(*),
        COUNT(DISTINCT subject)
    FROM slo_breaches
    GROUP BY 1""",
    """
    SELECT
        'slo_violations ' || substr(execution_id, 1, instr(execution_id, '-') - 1),
        COUNT(*),
        COUNT(DISTINCT execution_id)
    FROM slo_violations
    GROUP BY 1""",
    """
    SELECT
        'agent_memory ' || agent_id,
        json_extract(memory_json, '$.number'),
        json_extract(memory_json, '$.number')
    FROM agent_memory""",
    """
    SELECT 'accounts ' || coalesce(p.tag, hex(a.producer)), a.last_sequence, a.stored
    FROM producers AS a
    LEFT JOIN temp.tags AS p ON p.producer = coalesce(a.source, a.producer)""",
    """
    SELECT 'unaccounted', COUNT(*), COUNT(*)
    FROM producers
    WHERE last_sequence <> stored + duplicate + superseded + parked + rejected + lost""",
    """
    SELECT 'parked', COUNT(*), COUNT(*)
    FROM parked_events""",
    """
    SELECT 'rejected', COUNT(*), COUNT(*)
    FROM rejected_events""",
)
