"""The light client of ggend: emit events and forget them; the daemon makes them durable.

    from ggend_client import Audit, Client

    with Client() as client:
        client.emit(Audit(agent_id="a1", operation="plan", status="completed"))
        client.flush()

`emit` never blocks and never raises; it returns False for an event that was dropped, and
`client.statistics()` says how many and why. Imports msgspec and nothing else.
"""

from ggend_client.client import Client
from ggend_client.errors import ClientError, ConnectionLost, DaemonAbsent, RequestRefused
from ggend_client.requests import ask
from ggend_client.statistics import Dropped, Statistics
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

__all__ = [
    "Audit",
    "Client",
    "ClientError",
    "Collision",
    "ConnectionLost",
    "DaemonAbsent",
    "Dropped",
    "Event",
    "MemorySaved",
    "ReceiptEmitted",
    "RequestRefused",
    "SessionEnded",
    "SessionStarted",
    "StageCompleted",
    "Statistics",
    "ask",
]
