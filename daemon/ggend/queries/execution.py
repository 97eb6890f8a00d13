"""Execution: everything that is stored about one execution of the pipeline.

Finds it by its id or a prefix of it; if it has no receipt, reports its parked events or stages. A
database of version 1.0.0 is read too. Never writes.
"""

from __future__ import annotations

import sqlite3
from typing import Any, TypeAlias

import msgspec

from ggend.database.known_durations import known_duration, knows_unknown
from ggend.errors import UsageMistake
from ggend.queries.id_lookup import ids_like, parts_of, whole_id
from ggend.queries.result import Result
from ggend.queries.run import columns_of, run

__all__ = ["Execution", "Record", "find_execution", "load_execution", "load_memory"]

#: One row, by the names of its columns.
Record: TypeAlias = dict[str, Any]

#: Rows of one kind that are read of one execution; real ones have some ten.
_MOST_ROWS = 10_000

#: Executions that are listed where a beginning fits several.
_SHOWN = 5


class Execution(msgspec.Struct, frozen=True, kw_only=True):
    """One execution. A stage's `offset_ms` is its start after the execution's, None if unknown.

    A duration that nobody recorded is None, and `duration_source` says so. `unknown_durations` of
    the session is how many of its executions are such.

    Each breach of an objective that has a receipt is among the violations: `slo` writes both.
    """

    execution: Record
    stages: list[Record]
    audit: Result
    violations: Result
    session: Record | None


def find_execution(connection: sqlite3.Connection, wanted: str) -> str:
    """Return the id of the execution that has this id or prefix.

    Raises UsageMistake if there is none, or several.
    """
    if not wanted.strip(" …."):
        raise UsageMistake("the id is empty", hint="give the id of an execution")
    found = ids_like(connection, "execution", wanted, _SHOWN)
    match found:
        case [one]:
            return one
        case []:
            raise _missing(connection, parts_of(wanted)[0])
        case _:
            more = " and more" if len(found) == _SHOWN else ""
            raise UsageMistake(
                f"{wanted!r} may mean several executions",
                hint=f"give one of {', '.join(found)}{more}",
            )


def load_execution(connection: sqlite3.Connection, execution_id: str) -> Execution:
    """Return everything about the execution of this id, which must be one that is stored."""
    tells_unknown = knows_unknown(connection, "receipts")
    (execution,) = _records(connection, RECEIPT, execution_id)
    if execution.get("duration_source") is not None:
        execution["duration_ms"] = None
    with_ids = {"execution_id", "session_id"} <= set(columns_of(connection, "audit_log"))
    session = SESSION.format(unknown=UNKNOWN_DURATIONS if tells_unknown else "0")
    sessions = _records(connection, session, execution.get("session_id"))
    stages = STAGES.format(
        duration=known_duration(connection, "pipeline_metrics", alias="m"),
        source="m.duration_source" if tells_unknown else "NULL",
    )
    key = {"key": execution_id}
    return Execution(
        execution=execution,
        stages=_records(connection, stages, execution_id),
        audit=run(connection, AUDIT if with_ids else AUDIT_OF_VERSION_1, _MOST_ROWS, key),
        violations=run(connection, VIOLATIONS, _MOST_ROWS, key),
        session=sessions[0] if sessions else None,
    )


def load_memory(connection: sqlite3.Connection, agent: str) -> Record:
    """Return the memory of an agent. Raises UsageMistake where it has none."""
    found = _records(connection, MEMORY, whole_id(connection, "agent", agent))
    if not found:
        raise UsageMistake(
            f"agent {agent} has no stored memory",
            hint="`ggend query memory` lists the agents that have one",
        )
    return found[0]


def _records(connection: sqlite3.Connection, sql: str, key: object) -> list[Record]:
    result = run(connection, sql, _MOST_ROWS, {"key": key})
    return [dict(zip(result.columns, row, strict=True)) for row in result.rows]


def _missing(connection: sqlite3.Connection, wanted: str) -> UsageMistake:
    """Return the error for an execution without a receipt, with its parked events or stages."""
    wanted_key = {"wanted": wanted}
    if columns_of(connection, "parked_events"):
        parked = run(connection, PARKED, 1, wanted_key).rows
        if parked:
            name, events = parked[0]
            return UsageMistake(
                f"execution {name} has no receipt yet: {events} parked stage "
                f"{'event waits' if events == 1 else 'events wait'} for it",
                hint="they are stored when its receipt_emitted event arrives",
            )
    orphans = run(connection, ORPHANS, 1, wanted_key).rows
    if orphans:
        name, stages = orphans[0]
        return UsageMistake(
            f"execution {name} has no receipt, but {stages} stored "
            f"{'stage' if stages == 1 else 'stages'}: another program wrote with foreign keys off",
            hint="use `ggend query sql` to read them from pipeline_metrics",
        )
    return UsageMistake(
        f"no execution has an id that begins with {wanted}",
        hint="`ggend query executions` lists the newest",
    )


