"""List definitions: what `ggend query` lists, the columns, filters and index paths of each table.

Constants only: SQL fragments, to which `list_query` binds what was typed. Never runs a statement.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

import msgspec

from ggend.slo.objectives import Severity as ViolationSeverity
from ggend_schema.events import (
    STAGES,
    AuditStatus,
    CollisionType,
    Operation,
    ReceiptStatus,
    SessionEndStatus,
    Severity,
    StageStatus,
)

__all__ = ["LISTINGS", "UNKNOWN_DURATIONS", "Listing"]


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """One list. All SQL is constant; `conditions` and `paths` are by the name of their filter."""

    table: str
    #: What a person wants, the most wanted first; --wide adds the rest. A duration_ms that is
    #: unknown is shown as NULL.
    columns: tuple[str, ...]
    #: What a terminal shows however narrow it is.
    kept: tuple[str, ...] = ()
    time: str
    text: tuple[str, ...]
    conditions: Mapping[str, str]
    #: The values a filter takes, by each of their spellings.
    choices: Mapping[str, Mapping[str, str]] = {}
    #: Filter → the ids of its rows, from an index.
    paths: Mapping[str, str] = {}
    #: Filter → a column that version 1.0.0 does not have.
    needs: Mapping[str, tuple[str, str]] = {}
    #: Only for summaries, which are grouped, have no pages, and whose columns are those of a view.
    #: `{known}` is a duration, or NULL where it is unknown.
    summary: tuple[str, str] | None = None


def _same(*types: object) -> dict[str, str]:
    return {value: value for literal in types for value in get_args(literal)}


_RECEIPT_CHOICES = {"status": _same(ReceiptStatus), "operation": _same(Operation)}

#: There is no index on the time of receipts alone, but agents are few: one range for each. The
#: names come one by one from the index, not from all of its entries.
RECEIPTS_BY_TIME = """
WITH RECURSIVE agents (agent_id) AS (
    SELECT MIN(agent_id) FROM receipts
    UNION ALL
    SELECT (SELECT MIN(r.agent_id) FROM receipts AS r WHERE r.agent_id > agents.agent_id)
    FROM agents
    WHERE agents.agent_id IS NOT NULL
)
SELECT r.id
FROM agents
CROSS JOIN receipts AS r
WHERE r.agent_id = agents.agent_id
  AND r.timestamp >= :since_text
  AND r.timestamp < :until_text"""
RECEIPTS_BY_AGENT = """
SELECT id
FROM receipts
WHERE agent_id = :agent
  AND timestamp >= :since_text
  AND timestamp < :until_text"""
RECEIPTS_BY_STATUS = "SELECT id FROM receipts WHERE status = :status"
RECEIPTS_BY_SESSION = "SELECT id FROM receipts WHERE session_id = :session"
RECEIPT_CONDITIONS = {
    "agent": "agent_id = :agent",
    "status": "status = :status",
    "operation": "operation = :operation",
    "environment": "environment = :environment",
    "session": "session_id = :session",
}
RECEIPT_PATHS = {
    "session": RECEIPTS_BY_SESSION,
    "agent": RECEIPTS_BY_AGENT,
    "time": RECEIPTS_BY_TIME,
    "status": RECEIPTS_BY_STATUS,
}

#: The columns of agent_performance_summary, and what else became of executions: partial, cancelled.
AGENTS = """
SELECT
    agent_id,
    COUNT(*) AS total_executions,
    COUNT(*) FILTER (WHERE status = 'passed') AS successful_executions,
    COUNT(*) FILTER (WHERE status = 'failed') AS failed_executions,
    COUNT(*) FILTER (WHERE status NOT IN ('passed', 'failed')) AS other_executions,
    ROUND(AVG({known}), 2) AS avg_duration_ms,
    MIN({known}) AS min_duration_ms,
    MAX({known}) AS max_duration_ms,
    SUM(files_generated) AS total_files_generated,
    MAX(timestamp) AS last_execution
