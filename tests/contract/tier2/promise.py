"""Promise: the data contract as values: tables, columns, words, keys, indexes and views.

Nothing here is read from a program or a database.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = [
    "FOREIGN_KEYS",
    "INDEXES",
    "OWN_TABLES",
    "TABLES",
    "UNIQUE",
    "VIEWS",
    "WORDS",
]


class Column(NamedTuple):
    """One column of a table. `added` are those that version 1.0.0 did not have."""

    name: str
    type: str
    not_null: bool
    default: str | None
    added: bool


class Index(NamedTuple):
    """One index. `name` is None where the contract names only the columns."""

    table: str
    name: str | None
    columns: tuple[str, ...]
    where: str | None = None


class ForeignKey(NamedTuple):
    """One reference from a column to another table's column."""

    table: str
    column: str
    parent: str
    parent_column: str


def _columns(text: str) -> tuple[Column, ...]:
    columns = []
    for line in text.strip().splitlines():
        added = line.strip().startswith("+ ")
        name, kind, *rest = line.removeprefix("+ ").split()
        words = " ".join(rest)
        default = words.partition("DEFAULT ")[2] or None
        columns.append(Column(name, kind, "NOT NULL" in words, default, added))
    return tuple(columns)


#: `id` comes first and is INTEGER PRIMARY KEY AUTOINCREMENT in each; the lines that begin with a
#: plus sign are what ggend added.
TABLES: dict[str, tuple[Column, ...]] = {
    "receipts": _columns("""
execution_id TEXT NOT NULL
agent_id TEXT NOT NULL
operation TEXT NOT NULL
status TEXT NOT NULL
timestamp TEXT NOT NULL
created_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP
manifest_hash TEXT
ontology_hash TEXT
files_generated INTEGER DEFAULT 0
files_modified INTEGER DEFAULT 0
duration_ms INTEGER NOT NULL
receipt_json TEXT
error_message TEXT
environment TEXT
+ session_id TEXT
+ duration_source TEXT
"""),
    "agent_memory": _columns("""
agent_id TEXT NOT NULL
memory_json TEXT NOT NULL
collision_history TEXT
retry_count INTEGER DEFAULT 0
last_error TEXT
updated_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP
created_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP
"""),
    "audit_log": _columns("""
timestamp TEXT NOT NULL
agent_id TEXT NOT NULL
operation TEXT NOT NULL
status TEXT NOT NULL
duration_ms INTEGER
error_message TEXT
context_json TEXT
created_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP
+ execution_id TEXT
+ session_id TEXT
"""),
    "workflow_sessions": _columns("""
session_id TEXT NOT NULL
start_time TIMESTAMP NOT NULL
end_time TIMESTAMP
status TEXT NOT NULL
agent_count INTEGER NOT NULL
total_duration_ms INTEGER
successful_operations INTEGER DEFAULT 0
failed_operations INTEGER DEFAULT 0
context_json TEXT
created_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP
"""),
    "collision_detection": _columns("""
session_id TEXT NOT NULL
agent_id_1 TEXT NOT NULL
agent_id_2 TEXT NOT NULL
collision_type TEXT NOT NULL
description TEXT NOT NULL
resolution TEXT
severity TEXT NOT NULL
timestamp TEXT NOT NULL
created_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP
"""),
    "pipeline_metrics": _columns("""
execution_id TEXT NOT NULL
stage TEXT NOT NULL
duration_ms INTEGER NOT NULL
input_size_bytes INTEGER
output_size_bytes INTEGER
status TEXT NOT NULL
error_message TEXT
timestamp TEXT NOT NULL
created_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP
+ duration_source TEXT
"""),
    "slo_violations": _columns("""
execution_id TEXT NOT NULL
metric TEXT NOT NULL
target_value REAL NOT NULL
actual_value REAL NOT NULL
severity TEXT NOT NULL
description TEXT
timestamp TEXT NOT NULL
created_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP
"""),
}

