"""Receipt words: what the words of ggen's receipts mean in the contract.

Never reads a document. Capital letters, blanks, `-` and `_` make no difference.
"""

from __future__ import annotations

from typing import get_args

from ggend_schema.events import Operation, ReceiptStatus, StageStatus

__all__ = [
    "DRY_RUN",
    "SKIPPED",
    "known_statuses",
    "nearest_operation",
    "plain_word",
    "stage_status",
    "status",
]

#: A status that says: nothing was written, and nothing failed.
DRY_RUN = "dry_run"

#: Statuses of a stage that did not run.
SKIPPED = frozenset({"skipped", "pending", "not_run"})

_STATUSES: dict[str, ReceiptStatus] = {
    "passed": "passed",
    "pass": "passed",
    "completed": "passed",
    "complete": "passed",
    "success": "passed",
    "succeeded": "passed",
    "ok": "passed",
    DRY_RUN: "passed",
    "failed": "failed",
    "fail": "failed",
    "failure": "failed",
    "error": "failed",
    "partial": "partial",
    "partial_success": "partial",
    "cancelled": "cancelled",
    "canceled": "cancelled",
    "aborted": "cancelled",
}

_OPERATIONS: dict[str, Operation] = {
    **{operation: operation for operation in get_args(Operation)},
    "validate": "validation",
    "validator": "validation",
    "generate": "generation",
    "sync": "generation",
    "ggen_sync": "generation",
    "normalize": "normalization",
    "extract": "extraction",
    "emit": "emission",
    "canonicalize": "canonicalization",
    "dryrun": "dry_run",
    "preview": "dry_run",
    "watching": "watch",
}

#: Beginnings of words by which an operation is near to one; the first that is in it counts.
_NEAR: tuple[tuple[str, Operation], ...] = (
    ("dry_run", "dry_run"),
    ("preview", "dry_run"),
    ("valid", "validation"),
    ("check", "validation"),
    ("normali", "normalization"),
    ("extract", "extraction"),
    ("canonical", "canonicalization"),
    ("emi", "emission"),
    ("receipt", "receipt"),
    ("watch", "watch"),
)


def plain_word(word: str) -> str:
    """Return a word as the tables here spell it."""
    return word.strip().lower().replace("-", "_").replace(" ", "_")


def status(word: str) -> ReceiptStatus | None:
    """Return the status of a receipt that a word means, if it is known."""
    return _STATUSES.get(plain_word(word))


def stage_status(word: str) -> StageStatus | None:
    """Return the status of a stage that a word means: what did not pass has failed."""
    known = status(word)
    return known if known is None or known == "passed" else "failed"


def known_statuses() -> list[str]:
    """Return the words for a status, for an error."""
    return list(_STATUSES)


def nearest_operation(word: str) -> Operation:
    """Return the operation that a word means, or else the nearest one."""
    plain = plain_word(word)
    known = _OPERATIONS.get(plain)
    if known is not None:
        return known
    return next((near for start, near in _NEAR if f"_{start}" in f"_{plain}"), "generation")
