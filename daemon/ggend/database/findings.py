"""Findings: the results of checks."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

__all__ = ["Finding", "Verdict"]


class Verdict(StrEnum):
    """The result of a check."""

    OK = "ok"
    #: Worth knowing; ggend works with it.
    WARNING = "warning"
    #: Not as specified: a program that relies on it may fail.
    FAILED = "failed"


class Finding(Struct, frozen=True):
    """The result of one check."""

    what: str
    verdict: Verdict
    detail: str
