"""Errors of the light client, raised by `ask` and by the spool.

emit(), flush() and close() raise none of them, except InvalidCall if the client is strict. Each has
a stable `code` and a `hint` that a person can act on.
"""

from __future__ import annotations

__all__ = [
    "ClientError",
    "ConnectionLost",
    "DaemonAbsent",
    "InvalidCall",
    "RequestRefused",
    "SpoolFull",
    "SpoolUnusable",
]


class ClientError(Exception):
    """Root of this package's errors."""

    code = "client"
    hint = ""

    def __init__(self, message: str) -> None:
        self.message = message
        super().__init__(message)


class DaemonAbsent(ClientError):
    """No daemon accepts a connection on any of the sockets tried."""

    code = "daemon_absent"
    hint = "start it with `ggend serve`, or set GGEND_SOCKET to its socket"


class ConnectionLost(ClientError):
    """The connection ended or timed out before the answer arrived."""

    code = "connection_lost"
    hint = "`ggend status` and the daemon's log show whether it is healthy"


class RequestRefused(ClientError):
    """The daemon refused the request; `code` and `message` are the daemon's."""

    hint = "docs/WIRE.md lists the codes"

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class InvalidCall(ClientError):
    """A strict client was given an event that the daemon would not store."""

    code = "invalid_call"
    hint = "without strict=True and GGEND_STRICT the event is counted, logged once and dropped"


class SpoolUnusable(ClientError):
    """Events cannot be spooled on disk: the directory or a file in it is not usable."""

    code = "spool_unusable"
    hint = "it must belong to this user and be writable; GGEND_SPOOL_DIR selects another directory"


class SpoolFull(ClientError):
    """Events cannot be spooled on disk: the limit is reached or the disk is full."""

    code = "spool_full"
    hint = "`ggend spool list` shows its contents; it empties when the daemon is back"
