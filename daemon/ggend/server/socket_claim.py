"""Socket claim: the sockets that the daemon listens on, and whether clients can still reach them.

They are systemd's, or one at the configured path, bound while the lock of that path is held. A
client finds a socket by its file. Where that is gone, nobody comes any more and nothing fails: so
it is looked at again and again. The file at the configured path is made again; systemd's is
systemd's to make. What another process has put in its place is never removed.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol, TypeAlias

from ggend.database.lock import hold_lock, lock_path
from ggend.errors import AlreadyRunning, SocketUnusable

__all__ = ["SocketClaim", "adopt_sockets", "claim_socket"]

log = logging.getLogger("ggend.socket")

#: Connections that may wait to be accepted.
BACKLOG = 1_024

#: What a connect(2) says of a socket's file whose process has ended, or that has just gone.
_NOBODY = {errno.ECONNREFUSED, errno.ENOENT}

#: Device and inode of a socket's file.
Identity: TypeAlias = tuple[int, int]


class SocketClaim(Protocol):
    """Sockets that listen."""

    sockets: list[socket.socket]
    #: Where clients find them, for people.
    name: str
    #: Why clients cannot come; None when they can.
    trouble: str | None

    def look(self) -> None:
        """See whether clients can come. `sockets` may have changed afterwards."""


@contextlib.contextmanager
def claim_socket(path: Path, mode: int) -> Iterator[SocketClaim]:
    """Listen on a path. At the end its file is removed, if it is still ours.

    Raises AlreadyRunning, SocketUnusable.
    """
    with contextlib.ExitStack() as held:
        bound = _Bound(path, mode)
        held.callback(bound.close)
        bound.bind()
        yield bound


@contextlib.contextmanager
def adopt_sockets(descriptors: Iterable[int]) -> Iterator[SocketClaim]:
    """Take over listening sockets that systemd passed, all of them. Raises SocketUnusable."""
    with contextlib.ExitStack() as held:
        yield _Passed([held.enter_context(_adopt(descriptor)) for descriptor in descriptors])


class _Bound:
    """The socket at the configured path."""

    def __init__(self, path: Path, mode: int) -> None:
        self.sockets: list[socket.socket] = []
        self.name = _shown(path)
        self.trouble: str | None = None
        self._path = path
        self._mode = mode
        self._held = contextlib.ExitStack()
        self._lock = -1
        self._file: Identity | None = None
        self._directory: os.stat_result | None = None

    def bind(self) -> None:
        """Listen on the path. Raises AlreadyRunning, SocketUnusable."""
        if not self._is_locked():
            with contextlib.ExitStack() as held:
                self._lock = held.enter_context(hold_lock(self._path, what="socket"))
                self._held.close()
                self._held = held.pop_all()
        self.sockets = [_bind(self._path, self._mode)]
        self._file = _identity(self._path)
        self._directory = self._path.parent.stat()

    def look(self) -> None:
        """Bind again where the file is gone; say once what is in the way."""
        try:
            if _identity(self._path) != self._file:
                self._make_directory()
                self.bind()
                log.warning("the socket file was missing, created it", extra={"socket": self.name})
            elif self.trouble is not None:
                log.info("the socket file exists again", extra={"socket": self.name})
        except (AlreadyRunning, SocketUnusable, OSError) as error:
            why = str(error)
            if why != self.trouble:
                log.error("the socket file is missing, no client can connect", extra={"why": why})  # noqa: TRY400
            self.trouble = why
        else:
            self.trouble = None

    def close(self) -> None:
        """Remove the file if it is ours, and give the lock back."""
        for listening in self.sockets:
            listening.close()
        with contextlib.suppress(OSError):
            if self._file is not None and _identity(self._path) == self._file:
                self._path.unlink()
        self._held.close()

    def _is_locked(self) -> bool:
        """Whether the lock is ours, and not on a file that went with its directory."""
        if self._lock < 0:
            return False
        with contextlib.suppress(OSError):
            return os.path.samestat(os.fstat(self._lock), lock_path(self._path).stat())
        return False

    def _make_directory(self) -> None:
        """Make the directory again as it was, if it is gone. Raises OSError."""
        directory, before = self._path.parent, self._directory
        if directory.is_dir() or before is None:
            return
        directory.mkdir(parents=True)
        with contextlib.suppress(OSError):  # it was somebody else's who may more
            os.chown(directory, -1, before.st_gid)
        directory.chmod(stat.S_IMODE(before.st_mode))


class _Passed:
    """Sockets of systemd. Where their files are gone, only systemd can make them again."""

    def __init__(self, sockets: list[socket.socket]) -> None:
        self.sockets = sockets
        names = [os.fsencode(listening.getsockname()) for listening in sockets]
        self.name = ", ".join(map(_shown, names))
        self.trouble: str | None = None
        # An abstract name has no file.
        paths = [Path(os.fsdecode(name)) for name in names if name and name[0]]
        self._files = {path: _identity(path) for path in paths}

    def look(self) -> None:
        """Say once that a file is gone."""
        gone = [path for path, known in self._files.items() if not _is_still(path, known)]
        if not gone:
            if self.trouble is not None:
                log.info("the socket file exists again", extra={"socket": self.name})
            self.trouble = None
            return
        trouble = f"{', '.join(map(_shown, gone))} is not the socket that systemd made"
        hint = "`systemctl restart ggend.socket` creates it again"
        if f"{trouble}: {hint}" != self.trouble:
            extra = {"why": trouble, "hint": hint}
            log.error("the socket file is missing, no client can connect", extra=extra)
        self.trouble = f"{trouble}: {hint}"


def _bind(path: Path, mode: int) -> socket.socket:
    """Listen on a path whose lock is held; a socket that a dead daemon left is removed."""
    try:
        _make_way(path)
        with contextlib.ExitStack() as unless_done:
            listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            unless_done.callback(listening.close)
            previous = os.umask(0o777 & ~mode)
            try:
                listening.bind(os.fspath(path))
            finally:
                os.umask(previous)
            listening.listen(BACKLOG)
            unless_done.pop_all()
    except OSError as error:
        raise SocketUnusable(
            f"cannot listen on {path}: {error.strerror or error}",
            hint="check its directory, and that the path is shorter than 108 bytes",
        ) from error
    return listening


def _make_way(path: Path) -> None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise SocketUnusable(
            f"{path} exists and is not a socket",
            hint="move it away, or choose another path with --socket",
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        if probe.connect_ex(os.fspath(path)) not in _NOBODY:
            raise SocketUnusable(
                f"another process listens on {path}",
                hint="stop it (`ss -xlp` shows it), or choose another path with --socket",
            )
    path.unlink(missing_ok=True)


def _adopt(descriptor: int) -> socket.socket:
    try:
        listening = socket.socket(fileno=descriptor)
    except OSError as error:
        raise _not_ours(descriptor, f"no socket ({error.strerror})") from error
    if listening.family != socket.AF_UNIX or listening.type != socket.SOCK_STREAM:
        listening.close()
        raise _not_ours(descriptor, "not a unix stream socket")
    if not listening.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        listening.close()
        raise _not_ours(descriptor, "a socket that does not listen")
    listening.set_inheritable(False)
    listening.setblocking(False)  # noqa: FBT003 - its only argument
    return listening


def _not_ours(descriptor: int, what: str) -> SocketUnusable:
    return SocketUnusable(
        f"descriptor {descriptor} from systemd is {what}",
        hint="use only ListenStream= with a path in ggend.socket",
    )


def _identity(path: Path) -> Identity | None:
    """Return what tells a socket's file from any other; None where there is none."""
    try:
        found = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return (found.st_dev, found.st_ino) if stat.S_ISSOCK(found.st_mode) else None


def _is_still(path: Path, known: Identity | None) -> bool:
    try:
        return known is not None and _identity(path) == known
    except OSError:
        return False


def _shown(name: Path | bytes) -> str:
    """A name for people: bytes that are no UTF-8 are spelled out, an abstract one begins with @."""
    return os.fsencode(name).replace(b"\0", b"@", 1).decode(errors="backslashreplace")
