"""Interception: what one process asks the kernel about some files, seen and answered by the test.

    python tests/torture/interception.py DESCRIPTOR COMMAND ARGUMENTS...

runs a command whose opens, reads, writes, syncs, truncations and unlinks stop until this module's
`Interception` in the test's own process has said what becomes of them (seccomp_unotify(2)). So a
call is counted over all threads, a short write is a real one, and a fault can be lifted again.
Never touches a file that was not named; calls on others go through.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import platform
import select
import socket
import struct
import sys
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, TypeAlias, TypeVar

__all__ = ["Answer", "Interception", "prepare", "why_not"]

#: A process, as whoever starts it has it.
_P = TypeVar("_P")

#: What becomes of a call: it goes through, its first half is written, or it fails with this errno.
Answer: TypeAlias = Literal["through", "half"] | int

#: By machine: the architecture's name for seccomp, and of each call its number and which argument
#: is a path (the others name the file by their first argument, a descriptor).
_MACHINES: Mapping[str, tuple[int, Mapping[str, tuple[int, int | None]]]] = {
    "x86_64": (
        0xC000003E,
        {
            "openat": (257, 1),
            "pread64": (17, None),
            "pwrite64": (18, None),
            "fsync": (74, None),
            "fdatasync": (75, None),
            "ftruncate": (77, None),
            "unlink": (87, 0),
        },
    ),
    "aarch64": (
        0xC00000B7,
        {
            "openat": (56, 1),
            "pread64": (67, None),
            "pwrite64": (68, None),
            "fsync": (82, None),
            "fdatasync": (83, None),
            "ftruncate": (46, None),
            "unlink": (35, 1),
        },
    ),
}

#: linux/seccomp.h, linux/filter.h, linux/prctl.h, asm/unistd.h.
_SECCOMP = {"x86_64": 317, "aarch64": 277}
_SET_MODE_FILTER, _GET_NOTIF_SIZES = 1, 3
_NEW_LISTENER, _WAIT_KILLABLE = 1 << 3, 1 << 5
_NOTIFY, _ALLOW = 0x7FC00000, 0x7FFF0000
_SET_NO_NEW_PRIVS = 38
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_RECEIVE, _SEND = 0xC0502100, 0xC0182101
_CONTINUE = 1

#: struct seccomp_notif: id, pid, flags, number, architecture, instruction, six arguments.
_NOTICE = struct.Struct("=QIIiIQ6Q")
#: struct seccomp_notif_resp: id, value, negative errno, flags.
_RESPONSE = struct.Struct("=QqiI")

#: Longest path that is looked at.
_PATH_BYTES = 4096

#: Milliseconds between two looks at whether the test is over.
_POLL_MS = 100


def why_not() -> str | None:
    """Say why calls cannot be intercepted here; None when they can."""
    machine = platform.machine()
    if sys.platform != "linux" or machine not in _SECCOMP:
        return f"the numbers of system calls are not known for {sys.platform} on {machine}"
    sizes = (ctypes.c_uint16 * 3)()
    if ctypes.CDLL(None).syscall(_SECCOMP[machine], _GET_NOTIF_SIZES, 0, sizes):
        return "this kernel does not pass system calls to user space (seccomp_unotify)"
    release = tuple(int(part) for part in platform.release().split(".")[:2])
    return None if release >= (5, 19) else "this needs Linux 5.19"


class Interception:
    """Answers for the calls on files that `concerns` picks, of one process at a time.

    `decide` gets the name of a call, the how-manieth of its name it is over all processes, and the
    file.
    """

    def __init__(
        self, concerns: Callable[[str], bool], decide: Callable[[str, int, str], Answer]
    ) -> None:
        self._concerns = concerns
        self._decide = decide
        self._calls = {
            number: (name, path)
            for name, (number, path) in _MACHINES[platform.machine()][1].items()
        }
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []
        self.counts: Counter[str] = Counter()
        #: What went wrong in answering: the process then saw calls go through.
        self.mistakes: list[str] = []

    def __enter__(self) -> Interception:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def run(self, start: Callable[[Path, int], _P]) -> _P:
        """Have a process started that does `prepare` of this script first, with a descriptor."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            process = start(Path(__file__), theirs.fileno())
            theirs.close()
            _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
        if not descriptors:
            raise AssertionError("the interception was not allowed")
        thread = threading.Thread(target=self._answer_all, args=(descriptors[0],))
        self._threads.append(thread)
        thread.start()
        return process

    def _answer_all(self, listener: int) -> None:
        poll = select.poll()
        poll.register(listener, select.POLLIN)
        try:
            while not self._over.is_set():
                for _, events in poll.poll(_POLL_MS):
                    if not events & select.POLLIN:  # the last thread is gone
                        return
                    self._answer_one(listener)
        finally:
            os.close(listener)

    def _answer_one(self, listener: int) -> None:
        notice = bytearray(_NOTICE.size)
        try:
            fcntl.ioctl(listener, _RECEIVE, notice)
        except FileNotFoundError:  # the thread was killed meanwhile
            return
        cookie, pid, _, number, _, _, *arguments = _NOTICE.unpack(notice)
        value, failure, flags = 0, 0, _CONTINUE
        try:
            name, path_argument = self._calls[number]
            file = _named(pid, arguments, path_argument)
            if self._concerns(file):
                self.counts[name] += 1
                answer = self._decide(name, self.counts[name], file)
                if answer == "half":
                    value, flags = _write_half(pid, arguments), 0
                elif answer != "through":
                    failure, flags = -answer, 0
        except ProcessLookupError:
            pass
        except Exception as error:  # the process must not wait for ever
            self.mistakes.append(f"{type(error).__name__}: {error}")
        with contextlib.suppress(FileNotFoundError):
            fcntl.ioctl(listener, _SEND, _RESPONSE.pack(cookie, value, failure, flags))


