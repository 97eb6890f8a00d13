"""The contract suite fails on each of these damaged schemas, and names what is damaged.

The damages are edits of `schema/schema.sql`, one statement each.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import pytest

from contract.tier2.replica import Replica
from contract.tier2.suite import VERSIONS, differences
from ggend.database.check.run import verify
from ggend.database.findings import Verdict
from ggend.database.readonly import open_readonly

pytestmark = pytest.mark.slow

_SCHEMA = (Path(__file__).parents[2] / "schema" / "schema.sql").read_text(encoding="utf-8")


class Damage(NamedTuple):
    """An edit: in the statement that makes `name`, `old` becomes `new`, once.

    `says` is what a message about it contains; `more` are further edits of the same statement.
    """

    what: str
    name: str
    old: str
    new: str
    says: str
    more: Mapping[str, str] = MappingProxyType({})


#: The whole statement.
_ALL = ""

_COLUMNS = (
    Damage("column lost", "receipts", "    error_message TEXT,\n", "", "receipts.error_message"),
    Damage("added column lost", "audit_log", ", session_id TEXT)", ")", "audit_log.session_id"),
    Damage("column renamed", "receipts", "manifest_hash", "manifest", "receipts.manifest_hash"),
    Damage(
        "columns swapped",
        "receipts",
        "files_generated INTEGER DEFAULT 0,\n    files_modified INTEGER",
        "files_modified INTEGER DEFAULT 0,\n    files_generated INTEGER",
        "column 10 is files_modified, the contract says files_generated",
    ),
    Damage(
        "created_at moved",
        "receipts",
        "created_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,\n    manifest_hash TEXT,",
        "manifest_hash TEXT,\n    created_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,",
        "column 7 is manifest_hash, the contract says created_at",
    ),
    Damage(
        "type",
        "receipts",
        "duration_ms INTEGER",
        "duration_ms TEXT",
        "receipts.duration_ms: type is TEXT, the contract says INTEGER",
    ),
    Damage("type REAL", "slo_violations", "target_value REAL", "target_value INTEGER", "REAL"),
    Damage("no type", "agent_memory", "last_error TEXT", "last_error", "agent_memory.last_error"),
    Damage("affinity", "audit_log", "timestamp TEXT", "timestamp NUMERIC", "audit_log.timestamp"),
    Damage(
        "NOT NULL lost", "receipts", "agent_id TEXT NOT NULL", "agent_id TEXT", "receipts.agent_id"
    ),
    Damage(
        "NOT NULL lost",
        "agent_memory",
        "memory_json TEXT NOT NULL",
        "memory_json TEXT",
        "agent_memory.memory_json: is nullable, the contract says NOT NULL",
    ),
    Damage(
        "NOT NULL gained",
        "receipts",
        "environment TEXT",
        "environment TEXT NOT NULL DEFAULT 'dev'",
        "receipts.environment: is NOT NULL",
    ),
    Damage(
        "NOT NULL gained",
        "audit_log",
        "duration_ms INTEGER",
        "duration_ms INTEGER NOT NULL",
        "audit_log.duration_ms",
    ),
    Damage(
        "default lost",
        "receipts",
        "files_modified INTEGER DEFAULT 0",
        "files_modified INTEGER",
        "receipts.files_modified: default is none, the contract says 0",
    ),
    Damage("default", "agent_memory", "DEFAULT 0", "DEFAULT 1", "agent_memory.retry_count"),
    Damage(
        "default gained",
        "pipeline_metrics",
        "input_size_bytes INTEGER",
        "input_size_bytes INTEGER DEFAULT 0",
        "pipeline_metrics.input_size_bytes",
    ),
    Damage(
        "default of created_at",
        "workflow_sessions",
        "DEFAULT CURRENT_TIMESTAMP",
        "DEFAULT CURRENT_DATE",
        "workflow_sessions.created_at",
    ),
    Damage(
        "created_at with fractions",
        "collision_detection",
        "DEFAULT CURRENT_TIMESTAMP",
        "DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ'))",
        "collision_detection.created_at",
    ),
    Damage(
        "a word for created_at",
        "slo_violations",
        "DEFAULT CURRENT_TIMESTAMP",
        "DEFAULT 'today'",
        "slo_violations.created_at: is 'today' if left out",
    ),
    Damage(
        "generated column",
        "receipts",
        "files_modified INTEGER DEFAULT 0",
        "files_modified INTEGER AS (files_generated) STORED",
        "receipts.files_modified",
    ),
    Damage(
        "an added column that is demanded",
        "receipts",
        ", session_id TEXT, ",
        ", session_id TEXT, tenant TEXT NOT NULL, ",
        "receipts.tenant",
    ),
    Damage(
        "collation",
        "receipts",
        "agent_id TEXT NOT NULL",
        "agent_id TEXT NOT NULL COLLATE NOCASE",
        "receipts.agent_id",
    ),
    Damage(
        "collation of a key",
        "workflow_sessions",
        "session_id TEXT NOT NULL UNIQUE",
        "session_id TEXT NOT NULL UNIQUE COLLATE RTRIM",
        "workflow_sessions.session_id",
    ),
)

_TABLES = (
    Damage("AUTOINCREMENT lost", "receipts", " AUTOINCREMENT", "", "AUTOINCREMENT"),
    Damage("AUTOINCREMENT lost", "audit_log", " AUTOINCREMENT", "", "audit_log.id"),
    Damage("INT key", "pipeline_metrics", "id INTEGER PRIMARY KEY AUTOINCREMENT",
           "id INT PRIMARY KEY NOT NULL", "pipeline_metrics.id"),
    Damage("table lost", "slo_breaches", _ALL, "", "slo_breaches: the table is missing"),
    Damage("own column lost", "producers", "    purged INTEGER NOT NULL DEFAULT 0,\n", "",
           "producers: columns are missing: purged"),
    Damage("not for rows", "audit_log", "PRIMARY KEY AUTOINCREMENT", "PRIMARY KEY",
           "audit_log: is WITHOUT ROWID", {");": ") WITHOUT ROWID;"}),
    Damage("strict", "pipeline_metrics", "TIMESTAMP NOT NULL", "TEXT NOT NULL",
           "pipeline_metrics: is STRICT", {");": ") STRICT;"}),
    Damage("own UNIQUE lost", "slo_breaches", "UNIQUE (metric, subject, severity)",
           "UNIQUE (metric, subject, severity, timestamp)", "slo_breaches"),
    Damage("deletes do nothing", "idx_slo_violations_severity", "CREATE INDEX",
           "CREATE TRIGGER keep BEFORE DELETE ON receipts "
           "BEGIN SELECT raise(IGNORE); END; CREATE INDEX", "receipts: DELETE of a row"),
)  # fmt: skip

_WORDS = (
    Damage("word lost", "receipts", "'emission',\n", "\n", "'emission' is refused"),
    Damage("word gained", "receipts", "'cancelled'", "'cancelled', 'skipped'", "receipts.status"),
    Damage("word gained", "audit_log", "'skipped'", "'skipped', 'aborted'", "'aborted'"),
    Damage("words in capitals", "workflow_sessions", "CHECK (status IN", "CHECK (lower(status) IN",
           "workflow_sessions.status: accepts 'RUNNING'"),
    Damage("word misspelt", "collision_detection", "'file_conflict'", "'files_conflict'",
           "collision_detection.collision_type"),
    Damage("word lost", "collision_detection", "'info', ", "", "collision_detection.severity"),
    Damage("micro sign", "pipeline_metrics", "\u03bc\u2081", "\u00b5\u2081",
           "pipeline_metrics.stage"),
    Damage("plain digit", "pipeline_metrics", "\u2083", "3", "pipeline_metrics.stage"),
    Damage("spaces cut", "pipeline_metrics", "(status IN", "(trim(status) IN",
           "pipeline_metrics.status"),
    Damage("word gained", "slo_violations", "'warning', ", "'info', 'warning', ", "'info'"),
)  # fmt: skip

#: Each of the nine without its CHECK.
_CHECKS_LOST = tuple(
    Damage("CHECK lost", table, f"CHECK ({column} IN", f"CHECK (1 OR {column} IN",
           f"{table}.{column}: accepts 'nonsense'")
    for table, column in (
        ("receipts", "operation"),
        ("receipts", "status"),
        ("audit_log", "status"),
        ("workflow_sessions", "status"),
        ("collision_detection", "collision_type"),
        ("collision_detection", "severity"),
        ("pipeline_metrics", "stage"),
        ("pipeline_metrics", "status"),
        ("slo_violations", "severity"),
    )
)  # fmt: skip

_KEYS = (
    Damage("UNIQUE lost", "receipts", "NOT NULL UNIQUE", "NOT NULL", "receipts.execution_id"),
    Damage("UNIQUE lost", "agent_memory", "NOT NULL UNIQUE", "NOT NULL", "agent_memory.agent_id"),
    Damage("UNIQUE lost", "workflow_sessions", "NOT NULL UNIQUE", "NOT NULL",
           "workflow_sessions.session_id: UNIQUE is missing"),
    Damage("UNIQUE gained", "slo_violations", "DEFAULT CURRENT_TIMESTAMP\n",
           "DEFAULT CURRENT_TIMESTAMP,\n    UNIQUE (execution_id, metric)\n",
           "slo_violations: is UNIQUE by (execution_id, metric)"),
    Damage("CHECK of JSON gained", "receipts", "receipt_json TEXT",
           "receipt_json TEXT CHECK (json_valid(receipt_json))", "receipts.receipt_json"),
    Damage("CHECK gained", "receipts", "environment TEXT",
           "environment TEXT CHECK (environment IN ('dev', 'staging', 'production'))",
           "receipts.environment"),
    Damage("foreign key lost", "collision_detection", " REFERENCES workflow_sessions (session_id)",
           "", "collision_detection.session_id: foreign key"),
    Damage("foreign key lost", "pipeline_metrics", " REFERENCES receipts (execution_id)", "",
           "pipeline_metrics.execution_id: foreign key"),
    Damage("foreign key elsewhere", "slo_violations", "REFERENCES receipts (execution_id)",
           "REFERENCES workflow_sessions (session_id)", "slo_violations.execution_id"),
    Damage("foreign key cascades", "pipeline_metrics", "REFERENCES receipts (execution_id)",
           "REFERENCES receipts (execution_id) ON DELETE CASCADE", "ON DELETE CASCADE"),
    Damage("foreign key waits", "slo_violations", "REFERENCES receipts (execution_id)",
           "REFERENCES receipts (execution_id) DEFERRABLE INITIALLY DEFERRED",
           "slo_violations.execution_id"),
    Damage("foreign key gained", "receipts", ", session_id TEXT, ",
           ", session_id TEXT REFERENCES workflow_sessions (session_id), ", "receipts.session_id"),
)  # fmt: skip

_INDEXES = (
    Damage("index lost", "idx_receipts_created_at", _ALL, "", "idx_receipts_created_at"),
    Damage("added index lost", "idx_receipts_session_id", _ALL, "", "receipts (session_id)"),
    Damage("index renamed", "idx_slo_violations_metric", "idx_slo_violations_metric", "idx_slo",
           "idx_slo_violations_metric: the index is missing"),
    Damage("index columns", "idx_collision_detection_agents", "agent_id_1, agent_id_2",
           "agent_id_2, agent_id_1", "idx_collision_detection_agents: columns are"),
    Damage("index column lost", "idx_audit_log_status", ", created_at DESC", "",
           "idx_audit_log_status"),
    Damage("index upwards", "idx_receipts_agent_timestamp", " DESC", "",
           "the contract says (agent_id, timestamp DESC)"),
    Damage("index of another table", "idx_pipeline_metrics_timestamp", "ON pipeline_metrics",
           "ON audit_log", "idx_pipeline_metrics_timestamp: is on audit_log"),
    Damage("index unique", "idx_slo_violations_execution_id", "CREATE INDEX",
           "CREATE UNIQUE INDEX", "slo_violations: is UNIQUE by (execution_id)"),
    Damage("index of some rows", "idx_receipts_status", "DESC)", "DESC) WHERE status = 'failed'",
           "idx_receipts_status: covers only"),
    Damage("index of all rows", "idx_audit_log_execution_id", " WHERE execution_id IS NOT NULL",
           "", "audit_log (execution_id)"),
    Damage("index of other rows", "idx_receipts_session_id", "IS NOT NULL", "IS NULL",
           "receipts (session_id)"),
    Damage("index collation", "idx_agent_memory_agent_id", "(agent_id)",
           "(agent_id COLLATE NOCASE)", "idx_agent_memory_agent_id"),
    Damage("index of an expression", "idx_pipeline_metrics_execution_id", "(execution_id)",
           "(lower(execution_id))", "idx_pipeline_metrics_execution_id"),
)  # fmt: skip

_VIEWS = (
    Damage("view lost", "agent_performance_summary", _ALL, "", "agent_performance_summary"),
    Damage("view is a table", "pipeline_stage_performance", "CREATE VIEW", "CREATE TABLE",
           "pipeline_stage_performance: the view is missing"),
    Damage("view column renamed", "recent_executions", "AS audit_entries", "AS audits",
           "recent_executions: column 9 is audits"),
    Damage("view columns swapped", "recent_executions", "r.agent_id,\n    r.operation",
           "r.operation,\n    r.agent_id", "recent_executions: column 2 is operation"),
    Damage("view columns mixed up", "recent_executions", "    r.files_generated,",
           "    r.files_modified AS files_generated,", "recent_executions.files_generated"),
    Damage("view shows 10", "recent_executions", "LIMIT 100", "LIMIT 10", "shows 10 rows"),
    Damage("view shows all", "recent_executions", " LIMIT 100", "", "shows 130 rows"),
    Damage("view by time", "recent_executions", "ORDER BY id DESC LIMIT",
           "ORDER BY timestamp DESC, id LIMIT", "recent_executions"),
    Damage("oldest first", "recent_executions", "ORDER BY r.id DESC;", "ORDER BY r.id;",
           "recent_executions: order"),
    Damage("no audit entries", "recent_executions", "a.execution_id = r.execution_id)",
           "a.execution_id = r.agent_id)", "recent_executions.audit_entries"),
    Damage("old audit entries lost", "recent_executions", "a.timestamp NOT LIKE '%T%'", "0",
           "recent_executions.audit_entries"),
    Damage("audit entries counted twice", "recent_executions", "AND a.execution_id IS NULL", "",
           "recent_executions.audit_entries"),
    Damage("a time that SQLite does not know", "recent_executions", "+%.3f seconds",
           "+%.3f milliseconds", "recent_executions.audit_entries"),
    Damage("violations of everybody", "recent_executions", "v.execution_id = r.execution_id",
           "v.id > 0", "recent_executions.slo_violations"),
    Damage("average of whole numbers", "agent_performance_summary",
           "ROUND(1.0 * SUM(duration_ms) / nullif(SUM(durations), 0), 2)",
           "ROUND(1.0 * SUM(duration_ms) / nullif(SUM(durations), 0))",
           "agent_performance_summary.avg_duration_ms"),
    Damage("average of integers", "pipeline_stage_performance",
           "ROUND(1.0 * SUM(duration_ms) / nullif(SUM(durations), 0), 2)",
           "SUM(duration_ms) / SUM(durations)", "pipeline_stage_performance.avg_duration_ms"),
    Damage("unknown durations averaged", "agent_performance_summary",
           "SUM(duration_ms) FILTER (WHERE duration_source IS NULL)", "SUM(duration_ms)",
           "agent_performance_summary.avg_duration_ms",
           {"COUNT(*) FILTER (WHERE duration_source IS NULL)": "COUNT(*)"}),
    Damage("an unknown duration is the smallest", "pipeline_stage_performance",
           "AND m.duration_ms <= 0 AND m.duration_source IS NULL", "AND m.duration_ms <= 0",
           "pipeline_stage_performance.min_duration_ms"),
    Damage("partial counted as failed", "agent_performance_summary", "WHERE status = 'failed'",
           "WHERE status <> 'passed'", "agent_performance_summary.failed_executions"),
    Damage("first for last", "agent_performance_summary", "MAX(r.timestamp)", "MIN(r.timestamp)",
           "agent_performance_summary.last_execution"),
    Damage("fewest first", "agent_performance_summary", "ORDER BY total_executions DESC",
           "ORDER BY total_executions", "agent_performance_summary: order"),
    Damage("by the maximum", "pipeline_stage_performance",
           "ORDER BY 1.0 * SUM(duration_ms) / nullif(SUM(durations), 0) DESC",
           "ORDER BY max_duration_ms DESC", "pipeline_stage_performance: order"),
    Damage("failed and passed", "pipeline_stage_performance", "'passed'", "'failed'",
           "pipeline_stage_performance.passed"),
    Damage("agents without files lost", "agent_performance_summary", "    WHERE id >",
           "    WHERE files_generated IS NOT NULL AND id >",
           "agent_performance_summary.total_executions"),
)  # fmt: skip

_DAMAGES = _COLUMNS + _TABLES + _WORDS + _CHECKS_LOST + _KEYS + _INDEXES + _VIEWS


def _statement(name: str) -> str:
    """Return the statement of the schema that makes this, up to its end."""
    found = re.search(rf"^CREATE [A-Z ]+ {name}\b.*?;$", _SCHEMA, re.MULTILINE | re.DOTALL)
    assert found is not None, f"schema.sql does not make {name}"
    return found[0]


def _damaged(damage: Damage) -> str:
    statement = edited = _statement(damage.name)
    for old, new in {damage.old or statement: damage.new, **damage.more}.items():
        assert old in edited, f"schema.sql has changed: {old!r} is not in {damage.name}"
        edited = edited.replace(old, new, 1)
    assert edited != statement
    return _SCHEMA.replace(statement, edited)


def _read_until(script: str, says: str) -> list[str]:
    """Return the differences as far as the one that says this."""
    found = []
    with closing(Replica.from_sql(script)) as replica:
        for line in differences(replica, VERSIONS[-1]):
            found.append(line)
            if says in line:
                break
    return found


def test_the_schema_itself_has_no_difference() -> None:
    with closing(Replica.from_sql(_SCHEMA)) as replica:
        assert list(differences(replica, VERSIONS[-1])) == []


def _name(damage: Damage) -> str:
    return f"{damage.name}-{damage.what}"


@pytest.mark.parametrize("damage", _DAMAGES, ids=_name)
def test_a_damage_is_found_and_named(damage: Damage) -> None:
    found = _read_until(_damaged(damage), damage.says)
    assert found, "no check fails"
    assert damage.says in found[-1], found


#: What `ggend check` does not look for: it tries a few wrong words where the suite tries many, and
#: inserts no rows to see what triggers and deferred keys do.
_BEYOND_CHECK = {
    "idx_slo_violations_severity-deletes do nothing",
    "receipts-CHECK gained",
    "slo_violations-foreign key waits",
}

#: What somebody added, so that `ggend check` warns of it and does not fail.
_WARNED_OF = {"receipts-an added column that is demanded": "receipts.tenant"}


@pytest.mark.parametrize(
    "damage", [one for one in _DAMAGES if _name(one) not in _BEYOND_CHECK], ids=_name
)
def test_ggend_check_finds_the_damage_too(damage: Damage, tmp_path: Path) -> None:
    path = tmp_path / "damaged.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("PRAGMA synchronous = OFF;" + _damaged(damage))
    with closing(open_readonly(path)) as connection:
        findings = list(verify(connection, lambda _: None, pages=False))
    warned_of = _WARNED_OF.get(_name(damage))
    assert [
        one
        for one in findings
        if one.verdict is Verdict.FAILED
        or (one.verdict is Verdict.WARNING and warned_of is not None and warned_of in one.detail)
    ], findings
