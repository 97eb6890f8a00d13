"""Objectives: what is promised of a number, and how a value is judged. Pure, no I/O, no clock.

The shipped defaults are ggen's published stage reference times (400, 500, 600, 300 and 200 ms for
μ₁ to μ₅, 2 s in all): a stage warns above twice and is critical above five times its reference.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Struct

__all__ = ["EXECUTION_DURATION", "STAGE_DURATIONS", "Breach", "Severity", "Threshold"]

Severity: TypeAlias = Literal["warning", "critical"]


class Breach(Struct, frozen=True):
    """A value beyond an objective. Beyond critical there is only the critical one."""

    metric: str
    severity: Severity
    target: float
    actual: float
    description: str


class Threshold(Struct, frozen=True):
    """An objective on one number: at most `warning`, at the very most `critical`."""

    metric: str
    #: What the number is, for the sentence in `description`.
    subject: str
    warning: float
    critical: float
    unit: str = "ms"

    def judge(self, actual: float) -> Breach | None:
        """Return the breach, or None when the value is within the objective."""
        if actual > self.critical:
            return self._breach("critical", self.critical, actual)
        if actual > self.warning:
            return self._breach("warning", self.warning, actual)
        return None

    def _breach(self, severity: Severity, target: float, actual: float) -> Breach:
        return Breach(
            self.metric,
            severity,
            target,
            actual,
            f"{self.subject} took {actual:,.0f} {self.unit}, "
            f"over the {severity} limit of {target:,.0f} {self.unit}.",
        )


EXECUTION_DURATION = Threshold("execution.duration_ms", "The execution", 2_000, 5_000)

#: Objectives by stage name.
STAGE_DURATIONS = {
    stage: Threshold(f"stage.{stage}.duration_ms", f"Stage {stage}", 2 * ms, 5 * ms)
    for stage, ms in {
        "μ₁_normalize": 400,
        "μ₂_extract": 500,
        "μ₃_emit": 600,
        "μ₄_canonicalize": 300,
        "μ₅_receipt": 200,
    }.items()
}
