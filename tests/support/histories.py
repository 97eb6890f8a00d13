"""Histories: events of all types drawn from few ids and moments, so that they meet.

What they mean is in `table_model`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from ggend_schema import (
    Audit,
    Collision,
    MemorySaved,
    ReceiptEmitted,
    SessionEnded,
    SessionStarted,
    StageCompleted,
)

__all__ = [
    "NOON_US",
    "audits",
    "collisions",
    "ends",
    "memories",
    "microseconds",
    "producer_id",
    "receipts",
    "stages",
    "starts",
]

#: 2026-01-29T12:00:00Z in microseconds.
NOON_US = 1_769_688_000_000_000


def producer_id(number: int) -> bytes | None:
    return bytes([number]) * 16 if number else None


def written(microseconds_: int) -> str:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds_)
    return moment.isoformat()


#: Around every threshold of the shipped objectives.
durations = st.sampled_from([400, 600, 800, 1_000, 1_200, 1_500, 2_000, 2_500, 5_000]).flatmap(
    lambda threshold: st.sampled_from([threshold, threshold + 1])
) | st.sampled_from([0, 10**11])
jsons: st.SearchStrategy[Any] = st.sampled_from(
    [None, {}, {"k": [1, 2.5, "μ"]}, True, "text", 0, [{}]]
)
texts = st.sampled_from([None, "no such class", ""])
agents = st.sampled_from(["a1", "a2", "a3"])
executions = st.sampled_from([f"e{number}" for number in range(4)])
sessions = st.sampled_from([f"s{number}" for number in range(3)])
microseconds = st.integers(0, 5_000_000).map(lambda offset: NOON_US + offset)
#: Few moments, so that they meet; of these some differ in microseconds only.
close_moments = st.sampled_from([NOON_US, NOON_US + 1, NOON_US + 999, NOON_US + 1_000])
timestamps = st.none() | microseconds.map(lambda us: written(us))
counts = st.none() | st.integers(0, 10**12)
sources = st.sampled_from([None, None, None, "unknown"])

receipts = st.builds(
    ReceiptEmitted,
    execution_id=executions,
    agent_id=agents,
    operation=st.sampled_from(["generation", "watch"]),
    status=st.sampled_from(["passed", "failed", "partial", "cancelled"]),
    duration_ms=durations,
    timestamp=timestamps,
    manifest_hash=st.sampled_from([None, "ab12"]),
    files_generated=counts,
    receipt=jsons,
    error_message=texts,
    environment=st.sampled_from([None, "dev"]),
    session_id=sessions | st.just("s0") | st.none(),
    duration_source=sources,
)
stages = st.builds(
    StageCompleted,
    execution_id=executions,
    stage=st.sampled_from(["normalize", "μ₁_normalize", "extract", "μ₅_receipt"]),
    duration_ms=durations,
    status=st.sampled_from(["passed", "failed"]),
    input_size_bytes=counts,
    error_message=texts,
    timestamp=timestamps,
    duration_source=sources,
)
collisions = st.builds(
    Collision,
    session_id=sessions,
    agent_id_1=agents,
    agent_id_2=agents,
    collision_type=st.sampled_from(["file_conflict", "semantic_overlap"]),
    description=st.just("both"),
    severity=st.sampled_from(["info", "critical"]),
    resolution=texts,
    timestamp=timestamps,
)
audits = st.builds(
    Audit,
    agent_id=agents,
    operation=st.sampled_from(["plan", "write"]),
    status=st.sampled_from(["started", "skipped"]),
    duration_ms=counts,
    error_message=texts,
    context=jsons,
    execution_id=st.none() | executions,
    session_id=st.none() | sessions,
    timestamp=timestamps,
)
starts = st.builds(
    SessionStarted,
    session_id=sessions,
    agent_count=st.integers(0, 9),
    context=jsons,
    timestamp=microseconds.map(lambda us: written(us)),
)
ends = st.builds(
    SessionEnded,
    session_id=sessions,
    status=st.sampled_from(["completed", "failed", "cancelled"]),
    total_duration_ms=counts,
    successful_operations=counts,
    failed_operations=counts,
    timestamp=microseconds.map(lambda us: written(us + 6_000_000)),
)
memories = st.builds(
    MemorySaved,
    agent_id=agents,
    memory=jsons,
    collision_history=st.sampled_from([None, [], [{"with": "a2"}]]),
    retry_count=st.integers(0, 3),
    last_error=texts,
    timestamp=close_moments.map(lambda us: written(us)),
)
