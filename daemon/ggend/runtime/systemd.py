"""Systemd: what systemd is told (sd_notify(3)), hands over (sd_listen_fds(3)) and asks to hear.

Without systemd's variables in the environment nothing happens.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Iterator, Mapping, MutableMapping

from msgspec import Struct

__all__ = ["Notifier", "Passed", "notifying", "passed_descriptors", "watchdog_seconds"]

log = logging.getLogger("ggend.systemd")

#: The first descriptor that systemd passes.
_FIRST_DESCRIPTOR = 3


class Notifier:
    """Sends to one socket, which stays open: a sign of life needs no descriptor."""

    def __init__(self, sender: socket.socket, address: str) -> None:
        self._sender = sender
        self._address = address

    def notify(self, *assignments: str) -> None:
        """Send assignments such as `READY=1` to `NOTIFY_SOCKET`.

        Whoever listened there may be gone, or not listen; that is no reason to stop serving or to
        wait.
        """
        if not self._address:
            return
        sent = os.fsencode("\n".join(assignments))
        try:
            self._sender.sendto(sent, socket.MSG_DONTWAIT, self._address)
        except OSError as error:
            # Said once, not with every sign of life.
            level = logging.WARNING if "READY=1" in assignments else logging.DEBUG
            extra = {"why": error.strerror, "address": self._address}
            log.log(level, "cannot notify", extra=extra)


@contextlib.contextmanager
def notifying(environ: Mapping[str, str]) -> Iterator[Notifier]:
    """Open what notifies whoever listens at `NOTIFY_SOCKET`, if the variable is set."""
    address = environ.get("NOTIFY_SOCKET", "")
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        yield Notifier(sender, address)


class Passed(Struct, frozen=True):
    """What the variables of systemd's sockets say."""

    #: Those that are for this process.
    descriptors: range
    #: The process that all of them are for, where that is another one.
    meant_for: str | None = None


def passed_descriptors(environ: MutableMapping[str, str]) -> Passed:
    """Return the listening descriptors that systemd passed.

    The variables are removed, so that no child takes the descriptors for its own.
    """
    pid, count = environ.pop("LISTEN_PID", ""), environ.pop("LISTEN_FDS", "")
    environ.pop("LISTEN_FDNAMES", None)
    environ.pop("LISTEN_PIDFDID", None)
    if not count.isdecimal() or int(count) < 1:
        return Passed(range(0))
    if pid != str(os.getpid()):
        return Passed(range(0), meant_for=pid or None)
    return Passed(range(_FIRST_DESCRIPTOR, _FIRST_DESCRIPTOR + int(count)))


def watchdog_seconds(environ: MutableMapping[str, str]) -> float | None:
    """Return how often this process must say `WATCHDOG=1`, if it must.

    The variables are removed, so that no child takes them for its own.
    """
    microseconds, pid = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
    if not microseconds.isdigit() or pid not in ("", str(os.getpid())):
        return None
    return int(microseconds) / 1_000_000 or None
