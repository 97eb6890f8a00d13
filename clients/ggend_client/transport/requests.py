"""Requests: ask a daemon something, over a short connection of its own.

Blocking, with one deadline for the whole of it. It carries no events.
"""

from __future__ import annotations

import os
import socket as sockets
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ggend_client.errors import ConnectionLost, RequestRefused
from ggend_client.transport.connection import connect
from ggend_schema.codec import decode_daemon_message, encode_frame
from ggend_schema.errors import ProtocolError
from ggend_schema.framing import FrameSplitter
from ggend_schema.messages import PROTOCOL, Answer, DaemonMessage, Goodbye, Hello, Request, Welcome
from ggend_schema.places import client_sockets

__all__ = ["ask", "known_sequence"]

#: The connection carries one request, so any id will do.
REQUEST_ID = 1


def ask(
    socket: str | Path | None,
    op: str,
    arguments: Mapping[str, Any] | None = None,
    timeout: float = 2.0,
) -> Any:
    """Return the daemon's first answer. Without `socket`: where a Client would look.

    Raises DaemonAbsent, RequestRefused or ConnectionLost, all of them ClientErrors.
    """
    request = encode_frame(Request(id=REQUEST_ID, op=op, arguments=dict(arguments or {})))
    hello = Hello(protocol=PROTOCOL, client="ggend_client.ask")
    for message in _talk(socket, hello, request, timeout):
        if isinstance(message, Answer) and message.id == REQUEST_ID:
            if message.code is not None:
                raise RequestRefused(message.code, message.message or "")
            return message.result
    raise ConnectionLost("the daemon closed the connection without an answer")


def known_sequence(socket: str | Path | None, producer: bytes, timeout: float = 2.0) -> int:
    """Return the last number that a daemon has settled for a producer; 0: it knows of none.

    Raises as `ask` does.
    """
    hello = Hello(protocol=PROTOCOL, producer=producer, client="ggend_client.known_sequence")
    for message in _talk(socket, hello, b"", timeout):
        if isinstance(message, Welcome):
            return message.last_sequence
    raise ConnectionLost("the daemon closed the connection without an answer")


def _talk(
    socket: str | Path | None, hello: Hello, request: bytes, timeout: float
) -> Iterator[DaemonMessage]:
    """Say hello, and `request` after the Welcome; yield what the daemon says but Goodbyes."""
    deadline = time.monotonic() + timeout
    paths = client_sockets(os.environ) if socket is None else [Path(socket)]
    with connect(paths) as stream:
        try:
            stream.settimeout(max(0.001, timeout))
            stream.sendall(encode_frame(hello))
            for message in _messages(stream, deadline):
                if isinstance(message, Welcome):
                    stream.sendall(request)
                if isinstance(message, Goodbye):
                    raise RequestRefused(message.code, message.message)
                yield message
        except TimeoutError as error:
            raise ConnectionLost(f"no answer within {timeout:g} s") from error
        except (OSError, ProtocolError) as error:
            raise ConnectionLost(str(error)) from error


def _messages(stream: sockets.socket, deadline: float) -> Iterator[DaemonMessage]:
    splitter = FrameSplitter()
    while True:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError
        stream.settimeout(remaining)
        chunk = stream.recv(64 * 1024)
        if not chunk:
            return
        for payload in splitter.feed(chunk):
            yield decode_daemon_message(payload)
        if splitter.error is not None:
            raise splitter.error
