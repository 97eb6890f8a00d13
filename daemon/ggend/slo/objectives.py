"""Objectives: what is promised of a number, and how a value is judged. Pure, no I/O, no clock.

The shipped defaults are ggen's published stage reference times (400, 500, 600, 300 and 200 ms for
μ₁ to μ₅, 2 s in all): a stage warns above twice and is critical above five times its reference.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, Struct

__all__ = [
    "EXECUTION_COLUMNS",
    "EXECUTION_DURATION",
    "METRICS",
    "SHIPPED",
    "STAGE_COLUMNS",
    "STAGE_DURATIONS",
    "Breach",
    "Objectives",
    "Severity",
    "Threshold",
]

Severity: TypeAlias = Literal["warning", "critical"]

#: Number of a receipt and of a stage: what it is, for the sentence in `description`, and its unit.
EXECUTION_COLUMNS = {"duration_ms": ("took", "ms"), "files_generated": ("generated", "files")}
STAGE_COLUMNS = {
    "duration_ms": ("took", "ms"),
    "input_size_bytes": ("read", "bytes"),
    "output_size_bytes": ("wrote", "bytes"),
}

_REFERENCE_MS = {
    "μ₁_normalize": 400,
    "μ₂_extract": 500,
    "μ₃_emit": 600,
    "μ₄_canonicalize": 300,
    "μ₅_receipt": 200,
}

#: Every metric that a threshold may be about, with the stage (None: the execution) and the column.
METRICS: dict[str, tuple[str | None, str]] = {
    **{f"execution.{column}": (None, column) for column in EXECUTION_COLUMNS},
    **{
        f"stage.{stage}.{column}": (stage, column)
        for stage, column in itertools.product(_REFERENCE_MS, STAGE_COLUMNS)
    },
}

Limit: TypeAlias = Annotated[float, Meta(ge=0, le=10**12)]


class Breach(Struct, frozen=True):
    """A value beyond an objective. Beyond critical there is only the critical one."""

    metric: str
    severity: Severity
    target: float
    actual: float
    description: str
    #: 1 where more is worse, −1 where less is.
    direction: int = 1


class Threshold(Struct, frozen=True, forbid_unknown_fields=True):
    """An objective on one number: at most `warning`, at the very most `critical`.

    `below` turns it round: at least. `operation` and `environment` narrow it to executions with
    those; of several that fit a row, the first in the file judges it.
    """

    metric: str
    warning: Limit | None = None
    critical: Limit | None = None
    below: bool = False
    operation: str | None = None
    environment: str | None = None

    @property
    def stage(self) -> str | None:
        """The stage that it is about; None: the execution."""
        return METRICS[self.metric][0]

    @property
    def column(self) -> str:
        """The column that it is about."""
        return METRICS[self.metric][1]

    @property
    def direction(self) -> int:
        """1 where more is worse, −1 where less is."""
        return -1 if self.below else 1

    @property
    def first(self) -> float:
        """The limit that is broken first."""
        limits = [limit for limit in (self.warning, self.critical) if limit is not None]
        return max(limits) if self.below else min(limits)

    def fits(self, operation: str | None, environment: str | None) -> bool:
        """Whether it is about executions like this."""
        return self.operation in (None, operation) and self.environment in (None, environment)

    def judge(self, actual: float) -> Breach | None:
        """Return the breach, or None when the value is within the objective."""
        if self.critical is not None and self._is_beyond(actual, self.critical):
            return self._breach("critical", self.critical, actual)
        if self.warning is not None and self._is_beyond(actual, self.warning):
            return self._breach("warning", self.warning, actual)
        return None

    def _is_beyond(self, actual: float, limit: float) -> bool:
        return actual < limit if self.below else actual > limit

    def _breach(self, severity: Severity, target: float, actual: float) -> Breach:
        subject = "The execution" if self.stage is None else f"Stage {self.stage}"
        columns = EXECUTION_COLUMNS if self.stage is None else STAGE_COLUMNS
        verb, unit = columns[self.column]
        beyond = "under" if self.below else "over"
        return Breach(
            self.metric,
            severity,
            target,
            actual,
            f"{subject} {verb} {actual:,.0f} {unit}, "
            f"{beyond} the {severity} limit of {target:,.15g} {unit}.",
            self.direction,
        )


class Objectives:
    """All thresholds, in the order in which they are tried."""

    def __init__(self, thresholds: Sequence[Threshold]) -> None:
        self.thresholds = tuple(thresholds)
        self._by_metric: dict[str, list[Threshold]] = {}
        for threshold in self.thresholds:
            self._by_metric.setdefault(threshold.metric, []).append(threshold)

    def judge(
        self, metric: str, actual: float | None, operation: str | None, environment: str | None
    ) -> Breach | None:
        """Judge one number of one row by the first threshold that is about it."""
        if actual is None:
            return None
        for threshold in self._by_metric.get(metric, ()):
            if threshold.fits(operation, environment):
                return threshold.judge(actual)
        return None


EXECUTION_DURATION = Threshold("execution.duration_ms", 2_000, 5_000)

#: Objectives by stage name.
STAGE_DURATIONS = {
    stage: Threshold(f"stage.{stage}.duration_ms", 2 * ms, 5 * ms)
    for stage, ms in _REFERENCE_MS.items()
}

#: What holds without a file of objectives.
SHIPPED = Objectives([EXECUTION_DURATION, *STAGE_DURATIONS.values()])
