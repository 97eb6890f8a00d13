"""Request answers: sends a peer the answer to each of its requests, in the order of the requests.

What a request means is decided in `requests`.
"""

from __future__ import annotations

import sqlite3

import anyio.lowlevel

from ggend.errors import RefusedByDatabase
from ggend.server.connection import Connection
from ggend.server.requests import (
    AnswerTooLarge,
    RequestRefused,
    Stored,
    local_answer,
    stored_answer,
)
from ggend.storage.writer_state import WriterState
from ggend_schema import limits
from ggend_schema.codec import encode_frame
from ggend_schema.messages import Answer, Request

__all__ = ["answer_request"]


async def answer_request(connection: Connection, request: Request) -> None:
    """Answer one request; return when the peer has read enough of the answers before it."""

    def answer(result: object) -> None:
        try:
            encoded = encode_frame(Answer(id=request.id, result=result))
        except (OverflowError, ValueError) as error:  # an integer that msgpack has not
            refuse(error)
        else:
            if len(encoded) > limits.FRAME_BYTES:
                refuse(AnswerTooLarge(len(encoded)))
            else:
                connection.send(encoded)

    def refuse(error: Exception) -> None:
        is_refused = isinstance(error, sqlite3.IntegrityError)  # by a user's trigger, for instance
        code = RefusedByDatabase.code if is_refused else getattr(error, "code", "failed")
        connection.send(encode_frame(Answer(id=request.id, code=code, message=str(error))))

    # One answer at a time: a peer that asks a thousand times and reads nothing gets no further.
    await connection.wait_for_reader()
    await anyio.lowlevel.checkpoint()
    uid = connection.peer.uid
    try:
        local = local_answer(request, uid, connection.services)
        stored = None if local is not None else stored_answer(request, uid)
    except RequestRefused as error:
        refuse(error)
        return
    if local is not None and not connection.unsettled:
        # Nothing of this peer is on its way, so that the answer need not wait for the disk:
        # this is how `status` answers while the writer cannot write.
        answer(local())
    elif local is not None:
        await connection.call_writer(lambda _c, _state: None, lambda _: answer(local()), refuse)
    elif stored is not None:
        async with connection.answering():
            await connection.wait_until_settled()
            run = _unless_abandoned(connection, stored)
            await connection.call_writer(run, answer, refuse, waits=False)
            await connection.wait_until_settled()
            await connection.wait_for_reader()


def _unless_abandoned(connection: Connection, run: Stored) -> Stored:
    """Return a call that does nothing when the peer has given up waiting."""

    def run_if_wanted(database: sqlite3.Connection, state: WriterState) -> object:
        if connection.is_abandoned():
            raise LookupError("the client no longer waits for the answer")
        return run(database, state)

    return run_if_wanted
