"""Conversation: what the sockets of an installation and the daemon behind one of them say."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from ggend.doctor.rights import Account
from ggend_client import ClientError, ask

__all__ = ["Answer", "talk"]

#: What the system says of a process: /proc/PID.
_PROCESSES = Path("/proc")


class Answer(Struct, frozen=True, kw_only=True):
    """The answer of the first socket that accepts, and why the others do not."""

    #: None: no socket accepts.
    socket: Path | None = None
    #: What connect(2) said of each socket that does not accept.
    refusals: Mapping[Path, OSError] = {}
    #: What `ggend status` shows; None: there was no such answer.
    status: Mapping[str, Any] | None = None
    #: Why there was no answer on a socket that accepts.
    error: str = ""

    @property
    def pid(self) -> int | None:
        """The daemon's process."""
        pid = (self.status or {}).get("pid")
        return pid if isinstance(pid, int) and pid > 0 else None

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
        error = _refusal(path)
        if error is not None:
            refusals[path] = error
            continue
        try:
            status = ask(path, "status", timeout=timeout)
        except ClientError as error_of_client:
            return Answer(socket=path, refusals=refusals, error=str(error_of_client))
        except Exception as odd:  # something else may listen there, and say anything
            return Answer(socket=path, refusals=refusals, error=f"not an answer of ggend: {odd}")
        if not isinstance(status, dict):
            return Answer(socket=path, refusals=refusals, error="not an answer of ggend")
        return Answer(socket=path, refusals=refusals, status=status)
    return Answer(refusals=refusals)


def _refusal(path: Path) -> OSError | None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(os.fspath(path))
        except OSError as error:
            return error
        except ValueError as error:  # a NUL in the path
            return OSError(str(error))
    return None
