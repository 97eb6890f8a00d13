"""Events: the seven things that a producer can say, as frozen tagged structs.

The `type` field tells them apart. Unknown fields are ignored; a new field needs a default;
a type or a field is never renamed or retyped. Building a struct checks nothing: the checks
run when the bytes are decoded, which is what the daemon does with every event.

`timestamp` is ISO 8601; without an offset it means UTC. Left out, the moment of emit()
(or of arrival, for plain NDJSON) is used. For receipts and stages the timestamp is the
*start*: a moment of emit() is taken as their end, and `duration_ms` is subtracted.

`duration_source` of these two is left out where `duration_ms` was measured. Where nobody recorded
it, `unknown` says so: 0 is stored whatever `duration_ms` is, and counts in no average or objective.

JSON fields take any JSON value: None, bool, int, finite float, str, list, str-keyed dict.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from msgspec import Meta, Struct

from ggend_schema import limits

__all__ = [
    "EVENT_TYPES",
    "STAGES",
    "Audit",
    "Collision",
    "Event",
    "MemorySaved",
    "ReceiptEmitted",
    "SessionEnded",
    "SessionStarted",
    "StageCompleted",
]

Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=limits.NAME_CHARS)]
OperationText: TypeAlias = Annotated[str, Meta(min_length=1, max_length=limits.OPERATION_CHARS)]
ErrorText: TypeAlias = Annotated[str, Meta(max_length=limits.ERROR_CHARS)]
Count: TypeAlias = Annotated[int, Meta(ge=0, le=limits.COUNT_MAX)]
HexHash: TypeAlias = Annotated[str, Meta(pattern="^[0-9a-fA-F]{1,128}$")]
Timestamp: TypeAlias = Annotated[str, Meta(min_length=1, max_length=64)]
#: Any JSON value. The decoder cannot say so (recursive types); `rows` checks it.
JsonValue: TypeAlias = Any

Operation: TypeAlias = Literal[
    "validation",
    "generation",
    "normalization",
    "extraction",
    "emission",
    "canonicalization",
    "receipt",
    "dry_run",
    "watch",
]
ReceiptStatus: TypeAlias = Literal["passed", "failed", "partial", "cancelled"]
AuditStatus: TypeAlias = Literal["started", "completed", "failed", "skipped"]
SessionEndStatus: TypeAlias = Literal["completed", "failed", "cancelled"]
CollisionType: TypeAlias = Literal[
    "file_conflict", "memory_conflict", "semantic_overlap", "structural_overlap"
]
Severity: TypeAlias = Literal["info", "warning", "critical"]
StageStatus: TypeAlias = Literal["passed", "failed"]
DurationSource: TypeAlias = Literal["unknown"]
Stage: TypeAlias = Literal[
    "μ₁_normalize",
    "μ₂_extract",
    "μ₃_emit",
    "μ₄_canonicalize",
    "μ₅_receipt",
    # The micro sign U+00B5, which keyboards give, for the Greek letter U+03BC.
    "µ₁_normalize",
    "µ₂_extract",
    "µ₃_emit",
    "µ₄_canonicalize",
    "µ₅_receipt",
    "normalize",
    "extract",
    "emit",
    "canonicalize",
    "receipt",
]

#: Every accepted spelling of a stage and the name that is stored.
STAGES: dict[str, str] = {
    spelling: stored
    for stored in ("μ₁_normalize", "μ₂_extract", "μ₃_emit", "μ₄_canonicalize", "μ₅_receipt")
    for spelling in (stored, stored.replace("μ", "µ"), stored.partition("_")[2])
}


class _Event(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type"):
    """What all events have in common; type checkers want two of the options repeated."""


class ReceiptEmitted(_Event, frozen=True, kw_only=True, tag="receipt_emitted"):
    """One execution of the pipeline has ended. Row in `receipts`, unique by execution_id."""

    execution_id: Name
    agent_id: Name
    operation: Operation
    status: ReceiptStatus
    duration_ms: Count
    timestamp: Timestamp | None = None
    manifest_hash: HexHash | None = None
    ontology_hash: HexHash | None = None
    files_generated: Count | None = None
    files_modified: Count | None = None
    receipt: JsonValue = None
    error_message: ErrorText | None = None
    environment: Name | None = None
    session_id: Name | None = None
    duration_source: DurationSource | None = None


class StageCompleted(_Event, frozen=True, kw_only=True, tag="stage_completed", gc=False):
    """One of the five stages has ended. Row in `pipeline_metrics`, parked until its receipt."""

    execution_id: Name
    stage: Stage
    duration_ms: Count
    status: StageStatus
    input_size_bytes: Count | None = None
    output_size_bytes: Count | None = None
    error_message: ErrorText | None = None
    timestamp: Timestamp | None = None
    duration_source: DurationSource | None = None


class Collision(_Event, frozen=True, kw_only=True, tag="collision", gc=False):
    """Two agents met. Row in `collision_detection`, parked until its session."""

    session_id: Name
    agent_id_1: Name
    agent_id_2: Name
    collision_type: CollisionType
    description: ErrorText
    severity: Severity
    resolution: ErrorText | None = None
    timestamp: Timestamp | None = None


class Audit(_Event, frozen=True, kw_only=True, tag="audit"):
    """An agent did something worth remembering. Row in `audit_log`; never parked."""

    agent_id: Name
    operation: OperationText
    status: AuditStatus
    duration_ms: Count | None = None
    error_message: ErrorText | None = None
    context: JsonValue = None
    execution_id: Name | None = None
    session_id: Name | None = None
    timestamp: Timestamp | None = None


class SessionStarted(_Event, frozen=True, kw_only=True, tag="session_started"):
    """A swarm begins to work. Row in `workflow_sessions` with status running."""

    session_id: Name
    agent_count: Count
    context: JsonValue = None
    timestamp: Timestamp | None = None


class SessionEnded(_Event, frozen=True, kw_only=True, tag="session_ended", gc=False):
    """A swarm has ended. Updates its row; what is left out is derived from its receipts."""

    session_id: Name
    status: SessionEndStatus
    total_duration_ms: Count | None = None
    successful_operations: Count | None = None
    failed_operations: Count | None = None
    timestamp: Timestamp | None = None


class MemorySaved(_Event, frozen=True, kw_only=True, tag="memory_saved"):
    """An agent saves its whole memory. Row in `agent_memory`; the later timestamp wins."""

    agent_id: Name
    memory: JsonValue
    collision_history: list[JsonValue] | None = None
    retry_count: Count = 0
    last_error: ErrorText | None = None
    timestamp: Timestamp | None = None


Event: TypeAlias = (
    ReceiptEmitted
    | StageCompleted
    | Collision
    | Audit
    | SessionStarted
    | SessionEnded
    | MemorySaved
)

#: The event classes by the value of their `type` field.
EVENT_TYPES: dict[str, type[Event]] = {
    "receipt_emitted": ReceiptEmitted,
    "stage_completed": StageCompleted,
    "collision": Collision,
    "audit": Audit,
    "session_started": SessionStarted,
    "session_ended": SessionEnded,
    "memory_saved": MemorySaved,
}
