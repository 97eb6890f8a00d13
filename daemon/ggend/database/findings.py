"""Findings: what was looked at, and what was found there."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

__all__ = ["Finding", "Verdict"]


class Verdict(StrEnum):
    """How a look ended."""

    OK = "ok"
    #: Worth knowing; ggend works with it.
    WARNING = "warning"
    #: Not as promised: a program that leans on it may fail.
    FAILED = "failed"


class Finding(Struct, frozen=True):
    """One thing that was looked at."""

    what: str
    verdict: Verdict
    detail: str
