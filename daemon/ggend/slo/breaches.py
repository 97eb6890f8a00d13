"""Breaches: what was broken, written to `slo_breaches` and, with an execution, `slo_violations`.

One breach a metric, subject and severity. Where a number is judged again, as when a stage ran twice
in one execution, the worst value stands, so that the order of arrival does not matter.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Struct

from ggend.slo.objectives import Breach

__all__ = ["Broken", "write_breaches", "write_new_breaches"]


class Broken(Struct, frozen=True):
    """A breach, and what it is of."""

    breach: Breach
    #: The execution; the session; what is silent and since when.
    subject: str
    timestamp: str
    execution_id: str | None = None
    session_id: str | None = None

    @property
    def row(self) -> tuple[object, ...]:
        """The values that the statements below take, by position."""
        breach = self.breach
        return (
            breach.metric,
            self.subject,
            breach.severity,
            breach.target,
            breach.actual,
            breach.description,
            self.timestamp,
            self.execution_id,
            self.session_id,
        )


def write_breaches(connection: sqlite3.Connection, broken: Iterable[Broken]) -> bool:
    """Write breaches of executions, the worst of each; return whether there was one.

    Three statements a direction, however many breaches: one at a time, the interpreter's lock
    changes hands with each, and took four times as long as the work (docs/PERFORMANCE.md).
    """
    worst: dict[int, dict[tuple[str, str, str], Broken]] = {}
    for one in broken:
        breach = one.breach
        of_direction = worst.setdefault(breach.direction, {})
        key = (breach.metric, one.subject, breach.severity)
        known = of_direction.get(key)
        if known is None or _rank(known) < _rank(one):
            of_direction[key] = one
    for direction, found in worst.items():
        parameters = {"rows": _json(found.values()), "direction": direction}
        for statement in (_WORSE_VIOLATIONS, _NEW_VIOLATIONS, _BREACHES):
            connection.execute(statement, parameters)
    return bool(worst)


def write_new_breaches(connection: sqlite3.Connection, broken: Iterable[Broken]) -> bool:
    """Write breaches without an execution; return whether one was new. What is there stays."""
    rows = _json(broken)
    return connection.execute(_NEW_BREACHES, (rows,)).rowcount > 0


def _rank(broken: Broken) -> tuple[float, str]:
    return (broken.breach.direction * broken.breach.actual, broken.timestamp)


def _json(broken: Iterable[Broken]) -> str:
    rows: list[Any] = [one.row for one in broken]
    return msgspec.json.encode(rows).decode()


_WORSE_VIOLATIONS = """
    UPDATE slo_violations
    SET target_value = new.value ->> 3,
        actual_value = new.value ->> 4,
        description = new.value ->> 5,
        timestamp = new.value ->> 6
    FROM json_each(:rows) AS new
    WHERE execution_id = new.value ->> 7
      AND +metric = new.value ->> 0 -- the plus keeps the planner off the indexes that say little
      AND +severity = new.value ->> 2
      AND (:direction * actual_value, timestamp)
          < (:direction * (new.value ->> 4), new.value ->> 6)"""
_NEW_VIOLATIONS = """
    INSERT INTO slo_violations (
        metric, execution_id, severity, target_value, actual_value, description, timestamp)
    SELECT
        new.value ->> 0, new.value ->> 7, new.value ->> 2, new.value ->> 3, new.value ->> 4,
        new.value ->> 5, new.value ->> 6
    FROM json_each(:rows) AS new
    WHERE NOT EXISTS (
        SELECT 1
        FROM slo_breaches
        WHERE metric = new.value ->> 0
          AND subject = new.value ->> 1
          AND severity = new.value ->> 2)"""
_INSERT = """
    INSERT INTO slo_breaches (
        metric, subject, severity, target_value, actual_value, description, timestamp,
        execution_id, session_id)
    SELECT
        new.value ->> 0, new.value ->> 1, new.value ->> 2, new.value ->> 3, new.value ->> 4,
        new.value ->> 5, new.value ->> 6, new.value ->> 7, new.value ->> 8
    FROM json_each({rows}) AS new
    WHERE true -- or the parser takes ON for a join
    ON CONFLICT (metric, subject, severity) DO """
_BREACHES = (
    _INSERT.format(rows=":rows")
    + """UPDATE
    SET target_value = excluded.target_value,
        actual_value = excluded.actual_value,
        description = excluded.description,
        timestamp = excluded.timestamp
    WHERE (:direction * actual_value, timestamp)
        < (:direction * excluded.actual_value, excluded.timestamp)"""
)
_NEW_BREACHES = _INSERT.format(rows="?") + "NOTHING"
