"""Thresholds: the executions and stages whose numbers are beyond a limit."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ggend.slo.breaches import Broken
from ggend.slo.objectives import EXECUTION_COLUMNS, STAGE_COLUMNS, Objectives, Threshold

__all__ = ["Thresholds"]


class Thresholds:
    """The thresholds of some objectives, ready to be asked of a slice of rows."""

    def __init__(self, objectives: Objectives) -> None:
        self._objectives = objectives
        self.of_executions = _executions_beyond(objectives.thresholds)
        self.of_stages = _stages_beyond(objectives.thresholds)

    def broken_by_executions(
        self, connection: sqlite3.Connection, after: int, upto: int
    ) -> Iterator[Broken]:
        """Yield what the receipts after the first and up to the second id broke."""
        sql, limits = self.of_executions
        rows = connection.execute(sql, (after, upto, *limits)).fetchall() if sql else []
        for execution_id, operation, environment, timestamp, *numbers in rows:
            metrics = dict(zip(_EXECUTION_METRICS, numbers, strict=True))
            yield from self._judged(metrics, execution_id, operation, environment, timestamp)

    def broken_by_stages(
        self, connection: sqlite3.Connection, after: int, upto: int
    ) -> Iterator[Broken]:
        """Yield what the stages after the first and up to the second id broke."""
        sql, limits = self.of_stages
        rows = connection.execute(sql, (after, upto, *limits)).fetchall() if sql else []
        for execution_id, operation, environment, timestamp, stage, *numbers in rows:
            names = (f"stage.{stage}.{column}" for column in STAGE_COLUMNS)
            metrics = dict(zip(names, numbers, strict=True))
            yield from self._judged(metrics, execution_id, operation, environment, timestamp)

    def _judged(
        self,
        metrics: Mapping[str, float | None],
        execution_id: str,
        operation: str | None,
        environment: str | None,
        timestamp: str,
    ) -> Iterator[Broken]:
        for metric, actual in metrics.items():
            breach = self._objectives.judge(metric, actual, operation, environment)
            if breach is not None:
                yield Broken(breach, execution_id, timestamp, execution_id)


_EXECUTION_METRICS = tuple(f"execution.{column}" for column in EXECUTION_COLUMNS)


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
