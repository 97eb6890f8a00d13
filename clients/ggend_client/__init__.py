"""The light client of ggend: emit events and forget them; the daemon makes them durable.

    from ggend_client import Audit, Client

    with Client() as client:
        client.emit(Audit(agent_id="a1", operation="plan", status="completed"))
        client.flush()

`emit` never blocks and never raises; it returns False for an event that was dropped, and
`client.stats()` says how many and why. Imports msgspec and nothing else (docs/CLIENT.md).
"""

from typing import TYPE_CHECKING, Any

from ggend_client.client import Client
from ggend_client.context import Binding
from ggend_client.errors import (
    ClientError,
    ConnectionLost,
    DaemonAbsent,
    InvalidCall,
    RequestRefused,
)
from ggend_client.memory import AgentUnnamed
from ggend_client.spans import ExecutionSpan, SessionSpan, StageSpan
from ggend_client.stats import Dropped, Statistics
from ggend_client.transport.requests import ask
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

if TYPE_CHECKING:
    from ggend_client.async_client import AsyncClient

__all__ = [
    "AgentUnnamed",
    "AsyncClient",
    "Audit",
    "Binding",
    "Client",
    "ClientError",
    "Collision",
    "ConnectionLost",
    "DaemonAbsent",
    "Dropped",
    "Event",
    "ExecutionSpan",
    "InvalidCall",
    "MemorySaved",
    "ReceiptEmitted",
    "RequestRefused",
    "SessionEnded",
    "SessionSpan",
    "SessionStarted",
    "StageCompleted",
    "StageSpan",
    "Statistics",
    "ask",
]


#: What spans were called before, for one version more.
_RENAMED = {"ExecutionRun": ExecutionSpan, "SessionRun": SessionSpan, "StageRun": StageSpan}


def __getattr__(name: str) -> Any:
    # Only who wants an AsyncClient pays for importing asyncio.
    if name == "AsyncClient":
        from ggend_client.async_client import AsyncClient

        return AsyncClient
    if name in _RENAMED:
        from warnings import warn

        renamed = _RENAMED[name]
        warn(f"{name} was renamed to {renamed.__name__}", DeprecationWarning, stacklevel=2)
        return renamed
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
