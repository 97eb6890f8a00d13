"""Version 1: tier 2 databases of version 1.0.0, as the programs before ggend made them.

Written from the data contract, not from ggend's migrations: its own notation, the old views (whose
audit count is always 0), `user_version` 0, and, unless told otherwise, what such databases held:
orphans from writers with foreign keys off, timestamps in several notations, the same violation
twice.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

__all__ = ["SCHEMA", "TABLES", "VIEWS", "make_version_1"]

TABLES = (
    "receipts",
    "agent_memory",
    "audit_log",
    "workflow_sessions",
    "collision_detection",
    "pipeline_metrics",
    "slo_violations",
)
VIEWS = ("recent_executions", "agent_performance_summary", "pipeline_stage_performance")

_STAGES = ("μ₁_normalize", "μ₂_extract", "μ₃_emit", "μ₄_canonicalize", "μ₅_receipt")
_OPERATIONS = ("validation", "generation", "extraction", "emission", "dry_run")
_STATUSES = ("passed", "passed", "failed", "partial", "cancelled")

#: A day in January 2026, second by second.
_DAY = "2026-01-29"


def make_version_1(
    path: Path, *, executions: int = 50, wal: bool = True, odd: bool = True, first: int = 0
) -> None:
    """Make a database of version 1.0.0 with the rows of this many executions.

    `odd` adds what only writers without rules leave behind; `first` numbers the executions, so that
    two databases can overlap.
    """
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA journal_mode = {'WAL' if wal else 'DELETE'}").fetchall()
        connection.executescript(SCHEMA)
        connection.execute("BEGIN")
        _fill(connection, range(first, first + executions))
        connection.execute("COMMIT")
        if odd:
            _add_oddities(connection)


def _moment(number: int) -> str:
    """A timestamp in one of the notations that are found."""
    seconds, milliseconds = divmod(number * 750, 1000)
    clock = f"{seconds // 3600 % 24:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return (
        f"{_DAY}T{clock}.{milliseconds:03}Z",
        f"{_DAY}T{clock}Z",
        f"{_DAY} {clock}",
        f"{_DAY}T{clock}.{milliseconds:03}+00:00",
    )[number % 4]


def _fill(connection: sqlite3.Connection, numbers: range) -> None:
    sessions = sorted({number // 10 for number in numbers})
    connection.executemany(
        "INSERT INTO workflow_sessions (session_id, start_time, end_time, status, agent_count, "
        "total_duration_ms, successful_operations, failed_operations, context_json) "
        "VALUES (?, ?, ?, ?, 8, ?, 7, 1, ?)",
        [
            (f"session-{n}", _moment(n * 10), None, "running", None, '{"host": "old"}')
            if n == sessions[-1]
            else (f"session-{n}", _moment(n * 10), _moment(n * 10 + 9), "completed", 7500, None)
            for n in sessions
        ],
    )
    connection.executemany(
        "INSERT INTO receipts (execution_id, agent_id, operation, status, timestamp, "
        "manifest_hash, ontology_hash, files_generated, files_modified, duration_ms, "
        "receipt_json, error_message, environment) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                f"execution-{n:07}",
                f"agent-{n % 7}",
                _OPERATIONS[n % 5],
                _STATUSES[n % 5],
                _moment(n),
                f"{n:064x}",
                f"{n + 1:064x}",
                n % 11,
                None if n % 13 == 0 else n % 3,
                100 + n * 37 % 6000,
                None if n % 9 == 0 else f'{{ "n": {n}, "files": ["a.rs", "b.rs"] }}',
                "SHACL: sh:minCount" if n % 5 == 2 else None,
                ("dev", "staging", "production", None)[n % 4],
            )
            for n in numbers
        ],
    )
    connection.executemany(
        "INSERT INTO pipeline_metrics (execution_id, stage, duration_ms, input_size_bytes, "
        "output_size_bytes, status, error_message, timestamp) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                f"execution-{n:07}",
                stage,
                20 + (n * 31 + k * 17) % 1200,
                n * 100,
                None if n % 8 == 0 else n * 90,
                "failed" if n % 5 == 2 and k == 4 else "passed",
                None,
                _moment(n),
            )
            for n in numbers
            for k, stage in enumerate(_STAGES)
        ],
    )
    connection.executemany(
        "INSERT INTO audit_log (timestamp, agent_id, operation, status, duration_ms, "
        "error_message, context_json) VALUES (?, ?, ?, ?, ?, ?, ?)",
        [
            (_moment(n), f"agent-{n % 7}", f"step {k}", "completed", k, None, f'{{"n":{n}}}')
            for n in numbers
            for k in range(3)
        ],
    )
    connection.executemany(
        "INSERT INTO collision_detection (session_id, agent_id_1, agent_id_2, collision_type, "
        "description, resolution, severity, timestamp) VALUES (?, 'agent-1', 'agent-2', "
        "'file_conflict', ?, NULL, 'warning', ?)",
        [(f"session-{n}", f"both write module {n}", _moment(n * 10 + 1)) for n in sessions],
    )
    connection.executemany(
        "INSERT INTO slo_violations (execution_id, metric, target_value, actual_value, severity, "
        "description, timestamp) VALUES (?, 'duration', 5000, ?, 'critical', 'slow', ?)",
        [(f"execution-{n:07}", 5000.0 + n, _moment(n)) for n in numbers if n % 10 == 0],
    )
    connection.executemany(
        "INSERT OR REPLACE INTO agent_memory (agent_id, memory_json, collision_history, "
        "retry_count, updated_at) VALUES (?, ?, ?, ?, ?)",
        [
            (f"agent-{n % 7}", f'{{"seen": {n}}}', "[]", n % 3, f"{_DAY} 12:00:{n % 60:02}")
            for n in numbers[-7:]
        ],
    )


def _add_oddities(connection: sqlite3.Connection) -> None:
    """Orphans, repeated violations, and timestamps that are none: foreign keys were off."""
    connection.executescript(
        """
        INSERT INTO pipeline_metrics (execution_id, stage, duration_ms, status, timestamp)
        VALUES ('nowhere', 'μ₃_emit', 5, 'passed', '2026-01-29T00:00:00Z'),
               ('nowhere', 'μ₅_receipt', 7, 'failed', 'yesterday');
        INSERT INTO collision_detection (session_id, agent_id_1, agent_id_2, collision_type,
            description, severity, timestamp)
        VALUES ('no-session', 'a', 'b', 'semantic_overlap', 'lost its session', 'info',
                '2026-01-29 00:00:00');
        INSERT INTO slo_violations (execution_id, metric, target_value, actual_value, severity,
            timestamp)
        VALUES ('nowhere', 'duration', 1, 2, 'warning', '2026-01-29T00:00:00Z'),
               ('nowhere', 'duration', 1, 2, 'warning', '2026-01-29T00:00:00Z'),
               ('nowhere', 'duration', 1, 3, 'critical', '2026-01-29T00:00:00Z');
        INSERT INTO audit_log (timestamp, agent_id, operation, status, context_json)
        VALUES ('', 'agent-1', 'no time', 'skipped', 'not json'),
               ('2026-01-29 00:00:00.25', 'agent-1', 'space and fraction', 'started', NULL);
        INSERT INTO audit_log (id, timestamp, agent_id, operation, status)
        SELECT max(id) + 1000, '2026-01-29T00:00:00+02:00', 'agent-2', 'a gap', 'completed'
        FROM audit_log;
        """
    )


SCHEMA = """
CREATE TABLE IF NOT EXISTS receipts (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    execution_id TEXT UNIQUE NOT NULL,
    agent_id TEXT NOT NULL,
    operation TEXT NOT NULL CHECK(operation IN ('validation', 'generation', 'normalization',
        'extraction', 'emission', 'canonicalization', 'receipt', 'dry_run', 'watch')),
    status TEXT NOT NULL CHECK(status IN ('passed', 'failed', 'partial', 'cancelled')),
    timestamp TEXT NOT NULL,
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP NOT NULL,
    manifest_hash TEXT,
    ontology_hash TEXT,
    files_generated INTEGER DEFAULT 0,
    files_modified INTEGER DEFAULT 0,
    duration_ms INTEGER NOT NULL,
    receipt_json TEXT, -- JSON
    error_message TEXT,
    environment TEXT
);

