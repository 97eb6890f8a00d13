"""Guest: one short program that emits in some style and ends in some way, as its seed says.

It notes each event for which emit() returned True, after that and in one write: what stands in its
notes was taken. Run as a script: `guest.py SEED NOTES`. Every process that it makes ends by itself.
"""

from __future__ import annotations

import asyncio
import atexit
import ctypes
import faulthandler
import gc
import logging
import multiprocessing
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from ggend_client import AsyncClient, Audit, Client
from ggend_client.log_handler import AuditHandler

SEED, NOTES = int(sys.argv[1]), sys.argv[2]
rng = random.Random(SEED)
notes = os.open(NOTES, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

#: Characters that most events carry, and large ones.
_CONTEXT, _LARGE_CONTEXT = 40, 200_000


def note(name: str) -> None:
    """Write down that this event was taken."""
    os.write(notes, f"{name}\n".encode())


def say(emitter: Client | AsyncClient, who: str, number: int, *, size: int = _CONTEXT) -> None:
    """Emit one event that nobody else emits, and note it."""
    name = f"{SEED}-{os.getpid()}-{who}-{number}"
    event = Audit(agent_id="guest", operation=name, status="completed", context="x" * size)
    if emitter.emit(event):
        note(name)


def make_client() -> Client:
    """Return a client with options as programs choose them."""
    return Client(
        durable=rng.random() < 0.1,
        linger_seconds=rng.choice([0.0, 0.001, 0.02, 0.02, 0.2]),
        exit_timeout=rng.choice([0.0, 0.1, 1.0, 1.0]),
        max_events=rng.choice([20, 65_536, 65_536, 65_536]),
    )


client = make_client()


def a_few() -> int:
    """Return how many events one of them says: few, or as many as fill some files."""
    return rng.choice([1, 3, 20, 100, 100, 300, 2_000])


def alone() -> None:
    """One thread."""
    for number in range(a_few()):
        say(client, "alone", number)
        if rng.random() < 0.01:
            time.sleep(rng.uniform(0, 0.02))  # as between two pieces of work


def in_threads() -> None:
    """Some threads at once, some of which outlive the main one."""

    def work(thread: int, count: int) -> None:
        for number in range(count):
            say(client, f"thread{thread}", number)

    counts = [min(a_few(), 300) for _ in range(rng.randint(2, 5))]
    threads = [
        threading.Thread(target=work, args=(n, count), daemon=rng.random() < 0.2)
        for n, count in enumerate(counts)
    ]
    for thread in threads:
        thread.start()
    for thread in threads if rng.random() < 0.8 else ():
        thread.join()


def large() -> None:
    """A few large events among small ones."""
    for number in range(30):
        say(client, "large", number, size=rng.choice([_CONTEXT, 3_000, _LARGE_CONTEXT]))


def child(fork: Callable[[], int], who: str, *, ends: bool = True) -> int:
    """Fork a child that emits and ends somehow; return its pid."""
    count, end = min(a_few(), 300), rng.choice(ENDS)
    pid = fork()
    if pid == 0:
        with suppress(BaseException):
            for number in range(count):
                say(client, who, number)
            if ends:
                end()
        os._exit(0)
    return pid


def forking() -> None:
    """Fork children before, between and after own events."""
    children = []
    for number in range(rng.randint(1, 4)):
        if rng.random() < 0.7:
            say(client, "parent", number)
        children.append(child(os.fork, f"child{number}"))
    for pid in children:
        os.waitpid(pid, 0)


def forking_unseen() -> None:
    """As C forks, which runs none of Python's hooks, before there is another thread.

    Beside one that waits for the interpreter's lock, CPython itself can hang in the child.
    """
    # Its end runs no handler: those of atexit are the parent's.
    pid = child(ctypes.PyDLL(None).fork, "unseen", ends=False)
    for number in range(20):
        say(client, "beside", number)
    os.waitpid(pid, 0)


def serving() -> None:
    """A server that forks its workers first, and ends them by a signal in the midst of it."""
    say(client, "master", 0)
    workers = []
    for number in range(3):
        pid = os.fork()
        if pid == 0:
            for n in range(1_000):
                say(client, f"worker{number}", n)
                time.sleep(0.001)  # as between two requests
            os._exit(0)
        workers.append(pid)
    time.sleep(rng.uniform(0, 0.2))  # serving
    for pid in workers:
        os.kill(pid, rng.choice([signal.SIGTERM, signal.SIGKILL]))
        os.waitpid(pid, 0)


def _task(number: int) -> int:
    say(client, "task", number)
    return number


def pooling() -> None:
    """A pool, of which `with` ends the workers by SIGTERM."""
    say(client, "main", 0)
    with multiprocessing.get_context("fork").Pool(rng.randint(1, 3)) as pool:
        pool.map(_task, range(min(a_few(), 100)), chunksize=1)


def signalled() -> None:
    """A signal handler that emits, a millisecond after it was through the last time."""
    count, is_over = 0, False

    def handler(*_: object) -> None:
        nonlocal count
        count += 1
        say(client, "handler", count)
        if not is_over:
            signal.setitimer(signal.ITIMER_REAL, 0.001)

    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.001)
    for number in range(min(a_few(), 300)):
        say(client, "between", number)
    is_over = True
    signal.setitimer(signal.ITIMER_REAL, 0)


