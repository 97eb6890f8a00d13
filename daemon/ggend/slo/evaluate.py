"""Evaluate: the executions and stages whose numbers are beyond a limit.

A duration that nobody recorded is beyond none.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ggend.database.known_durations import duration_expression
from ggend.slo.breaches import Broken
from ggend.slo.objectives import EXECUTION_COLUMNS, STAGE_COLUMNS, Objectives, Threshold

__all__ = ["Thresholds"]


class Thresholds:
    """The thresholds of some objectives, ready to be asked of a slice of rows."""

    def __init__(self, objectives: Objectives, *, tells_unknown: bool = True) -> None:
        """`tells_unknown`: the tables have `duration_source`, as they have since version 5."""
        self._objectives = objectives
        self.of_executions = _executions_beyond(objectives.thresholds, tells_unknown=tells_unknown)
        self.of_stages = _stages_beyond(objectives.thresholds, tells_unknown=tells_unknown)

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


def _executions_beyond(
    thresholds: Sequence[Threshold], *, tells_unknown: bool
) -> tuple[str, list[Any]]:
    conditions, limits = [], []
    known = {
        column: _known("receipts", column, tells_unknown=tells_unknown)
        for column in EXECUTION_COLUMNS
    }
    for column, sign, group in _groups(thresholds, EXECUTION_COLUMNS, of_stages=False):
        conditions.append(f"+{known[column]} {sign} ?")
        limits.append(_loosest(group))
    beyond = _EXECUTIONS_BEYOND.format(columns=", ".join(known.values()))
    return beyond + f"({' OR '.join(conditions)})" if conditions else "", limits


def _stages_beyond(
    thresholds: Sequence[Threshold], *, tells_unknown: bool
) -> tuple[str, list[Any]]:
    conditions: list[str] = []
    limits: list[Any] = []
    known = {
        column: _known("pipeline_metrics", column, tells_unknown=tells_unknown)
        for column in STAGE_COLUMNS
    }
    for column, sign, group in _groups(thresholds, STAGE_COLUMNS, of_stages=True):
        stages = dict.fromkeys(threshold.stage for threshold in group)
        whens = " WHEN ? THEN ?" * len(stages)
        conditions.append(f"{known[column]} {sign} CASE stage{whens} END")
        for stage in stages:
            limits += (stage, _loosest([each for each in group if each.stage == stage]))
    beyond = _STAGES_BEYOND.format(columns=", ".join(known.values()))
    return beyond + f"({' OR '.join(conditions)})" if conditions else "", limits


def _known(table: str, column: str, *, tells_unknown: bool) -> str:
    """Return the expression of a number, which is NULL where it is not known."""
    if column != "duration_ms":
        return f"{table}.{column}"
    return duration_expression(table, tells_unknown=tells_unknown)


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


_EXECUTIONS_BEYOND = """
    SELECT execution_id, operation, environment, timestamp, {columns}
    FROM receipts
    WHERE id > ?
      AND id <= ?
      AND """
_STAGES_BEYOND = """
    SELECT
        execution_id, operation, environment, pipeline_metrics.timestamp, stage,
        {columns}
    FROM pipeline_metrics NOT INDEXED
    LEFT JOIN receipts USING (execution_id)
    WHERE pipeline_metrics.id > ?
      AND pipeline_metrics.id <= ?
      AND """
