"""SLO: the hook that judges committed rows and writes `slo_breaches` and `slo_violations`.

One breach a metric, execution and severity. Where a stage ran twice in one execution the worst
value stands, so that the order of arrival does not matter.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from ggend.hooks import Hook
from ggend.objectives import EXECUTION_DURATION, STAGE_DURATIONS, Breach

__all__ = ["slo_hooks"]


def slo_hooks() -> list[Hook]:
    """Return the hooks that judge executions and stages against the shipped objectives."""
    return [
        Hook("slo", "receipts", _judge_executions),
        Hook("slo", "pipeline_metrics", _judge_stages),
    ]


def _judge_executions(connection: sqlite3.Connection, after: int, upto: int) -> bool:
    rows = connection.execute(_SLOW_EXECUTIONS, (after, upto, EXECUTION_DURATION.warning))
    return _write(
        connection,
        (
            (breach, execution_id, timestamp)
            for execution_id, duration_ms, timestamp in rows.fetchall()
            if (breach := EXECUTION_DURATION.judge(duration_ms)) is not None
        ),
    )


def _judge_stages(connection: sqlite3.Connection, after: int, upto: int) -> bool:
    # Rows within their objective stay in SQLite: one that comes out costs as much as an insert.
    limits = (limit for stage in STAGE_DURATIONS.items() for limit in (stage[0], stage[1].warning))
    rows = connection.execute(_SLOW_STAGES, (after, upto, *limits))
    return _write(
        connection,
        (
            (breach, execution_id, timestamp)
            for execution_id, stage, duration_ms, timestamp in rows.fetchall()
            if (breach := STAGE_DURATIONS[stage].judge(duration_ms)) is not None
        ),
    )


def _write(connection: sqlite3.Connection, breaches: Iterable[tuple[Breach, str, str]]) -> bool:
    """Write breaches of executions; return whether there was one."""
    wrote = False
    for breach, execution_id, timestamp in breaches:
        row = {
            "metric": breach.metric,
            "execution_id": execution_id,
            "severity": breach.severity,
            "target": breach.target,
            "actual": breach.actual,
            "description": breach.description,
            "timestamp": timestamp,
        }
        if connection.execute(_BREACH, row).rowcount:
            connection.execute(_VIOLATION, row)
        elif connection.execute(_WORSE_BREACH, row).rowcount:
            connection.execute(_WORSE_VIOLATION, row)
        wrote = True
    return wrote


_SLOW_EXECUTIONS = """
    SELECT execution_id, duration_ms, timestamp
    FROM receipts
    WHERE id > ?
      AND id <= ?
      AND duration_ms > ?
    ORDER BY id"""
_SLOW_STAGES = """
    SELECT execution_id, stage, duration_ms, timestamp
    FROM pipeline_metrics
    WHERE id > ?
      AND id <= ?
      AND duration_ms > CASE stage
          WHEN ? THEN ?
          WHEN ? THEN ?
          WHEN ? THEN ?
          WHEN ? THEN ?
          WHEN ? THEN ?
          END
    ORDER BY id"""
_BREACH = """
    INSERT INTO slo_breaches (
        metric, subject, severity, target_value, actual_value, description, execution_id, timestamp)
    VALUES (
        :metric, :execution_id, :severity, :target, :actual, :description, :execution_id,
        :timestamp)
    ON CONFLICT (metric, subject, severity) DO NOTHING"""
_VIOLATION = """
    INSERT INTO slo_violations (
        execution_id, metric, target_value, actual_value, severity, description, timestamp)
    VALUES (:execution_id, :metric, :target, :actual, :severity, :description, :timestamp)"""
_WORSE_BREACH = """
    UPDATE slo_breaches
    SET actual_value = :actual,
        description = :description,
        timestamp = :timestamp
    WHERE metric = :metric
      AND subject = :execution_id
      AND severity = :severity
      AND (actual_value, timestamp) < (:actual, :timestamp)"""
_WORSE_VIOLATION = """
    UPDATE slo_violations
    SET actual_value = :actual,
        description = :description,
        timestamp = :timestamp
    WHERE execution_id = :execution_id
      AND metric = :metric
      AND severity = :severity"""
