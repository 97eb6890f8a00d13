"""Stats: sizes and counts of a database, fast even if it is large.

Never writes. Counts are exact: SQLite counts a table through its smallest index. Values from
ggend's own tables are None in a database of version 1.0.0.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import msgspec

from ggend.database.account_counts import totals_of
from ggend.database.files import wal_size
from ggend.queries.snapshot import columns_of

__all__ = ["Stats", "stats_of"]


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """The sizes and counts of a database."""

    database: str
    size_bytes: int
    wal_bytes: int
    #: 0: version 1.0.0.
    schema_version: int
    database_id: str | None
    rows: dict[str, int]
    #: The earliest and the latest timestamp of a receipt.
    first_receipt: str | None
    newest_receipt: str | None
    receipts_by_status: dict[str, int]
    agents: int
    sessions_running: int
    violations_by_severity: dict[str, int]
    #: Events that wait for their parent, and events in quarantine.
    parked: int | None
    rejected: int | None
    #: How many accounts, and the sums of their counts: the totals of `ggend accounts`.
    accounts: dict[str, int] | None


def stats_of(connection: sqlite3.Connection, path: Path) -> Stats:
    """Return the stats of an open database."""
    columns = columns_of(connection)
    rows = {table: int(_one(connection, _COUNT.format(table))) for table in columns}
    agents, first, newest = connection.execute(_AGENTS).fetchone()
    return Stats(
        database=str(path.absolute()),
        size_bytes=path.stat().st_size,
        wal_bytes=wal_size(path),
        schema_version=_one(connection, "PRAGMA user_version"),
        database_id=_own(connection, columns, "database_identity", _IDENTITY),
        rows=rows,
        first_receipt=first,
        newest_receipt=newest,
        receipts_by_status=dict(connection.execute(_STATUSES)),
        agents=agents,
        sessions_running=_one(connection, _RUNNING),
        violations_by_severity=dict(connection.execute(_SEVERITIES)),
        parked=_own(connection, columns, "parked_events", _PARKED),
        rejected=rows.get("rejected_events"),
        accounts=_accounts(connection) if "producers" in columns else None,
    )


def _one(connection: sqlite3.Connection, sql: str) -> Any:
    row = connection.execute(sql).fetchone()
    return None if row is None else row[0]


def _own(
    connection: sqlite3.Connection, columns: dict[str, list[str]], table: str, sql: str
) -> Any:
    return _one(connection, sql) if table in columns else None


def _accounts(connection: sqlite3.Connection) -> dict[str, int]:
    accounts, sums = totals_of(connection)
    return {"accounts": accounts, **sums}


_COUNT = 'SELECT COUNT(*) FROM "{}"'
_IDENTITY = """
    SELECT id
    FROM database_identity"""
_STATUSES = """
    SELECT status, COUNT(*)
    FROM receipts
    GROUP BY status"""
#: From one agent to the next through the index, with the first and the last time of each: as many
#: steps as there are agents.
_AGENTS = """
    WITH RECURSIVE agents (agent_id) AS (
        SELECT MIN(agent_id)
        FROM receipts
        UNION ALL
        SELECT (SELECT MIN(r.agent_id) FROM receipts AS r WHERE r.agent_id > a.agent_id)
        FROM agents AS a
        WHERE a.agent_id IS NOT NULL
    )
    SELECT
        COUNT(agent_id),
        MIN((SELECT MIN(r.timestamp) FROM receipts AS r WHERE r.agent_id = agents.agent_id)),
        MAX((SELECT MAX(r.timestamp) FROM receipts AS r WHERE r.agent_id = agents.agent_id))
    FROM agents"""
_RUNNING = """
    SELECT COUNT(*)
    FROM workflow_sessions
    WHERE status = 'running'"""
_SEVERITIES = """
    SELECT severity, COUNT(*)
    FROM slo_violations
    GROUP BY severity"""
_PARKED = """
    SELECT coalesce(SUM(events), 0)
    FROM parked_events"""
