"""Rollups: the hooks that count committed rows for the summary views and the percentiles."""

from __future__ import annotations

from ggend.database.rollups import advance_executions, advance_stages
from ggend.hooks.runner import SLICE_ROWS, Hook

__all__ = ["rollup_hooks"]


def rollup_hooks() -> list[Hook]:
    """Return the hooks that count executions and stages, a whole slice at a time.

    What is less than a slice is counted by the views themselves, in a few milliseconds.
    """
    return [
        Hook("rollups", "receipts", advance_executions, at_least=SLICE_ROWS),
        Hook("rollups", "pipeline_metrics", advance_stages, at_least=SLICE_ROWS),
    ]
