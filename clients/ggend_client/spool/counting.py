"""Counting: how many events lie in a spool. Reads the files of a producer, and changes none."""

from __future__ import annotations

from pathlib import Path

from ggend_client.spool.directory import SpoolSummary, survey
from ggend_client.spool.queue_part import read_part

__all__ = ["waiting_events"]


def waiting_events(one: SpoolSummary) -> int:
    """Count the spooled events, and of queue files those that are not known to be settled."""
    spooled = sum(_events(path, one.producer) for path in one.segments)
    return spooled + sum(_events_in_queue(path, one.producer) for path in one.parts)


def _events_in_queue(path: Path, producer: bytes) -> int:
    try:
        part = read_part(path, producer)
    except (OSError, ValueError):
        return 0
    return 0 if part is None else part.unsettled


def _events(path: Path, producer: bytes) -> int:
    try:
        return sum(last - first + 1 for first, last in survey(path, producer).records)
    except OSError:
        return 0  # delivered in the meantime, or not readable by this user
