-- The seven tables of tier 2 as version 1.0.0 created them. A public interface: names, types,
-- constraints and defaults are never changed, only added to.

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
);
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
);
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
