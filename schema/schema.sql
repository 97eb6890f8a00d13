-- The schema of a tier-2 database, version 6. Generated from the migrations in
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
, session_id TEXT, duration_source TEXT);

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
, duration_source TEXT);

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
    shed INTEGER NOT NULL DEFAULT 0, seen_s INTEGER NOT NULL DEFAULT 0, source BLOB,
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
    payload BLOB NOT NULL, seen_s INTEGER NOT NULL DEFAULT 0,
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

CREATE TABLE agent_totals (
    agent_id TEXT PRIMARY KEY,
    executions INTEGER NOT NULL,
    passed INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    duration_ms INTEGER NOT NULL,
    files_known INTEGER NOT NULL, -- rows whose files_generated is not NULL
    files_generated INTEGER NOT NULL
, durations INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;

CREATE TABLE stage_totals (
    stage TEXT PRIMARY KEY,
    executions INTEGER NOT NULL,
    passed INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    duration_ms INTEGER NOT NULL
, durations INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;

CREATE TABLE duration_histograms (
    dimension TEXT NOT NULL, -- agent, operation: of receipts; stage: of pipeline_metrics
    name TEXT NOT NULL,
    day TEXT NOT NULL, -- the first ten characters of the timestamp
    from_ms INTEGER NOT NULL,
    durations INTEGER NOT NULL,
    PRIMARY KEY (dimension, name, day, from_ms)
) WITHOUT ROWID;

CREATE TABLE rollup_exceptions (
    source TEXT NOT NULL,
    row_id INTEGER NOT NULL,
    PRIMARY KEY (source, row_id)
) WITHOUT ROWID;

CREATE INDEX idx_receipts_agent_duration ON receipts (agent_id, duration_ms);

CREATE VIEW duration_removals (dimension, name, day, duration_ms) AS
SELECT NULL, NULL, NULL, NULL WHERE 0;

CREATE TRIGGER duration_removals_insert INSTEAD OF INSERT ON duration_removals
BEGIN
    UPDATE duration_histograms
    SET durations = durations - 1
    WHERE dimension = NEW.dimension
      AND name = NEW.name
      AND day = NEW.day
      AND from_ms = NEW.duration_ms - NEW.duration_ms % CASE
          WHEN NEW.duration_ms < 100 THEN 1
          ELSE CAST(substr('10000000000', 1, length(NEW.duration_ms) - 2) AS INTEGER)
               * CASE
                   WHEN substr(NEW.duration_ms, 1, 1) = '1' THEN 2
                   WHEN substr(NEW.duration_ms, 1, 1) < '5' THEN 5
                   ELSE 10
                 END
          END;
END;

CREATE TRIGGER duration_histograms_empty AFTER UPDATE ON duration_histograms
WHEN NEW.durations = 0
BEGIN
    DELETE FROM duration_histograms
    WHERE dimension = NEW.dimension
      AND name = NEW.name
      AND day = NEW.day
      AND from_ms = NEW.from_ms;
END;

CREATE TABLE seen_time (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    seen_s INTEGER NOT NULL,
    -- When that was saved, to tell a clock that was set: wall clock, boot, and time since the boot.
    wall_ns INTEGER NOT NULL,
    boot_id TEXT NOT NULL,
    boot_ns INTEGER NOT NULL
);

CREATE UNIQUE INDEX idx_producers_source ON producers (source, uid) WHERE source IS NOT NULL;

CREATE TABLE forgotten_producers (
    producer BLOB PRIMARY KEY CHECK (length(producer) = 16),
    uid INTEGER NOT NULL,
    account_id INTEGER NOT NULL,
    last_sequence INTEGER NOT NULL,
    duplicate INTEGER NOT NULL,
    superseded INTEGER NOT NULL,
    rejected INTEGER NOT NULL,
    lost INTEGER NOT NULL,
    seen_s INTEGER NOT NULL
) WITHOUT ROWID;

CREATE INDEX idx_forgotten_producers_seen ON forgotten_producers (seen_s);

CREATE INDEX idx_receipts_agent_zero ON receipts (agent_id, duration_ms)
WHERE duration_ms <= 0 AND duration_source IS NULL;

CREATE INDEX idx_pipeline_metrics_stage_zero ON pipeline_metrics (stage, duration_ms)
WHERE duration_ms <= 0 AND duration_source IS NULL;

CREATE VIEW receipt_removals (
    id, agent_id, operation, status, timestamp, duration_ms, duration_source, files_generated)
AS SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL WHERE 0;

CREATE TRIGGER receipt_removals_insert INSTEAD OF INSERT ON receipt_removals
WHEN NOT EXISTS (SELECT 1 FROM rollup_exceptions WHERE source = 'receipts' AND row_id = NEW.id)
BEGIN
    UPDATE agent_totals
    SET executions = executions - 1,
        passed = passed - (NEW.status = 'passed'),
        failed = failed - (NEW.status = 'failed'),
        durations = durations - (NEW.duration_source IS NULL),
        duration_ms = duration_ms - iif(NEW.duration_source IS NULL, NEW.duration_ms, 0),
        files_known = files_known - (NEW.files_generated IS NOT NULL),
        files_generated = files_generated - ifnull(NEW.files_generated, 0)
    WHERE agent_id = NEW.agent_id;
    DELETE FROM agent_totals WHERE agent_id = NEW.agent_id AND executions = 0;
    INSERT INTO duration_removals
    SELECT 'agent', NEW.agent_id, substr(NEW.timestamp, 1, 10), NEW.duration_ms
    WHERE NEW.duration_source IS NULL
    UNION ALL
    SELECT 'operation', NEW.operation, substr(NEW.timestamp, 1, 10), NEW.duration_ms
    WHERE NEW.duration_source IS NULL;
END;

CREATE VIEW stage_removals (id, stage, status, timestamp, duration_ms, duration_source) AS
SELECT NULL, NULL, NULL, NULL, NULL, NULL WHERE 0;

CREATE TRIGGER stage_removals_insert INSTEAD OF INSERT ON stage_removals
WHEN NOT EXISTS (SELECT 1 FROM rollup_exceptions WHERE source = 'pipeline_metrics' AND row_id = NEW.id)
BEGIN
    UPDATE stage_totals
    SET executions = executions - 1,
        passed = passed - (NEW.status = 'passed'),
        failed = failed - (NEW.status = 'failed'),
        durations = durations - (NEW.duration_source IS NULL),
        duration_ms = duration_ms - iif(NEW.duration_source IS NULL, NEW.duration_ms, 0)
    WHERE stage = NEW.stage;
    DELETE FROM stage_totals WHERE stage = NEW.stage AND executions = 0;
    INSERT INTO duration_removals
    SELECT 'stage', NEW.stage, substr(NEW.timestamp, 1, 10), NEW.duration_ms
    WHERE NEW.duration_source IS NULL;
END;

CREATE TRIGGER receipts_rollup_delete AFTER DELETE ON receipts
WHEN OLD.id <= (SELECT row_id FROM hook_watermarks WHERE hook = 'rollups' AND source = 'receipts')
BEGIN
    INSERT INTO receipt_removals
    VALUES (OLD.id, OLD.agent_id, OLD.operation, OLD.status, OLD.timestamp, OLD.duration_ms,
            OLD.duration_source, OLD.files_generated);
    DELETE FROM rollup_exceptions WHERE source = 'receipts' AND row_id = OLD.id;
    UPDATE hook_watermarks
    SET row_id = ifnull((SELECT max(id) FROM receipts WHERE id < OLD.id), 0)
    WHERE hook = 'rollups'
      AND source = 'receipts'
      AND row_id = OLD.id;
END;

CREATE TRIGGER receipts_rollup_update AFTER UPDATE ON receipts
WHEN min(OLD.id, NEW.id) <= (SELECT row_id FROM hook_watermarks WHERE hook = 'rollups' AND source = 'receipts')
BEGIN
    INSERT INTO receipt_removals
    SELECT OLD.id, OLD.agent_id, OLD.operation, OLD.status, OLD.timestamp, OLD.duration_ms,
           OLD.duration_source, OLD.files_generated
    WHERE OLD.id <= (SELECT row_id FROM hook_watermarks WHERE hook = 'rollups' AND source = 'receipts');
    DELETE FROM rollup_exceptions WHERE source = 'receipts' AND row_id = OLD.id;
    INSERT OR IGNORE INTO rollup_exceptions (source, row_id)
    SELECT 'receipts', NEW.id
    WHERE NEW.id <= (SELECT row_id FROM hook_watermarks WHERE hook = 'rollups' AND source = 'receipts');
    UPDATE hook_watermarks
    SET row_id = ifnull((SELECT max(id) FROM receipts WHERE id <= OLD.id), 0)
    WHERE hook = 'rollups'
      AND source = 'receipts'
      AND row_id = OLD.id;
END;

CREATE TRIGGER pipeline_metrics_rollup_delete AFTER DELETE ON pipeline_metrics
WHEN OLD.id <= (SELECT row_id FROM hook_watermarks WHERE hook = 'rollups' AND source = 'pipeline_metrics')
BEGIN
    INSERT INTO stage_removals
    VALUES (OLD.id, OLD.stage, OLD.status, OLD.timestamp, OLD.duration_ms, OLD.duration_source);
    DELETE FROM rollup_exceptions WHERE source = 'pipeline_metrics' AND row_id = OLD.id;
    UPDATE hook_watermarks
    SET row_id = ifnull((SELECT max(id) FROM pipeline_metrics WHERE id < OLD.id), 0)
    WHERE hook = 'rollups'
      AND source = 'pipeline_metrics'
      AND row_id = OLD.id;
END;

CREATE TRIGGER pipeline_metrics_rollup_update AFTER UPDATE ON pipeline_metrics
WHEN min(OLD.id, NEW.id) <= (SELECT row_id FROM hook_watermarks WHERE hook = 'rollups' AND source = 'pipeline_metrics')
BEGIN
    INSERT INTO stage_removals
    SELECT OLD.id, OLD.stage, OLD.status, OLD.timestamp, OLD.duration_ms, OLD.duration_source
    WHERE OLD.id <= (SELECT row_id FROM hook_watermarks WHERE hook = 'rollups' AND source = 'pipeline_metrics');
    DELETE FROM rollup_exceptions WHERE source = 'pipeline_metrics' AND row_id = OLD.id;
    INSERT OR IGNORE INTO rollup_exceptions (source, row_id)
    SELECT 'pipeline_metrics', NEW.id
    WHERE NEW.id <= (SELECT row_id FROM hook_watermarks WHERE hook = 'rollups' AND source = 'pipeline_metrics');
    UPDATE hook_watermarks
    SET row_id = ifnull((SELECT max(id) FROM pipeline_metrics WHERE id <= OLD.id), 0)
    WHERE hook = 'rollups'
      AND source = 'pipeline_metrics'
      AND row_id = OLD.id;
END;

CREATE VIEW agent_performance_summary AS
WITH parts AS (
    SELECT
        agent_id, executions, passed, failed, durations, duration_ms, files_known, files_generated
    FROM agent_totals
    UNION ALL
    SELECT
        agent_id,
        COUNT(*),
        COUNT(*) FILTER (WHERE status = 'passed'),
        COUNT(*) FILTER (WHERE status = 'failed'),
        COUNT(*) FILTER (WHERE duration_source IS NULL),
        SUM(duration_ms) FILTER (WHERE duration_source IS NULL),
        COUNT(files_generated),
        SUM(files_generated)
    FROM receipts NOT INDEXED
    WHERE id > ifnull((SELECT row_id FROM hook_watermarks
                       WHERE hook = 'rollups' AND source = 'receipts'), 0)
    GROUP BY agent_id
    UNION ALL
    SELECT
        r.agent_id,
        1,
        r.status = 'passed',
        r.status = 'failed',
        r.duration_source IS NULL,
        iif(r.duration_source IS NULL, r.duration_ms, NULL),
        r.files_generated IS NOT NULL,
        r.files_generated
    FROM rollup_exceptions AS e
    CROSS JOIN receipts AS r ON r.id = e.row_id
    WHERE e.source = 'receipts'
)
SELECT
    agent_id,
    SUM(executions) AS total_executions,
    SUM(passed) AS successful_executions,
    SUM(failed) AS failed_executions,
    ROUND(1.0 * SUM(duration_ms) / nullif(SUM(durations), 0), 2) AS avg_duration_ms,
    CASE WHEN SUM(durations) > 0 THEN ifnull(
        (SELECT MIN(r.duration_ms) FROM receipts AS r
         WHERE r.agent_id = p.agent_id AND r.duration_ms <= 0 AND r.duration_source IS NULL),
        (SELECT MIN(r.duration_ms) FROM receipts AS r
         WHERE r.agent_id = p.agent_id AND r.duration_ms > 0 AND r.duration_source IS NULL))
    END AS min_duration_ms,
    CASE WHEN SUM(durations) > 0 THEN ifnull(
        (SELECT MAX(r.duration_ms) FROM receipts AS r
         WHERE r.agent_id = p.agent_id AND r.duration_ms > 0 AND r.duration_source IS NULL),
        (SELECT MAX(r.duration_ms) FROM receipts AS r
         WHERE r.agent_id = p.agent_id AND r.duration_ms <= 0 AND r.duration_source IS NULL))
    END AS max_duration_ms,
    iif(SUM(files_known), SUM(files_generated), NULL) AS total_files_generated,
    (SELECT MAX(r.timestamp) FROM receipts AS r WHERE r.agent_id = p.agent_id) AS last_execution
FROM parts AS p
GROUP BY agent_id
ORDER BY total_executions DESC, agent_id;

CREATE VIEW pipeline_stage_performance AS
WITH parts AS (
    SELECT stage, executions, passed, failed, durations, duration_ms
    FROM stage_totals
    UNION ALL
    SELECT
        stage,
        COUNT(*),
        COUNT(*) FILTER (WHERE status = 'passed'),
        COUNT(*) FILTER (WHERE status = 'failed'),
        COUNT(*) FILTER (WHERE duration_source IS NULL),
        SUM(duration_ms) FILTER (WHERE duration_source IS NULL)
    FROM pipeline_metrics NOT INDEXED
    WHERE id > ifnull((SELECT row_id FROM hook_watermarks
                       WHERE hook = 'rollups' AND source = 'pipeline_metrics'), 0)
    GROUP BY stage
    UNION ALL
    SELECT
        m.stage,
        1,
        m.status = 'passed',
        m.status = 'failed',
        m.duration_source IS NULL,
        iif(m.duration_source IS NULL, m.duration_ms, NULL)
    FROM rollup_exceptions AS e
    CROSS JOIN pipeline_metrics AS m ON m.id = e.row_id
    WHERE e.source = 'pipeline_metrics'
)
SELECT
    stage,
    SUM(executions) AS executions,
    ROUND(1.0 * SUM(duration_ms) / nullif(SUM(durations), 0), 2) AS avg_duration_ms,
    CASE WHEN SUM(durations) > 0 THEN ifnull(
        (SELECT MIN(m.duration_ms) FROM pipeline_metrics AS m
         WHERE m.stage = p.stage AND m.duration_ms <= 0 AND m.duration_source IS NULL),
        (SELECT MIN(m.duration_ms) FROM pipeline_metrics AS m
         WHERE m.stage = p.stage AND m.duration_ms > 0 AND m.duration_source IS NULL))
    END AS min_duration_ms,
    CASE WHEN SUM(durations) > 0 THEN ifnull(
        (SELECT MAX(m.duration_ms) FROM pipeline_metrics AS m
         WHERE m.stage = p.stage AND m.duration_ms > 0 AND m.duration_source IS NULL),
        (SELECT MAX(m.duration_ms) FROM pipeline_metrics AS m
         WHERE m.stage = p.stage AND m.duration_ms <= 0 AND m.duration_source IS NULL))
    END AS max_duration_ms,
    SUM(passed) AS passed,
    SUM(failed) AS failed
FROM parts AS p
GROUP BY stage
ORDER BY 1.0 * SUM(duration_ms) / nullif(SUM(durations), 0) DESC, stage;

CREATE TABLE pending_releases (
    parent_id TEXT NOT NULL,
    parent TEXT NOT NULL CHECK (parent IN ('receipt', 'session')),
    PRIMARY KEY (parent_id, parent)
) WITHOUT ROWID;

INSERT INTO database_identity (id) VALUES (lower(hex(randomblob(16))));

PRAGMA application_id = 1734831716;
PRAGMA user_version = 6;
COMMIT;
