"""Work: what a torture producer emits, so that the oracle can tell what must be in the tables.

Execution `number` of a producer is always the same: 3 audits and 5 stages, and the receipt after
those of later executions, so that its stages are parked. Every 20th has a collision, which may come
before the session that it belongs to. Builds events, sends nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from ggend_schema import (
    Audit,
    Collision,
    Event,
    MemorySaved,
    ReceiptEmitted,
    SessionEnded,
    SessionStarted,
    StageCompleted,
)

__all__ = ["COLLISION_EXECUTIONS", "SESSION_EXECUTIONS", "SLOW_EXECUTIONS", "STAGES", "emitted"]

STAGES = ("normalize", "extract", "emit", "canonicalize", "receipt")

#: Executions a session, executions a collision, and executions of which one misses its objective.
SESSION_EXECUTIONS = 100
COLLISION_EXECUTIONS = 20
SLOW_EXECUTIONS = 7

#: Executions by which a receipt is late.
_LATE = 40

#: Over the shipped limit for executions, and within it.
_SLOW_MS, _FAST_MS = 3_000, 1_000


def emitted(tag: str, executions: Iterator[int]) -> Iterator[Event]:
    """Yield the events of these executions, and at their end what is still late."""
    late: deque[Event] = deque()
    last = -1
    for number in executions:
        last = number
        execution_id, agent_id = f"{tag}-{number}", tag
        session_id = f"{tag}-s{number // SESSION_EXECUTIONS}"
        if number % COLLISION_EXECUTIONS == 0:
            yield Collision(
                session_id=session_id,
                agent_id_1=tag,
                agent_id_2="other",
                collision_type="file_conflict",
                description=f"{tag} {number}",
                severity="info",
            )
        if number % SESSION_EXECUTIONS == 0:
            yield SessionStarted(session_id=session_id, agent_count=1)
            if number:
                ended = f"{tag}-s{number // SESSION_EXECUTIONS - 1}"
                yield SessionEnded(session_id=ended, status="completed")
            yield MemorySaved(agent_id=tag, memory={"number": number})
        for step in range(3):
            yield Audit(
                agent_id=agent_id,
                operation=f"{tag} {number} {step}",
                status="completed",
                execution_id=execution_id,
                context={"step": step, "text": "x" * 80},
            )
        for stage in STAGES:
            yield StageCompleted(
                execution_id=execution_id,
                stage=stage,  # type: ignore[arg-type]
                duration_ms=10,
                status="passed",
            )
        slow = number % SLOW_EXECUTIONS == 0
        late.append(
            ReceiptEmitted(
                execution_id=execution_id,
                agent_id=agent_id,
                operation="generation",
                status="passed",
                duration_ms=_SLOW_MS if slow else _FAST_MS,
                session_id=session_id,
                receipt={"number": number},
            )
        )
        if len(late) > _LATE:
            yield late.popleft()
    yield from late
    if last >= 0:
        ended = f"{tag}-s{last // SESSION_EXECUTIONS}"
        yield SessionEnded(session_id=ended, status="completed")