#: The nine enumerations.
WORDS: dict[tuple[str, str], tuple[str, ...]] = {
    ("receipts", "operation"): (
        "validation",
        "generation",
        "normalization",
        "extraction",
        "emission",
        "canonicalization",
        "receipt",
        "dry_run",
        "watch",
    ),
    ("receipts", "status"): ("passed", "failed", "partial", "cancelled"),
    ("audit_log", "status"): ("started", "completed", "failed", "skipped"),
    ("workflow_sessions", "status"): ("running", "completed", "failed", "cancelled"),
    ("collision_detection", "collision_type"): (
        "file_conflict",
        "memory_conflict",
        "semantic_overlap",
        "structural_overlap",
    ),
    ("collision_detection", "severity"): ("info", "warning", "critical"),
    # Greek mu (U+03BC) and subscript digits (U+2081 to U+2085), spelled out on purpose.
    ("pipeline_metrics", "stage"): (
        "\u03bc\u2081_normalize",
        "\u03bc\u2082_extract",
        "\u03bc\u2083_emit",
        "\u03bc\u2084_canonicalize",
        "\u03bc\u2085_receipt",
    ),
    ("pipeline_metrics", "status"): ("passed", "failed"),
    ("slo_violations", "severity"): ("warning", "critical"),
}

UNIQUE = {
    ("receipts", "execution_id"),
    ("agent_memory", "agent_id"),
    ("workflow_sessions", "session_id"),
}

FOREIGN_KEYS = (
    ForeignKey("collision_detection", "session_id", "workflow_sessions", "session_id"),
    ForeignKey("pipeline_metrics", "execution_id", "receipts", "execution_id"),
    ForeignKey("slo_violations", "execution_id", "receipts", "execution_id"),
)


def _indexes(text: str) -> tuple[Index, ...]:
    indexes = []
    for line in text.strip().splitlines():
        table, name, columns = line.split(maxsplit=2)
        columns, _, where = columns.strip("(").partition(")")
        indexes.append(
            Index(
                table,
                None if name == "-" else f"idx_{table}_{name}",
                tuple(columns.split(", ")),
                where.removeprefix(" WHERE ") or None,
            )
        )
    return tuple(indexes)


#: The names are `idx_<table>_<what>`. The last two are added, and their names are ggend's own.
INDEXES = _indexes("""
receipts agent_timestamp (agent_id, timestamp DESC)
receipts execution_id (execution_id)
receipts status (status, created_at DESC)
receipts created_at (created_at DESC)
agent_memory agent_id (agent_id)
agent_memory updated_at (updated_at DESC)
audit_log timestamp (timestamp DESC)
audit_log agent_id (agent_id, timestamp DESC)
audit_log status (status, created_at DESC)
workflow_sessions session_id (session_id)
workflow_sessions status (status, created_at DESC)
workflow_sessions created_at (created_at DESC)
collision_detection session_id (session_id, timestamp DESC)
collision_detection agents (agent_id_1, agent_id_2)
collision_detection severity (severity, created_at DESC)
pipeline_metrics execution_id (execution_id)
pipeline_metrics stage (stage, duration_ms DESC)
pipeline_metrics timestamp (timestamp DESC)
slo_violations execution_id (execution_id)
slo_violations metric (metric, created_at DESC)
slo_violations severity (severity, created_at DESC)
receipts - (session_id) WHERE session_id IS NOT NULL
audit_log - (execution_id) WHERE execution_id IS NOT NULL
""")

VIEWS: dict[str, tuple[str, ...]] = {
    "recent_executions": (
        "execution_id",
        "agent_id",
        "operation",
        "status",
        "timestamp",
        "files_generated",
        "files_modified",
        "duration_ms",
        "audit_entries",
        "slo_violations",
    ),
    "agent_performance_summary": (
        "agent_id",
        "total_executions",
        "successful_executions",
        "failed_executions",
        "avg_duration_ms",
        "min_duration_ms",
        "max_duration_ms",
        "total_files_generated",
        "last_execution",
    ),
    "pipeline_stage_performance": (
        "stage",
        "executions",
        "avg_duration_ms",
        "min_duration_ms",
        "max_duration_ms",
        "passed",
        "failed",
    ),
}

#: ggend's own tables, and the columns that people and scripts read in them.
OWN_TABLES: dict[str, tuple[str, ...]] = {
    "producers": (
        "last_sequence",
        "stored",
        "duplicate",
        "superseded",
        "parked",
        "rejected",
        "lost",
        "purged",
    ),
    "parked_events": ("parent", "parent_id", "events"),
    "rejected_events": ("id", "received_at", "code", "message", "event"),
    "slo_breaches": (
        "id",
        "metric",
        "subject",
        "severity",
        "target_value",
        "actual_value",
        "description",
        "execution_id",
        "session_id",
        "timestamp",
    ),
    "hook_watermarks": ("hook", "source", "row_id"),
    "memory_order": ("agent_id", "timestamp_us", "producer", "sequence"),
    "session_ends": ("session_id", "duration_given", "successful_given", "failed_given"),
    "database_identity": ("id",),
}