class _Interrupt(BaseException):
    pass


def interrupted() -> None:
    """A signal handler that raises at random moments, in a program that goes on."""

    def handler(*_: object) -> None:
        raise _Interrupt

    signal.signal(signal.SIGALRM, handler)
    for number in range(min(a_few(), 300)):
        with suppress(_Interrupt):
            signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-6, 1e-3))
            say(client, "interrupted", number)
            signal.setitimer(signal.ITIMER_REAL, 0)


class _Finalized:
    def __init__(self, number: int) -> None:
        self.itself, self.number = self, number

    def __del__(self) -> None:
        say(client, "finalizer", self.number)


def finalizing() -> None:
    """Finalizers that emit whenever the garbage collector runs, which is always."""
    gc.set_threshold(5, 2, 2)
    for number in range(min(a_few(), 100)):
        _Finalized(number)
        say(client, "between", number)


def awaiting() -> None:
    """A program of asyncio."""

    async def main() -> None:
        async with AsyncClient() as other:
            for number in range(min(a_few(), 100)):
                say(other, "async", number)
                await asyncio.sleep(0)

    asyncio.run(main())


def logging_() -> None:
    """Records of logging."""
    logger = logging.getLogger("guest")
    logger.propagate = False
    logger.setLevel(logging.INFO)
    handler = AuditHandler(client, agent="guest")
    logger.addHandler(handler)
    for number in range(min(a_few(), 100)):
        name = f"{SEED}-{os.getpid()}-logged-{number}"
        accepted = client.stats().accepted
        logger.info(name)
        if client.stats().accepted > accepted:
            note(name)


def at_exit() -> None:
    """Exit handlers that emit, registered before and after the first event."""
    atexit.register(lambda: say(client, "exit", 1))
    say(client, "main", 0)
    atexit.register(lambda: say(client, "exit", 2))


def in_two_clients() -> None:
    """Two clients of one process, one of which is closed early."""
    with make_client() as other:
        for number in range(min(a_few(), 300)):
            say(other, "other", number)
            say(client, "one", number)
    say(client, "after", 0)


def daemonizing() -> None:
    """Fork twice, as daemon(3): the parent ends, the grandchild goes on for a while."""
    say(client, "before", 0)
    pid = os.fork()
    if pid == 0:
        os.setsid()
        if os.fork() == 0:
            for number in range(30):
                say(client, "grandchild", number)
                time.sleep(0.002)  # as between two pieces of work
            client.close(1)
        os._exit(0)
    os.waitpid(pid, 0)


STYLES: list[Callable[[], None]] = [
    alone, alone, in_threads, large, forking, forking_unseen, serving, pooling, signalled,
    interrupted, finalizing, awaiting, logging_, at_exit, in_two_clients, daemonizing,
]  # fmt: skip


def by_exec() -> NoReturn:
    """Become another program."""
    os.execv("/bin/true", ["true"])  # noqa: S606


def by_abort() -> NoReturn:
    """Fail an assertion in C, without a core."""
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.abort()


def by_error() -> NoReturn:
    """Raise what nobody catches."""
    sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115 (to the end of the program)
    raise RuntimeError


def by_signal(number: signal.Signals) -> Callable[[], None]:
    """End as another process would end this one."""
    return lambda: os.kill(os.getpid(), number)


ENDS: list[Callable[[], object]] = [
    lambda: None,
    lambda: None,
    lambda: sys.exit(3),
    lambda: os._exit(0),
    lambda: client.close(1),
    lambda: client.flush(1),
    by_signal(signal.SIGTERM),
    by_signal(signal.SIGKILL),
    by_exec,
    by_abort,
    by_error,
]

if __name__ == "__main__":
    faulthandler.register(signal.SIGUSR1)  # where it hangs, if it does
    style, end = rng.choice(STYLES), rng.choice(ENDS)
    style()
    end()
