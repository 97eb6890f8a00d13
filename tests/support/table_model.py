"""Table model: the tables that events make by the data contract alone, in plain dictionaries.

It knows nothing of batches, parking or SQL: `reference_model` says which events are stored.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, TypeAlias

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
from support.histories import producer_id

__all__ = ["Sent", "comparable", "memory_key", "model", "tables"]


class Sent(NamedTuple):
    """One event, by whom, and its stamp."""

    producer: int
    event: Event
    stamp_ns: int


Row: TypeAlias = dict[str, Any]

#: Warning and critical above these milliseconds.
THRESHOLDS = {
    "μ₁_normalize": (800, 2_000),
    "μ₂_extract": (1_000, 2_500),
    "μ₃_emit": (1_200, 3_000),
    "μ₄_canonicalize": (600, 1_500),
    "μ₅_receipt": (400, 1_000),
}
SPELLINGS = {name.partition("_")[2]: name for name in THRESHOLDS}


def milliseconds(sent: Sent) -> int:
    """When it began or happened: its timestamp, else its stamp, which for two types is the end."""
    event = sent.event
    if event.timestamp is not None:
        since = datetime.fromisoformat(event.timestamp) - datetime(1970, 1, 1, tzinfo=UTC)
        return since // timedelta(milliseconds=1)
    took = lasted(event) if isinstance(event, ReceiptEmitted | StageCompleted) else 0
    return sent.stamp_ns // 1_000_000 - took


def lasted(event: ReceiptEmitted | StageCompleted) -> int:
    """What is stored of a duration."""
    return 0 if event.duration_source == "unknown" else event.duration_ms


def stored_time(sent: Sent) -> str:
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds(sent))
    return at.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def fields(event: Event, *names: str) -> Row:
    return {name: getattr(event, name) for name in names}


def model(history: Iterable[Sent]) -> dict[str, list[Row]]:
    """The seven tables that these events make, whatever their order."""
    by_type: dict[type, list[Sent]] = {}
    for sent in history:
        by_type.setdefault(type(sent.event), []).append(sent)
    receipt_rows = {
        sent.event.execution_id: fields(
            sent.event,
            *("execution_id", "agent_id", "operation", "status", "manifest_hash"),
            *("ontology_hash", "error_message", "environment", "session_id", "duration_source"),
        )
        | {
            "duration_ms": lasted(sent.event),
            "files_generated": sent.event.files_generated or 0,
            "files_modified": 0,
            "receipt_json": sent.event.receipt,
            "timestamp": stored_time(sent),
        }
        for sent in by_type.get(ReceiptEmitted, [])
        if isinstance(sent.event, ReceiptEmitted)
    }
    metric_rows = [
        fields(
            sent.event,
            *("execution_id", "status", "error_message"),
            *("input_size_bytes", "output_size_bytes", "duration_source"),
        )
        | {
            "duration_ms": lasted(sent.event),
            "stage": SPELLINGS.get(sent.event.stage, sent.event.stage),
            "timestamp": stored_time(sent),
        }
        for sent in by_type.get(StageCompleted, [])
        if isinstance(sent.event, StageCompleted) and sent.event.execution_id in receipt_rows
    ]
    session_rows = model_sessions(by_type, receipt_rows.values())
    return {
        "receipts": list(receipt_rows.values()),
        "pipeline_metrics": metric_rows,
        "workflow_sessions": list(session_rows.values()),
        "collision_detection": [
            fields(
                sent.event,
                *("session_id", "agent_id_1", "agent_id_2", "collision_type"),
                *("description", "resolution", "severity"),
            )
            | {"timestamp": stored_time(sent)}
            for sent in by_type.get(Collision, [])
            if isinstance(sent.event, Collision) and sent.event.session_id in session_rows
        ],
        "audit_log": [
            fields(
                sent.event,
                *("agent_id", "operation", "status", "duration_ms", "error_message"),
                *("execution_id", "session_id"),
            )
            | {"context_json": sent.event.context, "timestamp": stored_time(sent)}
            for sent in by_type.get(Audit, [])
            if isinstance(sent.event, Audit)
        ],
        "agent_memory": model_memories(by_type.get(MemorySaved, [])),
        "slo_violations": model_violations(receipt_rows.values(), metric_rows),
    }


def model_sessions(by_type: dict[type, list[Sent]], receipt_rows: Iterable[Row]) -> dict[str, Row]:
    rows: dict[str, Row] = {}
    began: dict[str, int] = {}
    for sent in by_type.get(SessionStarted, []):
        event = sent.event
        assert isinstance(event, SessionStarted)
        began[event.session_id] = milliseconds(sent)
        rows[event.session_id] = fields(event, "session_id", "agent_count") | {
            "status": "running",
            "start_time": stored_time(sent),
            "end_time": None,
            "total_duration_ms": None,
            "successful_operations": 0,
            "failed_operations": 0,
            "context_json": event.context,
        }
    outcomes = Counter((row["session_id"], row["status"]) for row in receipt_rows)
    for sent in by_type.get(SessionEnded, []):
        event = sent.event
        assert isinstance(event, SessionEnded)
        if event.session_id not in rows:
            continue
        derived = {
            "total_duration_ms": milliseconds(sent) - began[event.session_id],
            "successful_operations": outcomes[event.session_id, "passed"],
            "failed_operations": outcomes[event.session_id, "failed"],
        }
        given_fields = {
            name: value for name, value in fields(event, *derived).items() if value is not None
        }
        rows[event.session_id] |= (
            derived | given_fields | {"status": event.status, "end_time": stored_time(sent)}
        )
    return rows


def memory_key(sent: Sent) -> tuple[str, bytes]:
    """Later timestamp, then larger producer."""
    assert sent.event.timestamp is not None
    at = datetime.fromisoformat(sent.event.timestamp).isoformat(timespec="microseconds")
    return at, producer_id(sent.producer) or b""


def model_memories(saves: Iterable[Sent]) -> list[Row]:
    latest: dict[str, Sent] = {}
    for sent in sorted(saves, key=memory_key):
        assert isinstance(sent.event, MemorySaved)
        latest[sent.event.agent_id] = sent
    return [
        fields(sent.event, "agent_id", "retry_count", "last_error", "collision_history")
        | {
            "memory_json": sent.event.memory,
            "updated_at": stored_time(sent).replace("T", " ").removesuffix("Z"),
        }
        for sent in latest.values()
        if isinstance(sent.event, MemorySaved)
    ]


def model_violations(receipt_rows: Iterable[Row], metric_rows: Iterable[Row]) -> list[Row]:
    judged = [
        ("execution.duration_ms", "The execution", (2_000, 5_000), row) for row in receipt_rows
    ]
    judged += [
        (f"stage.{stage}.duration_ms", f"Stage {stage}", THRESHOLDS[stage], row)
        for row in metric_rows
        for stage in [row["stage"]]
    ]
    worst: dict[tuple[str, str, str], Row] = {}
    for metric, subject, (warning, critical), row in judged:
        actual = row["duration_ms"]
        if actual <= warning or row["duration_source"] == "unknown":
            continue
        severity, target = ("critical", critical) if actual > critical else ("warning", warning)
        violation = fields_of(row, "execution_id", "timestamp") | {
            "metric": metric,
            "severity": severity,
            "target_value": target,
            "actual_value": actual,
            "description": f"{subject} took {actual:,} ms, "
            f"over the {severity} limit of {target:,} ms.",
        }
        key = (row["execution_id"], metric, severity)
        other = worst.get(key)
        if other is None or (other["actual_value"], other["timestamp"]) < (
            actual,
            row["timestamp"],
        ):
            worst[key] = violation
    return list(worst.values())


def fields_of(row: Row, *names: str) -> Row:
    return {name: row[name] for name in names}


def tables(connection: sqlite3.Connection) -> dict[str, list[str]]:
    """Read the seven tables whole, apart from what differs by order or by clock."""
    contents = {}
    for table in model([]):
        cursor = connection.execute(f"SELECT * FROM {table}")
        names = [column[0] for column in cursor.description]
        rows = [dict(zip(names, row, strict=True)) for row in cursor]
        for row in rows:
            del row["id"], row["created_at"]
            for name, value in row.items():
                if (name.endswith("_json") or name == "collision_history") and value is not None:
                    row[name] = json.loads(value)
        contents[table] = comparable(rows)
    return contents


def comparable(rows: Iterable[Row]) -> list[str]:
    """The rows as texts, in one order. REAL columns hold whole numbers here."""
    return sorted(
        repr(
            sorted(
                (name, int(value) if type(value) is float else value) for name, value in row.items()
            )
        )
        for row in rows
    )
