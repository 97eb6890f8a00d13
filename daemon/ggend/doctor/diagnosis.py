"""Diagnosis: the result of looking at one subject of an installation."""

from __future__ import annotations

from msgspec import Struct

from ggend.database.findings import Verdict

__all__ = ["Diagnosis", "Verdict", "failed", "first_failure", "ok", "warning"]


class Diagnosis(Struct, frozen=True):
    """One subject: its verdict, what was found, and what to do about it."""

    subject: str
    verdict: Verdict
    detail: str
    #: Empty where nothing is wrong.
    hint: str = ""
    #: What the command exits with if this is the first that failed.
    exit_status: int = 0


def ok(subject: str, detail: str) -> Diagnosis:
    """Return that nothing is wrong."""
    return Diagnosis(subject, Verdict.OK, detail)


def warning(subject: str, detail: str, hint: str) -> Diagnosis:
    """Return what somebody should look at, although ggend works."""
    return Diagnosis(subject, Verdict.WARNING, detail, hint)


def failed(subject: str, detail: str, hint: str, exit_status: int) -> Diagnosis:
    """Return what must be repaired before ggend works."""
    return Diagnosis(subject, Verdict.FAILED, detail, hint, exit_status)


def first_failure(diagnoses: list[Diagnosis]) -> int:
    """Return the exit status of the first subject that failed; 0: none did."""
    return next((one.exit_status for one in diagnoses if one.verdict is Verdict.FAILED), 0)
