-- Rollups: the two summary views in constant time (docs/adr/0018). The rows of a table up to its
-- watermark, hook 'rollups' in hook_watermarks, are counted in the tables below; the views add those
-- above it, and the exceptions, as they are. A hook moves the watermark; the triggers take out what
-- is deleted or changed below it. Nothing is done when a row is inserted.

CREATE TABLE agent_totals (
    agent_id TEXT PRIMARY KEY,
    executions INTEGER NOT NULL,
    passed INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    duration_ms INTEGER NOT NULL,
    files_known INTEGER NOT NULL, -- rows whose files_generated is not NULL
    files_generated INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE stage_totals (
    stage TEXT PRIMARY KEY,
    executions INTEGER NOT NULL,
    passed INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    duration_ms INTEGER NOT NULL
) WITHOUT ROWID;

-- How many durations of a day begin a bucket: [from_ms, from_ms + width), where the width is 1 below
-- 100 ms, and from there 2, 5 or 10 in the third digit: 2 % from 100, 2.5 % from 200, 2 % from 500.
CREATE TABLE duration_histograms (
    dimension TEXT NOT NULL, -- agent, operation: of receipts; stage: of pipeline_metrics
    name TEXT NOT NULL,
    day TEXT NOT NULL, -- the first ten characters of the timestamp
    from_ms INTEGER NOT NULL,
    durations INTEGER NOT NULL,
    PRIMARY KEY (dimension, name, day, from_ms)
) WITHOUT ROWID;

-- Rows below the watermark that are not in the tables above: what somebody changed, and what cannot
-- be taken out of a sum again exactly, such as a duration of 0.1 ms.
CREATE TABLE rollup_exceptions (
    source TEXT NOT NULL,
    row_id INTEGER NOT NULL,
    PRIMARY KEY (source, row_id)
) WITHOUT ROWID;

-- The smallest and the largest duration of an agent, also after the smallest was deleted. Those of a
-- stage are found by idx_pipeline_metrics_stage.
CREATE INDEX idx_receipts_agent_duration ON receipts (agent_id, duration_ms);

-- What takes a row out of the tables above. These views have no rows: they are there to INSERT INTO.

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

CREATE VIEW receipt_removals (id, agent_id, operation, status, timestamp, duration_ms, files_generated)
AS SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL WHERE 0;

CREATE TRIGGER receipt_removals_insert INSTEAD OF INSERT ON receipt_removals
WHEN NOT EXISTS (SELECT 1 FROM rollup_exceptions WHERE source = 'receipts' AND row_id = NEW.id)
BEGIN
    UPDATE agent_totals
    SET executions = executions - 1,
        passed = passed - (NEW.status = 'passed'),
        failed = failed - (NEW.status = 'failed'),
        duration_ms = duration_ms - NEW.duration_ms,
        files_known = files_known - (NEW.files_generated IS NOT NULL),
        files_generated = files_generated - ifnull(NEW.files_generated, 0)
    WHERE agent_id = NEW.agent_id;
    DELETE FROM agent_totals WHERE agent_id = NEW.agent_id AND executions = 0;
    INSERT INTO duration_removals
    VALUES ('agent', NEW.agent_id, substr(NEW.timestamp, 1, 10), NEW.duration_ms),
           ('operation', NEW.operation, substr(NEW.timestamp, 1, 10), NEW.duration_ms);
END;

CREATE VIEW stage_removals (id, stage, status, timestamp, duration_ms) AS
SELECT NULL, NULL, NULL, NULL, NULL WHERE 0;

CREATE TRIGGER stage_removals_insert INSTEAD OF INSERT ON stage_removals
WHEN NOT EXISTS (SELECT 1 FROM rollup_exceptions WHERE source = 'pipeline_metrics' AND row_id = NEW.id)
BEGIN
    UPDATE stage_totals
    SET executions = executions - 1,
        passed = passed - (NEW.status = 'passed'),
        failed = failed - (NEW.status = 'failed'),
        duration_ms = duration_ms - NEW.duration_ms
    WHERE stage = NEW.stage;
    DELETE FROM stage_totals WHERE stage = NEW.stage AND executions = 0;
    INSERT INTO duration_removals
    VALUES ('stage', NEW.stage, substr(NEW.timestamp, 1, 10), NEW.duration_ms);
END;

-- What calls them. A row that was changed is an exception from then on. The watermark is always the
-- id of a row: an id that is given again, to the next row, is above it.

CREATE TRIGGER receipts_rollup_delete AFTER DELETE ON receipts
WHEN OLD.id <= (SELECT row_id FROM hook_watermarks WHERE hook = 'rollups' AND source = 'receipts')
BEGIN
    INSERT INTO receipt_removals
    VALUES (OLD.id, OLD.agent_id, OLD.operation, OLD.status, OLD.timestamp, OLD.duration_ms, OLD.files_generated);
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
    SELECT OLD.id, OLD.agent_id, OLD.operation, OLD.status, OLD.timestamp, OLD.duration_ms, OLD.files_generated
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
    VALUES (OLD.id, OLD.stage, OLD.status, OLD.timestamp, OLD.duration_ms);
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
    SELECT OLD.id, OLD.stage, OLD.status, OLD.timestamp, OLD.duration_ms
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

-- The summaries, as before, from these parts. NOT INDEXED: the rows above a watermark are few, and
-- lie together; an index on what is grouped by would be read from end to end.

DROP VIEW agent_performance_summary;
CREATE VIEW agent_performance_summary AS
WITH parts AS (
    SELECT agent_id, executions, passed, failed, duration_ms, files_known, files_generated
    FROM agent_totals
    UNION ALL
    SELECT
        agent_id,
        COUNT(*),
        COUNT(*) FILTER (WHERE status = 'passed'),
        COUNT(*) FILTER (WHERE status = 'failed'),
        SUM(duration_ms),
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
        r.duration_ms,
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
    ROUND(1.0 * SUM(duration_ms) / SUM(executions), 2) AS avg_duration_ms,
    (SELECT MIN(r.duration_ms) FROM receipts AS r WHERE r.agent_id = p.agent_id)
        AS min_duration_ms,
    (SELECT MAX(r.duration_ms) FROM receipts AS r WHERE r.agent_id = p.agent_id)
        AS max_duration_ms,
    iif(SUM(files_known), SUM(files_generated), NULL) AS total_files_generated,
    (SELECT MAX(r.timestamp) FROM receipts AS r WHERE r.agent_id = p.agent_id) AS last_execution
FROM parts AS p
GROUP BY agent_id
ORDER BY total_executions DESC, agent_id;

DROP VIEW pipeline_stage_performance;
CREATE VIEW pipeline_stage_performance AS
WITH parts AS (
    SELECT stage, executions, passed, failed, duration_ms
    FROM stage_totals
    UNION ALL
    SELECT
        stage,
        COUNT(*),
        COUNT(*) FILTER (WHERE status = 'passed'),
        COUNT(*) FILTER (WHERE status = 'failed'),
        SUM(duration_ms)
    FROM pipeline_metrics NOT INDEXED
    WHERE id > ifnull((SELECT row_id FROM hook_watermarks
                       WHERE hook = 'rollups' AND source = 'pipeline_metrics'), 0)
    GROUP BY stage
    UNION ALL
    SELECT m.stage, 1, m.status = 'passed', m.status = 'failed', m.duration_ms
    FROM rollup_exceptions AS e
    CROSS JOIN pipeline_metrics AS m ON m.id = e.row_id
    WHERE e.source = 'pipeline_metrics'
)
SELECT
    stage,
    SUM(executions) AS executions,
    ROUND(1.0 * SUM(duration_ms) / SUM(executions), 2) AS avg_duration_ms,
    (SELECT MIN(m.duration_ms) FROM pipeline_metrics AS m WHERE m.stage = p.stage)
        AS min_duration_ms,
    (SELECT MAX(m.duration_ms) FROM pipeline_metrics AS m WHERE m.stage = p.stage)
        AS max_duration_ms,
    SUM(passed) AS passed,
    SUM(failed) AS failed
FROM parts AS p
GROUP BY stage
ORDER BY 1.0 * SUM(duration_ms) / SUM(executions) DESC, stage;
