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

from ggend_client.connection import connect
from ggend_client.errors import ConnectionLost, RequestRefused
from ggend_schema.codec import decode_daemon_message, encode_frame
from ggend_schema.errors import ProtocolError
from ggend_schema.framing import FrameSplitter
from ggend_schema.messages import PROTOCOL, Answer, DaemonMessage, Goodbye, Hello, Request, Welcome
from ggend_schema.places import client_sockets

__all__ = ["ask"]

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
    deadline = time.monotonic() + timeout
    paths = client_sockets(os.environ) if socket is None else [Path(socket)]
    request = encode_frame(Request(id=REQUEST_ID, op=op, arguments=dict(arguments or {})))
    with connect(paths) as stream:
        try:
            stream.settimeout(max(0.001, timeout))
            stream.sendall(encode_frame(Hello(protocol=PROTOCOL, client="ggend_client.ask")))
            for message in _messages(stream, deadline):
                if isinstance(message, Welcome):
                    stream.sendall(request)
                if isinstance(message, Answer) and message.id == REQUEST_ID:
                    if message.code is not None:
                        raise RequestRefused(message.code, message.message or "")
                    return message.result
                if isinstance(message, Goodbye):
                    raise RequestRefused(message.code, message.message)
        except TimeoutError as error:
            raise ConnectionLost(f"no answer within {timeout:g} s") from error
        except (OSError, ProtocolError) as error:
            raise ConnectionLost(str(error)) from error
    raise ConnectionLost("the daemon closed the connection without an answer")


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
