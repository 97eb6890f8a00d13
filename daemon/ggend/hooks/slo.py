"""SLO: the hooks that evaluate committed rows against the objectives.

Other objectives count from the next row on; what was judged before stays.
"""

from __future__ import annotations

import sqlite3

from ggend.hooks.runner import Hook
from ggend.slo.breaches import write_breaches
from ggend.slo.evaluate import Thresholds
from ggend.slo.objectives import SHIPPED, Objectives

__all__ = ["SloHooks"]


class SloHooks:
    """Judges executions and stages; `objectives` may be replaced while it does."""

    def __init__(self, objectives: Objectives = SHIPPED) -> None:
        self.objectives = objectives

    @property
    def objectives(self) -> Objectives:
        """What is promised."""
        return self._objectives

    @objectives.setter
    def objectives(self, objectives: Objectives) -> None:
        self._objectives = objectives
        self._thresholds = Thresholds(objectives)

    def hooks(self) -> list[Hook]:
        """Return the hooks over receipts and over stages."""
        return [
            Hook("slo", "receipts", self._executions),
            Hook("slo", "pipeline_metrics", self._stages),
        ]

    def _executions(self, connection: sqlite3.Connection, after: int, upto: int) -> bool:
        broken = self._thresholds.broken_by_executions(connection, after, upto)
        return write_breaches(connection, broken)

    def _stages(self, connection: sqlite3.Connection, after: int, upto: int) -> bool:
        broken = self._thresholds.broken_by_stages(connection, after, upto)
        return write_breaches(connection, broken)
