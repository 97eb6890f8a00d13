"""Listening: the socket and the threads of a daemon that runs inside a test. Knows no events.

One lock guards what is told and heard, `changed`, and is notified after every message. A thread
accepts, one more serves each connection; all of them have ended when `stop` returns.
"""

from __future__ import annotations

import os
import shutil
import socket as sockets
import tempfile
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from ggend_schema.codec import SalvagedBatch, decode_client_message, encode_frame
from ggend_schema.errors import ProtocolError
from ggend_schema.framing import FrameSplitter
from ggend_schema.messages import ClientMessage, DaemonMessage, Goodbye, Hello

__all__ = ["Listening", "Peer"]

#: How long a thread that was told to end may take.
ENDING_SECONDS = 10.0

#: Connections that wait to be accepted: as many as a swarm of clients opens at once.
BACKLOG = 128

#: Bytes read at once.
READ_BYTES = 64 * 1024


class Peer:
    """One connection, and who is at its other end."""

    __slots__ = ("hello", "stream")

    def __init__(self, stream: sockets.socket) -> None:
        self.stream = stream
        #: None until it has introduced itself.
        self.hello: Hello | None = None


class Listening(ABC):
    """Use it in `with`; or `start` and `stop` it, as a daemon that comes and goes."""

    def __init__(self, socket: str | Path | None = None) -> None:
        """Without `socket`: one in a temporary directory of its own, removed after `with`."""
        self._directory = tempfile.mkdtemp(prefix="ggend-") if socket is None else None
        #: Where clients find it.
        self.socket = Path(self._directory or "", socket or "ggend.sock")
        #: Notified after every message.
        self.changed = threading.Condition()
        self._listener: sockets.socket | None = None
        self._peers: list[Peer] = []
        self._threads: list[threading.Thread] = []

    @abstractmethod
    def hear(
        self, peer: Peer, message: ClientMessage | SalvagedBatch
    ) -> list[DaemonMessage] | None:
        """Return what is said to this message; after a Goodbye, or None, the connection ends.

        Called with `changed` held. Raises ProtocolError.
        """

    @property
    def is_running(self) -> bool:
        """Whether it listens."""
        return self._listener is not None

    def start(self) -> Self:
        """Listen. What came before is kept."""
        listener = sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM)
        try:
            listener.bind(os.fspath(self.socket))
            listener.listen(BACKLOG)
        except BaseException:
            listener.close()
            raise
        self._listener = listener
        self._begin(self._accept, listener)
        return self

    def stop(self) -> None:
        """Close everything, as a daemon that dies does. What came is kept."""
        listener, self._listener = self._listener, None
        if listener is None:
            return
        self.socket.unlink(missing_ok=True)
        # Only the shutdown wakes the thread that accepts; after it has ended no peer is added.
        with suppress(OSError):
            listener.shutdown(sockets.SHUT_RDWR)
        self._end(self._threads[:1])
        listener.close()
        self.hang_up()
        self._end(self._threads)
        self._threads.clear()

    def hang_up(self) -> None:
        """Close every connection without a word."""
        for peer in list(self._peers):
            with suppress(OSError):
                peer.stream.shutdown(sockets.SHUT_RDWR)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.stop()
        finally:
            if self._directory is not None:
                shutil.rmtree(self._directory, ignore_errors=True)

    def _begin(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, name="ggend-fake", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _end(self, threads: list[threading.Thread]) -> None:
        for thread in threads:
            thread.join(ENDING_SECONDS)
            if thread.is_alive():
                raise AssertionError(f"a fake daemon did not end within {ENDING_SECONDS:g} s")

    def _accept(self, listener: sockets.socket) -> None:
        while True:
            try:
                stream, _ = listener.accept()
            except OSError:
                return
            peer = Peer(stream)
            self._peers.append(peer)
            self._begin(self._serve, peer)

    def _serve(self, peer: Peer) -> None:
        splitter = FrameSplitter()
        try:
            with peer.stream, suppress(OSError):
                while chunk := peer.stream.recv(READ_BYTES):
                    for said in self._hear_all(peer, splitter, chunk):
                        peer.stream.sendall(b"".join(map(encode_frame, said)))
                        if not said or isinstance(said[-1], Goodbye):
                            return
        finally:
            self._peers.remove(peer)

    def _hear_all(
        self, peer: Peer, splitter: FrameSplitter, chunk: bytes
    ) -> Iterator[list[DaemonMessage]]:
        """Return what is said to each message that is answered; nothing at all: hang up."""
        try:
            for payload in splitter.feed(chunk):
                message = decode_client_message(payload)
                with self.changed:
                    try:
                        said = self.hear(peer, message)
                    finally:
                        self.changed.notify_all()
                if said is None:
                    yield []
                elif said:
                    yield said
            if splitter.error is not None:
                raise splitter.error
        except ProtocolError as error:
            yield [Goodbye(code=error.code, message=error.message)]
