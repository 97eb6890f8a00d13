"""Errors of the light client, raised by `ask` and by the spool.

emit(), flush() and close() raise none of them, but for InvalidCall where the client is strict. Each
has a stable `code` and a `hint` that a person can act on.
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
    """No daemon accepts a connection at any of the places looked at."""

    code = "daemon_absent"
    hint = "start it with `ggend serve`, or name its socket in GGEND_SOCKET"


class ConnectionLost(ClientError):
    """The connection ended, or stayed silent, before what was waited for came."""

    code = "connection_lost"
    hint = "`ggend status` and the daemon's log say whether it is healthy"


class RequestRefused(ClientError):
    """The daemon answered that it will not; `code` and `message` are its own."""

    hint = "docs/WIRE.md lists the codes"

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class InvalidCall(ClientError):
    """A strict client was given what the daemon would not store."""

    code = "invalid_call"
    hint = "without strict=True and GGEND_STRICT it is counted, said once, and not stored"


class SpoolUnusable(ClientError):
    """Events cannot be kept on disk: the directory or a file in it does not allow it."""

    code = "spool_unusable"
    hint = "it must be this user's own and writable; GGEND_SPOOL_DIR names another"


class SpoolFull(ClientError):
    """Events cannot be kept on disk: there is no room."""

    code = "spool_full"
    hint = "`ggend spool list` says what is there; it empties when the daemon is back"
