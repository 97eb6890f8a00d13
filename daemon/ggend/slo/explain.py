"""Explain: why a breach was recorded: its rows, its limit, the arithmetic."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from msgspec import Struct

from ggend.slo.objectives import METRICS

__all__ = ["Explained", "explain"]


class Explained(Struct, frozen=True):
    """One breach and the rows that it was found in."""

    #: In `slo_breaches`; None for a violation that another program wrote.
    id: int | None
    metric: str
    severity: str
    execution_id: str | None
    description: str
    target: float
    actual: float
    timestamp: str
    #: Table, id and columns of each row with that number; empty where they were purged.
    rows: list[dict[str, object]]

    @property
    def beyond(self) -> float:
        """How far it is beyond the limit, in the unit of the metric."""
        return abs(self.actual - self.target)

    @property
    def arithmetic(self) -> str:
        """The comparison that made it a breach."""
        sign, far = (">", "over") if self.actual > self.target else ("<", "under")
        times = f", {self.actual / self.target:.2f} times the limit" if self.target else ""
        return f"{self.actual:,.15g} {sign} {self.target:,.15g}: {self.beyond:,.15g} {far}{times}"


def explain(connection: sqlite3.Connection, key: str) -> list[Explained]:
    """Return the breaches of an execution, or the one with this id; none if there is none."""
    found = connection.execute(_OF_EXECUTION, {"key": key}).fetchall()
    if not found and key.isascii() and key.isdecimal() and len(key) < _ID_DIGITS:
        found = connection.execute(_OF_ID, {"key": int(key)}).fetchall()
    return [_explained(connection, *row) for row in found]


def _explained(
    connection: sqlite3.Connection,
    breach_id: int | None,
    metric: str,
    severity: str,
    execution_id: str | None,
    description: str,
    target: float,
    actual: float,
    timestamp: str,
) -> Explained:
    rows = _rows(connection, metric=metric, execution_id=execution_id, actual=actual)
    return Explained(
        breach_id, metric, severity, execution_id, description, target, actual, timestamp, rows
    )


def _rows(
    connection: sqlite3.Connection, *, metric: str, execution_id: str | None, actual: float
) -> list[dict[str, object]]:
    if metric not in METRICS or execution_id is None:
        return []
    stage, column = METRICS[metric]
    sql = (_RECEIPT if stage is None else _STAGE).format(column=column)
    parameters = (execution_id, *(() if stage is None else (stage,)), actual)
    with closing(connection.execute(sql, parameters)) as cursor:
        names = [name for name, *_ in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor]


#: Fewer digits than the largest id of SQLite has.
_ID_DIGITS = 19

_OF_EXECUTION = """
    SELECT
        slo_breaches.id, slo_violations.metric, slo_violations.severity,
        slo_violations.execution_id, slo_violations.description,
        slo_violations.target_value, slo_violations.actual_value, slo_violations.timestamp
    FROM slo_violations
    LEFT JOIN slo_breaches
        ON slo_breaches.metric = slo_violations.metric
        AND slo_breaches.subject = slo_violations.execution_id
        AND slo_breaches.severity = slo_violations.severity
    WHERE slo_violations.execution_id = :key
    ORDER BY slo_violations.id"""
_OF_ID = """
    SELECT
        id, metric, severity, execution_id, description, target_value, actual_value, timestamp
    FROM slo_breaches
    WHERE id = :key"""
_RECEIPT = """
    SELECT
        'receipts' AS "table", id, timestamp, agent_id, operation, status, environment, {column}
    FROM receipts
    WHERE execution_id = ?
      AND {column} = ?"""
_STAGE = """
    SELECT
        'pipeline_metrics' AS "table", pipeline_metrics.id, pipeline_metrics.timestamp, stage,
        pipeline_metrics.status, agent_id, operation, environment, pipeline_metrics.{column}
    FROM pipeline_metrics
    LEFT JOIN receipts USING (execution_id)
    WHERE execution_id = ?
      AND +stage = ?
      AND +pipeline_metrics.{column} = ?
    ORDER BY pipeline_metrics.id"""
