"""The contract of ggend: events, wire messages, framing, limits, error codes and SQL migrations.

Imported by the daemon and by every Python client; imports nothing but msgspec.
"""

from ggend_schema.codes import EventCode, GoodbyeCode
from ggend_schema.events import (
    EVENT_TYPES,
    STAGES,
    Audit,
    Collision,
    Event,
    MemorySaved,
    ReceiptEmitted,
    SessionEnded,
    SessionStarted,
    StageCompleted,
)
from ggend_schema.messages import PROTOCOL

__all__ = [
    "EVENT_TYPES",
    "PROTOCOL",
    "STAGES",
    "Audit",
    "Collision",
    "Event",
    "EventCode",
    "GoodbyeCode",
    "MemorySaved",
    "ReceiptEmitted",
    "SessionEnded",
    "SessionStarted",
    "StageCompleted",
]
