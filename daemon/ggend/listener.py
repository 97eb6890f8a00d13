"""Listener: accepts connections and starts a task for each.

Claims the socket properly: systemd's descriptor, or the path while its lock is held. Too many open
files is overload, not failure: it waits and goes on.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import stat
from pathlib import Path

import anyio
import anyio.abc
import anyio.lowlevel
from anyio.abc import SocketListener, SocketStream

from ggend.connection import Connection, Dialogue, End, Services
from ggend.errors import SocketUnusable
from ggend.framed import Framed
from ggend.lines import Lines
from ggend.stopping import Stopping
from ggend_schema.framing import is_ndjson

__all__ = ["adopt_socket", "bind_socket", "run_listener"]

log = logging.getLogger("ggend.listener")

#: Connections that may wait to be accepted.
BACKLOG = 1_024

#: Seconds to wait after an accept that failed for lack of descriptors or memory.
OVERLOAD_SECONDS = 0.1

#: Looks for idle connections in the time that one may be idle.
_IDLE_LOOKS = 4

#: Seconds between two lines of the log about connections that have to wait.
COMPLAINT_SECONDS = 60.0

_OVERLOAD = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ECONNABORTED}


class _Desk:
    """How many more connections may be, and what is said when that is none."""

    def __init__(self, max_connections: int) -> None:
        self.max_connections = max_connections
        self.room = anyio.Semaphore(max_connections)
        self._complained: float | None = None
        self._silent = 0

    async def take_place(self, listening: socket.socket) -> None:
        """Wait until there may be one connection more."""
        if self.room.value == 0:
            self.complain(
                "as many connections as may be, others wait",
                listening,
                max_connections=self.max_connections,
            )
        await self.room.acquire()

    def complain(self, what: str, listening: socket.socket, **extra: object) -> None:
        """Log why somebody has to wait, and how many do; but not again within a minute."""
        now = anyio.current_time()
        if self._complained is not None and now - self._complained < COMPLAINT_SECONDS:
            self._silent += 1
            return
        log.warning(
            what,
            extra={**extra, "waiting": _waiting(listening) or "some", "times": self._silent + 1},
        )
        self._complained, self._silent = now, 0


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


def bind_socket(path: Path, mode: int) -> socket.socket:
    """Listen on a path whose lock is held; a socket that a dead daemon left is removed.

    Raises SocketUnusable.
    """
    try:
        _remove_stale(path)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        previous = os.umask(0o777 & ~mode)
        try:
            listening.bind(os.fspath(path))
        finally:
            os.umask(previous)
        listening.listen(BACKLOG)
    except OSError as error:
        raise SocketUnusable(
            f"cannot listen on {path}: {error.strerror or error}",
            hint="check its directory, and that the path is under 108 bytes",
        ) from error
    return listening


def _remove_stale(path: Path) -> None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise SocketUnusable(
            f"{path} is there already and is not a socket",
            hint="move it away, or choose another path with --socket",
        )
    path.unlink()


def adopt_socket(descriptor: int) -> socket.socket:
    """Take over a listening socket that systemd passed. Raises SocketUnusable."""
    listening = socket.socket(fileno=descriptor)
    if listening.family != socket.AF_UNIX or listening.type != socket.SOCK_STREAM:
        raise SocketUnusable(
            f"descriptor {descriptor} from systemd is not a unix stream socket",
            hint="use ListenStream= with a path in ggend.socket",
        )
    listening.setblocking(False)  # noqa: FBT003 - its only argument
    return listening


async def run_listener(listening: socket.socket, services: Services, stopping: Stopping) -> None:
    """Accept until `stopping` is asked for; then let every connection end in order.

    What has not ended by its deadline is cut off: nothing that was acked is lost.
    """
    with anyio.CancelScope() as patience, stopping.limit(patience):
        async with anyio.create_task_group() as peers:
            async with anyio.create_task_group() as accepting:
                accepting.start_soon(_accept_all, listening, services, peers)
                accepting.start_soon(_end_idle, services)
                await stopping.asked.wait()
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


async def _accept_all(
    listening: socket.socket, services: Services, peers: anyio.abc.TaskGroup
) -> None:
    desk = _Desk(services.metrics.max_connections)
    async with await SocketListener.from_socket(listening) as listener:
        while True:
            # Who waits for a place is seen before there is one.
            await anyio.wait_readable(listening)
            await desk.take_place(listening)
            peers.start_soon(_serve, await _accept(listener, listening, desk), services, desk)


async def _accept(listener: SocketListener, listening: socket.socket, desk: _Desk) -> SocketStream:
    while True:
        try:
            stream: SocketStream = await listener.accept()
        except anyio.BrokenResourceError as error:
            cause = error.__cause__
            if not isinstance(cause, OSError) or cause.errno not in _OVERLOAD:
                raise
            desk.complain("cannot accept, waiting", listening, why=cause.strerror)
            await anyio.sleep(OVERLOAD_SECONDS)
        else:
            return stream


async def _serve(stream: SocketStream, services: Services, desk: _Desk) -> None:
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
        desk.room.release()


def _choose(connection: Connection, first_byte: int) -> Dialogue:
    return Lines(connection) if is_ndjson(first_byte) else Framed(connection)