CREATE TABLE IF NOT EXISTS agent_memory (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    agent_id TEXT UNIQUE NOT NULL,
    memory_json TEXT NOT NULL,
    collision_history TEXT,
    retry_count INTEGER DEFAULT 0,
    last_error TEXT,
    updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP NOT NULL,
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP NOT NULL
);

CREATE TABLE IF NOT EXISTS audit_log (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    timestamp TEXT NOT NULL,
    agent_id TEXT NOT NULL,
    operation TEXT NOT NULL,
    status TEXT NOT NULL CHECK(status IN ('started', 'completed', 'failed', 'skipped')),
    duration_ms INTEGER,
    error_message TEXT,
    context_json TEXT,
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP NOT NULL
);

CREATE TABLE IF NOT EXISTS workflow_sessions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    session_id TEXT UNIQUE NOT NULL,
    start_time TIMESTAMP NOT NULL,
    end_time TIMESTAMP,
    status TEXT NOT NULL CHECK(status IN ('running', 'completed', 'failed', 'cancelled')),
    agent_count INTEGER NOT NULL,
    total_duration_ms INTEGER,
    successful_operations INTEGER DEFAULT 0,
    failed_operations INTEGER DEFAULT 0,
    context_json TEXT,
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP NOT NULL
);

CREATE TABLE IF NOT EXISTS collision_detection (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    session_id TEXT NOT NULL,
    agent_id_1 TEXT NOT NULL,
    agent_id_2 TEXT NOT NULL,
    collision_type TEXT NOT NULL CHECK(collision_type IN ('file_conflict', 'memory_conflict',
        'semantic_overlap', 'structural_overlap')),
    description TEXT NOT NULL,
    resolution TEXT,
    severity TEXT NOT NULL CHECK(severity IN ('info', 'warning', 'critical')),
    timestamp TEXT NOT NULL,
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP NOT NULL,
    FOREIGN KEY (session_id) REFERENCES workflow_sessions(session_id)
);

