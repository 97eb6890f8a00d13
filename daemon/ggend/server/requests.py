"""Requests: what a peer may ask, by the `op` of its Request, and who may ask it.

What a request does to the database it does on the writer's connection, in its turn; it never
commits.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import msgspec
from msgspec import Meta, Struct

from ggend.database.rollups import clear
from ggend.maintenance.purge import SLICE_ROWS, Position, purge_slice
from ggend.maintenance.requeue import REQUEUED_IDS, purge_rejected, requeue
from ggend.storage.memories import load_memory
from ggend.storage.writer_state import WriterState
from ggend_schema.errors import SchemaError
from ggend_schema.limits import FRAME_BYTES
from ggend_schema.portable import portable, portable_line
from ggend_schema.spelling import or_nearest
from ggend_schema.value_words import in_words, shown

if TYPE_CHECKING:
    from ggend.server.connection import Services
    from ggend_schema.messages import Request

__all__ = [
    "AnswerTooLarge",
    "NotAllowed",
    "RequestRefused",
    "Stored",
    "local_answer",
    "stored_answer",
]

#: Asked on the writer's thread, inside the transaction.
Stored: TypeAlias = Callable[[sqlite3.Connection, WriterState], object]


class RequestRefused(SchemaError):
    """A request that is not answered with a result; `code` says why."""

    code = "failed"


class UnknownRequest(RequestRefused):
    """No request of this name, or not with these arguments."""

    code = "unknown_request"


class NotAllowed(RequestRefused):
    """The peer is another user, and this request changes what is stored."""

    code = "not_allowed"


class AnswerTooLarge(RequestRefused):
    """What was asked for does not fit into a frame."""

    code = "too_large"

    def __init__(self, size: int) -> None:
        super().__init__(f"the answer takes {size} bytes, over the limit of {FRAME_BYTES} a frame")


class _PurgeArguments(Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of `purge`. What is left out of a Position begins at the beginning."""

    cutoff: Annotated[str, Meta(pattern=r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\Z")]
    position: Position | None = None
    limit: Annotated[int, Meta(ge=1, le=SLICE_ROWS)] = SLICE_ROWS
    kept: list[str] = []


class _Ids(Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of what is done to rejected events."""

    ids: Annotated[list[int], Meta(min_length=1, max_length=REQUEUED_IDS)]


def local_answer(request: Request, uid: int, services: Services) -> Callable[[], object] | None:
    """Return what answers a request of this user without the database, if something does.

    Raises NotAllowed.
    """
    if request.op == "reload":
        _expect_owner(request, uid)
        return services.reload
    if request.op == "senders":
        return lambda: _senders(services, request.arguments.get("client"))
    return services.status if request.op == "status" else None


def stored_answer(request: Request, uid: int) -> Stored:
    """Return what answers a request of this user from the database, on the writer's connection.

    Raises RequestRefused.
    """
    if request.op in _CHANGING:
        _expect_owner(request, uid)
    answer = (_READING | _CHANGING).get(request.op)
    if answer is None:
        known = ["status", "reload", "senders", *_READING, *_CHANGING]
        raise UnknownRequest(
            f"there is no request {shown(request.op)}{or_nearest(request.op, known)}; "
            f"the requests are {', '.join(known)}"
        )
    return answer(request.arguments)


def _senders(services: Services, client: object) -> list[int]:
    """Return the pids of those who send under this name; what they have sent is not all settled."""
    senders = (owner.sender for owner in services.owners.values())
    return [sender.pid for sender in senders if sender is not None and sender.client == client]


def _expect_owner(request: Request, uid: int) -> None:
    if uid not in (0, os.geteuid()):
        raise NotAllowed(
            f"only uid {os.geteuid()} (the daemon's user) and root may request {request.op}; you "
            f"are uid {uid}"
        )


def _load_memory(arguments: Mapping[str, Any]) -> Stored:
    agent_id = arguments.get("agent_id")
    if not isinstance(agent_id, str):
        raise UnknownRequest("load_memory needs the argument agent_id, a string")
    return lambda connection, _state: _memory(connection, agent_id)


def _memory(connection: sqlite3.Connection, agent_id: str) -> dict[str, object] | None:
    found = load_memory(connection, agent_id)
    if found is None:
        return None
    history = found.pop("collision_history")
    memory: dict[str, object] = portable(
        {
            "memory": _json(found.pop("memory_json")),
            "collision_history": None if history is None else _json(history),
            **found,
        }
    )
    return memory


def _json(text: object) -> object:
    """Decode what an earlier version or another program may have written."""
    return msgspec.json.decode(portable_line(str(text).encode(errors="surrogateescape")))


def _purge(arguments: Mapping[str, Any]) -> Stored:
    try:
        wanted = msgspec.convert(arguments, _PurgeArguments)
    except msgspec.ValidationError as error:
        raise UnknownRequest(f"invalid arguments of purge: {in_words(str(error))}") from error
    now = datetime.fromtimestamp(time.time(), UTC).strftime("%Y-%m-%d %H:%M:%S")
    if wanted.cutoff > now:
        raise UnknownRequest(f"the cutoff {wanted.cutoff} of a purge is in the future ({now} now)")

    def purge(connection: sqlite3.Connection, state: WriterState) -> object:
        done = purge_slice(
            connection,
            state,
            cutoff=wanted.cutoff,
            position=wanted.position,
            limit=wanted.limit,
            kept=wanted.kept,
        )
        return msgspec.to_builtins(done)

    return purge


def _requeue(arguments: Mapping[str, Any]) -> Stored:
    ids = _ids(arguments, "requeue")
    return lambda connection, state: [
        msgspec.to_builtins(done) for done in requeue(connection, state, ids)
    ]


def _purge_rejected(arguments: Mapping[str, Any]) -> Stored:
    ids = _ids(arguments, "purge_rejected")
    return lambda connection, state: {"deleted": purge_rejected(connection, state, ids)}


def _rebuild_rollups(arguments: Mapping[str, Any]) -> Stored:
    if arguments:
        raise UnknownRequest(f"rebuild_rollups takes no arguments, not {', '.join(arguments)}")
    return lambda connection, _state: clear(connection)


def _ids(arguments: Mapping[str, Any], op: str) -> list[int]:
    try:
        return msgspec.convert(arguments, _Ids).ids
    except msgspec.ValidationError as error:
        raise UnknownRequest(f"invalid arguments of {op}: {in_words(str(error))}") from error


#: What any peer may ask of the database.
_READING: dict[str, Callable[[Mapping[str, Any]], Stored]] = {"load_memory": _load_memory}

#: What changes the database other than by events: for the daemon's own user and root alone.
_CHANGING: dict[str, Callable[[Mapping[str, Any]], Stored]] = {
    "purge": _purge,
    "purge_rejected": _purge_rejected,
    "rebuild_rollups": _rebuild_rollups,
    "requeue": _requeue,
}
