"""Memory: ask a daemon what an agent saved last. Blocking; it saves nothing itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ggend_client.errors import ClientError
from ggend_client.transport.requests import ask

__all__ = ["AgentUnnamed", "load_memory"]


class AgentUnnamed(ClientError):
    """No agent is given for a memory."""

    code = "agent_unnamed"
    hint = "give agent_id, bind(agent=…), make the client with agent=… or set GGEND_AGENT"


def load_memory(socket: str | Path | None, agent_id: str | None, timeout: float = 2.0) -> Any:
    """Return the memory that this agent saved last, decoded; None: it has none.

    Raises AgentUnnamed, DaemonAbsent, RequestRefused or ConnectionLost, all of them ClientErrors.
    """
    if agent_id is None:
        raise AgentUnnamed("no agent is given for the memory")
    answer = ask(socket, "load_memory", {"agent_id": agent_id}, timeout)
    return None if answer is None else answer["memory"]