CREATE TABLE IF NOT EXISTS pipeline_metrics (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    execution_id TEXT NOT NULL,
    stage TEXT NOT NULL CHECK(stage IN ('μ₁_normalize', 'μ₂_extract', 'μ₃_emit',
        'μ₄_canonicalize', 'μ₅_receipt')),
    duration_ms INTEGER NOT NULL,
    input_size_bytes INTEGER,
    output_size_bytes INTEGER,
    status TEXT NOT NULL CHECK(status IN ('passed', 'failed')),
    error_message TEXT,
    timestamp TEXT NOT NULL,
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP NOT NULL,
    FOREIGN KEY (execution_id) REFERENCES receipts(execution_id)
);

CREATE TABLE IF NOT EXISTS slo_violations (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    execution_id TEXT NOT NULL,
    metric TEXT NOT NULL,
    target_value REAL NOT NULL,
    actual_value REAL NOT NULL,
    severity TEXT NOT NULL CHECK(severity IN ('warning', 'critical')),
    description TEXT,
    timestamp TEXT NOT NULL,
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP NOT NULL,
    FOREIGN KEY (execution_id) REFERENCES receipts(execution_id)
);

CREATE INDEX IF NOT EXISTS idx_receipts_agent_timestamp ON receipts(agent_id, timestamp DESC);
CREATE INDEX IF NOT EXISTS idx_receipts_execution_id ON receipts(execution_id);
CREATE INDEX IF NOT EXISTS idx_receipts_status ON receipts(status, created_at DESC);
CREATE INDEX IF NOT EXISTS idx_receipts_created_at ON receipts(created_at DESC);
CREATE INDEX IF NOT EXISTS idx_agent_memory_agent_id ON agent_memory(agent_id);
CREATE INDEX IF NOT EXISTS idx_agent_memory_updated_at ON agent_memory(updated_at DESC);
CREATE INDEX IF NOT EXISTS idx_audit_log_timestamp ON audit_log(timestamp DESC);
CREATE INDEX IF NOT EXISTS idx_audit_log_agent_id ON audit_log(agent_id, timestamp DESC);
CREATE INDEX IF NOT EXISTS idx_audit_log_status ON audit_log(status, created_at DESC);
CREATE INDEX IF NOT EXISTS idx_workflow_sessions_session_id ON workflow_sessions(session_id);
CREATE INDEX IF NOT EXISTS idx_workflow_sessions_status
    ON workflow_sessions(status, created_at DESC);