def _named(pid: int, arguments: Sequence[int], path_argument: int | None) -> str:
    if path_argument is None:
        try:
            return os.fspath(Path(f"/proc/{pid}/fd/{arguments[0]}").readlink())
        except FileNotFoundError:  # a bad descriptor: the kernel will say so
            return ""
    memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
    try:
        text = os.pread(memory, _PATH_BYTES, arguments[path_argument])
    finally:
        os.close(memory)
    return os.fsdecode(text.split(b"\0", 1)[0])


def _write_half(pid: int, arguments: Sequence[int]) -> int:
    """Do what a full disk or a signal does to a write; return how much was written."""
    descriptor, address, size, offset = arguments[:4]
    half = max(1, size // 2)
    memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
    try:
        written = os.pread(memory, half, address)
    finally:
        os.close(memory)
    file = os.open(f"/proc/{pid}/fd/{descriptor}", os.O_WRONLY | os.O_CLOEXEC)
    try:
        return os.pwrite(file, written, offset)
    finally:
        os.close(file)


def _listen() -> int:
    """Have this process, and what it becomes, ask before the calls; return where it asks."""
    architecture, calls = _MACHINES[platform.machine()]
    numbers = [number for number, _ in calls.values()]
    steps = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, architecture), (_RETURN, 0, 0, _ALLOW)]
    steps.append((_LOAD, 0, 0, 0))
    steps += [
        (_EQUAL, len(numbers) - position, 0, number) for position, number in enumerate(numbers)
    ]
    steps += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _NOTIFY)]
    text = b"".join(struct.pack("=HBBI", *step) for step in steps)
    held = ctypes.create_string_buffer(text)
    program = struct.pack("@HP", len(steps), ctypes.addressof(held))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no_new_privs")
    flags = _NEW_LISTENER | _WAIT_KILLABLE
    listener = libc.syscall(_SECCOMP[platform.machine()], _SET_MODE_FILTER, flags, program)
    if listener < 0:
        number = ctypes.get_errno()
        raise OSError(number, errno.errorcode.get(number, "seccomp"))
    return int(listener)


def prepare(descriptor: int) -> None:
    """From now on this process is under interception; hand the listening end to the test."""
    with socket.socket(fileno=descriptor) as test:
        listener = _listen()
        socket.send_fds(test, [b"!"], [listener])
    os.close(listener)


def main() -> None:
    """Be under interception, and become the command."""
    descriptor, *command = sys.argv[1:]
    prepare(int(descriptor))
    os.execv(command[0], command)  # noqa: S606 - the test says what


if __name__ == "__main__":
    main()
