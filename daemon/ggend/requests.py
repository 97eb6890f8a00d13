"""Requests: what a peer may ask, by the `op` of its Request."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from ggend.memory import load_memory
from ggend_schema.errors import SchemaError
from ggend_schema.limits import FRAME_BYTES

if TYPE_CHECKING:
    from ggend.connection import Services
    from ggend_schema.messages import Request

__all__ = ["AnswerTooLarge", "UnknownRequest", "local_answer", "stored_answer"]


class UnknownRequest(SchemaError):
    """No request of this name, or not with these arguments."""

    code = "unknown_request"


class AnswerTooLarge(SchemaError):
    """What was asked for does not fit into a frame."""

    code = "too_large"

    def __init__(self, size: int) -> None:
        super().__init__(f"the answer takes {size} bytes, over the limit of {FRAME_BYTES} a frame")


def local_answer(request: Request, services: Services) -> Callable[[], object] | None:
    """Return what answers a request without the database, if something does."""
    return services.status if request.op == "status" else None


def stored_answer(request: Request) -> Callable[[sqlite3.Connection], object]:
    """Return what answers a request from the database, on the writer's connection.

    Raises UnknownRequest.
    """
    if request.op == "load_memory":
        agent_id = request.arguments.get("agent_id")
        if not isinstance(agent_id, str):
            raise UnknownRequest("load_memory needs the argument agent_id, a string")
        return lambda connection: _memory(connection, agent_id)
    raise UnknownRequest(f"no request is called {request.op!r}; there are status, load_memory")


def _memory(connection: sqlite3.Connection, agent_id: str) -> dict[str, object] | None:
    found = load_memory(connection, agent_id)
    if found is None:
        return None
    history = found.pop("collision_history")
    return {
        "memory": msgspec.json.decode(str(found.pop("memory_json"))),
        "collision_history": None if history is None else msgspec.json.decode(str(history)),
        **found,
    }
