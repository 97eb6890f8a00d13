"""SLO: the hook that judges committed rows and writes `slo_breaches` and `slo_violations`.

One breach a metric, execution and severity. Where a stage ran twice in one execution the worst
value stands, so that the order of arrival does not matter. Other objectives count from the next
row on; what was judged before stays.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import msgspec

from ggend.hooks import Hook
from ggend.objectives import (
    EXECUTION_COLUMNS,
    SHIPPED,
    STAGE_COLUMNS,
    Breach,
    Objectives,
    Threshold,
)

__all__ = ["Broken", "Judge", "broken_by_executions", "broken_by_stages"]

#: A breach, the execution that it is of, and the timestamp of the row.
Broken: TypeAlias = tuple[Breach, str, str]


class Judge:
    """Judges executions and stages; `objectives` may be replaced while it does."""

    def __init__(self, objectives: Objectives = SHIPPED) -> None:
        self.objectives = objectives

    def hooks(self) -> list[Hook]:
        """Return the hooks over receipts and over stages."""
        return [
            Hook("slo", "receipts", self._executions),
            Hook("slo", "pipeline_metrics", self._stages),
        ]

    def _executions(self, connection: sqlite3.Connection, after: int, upto: int) -> bool:
        return _write(connection, broken_by_executions(connection, self.objectives, after, upto))

    def _stages(self, connection: sqlite3.Connection, after: int, upto: int) -> bool:
        return _write(connection, broken_by_stages(connection, self.objectives, after, upto))


def broken_by_executions(
    connection: sqlite3.Connection, objectives: Objectives, after: int, upto: int
) -> Iterator[Broken]:
    """Yield what the receipts after the first and up to the second id broke."""
    sql, limits = _executions_beyond(objectives.thresholds)
    rows = connection.execute(sql, (after, upto, *limits)).fetchall() if sql else []
    for execution_id, operation, environment, timestamp, *numbers in rows:
        for column, actual in zip(EXECUTION_COLUMNS, numbers, strict=True):
            metric = f"execution.{column}"
            breach = objectives.judge(metric, actual, operation, environment)
            if breach is not None:
                yield breach, execution_id, timestamp


def broken_by_stages(
    connection: sqlite3.Connection, objectives: Objectives, after: int, upto: int
) -> Iterator[Broken]:
    """Yield what the stages after the first and up to the second id broke."""
    sql, limits = _stages_beyond(objectives.thresholds)
    rows = connection.execute(sql, (after, upto, *limits)).fetchall() if sql else []
    for execution_id, operation, environment, timestamp, stage, *numbers in rows:
        for column, actual in zip(STAGE_COLUMNS, numbers, strict=True):
            metric = f"stage.{stage}.{column}"
            breach = objectives.judge(metric, actual, operation, environment)
            if breach is not None:
                yield breach, execution_id, timestamp


# Rows within all objectives stay in SQLite: one that comes out costs as much as an insert. Which
# of several thresholds judges a row is decided here: the query lets out what any of them may break.


def _executions_beyond(thresholds: Sequence[Threshold]) -> tuple[str, list[Any]]:
    conditions, limits = [], []
    for column, sign, group in _groups(thresholds, EXECUTION_COLUMNS, of_stages=False):
        conditions.append(f"+{column} {sign} ?")
        limits.append(_loosest(group))
    return _EXECUTIONS_BEYOND + f"({' OR '.join(conditions)})" if conditions else "", limits


def _stages_beyond(thresholds: Sequence[Threshold]) -> tuple[str, list[Any]]:
    conditions: list[str] = []
    limits: list[Any] = []
    for column, sign, group in _groups(thresholds, STAGE_COLUMNS, of_stages=True):
        stages = dict.fromkeys(threshold.stage for threshold in group)
        whens = " WHEN ? THEN ?" * len(stages)
        conditions.append(f"pipeline_metrics.{column} {sign} CASE stage{whens} END")
        for stage in stages:
            limits += (stage, _loosest([each for each in group if each.stage == stage]))
    return _STAGES_BEYOND + f"({' OR '.join(conditions)})" if conditions else "", limits


def _groups(
    thresholds: Sequence[Threshold], columns: Iterable[str], *, of_stages: bool
) -> Iterator[tuple[str, str, list[Threshold]]]:
    """Yield the thresholds by column and direction, with the sign of a breach."""
    for column in columns:
        for below, sign in ((False, ">"), (True, "<")):
            group = [
                threshold
                for threshold in thresholds
                if (threshold.column, threshold.below) == (column, below)
                and (threshold.stage is not None) == of_stages
            ]
            if group:
                yield column, sign, group


def _loosest(group: Sequence[Threshold]) -> float:
    """Return the limit that is broken before those of all others, all of one direction."""
    firsts = [threshold.first for threshold in group]
    return max(firsts) if group[0].below else min(firsts)


def _write(connection: sqlite3.Connection, breaches: Iterable[Broken]) -> bool:
    """Write breaches of executions; return whether there was one.

    Three statements a direction, however many breaches: one at a time, the interpreter's lock
    changes hands with each, and took four times as long as the work (docs/PERFORMANCE.md).
    """
    worst: dict[tuple[str, str, str], tuple[Any, ...]] = {}
    directions: dict[tuple[str, str, str], int] = {}
    for breach, execution_id, timestamp in breaches:
        key = (breach.metric, execution_id, breach.severity)
        row = (*key, breach.target, breach.actual, breach.description, timestamp)
        known = worst.get(key)
        sign = directions.setdefault(key, breach.direction)
        if known is None or (sign * known[4], known[6]) < (sign * breach.actual, timestamp):
            worst[key] = row
    for direction in set(directions.values()):
        rows = [row for key, row in worst.items() if directions[key] == direction]
        parameters = {"rows": msgspec.json.encode(rows).decode(), "direction": direction}
        for statement in (_WORSE_VIOLATIONS, _NEW_VIOLATIONS, _BREACHES):
            connection.execute(statement, parameters)
    return bool(worst)


_EXECUTIONS_BEYOND = f"""
    SELECT execution_id, operation, environment, timestamp, {", ".join(EXECUTION_COLUMNS)}
    FROM receipts
    WHERE id > ?
      AND id <= ?
      AND """  # noqa: S608 - constants
_STAGES_BEYOND = f"""
    SELECT
        execution_id, operation, environment, pipeline_metrics.timestamp, stage,
        {", ".join(f"pipeline_metrics.{column}" for column in STAGE_COLUMNS)}
    FROM pipeline_metrics NOT INDEXED
    LEFT JOIN receipts USING (execution_id)
    WHERE pipeline_metrics.id > ?
      AND pipeline_metrics.id <= ?
      AND """  # noqa: S608 - constants
_WORSE_VIOLATIONS = """
    UPDATE slo_violations
    SET target_value = new.value ->> 3,
        actual_value = new.value ->> 4,
        description = new.value ->> 5,
        timestamp = new.value ->> 6
    FROM json_each(:rows) AS new
    WHERE execution_id = new.value ->> 1
      AND +metric = new.value ->> 0 -- the plus keeps the planner off the indexes that say little
      AND +severity = new.value ->> 2
      AND (:direction * actual_value, timestamp)
          < (:direction * (new.value ->> 4), new.value ->> 6)"""
_NEW_VIOLATIONS = """
    INSERT INTO slo_violations (
        metric, execution_id, severity, target_value, actual_value, description, timestamp)
    SELECT
        new.value ->> 0, new.value ->> 1, new.value ->> 2, new.value ->> 3, new.value ->> 4,
        new.value ->> 5, new.value ->> 6
    FROM json_each(:rows) AS new
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
    FROM json_each(:rows) AS new
    WHERE true -- or the parser takes ON for a join
    ON CONFLICT (metric, subject, severity) DO UPDATE
    SET target_value = excluded.target_value,
        actual_value = excluded.actual_value,
        description = excluded.description,
        timestamp = excluded.timestamp
    WHERE (:direction * actual_value, timestamp)
        < (:direction * excluded.actual_value, excluded.timestamp)"""
