-- Executions and stages whose duration nobody recorded: they count as executions, and stay out of
-- sums, averages, extremes and histograms (docs/adr/0025).

-- NULL: duration_ms was measured. 'unknown': it was not, and 0 is stored.
ALTER TABLE receipts ADD COLUMN duration_source TEXT;
ALTER TABLE pipeline_metrics ADD COLUMN duration_source TEXT;

-- How many durations the sums are of. All that were counted before were measured, or said so.
ALTER TABLE agent_totals ADD COLUMN durations INTEGER NOT NULL DEFAULT 0;
UPDATE agent_totals SET durations = executions;
ALTER TABLE stage_totals ADD COLUMN durations INTEGER NOT NULL DEFAULT 0;
UPDATE stage_totals SET durations = executions;

-- Tells a measured 0 ms from the zeros of unknown durations, however many these are: the smallest
-- is looked for here first, and then above 0. Rows of 0 ms are few.
CREATE INDEX idx_receipts_agent_zero ON receipts (agent_id, duration_ms)
WHERE duration_ms <= 0 AND duration_source IS NULL;
CREATE INDEX idx_pipeline_metrics_stage_zero ON pipeline_metrics (stage, duration_ms)
WHERE duration_ms <= 0 AND duration_source IS NULL;

-- What takes a row out of the rollups, as before, but for the duration that is none.

DROP TRIGGER receipts_rollup_delete;
DROP TRIGGER receipts_rollup_update;
DROP VIEW receipt_removals;
DROP TRIGGER pipeline_metrics_rollup_delete;
DROP TRIGGER pipeline_metrics_rollup_update;
DROP VIEW stage_removals;

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

-- The summaries, as before, of the durations that are known.

DROP VIEW agent_performance_summary;
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

DROP VIEW pipeline_stage_performance;
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