FROM receipts"""
AGENTS_ORDER = """
GROUP BY agent_id
ORDER BY total_executions DESC, agent_id"""

#: The columns of pipeline_stage_performance.
STAGE_SUMMARY = """
SELECT
    stage,
    COUNT(*) AS executions,
    ROUND(AVG({known}), 2) AS avg_duration_ms,
    MIN({known}) AS min_duration_ms,
    MAX({known}) AS max_duration_ms,
    COUNT(*) FILTER (WHERE status = 'passed') AS passed,
    COUNT(*) FILTER (WHERE status = 'failed') AS failed
FROM pipeline_metrics"""
STAGE_SUMMARY_ORDER = """
GROUP BY stage
ORDER BY AVG({known}) DESC, stage"""

#: Executions of a session whose duration nobody recorded.
UNKNOWN_DURATIONS = """(
    SELECT COUNT(*) FROM receipts AS r
    WHERE r.session_id = workflow_sessions.session_id AND r.duration_source IS NOT NULL
) AS unknown_durations"""

#: Ids are shown shortened where room is short: the beginning of one is enough.
BEGINS_WITH_EXECUTION = (
    "execution_id >= :execution AND execution_id < :execution || char(0x10FFFF)"
    " AND substr(execution_id, length(execution_id) - length(:execution_end) + 1) = :execution_end"
)
STAGES_OF_AGENT = """execution_id IN (
    SELECT r.execution_id FROM receipts AS r WHERE r.agent_id = :agent)"""
STAGES_OF_SESSION = """execution_id IN (
    SELECT r.execution_id FROM receipts AS r WHERE r.session_id = :session)"""
VIOLATIONS_OF_AGENT = """EXISTS (
    SELECT 1 FROM receipts AS r
    WHERE r.execution_id = slo_violations.execution_id AND r.agent_id = :agent)"""
VIOLATIONS_OF_SESSION = """EXISTS (
    SELECT 1 FROM receipts AS r
    WHERE r.execution_id = slo_violations.execution_id AND r.session_id = :session)"""

_RECEIPT_SESSION = {"session": ("receipts", "session_id")}

#: What `ggend query NAME` lists.
LISTINGS: dict[str, Listing] = {
    "executions": Listing(
        table="receipts",
        columns=(
            *("timestamp", "execution_id", "agent_id", "status", "duration_ms", "operation"),
            *("error_message", "files_generated", "session_id", "environment", "files_modified"),
            *("duration_source", "id"),
        ),
        kept=("timestamp", "execution_id", "agent_id", "status", "duration_ms", "error_message"),
        time="timestamp",
        text=("execution_id", "error_message", "receipt_json"),
        conditions=RECEIPT_CONDITIONS,
        choices=_RECEIPT_CHOICES,
        paths=RECEIPT_PATHS,
        needs=_RECEIPT_SESSION,
    ),
    "agents": Listing(
        table="receipts",
        columns=(),
        kept=(
            *("agent_id", "total_executions", "successful_executions", "failed_executions"),
            *("other_executions", "avg_duration_ms"),
        ),
        time="timestamp",
        text=(),
        conditions=RECEIPT_CONDITIONS,
        choices=_RECEIPT_CHOICES,
        paths=RECEIPT_PATHS,
        needs=_RECEIPT_SESSION,
        summary=(AGENTS, AGENTS_ORDER),
    ),
    "stages": Listing(
        table="pipeline_metrics",
        columns=(),
        time="timestamp",
        text=(),
        conditions={
            "agent": STAGES_OF_AGENT,
            "session": STAGES_OF_SESSION,
            "status": "status = :status",
            "stage": "stage = :stage",
        },
        choices={"status": _same(StageStatus), "stage": STAGES},
        paths={
            "time": "SELECT id FROM pipeline_metrics "
            "WHERE timestamp >= :since_text AND timestamp < :until_text",
        },
        needs=_RECEIPT_SESSION,
        summary=(STAGE_SUMMARY, STAGE_SUMMARY_ORDER),
    ),
    "sessions": Listing(
        table="workflow_sessions",
        columns=(
            *("start_time", "session_id", "status", "agent_count", "total_duration_ms"),
            *("successful_operations", "failed_operations", "unknown_durations", "end_time", "id"),
        ),
        kept=(
            *("start_time", "session_id", "status", "total_duration_ms"),
            *("successful_operations", "failed_operations"),
        ),
        time="start_time",
        text=("session_id", "context_json"),
        conditions={"status": "status = :status", "session": "session_id = :session"},
        choices={"status": {"running": "running", **_same(SessionEndStatus)}},
        paths={"status": "SELECT id FROM workflow_sessions WHERE status = :status"},
    ),
    "collisions": Listing(
        table="collision_detection",
        columns=(
            *("timestamp", "severity", "collision_type", "agent_id_1", "agent_id_2"),
            *("description", "resolution", "session_id", "id"),
        ),
        kept=(
            *("timestamp", "severity", "collision_type", "agent_id_1", "agent_id_2"),
            *("description", "resolution"),
        ),
        time="timestamp",
        text=("description", "resolution"),
        conditions={
            "agent": ":agent IN (agent_id_1, agent_id_2)",
            "session": "session_id = :session",
            "severity": "severity = :severity",
            "type": "collision_type = :type",
        },
        choices={"severity": _same(Severity), "type": _same(CollisionType)},
        paths={
            "session": "SELECT id FROM collision_detection WHERE session_id = :session",
            "severity": "SELECT id FROM collision_detection WHERE severity = :severity",
        },
    ),
    "violations": Listing(
        table="slo_violations",
        columns=(
            *("timestamp", "severity", "metric", "actual_value", "target_value", "execution_id"),
            *("description", "id"),
        ),
        kept=(
            *("timestamp", "severity", "metric", "actual_value", "target_value", "execution_id"),
            "description",
        ),
        time="timestamp",
        text=("metric", "description"),
        conditions={
            "agent": VIOLATIONS_OF_AGENT,
            "session": VIOLATIONS_OF_SESSION,
            "severity": "severity = :severity",
            "execution": BEGINS_WITH_EXECUTION,
        },
        choices={"severity": _same(ViolationSeverity)},
        paths={
            "execution": f"SELECT id FROM slo_violations WHERE {BEGINS_WITH_EXECUTION}",  # noqa: S608 - constants
            "severity": "SELECT id FROM slo_violations WHERE severity = :severity",
        },
        needs=_RECEIPT_SESSION,
    ),
    "audit": Listing(
        table="audit_log",
        columns=(
            *("timestamp", "agent_id", "status", "operation", "duration_ms", "error_message"),
            *("execution_id", "session_id", "id"),
        ),
        kept=("timestamp", "agent_id", "status", "operation", "duration_ms", "error_message"),
        time="timestamp",
        text=("operation", "error_message", "context_json"),
        conditions={
            "agent": "agent_id = :agent",
            "status": "status = :status",
            "operation": "operation = :operation",
            "execution": BEGINS_WITH_EXECUTION,
            "session": "session_id = :session",
        },
        choices={"status": _same(AuditStatus)},
        paths={
            "execution": f"SELECT id FROM audit_log WHERE {BEGINS_WITH_EXECUTION}",  # noqa: S608 - constants
            "agent": "SELECT id FROM audit_log WHERE agent_id = :agent "
            "AND timestamp >= :since_text AND timestamp < :until_text",
            "time": "SELECT id FROM audit_log "
            "WHERE timestamp >= :since_text AND timestamp < :until_text",
            "status": "SELECT id FROM audit_log WHERE status = :status",
        },
        needs={
            "execution": ("audit_log", "execution_id"),
            "session": ("audit_log", "session_id"),
        },
    ),
    "memory": Listing(
        table="agent_memory",
        columns=(
            *("agent_id", "updated_at", "retry_count", "last_error"),
            "LENGTH(CAST(memory_json AS BLOB)) AS memory_bytes",
            "id",
        ),
        kept=("agent_id", "updated_at", "last_error"),
        time="updated_at",
        text=("agent_id", "memory_json", "collision_history", "last_error"),
        conditions={"agent": "agent_id = :agent"},
    ),
}
