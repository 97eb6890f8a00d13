"""Conversation: what the sockets of an installation and the daemon behind one of them say."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from ggend.doctor.rights import Account
from ggend_client import ClientError, ask

__all__ = ["Answer", "talk"]

#: What the system says of a process: /proc/PID.
_PROCESSES = Path("/proc")

#: One more than any process has as its number (PID_MAX_LIMIT of Linux).
_PIDS = 4 * 1024 * 1024 + 1

#: `struct ucred`: process, user and group (unix(7)).
_CREDENTIALS = struct.Struct("3i")


class Answer(Struct, frozen=True, kw_only=True):
    """The answer of the first socket that accepts, and why the others do not."""

    #: None: no socket accepts.
    socket: Path | None = None
    #: The process that listens on it.
    peer: int = 0
    #: What connect(2) said of each socket that does not accept.
    refusals: Mapping[Path, OSError] = {}
    #: What `ggend status` shows; None: there was no such answer.
    status: Mapping[str, Any] | None = None
    #: Why there was no answer on a socket that accepts.
    error: str = ""

    @property
    def pid(self) -> int | None:
        """The daemon's process; None: not known, or it is in another container."""
        pid = (self.status or {}).get("pid")
        if not isinstance(pid, int) or not 0 < pid < _PIDS:
            return None
        # The peer is who began to listen, which may be systemd.
        if pid == self.peer:
            return pid
        try:
            words = (_PROCESSES / str(pid) / "cmdline").read_bytes()
        except OSError:
            return None
        return pid if b"ggend" in words else None

    @property
    def database(self) -> Path | None:
        """The file that the daemon writes to."""
        path = (self.status or {}).get("database")
        return Path(path) if isinstance(path, str) and path else None

    @property
    def account(self) -> Account | None:
        """The user and the groups of the daemon; None: not known."""
        if self.pid is None:
            return None
        try:
            lines = (_PROCESSES / str(self.pid) / "status").read_text().splitlines()
            fields = {
                name: value.split() for name, _, value in (one.partition(":") for one in lines)
            }
            # The second number is the effective one, of which access to files depends.
            return Account(
                int(fields["Uid"][1]), {int(fields["Gid"][1]), *map(int, fields["Groups"])}
            )
        except (OSError, KeyError, ValueError, IndexError):
            return None  # it is in another container, or the system hides it


def talk(paths: Sequence[Path], timeout: float) -> Answer:
    """Ask the first daemon that accepts for its status. Never raises."""
    refusals: dict[Path, OSError] = {}
    for path in paths:
        try:
            peer = _peer(path)
        except OSError as error:
            refusals[path] = error
            continue
        status, why = _ask(path, timeout)
        return Answer(socket=path, peer=peer, refusals=refusals, status=status, error=why)
    return Answer(refusals=refusals)


def _ask(path: Path, timeout: float) -> tuple[dict[str, Any] | None, str]:
    """Return the status, or why there is none."""
    try:
        status = ask(path, "status", timeout=timeout)
    except ClientError as error:
        return None, str(error)
    except Exception as odd:  # something else may listen there, and say anything
        return None, f"not an answer of ggend: {odd}"
    return (status, "") if isinstance(status, dict) else (None, "not an answer of ggend")


def _peer(path: Path) -> int:
    """Return the process that listens on a socket; 0: not one of this container. Raises OSError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        probe.connect(os.fspath(path))
        found = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid: int = _CREDENTIALS.unpack(found)[0]
    return pid