CREATE INDEX IF NOT EXISTS idx_workflow_sessions_created_at
    ON workflow_sessions(created_at DESC);
CREATE INDEX IF NOT EXISTS idx_collision_detection_session_id
    ON collision_detection(session_id, timestamp DESC);
CREATE INDEX IF NOT EXISTS idx_collision_detection_agents
    ON collision_detection(agent_id_1, agent_id_2);
CREATE INDEX IF NOT EXISTS idx_collision_detection_severity
    ON collision_detection(severity, created_at DESC);
CREATE INDEX IF NOT EXISTS idx_pipeline_metrics_execution_id ON pipeline_metrics(execution_id);
CREATE INDEX IF NOT EXISTS idx_pipeline_metrics_stage
    ON pipeline_metrics(stage, duration_ms DESC);
CREATE INDEX IF NOT EXISTS idx_pipeline_metrics_timestamp ON pipeline_metrics(timestamp DESC);
CREATE INDEX IF NOT EXISTS idx_slo_violations_execution_id ON slo_violations(execution_id);
CREATE INDEX IF NOT EXISTS idx_slo_violations_metric ON slo_violations(metric, created_at DESC);
CREATE INDEX IF NOT EXISTS idx_slo_violations_severity
    ON slo_violations(severity, created_at DESC);

CREATE VIEW IF NOT EXISTS recent_executions AS
SELECT r.execution_id, r.agent_id, r.operation, r.status, r.timestamp, r.files_generated,
       r.files_modified, r.duration_ms,
       (SELECT COUNT(*) FROM audit_log a
        WHERE a.agent_id = r.agent_id
          AND a.timestamp BETWEEN r.timestamp
              AND datetime(r.timestamp, '+' || r.duration_ms || ' milliseconds'))
           AS audit_entries,
       (SELECT COUNT(*) FROM slo_violations s WHERE s.execution_id = r.execution_id)
           AS slo_violations
FROM receipts r
ORDER BY r.id DESC
LIMIT 100;

CREATE VIEW IF NOT EXISTS agent_performance_summary AS
SELECT agent_id,
       COUNT(*) AS total_executions,
       SUM(CASE WHEN status = 'passed' THEN 1 ELSE 0 END) AS successful_executions,
       SUM(CASE WHEN status = 'failed' THEN 1 ELSE 0 END) AS failed_executions,
       ROUND(AVG(duration_ms), 2) AS avg_duration_ms,
       MIN(duration_ms) AS min_duration_ms,
       MAX(duration_ms) AS max_duration_ms,
       SUM(files_generated) AS total_files_generated,
       MAX(timestamp) AS last_execution
FROM receipts
GROUP BY agent_id
ORDER BY total_executions DESC;

CREATE VIEW IF NOT EXISTS pipeline_stage_performance AS
SELECT stage,
       COUNT(*) AS executions,
       ROUND(AVG(duration_ms), 2) AS avg_duration_ms,
       MIN(duration_ms) AS min_duration_ms,
       MAX(duration_ms) AS max_duration_ms,
       SUM(CASE WHEN status = 'passed' THEN 1 ELSE 0 END) AS passed,
       SUM(CASE WHEN status = 'failed' THEN 1 ELSE 0 END) AS failed
FROM pipeline_metrics
GROUP BY stage
ORDER BY avg_duration_ms DESC;
"""
