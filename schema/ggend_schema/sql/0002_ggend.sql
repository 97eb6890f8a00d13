-- What ggend adds to tier 2: columns, the three views (1.0.0 counted audit entries with a date
-- modifier that SQLite does not know, and so always 0), and ggend's own tables.

ALTER TABLE receipts ADD COLUMN session_id TEXT;
CREATE INDEX idx_receipts_session_id ON receipts (session_id) WHERE session_id IS NOT NULL;

ALTER TABLE audit_log ADD COLUMN execution_id TEXT;
ALTER TABLE audit_log ADD COLUMN session_id TEXT;
CREATE INDEX idx_audit_log_execution_id ON audit_log (execution_id) WHERE execution_id IS NOT NULL;
-- Finds what recent_executions looks for in time: without it a burst of entries that name their
-- execution is read in vain.
CREATE INDEX idx_audit_log_unattributed ON audit_log (agent_id, timestamp) WHERE execution_id IS NULL;

-- Audit rows without an execution_id belong to an execution of the same agent that covers their
-- timestamp. The text ranges (with T and, for rows of version 1.0.0, with a space) are one second
-- wider than the execution and find the candidates in the index; julianday() decides to the
-- millisecond, whatever the notation.
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

-- One row for each producer, one for the anonymous lines of each uid, and one that sums up the
-- producers that said they were done. The CHECK is promise 3: every number is accounted for.
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

-- Events whose parent is not there yet, clustered by the parent that releases them. A row holds
-- what one batch brought for one parent: so many events, as a msgpack array of [account id, sequence,
-- stamp, event]. arrival_ns is the wall clock, raised where needed to stay in order within one run.
CREATE TABLE parked_events (
    parent_id TEXT NOT NULL,
    parent TEXT NOT NULL CHECK (parent IN ('receipt', 'session')),
    arrival_ns INTEGER NOT NULL,
    schema_version INTEGER NOT NULL,
    events INTEGER NOT NULL,
    payload BLOB NOT NULL,
    PRIMARY KEY (parent_id, parent, arrival_ns)
) WITHOUT ROWID;

-- The quarantine. producer is NULL for lines without one. Of a line over the length limit, event,
-- size_bytes and sha256 are those of its first kilobyte, which is all that was kept.
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

-- How far each hook has read each table.
CREATE TABLE hook_watermarks (
    hook TEXT NOT NULL,
    source TEXT NOT NULL,
    row_id INTEGER NOT NULL,
    PRIMARY KEY (hook, source)
) WITHOUT ROWID;

-- Rows of version 1.0.0 were judged by those who wrote them.
INSERT INTO hook_watermarks (hook, source, row_id)
SELECT 'slo', 'receipts', coalesce(max(id), 0) FROM receipts
UNION ALL
SELECT 'slo', 'pipeline_metrics', coalesce(max(id), 0) FROM pipeline_metrics;

-- The order key of the memory that won: later timestamp, then producer, then sequence.
CREATE TABLE memory_order (
    agent_id TEXT PRIMARY KEY,
    timestamp_us INTEGER NOT NULL,
    producer BLOB NOT NULL,
    sequence INTEGER NOT NULL
) WITHOUT ROWID;

-- Which fields of an ended session were given by its end event; the others are derived.
CREATE TABLE session_ends (
    session_id TEXT PRIMARY KEY,
    duration_given INTEGER NOT NULL,
    successful_given INTEGER NOT NULL,
    failed_given INTEGER NOT NULL
) WITHOUT ROWID;

-- One row: the random id by which clients notice that the file was replaced.
CREATE TABLE database_identity (
    id TEXT NOT NULL,
    created_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP
);
INSERT INTO database_identity (id) VALUES (lower(hex(randomblob(16))));
