-- The schema of a tier-2 database, version 2. Generated from the migrations in
-- ggend_schema/sql by `python schema/build.py`; do not edit.

PRAGMA journal_mode = WAL;
PRAGMA foreign_keys = ON;
BEGIN;

CREATE TABLE receipts (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    execution_id TEXT NOT NULL UNIQUE,
    agent_id TEXT NOT NULL,
    operation TEXT NOT NULL CHECK (operation IN (
        'validation', 'generation', 'normalization', 'extraction', 'emission',
        'canonicalization', 'receipt', 'dry_run', 'watch')),
    status TEXT NOT NULL CHECK (status IN ('passed', 'failed', 'partial', 'cancelled')),
    timestamp TEXT NOT NULL,
    created_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    manifest_hash TEXT,
    ontology_hash TEXT,
    files_generated INTEGER DEFAULT 0,
    files_modified INTEGER DEFAULT 0,
    duration_ms INTEGER NOT NULL,
    receipt_json TEXT,
    error_message TEXT,
    environment TEXT
, session_id TEXT);

CREATE INDEX idx_receipts_agent_timestamp ON receipts (agent_id, timestamp DESC);

CREATE INDEX idx_receipts_execution_id ON receipts (execution_id);

CREATE INDEX idx_receipts_status ON receipts (status, created_at DESC);

CREATE INDEX idx_receipts_created_at ON receipts (created_at DESC);

CREATE TABLE agent_memory (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    agent_id TEXT NOT NULL UNIQUE,
    memory_json TEXT NOT NULL,
    collision_history TEXT,
    retry_count INTEGER DEFAULT 0,
    last_error TEXT,
    updated_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    created_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP
);

CREATE INDEX idx_agent_memory_agent_id ON agent_memory (agent_id);

CREATE INDEX idx_agent_memory_updated_at ON agent_memory (updated_at DESC);

CREATE TABLE audit_log (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    timestamp TEXT NOT NULL,
    agent_id TEXT NOT NULL,
    operation TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('started', 'completed', 'failed', 'skipped')),
    duration_ms INTEGER,
    error_message TEXT,
    context_json TEXT,
    created_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP
, execution_id TEXT, session_id TEXT);

CREATE INDEX idx_audit_log_timestamp ON audit_log (timestamp DESC);

CREATE INDEX idx_audit_log_agent_id ON audit_log (agent_id, timestamp DESC);

CREATE INDEX idx_audit_log_status ON audit_log (status, created_at DESC);

CREATE TABLE workflow_sessions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    session_id TEXT NOT NULL UNIQUE,
    start_time TIMESTAMP NOT NULL,
    end_time TIMESTAMP,
    status TEXT NOT NULL CHECK (status IN ('running', 'completed', 'failed', 'cancelled')),
    agent_count INTEGER NOT NULL,
    total_duration_ms INTEGER,
    successful_operations INTEGER DEFAULT 0,
    failed_operations INTEGER DEFAULT 0,
    context_json TEXT,
    created_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP
);

CREATE INDEX idx_workflow_sessions_session_id ON workflow_sessions (session_id);

CREATE INDEX idx_workflow_sessions_status ON workflow_sessions (status, created_at DESC);

CREATE INDEX idx_workflow_sessions_created_at ON workflow_sessions (created_at DESC);

CREATE TABLE collision_detection (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    session_id TEXT NOT NULL REFERENCES workflow_sessions (session_id),
    agent_id_1 TEXT NOT NULL,
    agent_id_2 TEXT NOT NULL,
    collision_type TEXT NOT NULL CHECK (collision_type IN (
        'file_conflict', 'memory_conflict', 'semantic_overlap', 'structural_overlap')),
    description TEXT NOT NULL,
    resolution TEXT,
    severity TEXT NOT NULL CHECK (severity IN ('info', 'warning', 'critical')),
    timestamp TEXT NOT NULL,
    created_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP
);

CREATE INDEX idx_collision_detection_session_id ON collision_detection (session_id, timestamp DESC);

CREATE INDEX idx_collision_detection_agents ON collision_detection (agent_id_1, agent_id_2);

CREATE INDEX idx_collision_detection_severity ON collision_detection (severity, created_at DESC);

