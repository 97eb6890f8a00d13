"""Listener: accepts connections and starts a task for each.

Which sockets it listens on is decided by the claim, and may change. Too many open files is
overload, not failure: it waits and goes on.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import socket
from pathlib import Path

import anyio
import anyio.abc
import anyio.lowlevel
from anyio.abc import SocketListener, SocketStream

from ggend.runtime.shutdown import Shutdown
from ggend.server.connection import Connection, Services
from ggend.server.dialogue import Dialogue, End
from ggend.server.frames import FramedDialogue
from ggend.server.ndjson import NdjsonDialogue
from ggend.server.socket_claim import SocketClaim
from ggend_schema.framing import is_ndjson

__all__ = ["run_listener"]

log = logging.getLogger("ggend.listener")

#: Seconds between two looks at whether clients can still find the sockets.
LOOK_SECONDS = 2.0

#: Seconds to wait after an accept that failed for lack of descriptors or memory.
OVERLOAD_SECONDS = 0.1

#: Looks for idle connections in the time that one may be idle.
_IDLE_LOOKS = 4

#: Seconds between two lines of the log about connections that have to wait.
COMPLAINT_SECONDS = 60.0

_OVERLOAD = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ECONNABORTED}


class _ConnectionLimit:
    """How many connections are allowed at a time, and the warnings when all are taken."""

    def __init__(self, max_connections: int) -> None:
        self.max_connections = max_connections
        self.room = anyio.Semaphore(max_connections)
        self._complained: float | None = None
        self._silent = 0

    async def acquire(self, listening: socket.socket) -> None:
        """Wait until another connection is allowed."""
        if self.room.value == 0:
            self.warn(
                "connection limit reached, others wait",
                listening,
                max_connections=self.max_connections,
            )
        await self.room.acquire()

    def warn(self, what: str, listening: socket.socket, **extra: object) -> None:
        """Log why connections wait, and how many do; at most once a minute."""
        now = anyio.current_time()
        if self._complained is not None and now - self._complained < COMPLAINT_SECONDS:
            self._silent += 1
            return
        log.warning(
            what,
            extra={**extra, "waiting": _waiting(listening) or "some", "times": self._silent + 1},
        )
        self._complained, self._silent = now, 0


class _ListeningSocket:
    """A socket whose clients are accepted until it is replaced and no client waits there."""

    def __init__(self, listening: socket.socket) -> None:
        self.socket = listening
        self._is_replaced = False
        self._waiting = anyio.CancelScope()

    async def wait(self) -> bool:
        """Wait until a client is there; return False when none will be."""
        if not self._is_replaced:
            with anyio.CancelScope() as self._waiting:
                await anyio.wait_readable(self.socket)
                return True
        poller = select.poll()
        poller.register(self.socket, select.POLLIN)
        return bool(poller.poll(0))

    def replace(self) -> None:
        """Another socket is there in its place."""
        self._is_replaced = True
        self._waiting.cancel()


def _waiting(listening: socket.socket) -> int:
    """Return how many connections wait to be accepted. 0 where /proc does not show them."""
    try:
        name = os.fsencode(listening.getsockname())
        sockets = Path("/proc/net/unix").read_bytes().splitlines()
    except OSError:
        return 0
    # Num, RefCount, Protocol, Flags, Type, St, Inode, Path: St is 02 until somebody accepts it.
    fields = (line.split(maxsplit=7) for line in sockets)
    return sum(len(field) == 8 and field[5] == b"02" and field[7] == name for field in fields)


async def run_listener(claim: SocketClaim, services: Services, shutdown: Shutdown) -> None:
    """Accept until `shutdown` is asked for; then let every connection end in order.

    What has not ended by its deadline is cut off: nothing that was acked is lost.
    """
    with anyio.CancelScope() as patience, shutdown.limit(patience):
        async with anyio.create_task_group() as peers:
            async with anyio.create_task_group() as accepting:
                accepting.start_soon(_keep_listening, claim, services, peers)
                accepting.start_soon(_end_idle, services)
                await shutdown.asked.wait()
                accepting.cancel_scope.cancel()
            await anyio.lowlevel.checkpoint()  # who was accepted just now becomes a connection
            for connection in services.connections:
                connection.drain()


async def _end_idle(services: Services) -> None:
    """End the connections of which nothing was heard for long, and nothing is on its way."""
    patience = services.config.idle_timeout_seconds
    while True:
        await anyio.sleep(patience / _IDLE_LOOKS)
        longest_ago = anyio.current_time() - patience
        for connection in services.connections:
            if connection.heard < longest_ago and not connection.unsettled:
                connection.drain(End.IDLE)


async def _keep_listening(
    claim: SocketClaim, services: Services, peers: anyio.abc.TaskGroup
) -> None:
    """Accept at all sockets of the claim, which is checked again and again."""
    limit = _ConnectionLimit(services.metrics.max_connections)
    known: dict[socket.socket, _ListeningSocket] = {}
    async with anyio.create_task_group() as accepting:
        while True:
            claim.look()
            services.metrics.socket_trouble = claim.trouble
            for gone in known.keys() - set(claim.sockets):
                known.pop(gone).replace()
            for new in set(claim.sockets) - known.keys():
                known[new] = _ListeningSocket(new)
                accepting.start_soon(_accept_all, known[new], services, limit, peers)
            await anyio.sleep(LOOK_SECONDS)


async def _accept_all(
    listening: _ListeningSocket,
    services: Services,
    limit: _ConnectionLimit,
    peers: anyio.abc.TaskGroup,
) -> None:
    async with await SocketListener.from_socket(listening.socket) as listener:
        # The limit is taken when a client is there: one socket does not keep it from another.
        while await listening.wait():
            await limit.acquire(listening.socket)
            stream = await _accept(listener, listening.socket, limit)
            peers.start_soon(_serve, stream, services, limit)


async def _accept(
    listener: SocketListener, listening: socket.socket, limit: _ConnectionLimit
) -> SocketStream:
    while True:
        try:
            stream: SocketStream = await listener.accept()
        except anyio.BrokenResourceError as error:
            cause = error.__cause__
            if not isinstance(cause, OSError) or cause.errno not in _OVERLOAD:
                raise
            limit.warn("cannot accept, waiting", listening, why=cause.strerror)
            await anyio.sleep(OVERLOAD_SECONDS)
        else:
            return stream


async def _serve(stream: SocketStream, services: Services, limit: _ConnectionLimit) -> None:
    metrics = services.metrics
    connection = Connection(stream, services)
    services.connections.add(connection)
    metrics.connections += 1
    metrics.connections_total += 1
    try:
        await connection.run(_choose)
    except* Exception as errors:  # one peer's trouble is not the others'
        log.exception("connection failed", exc_info=errors, extra={"pid": connection.peer.pid})
    finally:
        metrics.connections -= 1
        services.connections.discard(connection)
        limit.room.release()


def _choose(connection: Connection, first_byte: int) -> Dialogue:
    return NdjsonDialogue(connection) if is_ndjson(first_byte) else FramedDialogue(connection)
