"""SLO: the hook that judges committed rows and writes `slo_breaches` and `slo_violations`.

One breach a metric, execution and severity. Where a stage ran twice in one execution the worst
value stands, so that the order of arrival does not matter.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

import msgspec

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
    """Write breaches of executions; return whether there was one.

    Three statements, however many breaches: one at a time, the interpreter's lock changes hands
    with each, and took four times as long as the work (docs/PERFORMANCE.md).
    """
    worst: dict[tuple[str, str, str], tuple[object, ...]] = {}
    for breach, execution_id, timestamp in breaches:
        key = (breach.metric, execution_id, breach.severity)
        row = (*key, breach.target, breach.actual, breach.description, timestamp)
        known = worst.get(key)
        if known is None or (known[4], known[6]) < (breach.actual, timestamp):
            worst[key] = row
    if not worst:
        return False
    rows = msgspec.json.encode(list(worst.values())).decode()
    for statement in (_WORSE_VIOLATIONS, _NEW_VIOLATIONS, _BREACHES):
        connection.execute(statement, (rows,))
    return True


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
_WORSE_VIOLATIONS = """
    UPDATE slo_violations
    SET actual_value = new.value ->> 4,
        description = new.value ->> 5,
        timestamp = new.value ->> 6
    FROM json_each(?) AS new
    WHERE execution_id = new.value ->> 1
      AND +metric = new.value ->> 0 -- the plus keeps the planner off the indexes that say little
      AND +severity = new.value ->> 2
      AND (actual_value, timestamp) < (new.value ->> 4, new.value ->> 6)"""
_NEW_VIOLATIONS = """
    INSERT INTO slo_violations (
        metric, execution_id, severity, target_value, actual_value, description, timestamp)
    SELECT
        new.value ->> 0, new.value ->> 1, new.value ->> 2, new.value ->> 3, new.value ->> 4,
        new.value ->> 5, new.value ->> 6
    FROM json_each(?) AS new
    WHERE NOT EXISTS (
        SELECT 1
        FROM slo_breaches
        WHERE metric = new.value ->> 0
          AND subject = new.value ->> 1
          AND severity = new.value ->> 2)"""
_BREACHES = """
    INSERT INTO slo_breaches (
        metric, subject, severity, target_value, actual_value, description, timestamp,
        execution_id)
    SELECT
        new.value ->> 0, new.value ->> 1, new.value ->> 2, new.value ->> 3, new.value ->> 4,
        new.value ->> 5, new.value ->> 6, new.value ->> 1
    FROM json_each(?) AS new
    WHERE true -- or the parser takes ON for a join
    ON CONFLICT (metric, subject, severity) DO UPDATE
    SET actual_value = excluded.actual_value,
        description = excluded.description,
        timestamp = excluded.timestamp
    WHERE (actual_value, timestamp) < (excluded.actual_value, excluded.timestamp)"""