CREATE TABLE pipeline_metrics (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    execution_id TEXT NOT NULL REFERENCES receipts (execution_id),
    stage TEXT NOT NULL CHECK (stage IN (
        'μ₁_normalize', 'μ₂_extract', 'μ₃_emit', 'μ₄_canonicalize', 'μ₅_receipt')),
    duration_ms INTEGER NOT NULL,
    input_size_bytes INTEGER,
    output_size_bytes INTEGER,
    status TEXT NOT NULL CHECK (status IN ('passed', 'failed')),
    error_message TEXT,
    timestamp TEXT NOT NULL,
    created_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP
);

CREATE INDEX idx_pipeline_metrics_execution_id ON pipeline_metrics (execution_id);

CREATE INDEX idx_pipeline_metrics_stage ON pipeline_metrics (stage, duration_ms DESC);

CREATE INDEX idx_pipeline_metrics_timestamp ON pipeline_metrics (timestamp DESC);

CREATE TABLE slo_violations (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    execution_id TEXT NOT NULL REFERENCES receipts (execution_id),
    metric TEXT NOT NULL,
    target_value REAL NOT NULL,
    actual_value REAL NOT NULL,
    severity TEXT NOT NULL CHECK (severity IN ('warning', 'critical')),
    description TEXT,
    timestamp TEXT NOT NULL,
    created_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP
);

CREATE INDEX idx_slo_violations_execution_id ON slo_violations (execution_id);

CREATE INDEX idx_slo_violations_metric ON slo_violations (metric, created_at DESC);

CREATE INDEX idx_slo_violations_severity ON slo_violations (severity, created_at DESC);

CREATE INDEX idx_receipts_session_id ON receipts (session_id) WHERE session_id IS NOT NULL;

CREATE INDEX idx_audit_log_execution_id ON audit_log (execution_id) WHERE execution_id IS NOT NULL;

CREATE INDEX idx_audit_log_unattributed ON audit_log (agent_id, timestamp) WHERE execution_id IS NULL;

CREATE VIEW recent_executions AS
SELECT
    r.execution_id,
    r.agent_id,
    r.operation,
    r.status,
    r.timestamp,
    r.files_generated,
    r.files_modified,
    r.duration_ms,
    (SELECT COUNT(*) FROM audit_log AS a WHERE a.execution_id = r.execution_id)
    + (SELECT COUNT(*) FROM audit_log AS a
       WHERE a.agent_id = r.agent_id
         AND a.timestamp >= strftime('%Y-%m-%dT%H:%M:%S', r.timestamp)
         AND a.timestamp <= strftime('%Y-%m-%dT%H:%M:%S', r.timestamp,
                                     printf('+%.3f seconds', r.duration_ms / 1000.0)) || '~'
         AND a.execution_id IS NULL
         AND julianday(a.timestamp) BETWEEN julianday(r.timestamp)
             AND julianday(r.timestamp, printf('+%.3f seconds', r.duration_ms / 1000.0)))
    + (SELECT COUNT(*) FROM audit_log AS a
       WHERE a.agent_id = r.agent_id
         AND a.timestamp >= strftime('%Y-%m-%d %H:%M:%S', r.timestamp)
         AND a.timestamp <= strftime('%Y-%m-%d %H:%M:%S', r.timestamp,
                                     printf('+%.3f seconds', r.duration_ms / 1000.0)) || '~'
         AND a.timestamp NOT LIKE '%T%'
         AND a.execution_id IS NULL
         AND julianday(a.timestamp) BETWEEN julianday(r.timestamp)
             AND julianday(r.timestamp, printf('+%.3f seconds', r.duration_ms / 1000.0)))
        AS audit_entries,
    (SELECT COUNT(*) FROM slo_violations AS v WHERE v.execution_id = r.execution_id)
        AS slo_violations
FROM (SELECT * FROM receipts ORDER BY id DESC LIMIT 100) AS r
ORDER BY r.id DESC;

CREATE VIEW agent_performance_summary AS
SELECT
    agent_id,
    COUNT(*) AS total_executions,
    COUNT(*) FILTER (WHERE status = 'passed') AS successful_executions,
    COUNT(*) FILTER (WHERE status = 'failed') AS failed_executions,
    ROUND(AVG(duration_ms), 2) AS avg_duration_ms,
    MIN(duration_ms) AS min_duration_ms,
    MAX(duration_ms) AS max_duration_ms,
    SUM(files_generated) AS total_files_generated,
    MAX(timestamp) AS last_execution
FROM receipts
GROUP BY agent_id
ORDER BY total_executions DESC, agent_id;