PARKED = """
SELECT parent_id, SUM(events)
FROM parked_events
WHERE parent_id >= :wanted
  AND parent_id < :wanted || char(0x10FFFF)
  AND parent = 'receipt'
GROUP BY parent_id
ORDER BY parent_id
"""

ORPHANS = """
SELECT execution_id, COUNT(*)
FROM pipeline_metrics
WHERE execution_id >= :wanted
  AND execution_id < :wanted || char(0x10FFFF)
GROUP BY execution_id
ORDER BY execution_id
"""

RECEIPT = """
SELECT *
FROM receipts
WHERE execution_id = :key
"""

#: A notation of a time, not merely text that julianday() takes, such as `now` or a plain number.
STAGES = """
SELECT
    m.stage,
    m.status,
    m.timestamp,
    CASE WHEN m.timestamp LIKE '____-__-__%' AND r.timestamp LIKE '____-__-__%'
        THEN CAST(ROUND((julianday(m.timestamp) - julianday(r.timestamp)) * 86400000) AS INTEGER)
    END AS offset_ms,
    {duration} AS duration_ms,
    {source} AS duration_source,
    m.input_size_bytes,
    m.output_size_bytes,
    m.error_message
FROM receipts AS r
JOIN pipeline_metrics AS m ON m.execution_id = r.execution_id
WHERE r.execution_id = :key
ORDER BY offset_ms NULLS LAST, m.stage, m.id
"""

#: As recent_executions counts them: those that name the execution, and of those that name none
#: what the agent did in its time, in either notation of it.
AUDIT_IN_TIME = """
    SELECT b.id
    FROM audit_log AS b
    WHERE b.agent_id = r.agent_id
      AND b.timestamp >= strftime('%Y-%m-%d{separator}%H:%M:%S', r.timestamp)
      AND b.timestamp <= strftime('%Y-%m-%d{separator}%H:%M:%S', r.timestamp,
                                  printf('+%.3f seconds', r.duration_ms / 1000.0)) || '~'
      AND substr(b.timestamp, 11, 1) = '{separator}'
      AND julianday(b.timestamp) BETWEEN julianday(r.timestamp)
          AND julianday(r.timestamp, printf('+%.3f seconds', r.duration_ms / 1000.0))"""

AUDIT_OF_VERSION_1 = f"""
SELECT a.timestamp, a.operation, a.status, a.duration_ms, a.error_message, a.context_json
FROM receipts AS r
JOIN audit_log AS a ON a.id IN ({AUDIT_IN_TIME.format(separator="T")}
    UNION ALL{AUDIT_IN_TIME.format(separator=" ")}
)
WHERE r.execution_id = :key
ORDER BY a.id
"""  # noqa: S608 - constants

AUDIT = f"""
SELECT a.timestamp, a.operation, a.status, a.duration_ms, a.error_message, a.context_json
FROM receipts AS r
JOIN audit_log AS a ON a.id IN (
    SELECT b.id
    FROM audit_log AS b
    WHERE b.execution_id = r.execution_id
    UNION ALL{AUDIT_IN_TIME.format(separator="T")}
      AND b.execution_id IS NULL
    UNION ALL{AUDIT_IN_TIME.format(separator=" ")}
      AND b.execution_id IS NULL
)
WHERE r.execution_id = :key
ORDER BY a.id
"""  # noqa: S608 - constants

VIOLATIONS = """
SELECT timestamp, severity, metric, target_value, actual_value, description
FROM slo_violations
WHERE execution_id = :key
ORDER BY id
"""

SESSION = """
SELECT session_id, status, start_time, end_time, agent_count, total_duration_ms,
       successful_operations, failed_operations, {unknown} AS unknown_durations
FROM workflow_sessions
WHERE session_id = :key
"""

UNKNOWN_DURATIONS = """(
    SELECT COUNT(*)
    FROM receipts AS r
    WHERE r.session_id = :key
      AND r.duration_source IS NOT NULL)"""

MEMORY = """
SELECT *
FROM agent_memory
WHERE agent_id = :key
"""
