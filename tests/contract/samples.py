"""Samples: the messages and lines whose bytes are frozen in `ggend_schema/golden`.

A file there never changes: a client in another language was tested against it. A new message or
field gets a new file.
"""

from __future__ import annotations

from pathlib import Path

from msgspec import Raw

import ggend_schema
from ggend_schema.codec import encode_event
from ggend_schema.events import Audit, Event, ReceiptEmitted, StageCompleted
from ggend_schema.messages import (
    Ack,
    Answer,
    ClientMessage,
    DaemonMessage,
    EncodedBatch,
    Goodbye,
    Hello,
    Limits,
    LineError,
    LinesAnswer,
    Reject,
    Request,
    Welcome,
)

__all__ = ["ANSWER", "EVENTS", "FRAMES", "GOLDEN", "UNKNOWN"]

GOLDEN = Path(ggend_schema.__file__).parent / "golden"

_PRODUCER = bytes(range(16))
_STAMP_NS = 1_769_690_096_789_000_000

#: The lines of `events.ndjson`, and the events of `batch.bin`.
EVENTS: tuple[Event, ...] = (
    StageCompleted(
        execution_id="5f0c", stage="μ₂_extract", duration_ms=480, status="passed",
        output_size_bytes=4096,
    ),
    Audit(
        agent_id="agent-1", operation="write src/lib.rs", status="completed",
        context={"bytes": 4096, "ratio": 0.5}, execution_id="5f0c",
        timestamp="2026-01-29T12:34:56.789Z",
    ),
    ReceiptEmitted(
        execution_id="5f0c", agent_id="agent-1", operation="generation", status="passed",
        duration_ms=2000, files_generated=3, receipt={"files": ["src/lib.rs"]}, session_id="s-1",
    ),
)  # fmt: skip

#: The lines of `events_unknown_durations.ndjson`, and the events of `batch_unknown_durations.bin`.
UNKNOWN: tuple[Event, ...] = (
    StageCompleted(
        execution_id="5f0d", stage="μ₂_extract", duration_ms=0, status="passed",
        duration_source="unknown",
    ),
    ReceiptEmitted(
        execution_id="5f0d", agent_id="agent-1", operation="generation", status="passed",
        duration_ms=0, duration_source="unknown",
    ),
)  # fmt: skip

#: Files with one frame each.
FRAMES: dict[str, ClientMessage | DaemonMessage | EncodedBatch] = {
    "hello": Hello(protocol=1, producer=_PRODUCER, client="example/1.0"),
    "hello_again": Hello(protocol=1, producer=_PRODUCER, client="example/1.0", acked=44),
    "hello_requests_only": Hello(protocol=1),
    "welcome": Welcome(
        protocol=1,
        database="00112233445566778899aabbccddeeff",
        last_sequence=41,
        limits=Limits(frame_bytes=4194304, batch_events=4096),
        durability="wal, synchronous=FULL",
    ),
    "batch": EncodedBatch(
        first_sequence=42,
        stamps=[_STAMP_NS, _STAMP_NS + 1, _STAMP_NS + 2],
        events=[Raw(encode_event(event)) for event in EVENTS],
    ),
    "batch_lost_and_shed": EncodedBatch(
        first_sequence=50,
        stamps=[_STAMP_NS],
        events=[Raw(encode_event(EVENTS[0]))],
        shed=7,
        lost=5,
    ),
    "batch_unknown_durations": EncodedBatch(
        first_sequence=51,
        stamps=[_STAMP_NS, _STAMP_NS + 1],
        events=[Raw(encode_event(event)) for event in UNKNOWN],
    ),
    "ack": Ack(sequence=44),
    "reject": Reject(
        sequence=43, code="invalid", message="Expected `int` >= 0 - at `$.duration_ms`"
    ),
    "request": Request(id=1, op="load_memory", arguments={"agent_id": "agent-1"}),
    "answer": Answer(id=1, result={"memory": {"seen": 3}}),
    "answer_refused": Answer(id=2, code="unknown_request", message="no request is called 'x'"),
    "goodbye_done": Goodbye(code="done"),
    "goodbye_gap": Goodbye(code="gap", message="numbers after 41 are missing", last_sequence=41),
}

#: `answer.ndjson`.
ANSWER = LinesAnswer(
    lines=4,
    stored=3,
    replayed=0,
    duplicate=0,
    superseded=0,
    rejected=1,
    refused=0,
    parked=2,
    errors=[LineError(line=2, code="unknown_type", message="Invalid value 'x' - at `$.type`")],
)