CREATE VIEW pipeline_stage_performance AS
SELECT
    stage,
    COUNT(*) AS executions,
    ROUND(AVG(duration_ms), 2) AS avg_duration_ms,
    MIN(duration_ms) AS min_duration_ms,
    MAX(duration_ms) AS max_duration_ms,
    COUNT(*) FILTER (WHERE status = 'passed') AS passed,
    COUNT(*) FILTER (WHERE status = 'failed') AS failed
FROM pipeline_metrics
GROUP BY stage
ORDER BY AVG(duration_ms) DESC, stage;

CREATE TABLE producers (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL CHECK (kind IN ('producer', 'anonymous', 'folded')),
    producer BLOB UNIQUE CHECK (length(producer) = 16),
    uid INTEGER NOT NULL,
    gid INTEGER,
    pid INTEGER,
    client TEXT,
    permanent INTEGER NOT NULL DEFAULT 0,
    finished INTEGER NOT NULL DEFAULT 0,
    first_seen TEXT NOT NULL,
    last_seen TEXT NOT NULL,
    last_sequence INTEGER NOT NULL DEFAULT 0,
    stored INTEGER NOT NULL DEFAULT 0,
    duplicate INTEGER NOT NULL DEFAULT 0,
    superseded INTEGER NOT NULL DEFAULT 0,
    parked INTEGER NOT NULL DEFAULT 0,
    rejected INTEGER NOT NULL DEFAULT 0,
    lost INTEGER NOT NULL DEFAULT 0,
    replayed INTEGER NOT NULL DEFAULT 0,
    purged INTEGER NOT NULL DEFAULT 0,
    shed INTEGER NOT NULL DEFAULT 0,
    CHECK ((kind = 'producer') = (producer IS NOT NULL)),
    CHECK (last_sequence = stored + duplicate + superseded + parked + rejected + lost),
    CHECK (min(stored, duplicate, superseded, parked, rejected, lost) >= 0)
);

CREATE UNIQUE INDEX idx_producers_account ON producers (kind, uid) WHERE kind <> 'producer';

CREATE TABLE parked_events (
    parent_id TEXT NOT NULL,
    parent TEXT NOT NULL CHECK (parent IN ('receipt', 'session')),
    arrival_ns INTEGER NOT NULL,
    schema_version INTEGER NOT NULL,
    events INTEGER NOT NULL,
    payload BLOB NOT NULL,
    PRIMARY KEY (parent_id, parent, arrival_ns)
) WITHOUT ROWID;

CREATE TABLE rejected_events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    received_at TEXT NOT NULL,
    code TEXT NOT NULL,
    message TEXT NOT NULL,
    account_id INTEGER NOT NULL,
    producer BLOB,
    sequence INTEGER,
    uid INTEGER NOT NULL,
    client TEXT,
    schema_version INTEGER NOT NULL,
    encoding TEXT NOT NULL CHECK (encoding IN ('msgpack', 'json')),
    stamp_ns INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL,
    sha256 BLOB NOT NULL,
    event BLOB
);

CREATE TABLE slo_breaches (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    metric TEXT NOT NULL,
    subject TEXT NOT NULL,
    severity TEXT NOT NULL CHECK (severity IN ('warning', 'critical')),
    target_value REAL NOT NULL,
    actual_value REAL NOT NULL,
    description TEXT NOT NULL,
    execution_id TEXT,
    session_id TEXT,
    timestamp TEXT NOT NULL,
    created_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    UNIQUE (metric, subject, severity)
);

CREATE TABLE hook_watermarks (
    hook TEXT NOT NULL,
    source TEXT NOT NULL,
    row_id INTEGER NOT NULL,
    PRIMARY KEY (hook, source)
) WITHOUT ROWID;

CREATE TABLE memory_order (
    agent_id TEXT PRIMARY KEY,
    timestamp_us INTEGER NOT NULL,
    producer BLOB NOT NULL,
    sequence INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE session_ends (
    session_id TEXT PRIMARY KEY,
    duration_given INTEGER NOT NULL,
    successful_given INTEGER NOT NULL,
    failed_given INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE database_identity (
    id TEXT NOT NULL,
    created_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP
);

INSERT INTO database_identity (id) VALUES (lower(hex(randomblob(16))));

PRAGMA application_id = 1734831716;
PRAGMA user_version = 2;
COMMIT;
