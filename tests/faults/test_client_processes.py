"""The client in the life of processes: forks, children, signals and the end, whatever comes.

Every program runs in a process of its own, with a time limit, and everything that it emits names
the process and a number. The database tells who said what, and how often.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ggend_client import Client
from ggend_client import client as client_module
from ggend_client.replay import replay
from ggend_client.transport import worker as worker_module
from support.daemon_process import Daemon
from support.examples import share_of_examples
from support.framed_peer import unbalanced_accounts
from support.patience import PATIENCE_SECONDS, wait_until

#: From Python 3.12 on, forking a process that has threads is warned of; here it is the point.
_QUIET = ("-W", "ignore:This process:DeprecationWarning")

#: What every program begins with. `said` is printed: what must arrive.
_HEAD = f"""
import os, sys, threading, time, signal
from ggend_client import Audit, Client

PATIENCE_SECONDS = {PATIENCE_SECONDS}

def audit(name):
    return Audit(agent_id=str(os.getpid()), operation=str(name), status="completed")

client = Client()
"""


def start(place: Path, program: str, **environ: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *_QUIET, "-c", _HEAD + textwrap.dedent(program)],
        env={
            **os.environ,
            "GGEND_SOCKET": os.fspath(place / "g.sock"),
            "GGEND_SPOOL_DIR": os.fspath(place / "spool"),
            **environ,
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(place: Path, program: str, *, status: int = 0, **environ: str) -> str:
    """Run a program to its end; return what it printed. It must have nothing to complain about."""
    process = start(place, program, **environ)
    try:
        printed, complaints = process.communicate(timeout=PATIENCE_SECONDS)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, complaints) == (status, "")
    return printed


def run_bare(place: Path, program: str) -> subprocess.CompletedProcess[str]:
    """Run a program that begins in its own way."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env={
            **os.environ,
            "GGEND_SOCKET": os.fspath(place / "g.sock"),
            "GGEND_SPOOL_DIR": os.fspath(place / "spool"),
        },
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )


def deliver(daemon: Daemon) -> None:
    """Bring what programs left in the spool to the daemon; afterwards nothing must be there."""
    report = replay(daemon.place / "spool", lambda: [daemon.socket], timeout=PATIENCE_SECONDS)
    assert (report.left, report.error) == (0, None)
    spool = daemon.place / "spool"
    assert not spool.exists() or list(spool.iterdir()) == []


def operations(daemon: Daemon) -> Counter[str]:
    return Counter(str(row[0]) for row in daemon.query("SELECT operation FROM audit_log"))


def once(*names: object) -> Counter[str]:
    return Counter(str(name) for name in names)


@pytest.mark.scaled
def test_many_programs_that_emit_once_and_end_are_all_heard(daemon: Daemon) -> None:
    programs = share_of_examples(0.8)
    endings = ("pass", "sys.exit(0)", "raise SystemExit", "threading.Thread(target=int).start()")

    def program(number: int) -> None:
        run(daemon.place, f"client.emit(audit({number}))\n{endings[number % len(endings)]}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(program, range(programs)))
    deliver(daemon)
    assert operations(daemon) == once(*range(programs))


def test_a_program_that_fails_has_said_what_it_said(daemon: Daemon) -> None:
    process = start(daemon.place, "client.emit(audit('before'))\nraise ValueError('mine')")
    _, complaints = process.communicate(timeout=PATIENCE_SECONDS)
    assert complaints.endswith("ValueError: mine\n")
    assert operations(daemon) == once("before")


def test_forks_at_any_moment_neither_hang_nor_send_what_is_their_parents(daemon: Daemon) -> None:
    """200 children of a process in which four threads emit; each says ten things of its own."""
    printed = run(
        daemon.place,
        """
        said = [0] * 4
        stop = threading.Event()

        def emit(thread):
            while not stop.is_set():
                if client.emit(audit(f"parent-{thread}-{said[thread]}")):
                    said[thread] += 1
                time.sleep(0.0005)

        threads = [threading.Thread(target=emit, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()

        def child():
            signal.alarm(int(PATIENCE_SECONDS))  # one that hangs is ended, and counted
            status = 1
            try:
                for n in range(10):
                    client.emit(audit(f"child-{os.getpid()}-{n}"))
                status = 0 if client.close(PATIENCE_SECONDS) else 2
            finally:
                os._exit(status)

        def fork_some(many):
            children = []
            for _ in range(many):
                pid = os.fork()
                if pid == 0:
                    child()
                children.append(pid)
                if len(children) == 10:
                    ended.extend(os.waitpid(pid, 0) for pid in children)
                    children.clear()

        ended = []
        other = threading.Thread(target=fork_some, args=(100,))
        other.start()
        fork_some(100)
        other.join()
        stop.set()
        for thread in threads:
            thread.join()
        assert client.flush(PATIENCE_SECONDS), client.stats()
        print(*said)
        print(*(pid for pid, status in ended if status == 0))
        print(*(f"{pid}:{status}" for pid, status in ended if status != 0))
        """,
    )
    said, ended, failed = printed.split("\n")[:3]
    assert failed == ""
    assert len(ended.split()) == 200
    deliver(daemon)
    expected = once(
        *(
            f"parent-{thread}-{n}"
            for thread, many in enumerate(said.split())
            for n in range(int(many))
        )
    ) + once(*(f"child-{pid}-{n}" for pid in ended.split() for n in range(10)))
    assert operations(daemon) == expected
    # agent_id is the process that emitted: nobody else said it.
    assert daemon.query(
        "SELECT count(*) FROM audit_log WHERE operation LIKE 'child-%' "
        "AND operation NOT LIKE 'child-' || agent_id || '-%'"
    ) == [(0,)]


def test_a_child_holds_neither_the_socket_nor_the_spool_of_its_parent(place: Path) -> None:
    """With the daemon away the parent has its spool open."""
    printed = run(
        place,
        """
        client.emit(audit("mine"))
        while not client.stats().spooled:
            time.sleep(0.01)

        def descriptors():
            return [os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd")
                    if os.path.exists(f"/proc/self/fd/{n}") and int(n) > 2]

        def spooled():
            return sum("spool" in name for name in descriptors())

        assert spooled() == 3, descriptors()
        read, write = os.pipe()
        if os.fork() == 0:
            found = [name for name in descriptors() if "pipe" not in name and "/proc" not in name]
            os.write(write, repr(found).encode())
            os._exit(0)
        os.wait()
        print(os.read(read, 10000).decode())
        """,
    )
    assert printed.strip() == "[]"


def test_a_child_that_outlives_its_parent_does_not_keep_the_parents_spool(place: Path) -> None:
    program = """
        client.emit(audit("left"))
        while not client.stats().spooled:
            time.sleep(0.01)
        child = os.fork()
        if child == 0:
            signal.pause()
            os._exit(0)
        print(child, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
        """
    process = start(place, program)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    try:
        process.wait(PATIENCE_SECONDS)
        with Daemon(place) as daemon:
            deliver(daemon)
            assert operations(daemon) == once("left")
    finally:
        os.kill(child, signal.SIGKILL)
        process.communicate()


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_children_of_multiprocessing_are_heard(daemon: Daemon, method: str) -> None:
    program = daemon.place / "program.py"
    program.write_text(
        _HEAD
        + textwrap.dedent(
            """
            import multiprocessing
            from concurrent.futures import ProcessPoolExecutor

            def work(name):
                client.emit(audit(name))

            if __name__ == "__main__":
                client.emit(audit("main"))
                client.flush(PATIENCE_SECONDS)
                context = multiprocessing.get_context(sys.argv[1])
                process = context.Process(target=work, args=("process",))
                process.start()
                process.join()
                with context.Pool(2) as pool:
                    pool.map(work, [f"pool-{n}" for n in range(10)])
                    pool.close()
                    pool.join()
                with context.Pool(2) as pool:  # its end sends SIGTERM
                    pool.map(work, [f"terminated-{n}" for n in range(10)])
                with ProcessPoolExecutor(2, mp_context=context) as executor:
                    list(executor.map(work, [f"executor-{n}" for n in range(10)]))
            """
        )
    )
    ran = subprocess.run(
        [sys.executable, program, method],
        env={
            **os.environ,
            "GGEND_SOCKET": os.fspath(daemon.socket),
            "GGEND_SPOOL_DIR": os.fspath(daemon.place / "spool"),
        },
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    deliver(daemon)
    kinds = ("pool", "terminated", "executor")
    names = [f"{kind}-{n}" for kind in kinds for n in range(10)]
    assert operations(daemon) == once("main", "process", *names)


@pytest.mark.parametrize("durable", [False, True], ids=["plain", "durable"])
@pytest.mark.parametrize(
    ("end", "status"),
    [
        ("os._exit(0)", 0),
        ("os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
        ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
        ("os.execv('/bin/true', ['true'])", 0),
        ("import ctypes; ctypes.CDLL(None).abort()", -signal.SIGABRT),
    ],
    ids=["exit", "term", "kill", "exec", "abort"],
)
@pytest.mark.parametrize("present", [True, False], ids=["beside a daemon", "without one"])
def test_what_was_taken_survives_any_end(
    place: Path, end: str, status: int, present: bool, durable: bool
) -> None:
    daemon = Daemon(place)
    if present:
        daemon.start()
    run(
        place,
        f"""
        client = Client(durable={durable})
        for n in range(50):
            assert client.emit(audit(n)), client.stats()
        {end}
        """,
        status=status,
    )
    if not present:
        daemon.start()
    try:
        deliver(daemon)
        assert operations(daemon) == once(*range(50))
    finally:
        daemon.stop()


def test_a_program_brings_at_its_end_what_its_children_left(daemon: Daemon) -> None:
    run(
        daemon.place,
        """
        import multiprocessing

        def work(name):
            client.emit(audit(name))

        client.emit(audit("main"))
        assert client.flush(PATIENCE_SECONDS)
        with multiprocessing.get_context("fork").Pool(2) as pool:
            pool.map(work, range(20))
        client.close(PATIENCE_SECONDS)
        """,
    )
    assert operations(daemon) == once("main", *range(20))


def test_a_client_that_goes_on_brings_what_others_left(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(worker_module, "IDLE_SECONDS", 0.05)
    spool = daemon.place / "spool"
    with Client(daemon.socket, spool_dir=spool) as client:
        assert client.audit(agent_id="a", operation="mine", status="completed")
        assert client.flush(PATIENCE_SECONDS)
        run(
            daemon.place,
            """
            client.emit(audit("theirs"))
            os.kill(os.getpid(), signal.SIGKILL)
            """,
            status=-signal.SIGKILL,
        )
        wait_until(lambda: operations(daemon) == once("mine", "theirs"))
        assert client.stats().acked == 1


def test_late_emits_at_the_end_of_the_interpreter_are_quiet(daemon: Daemon) -> None:
    run(
        daemon.place,
        """
        import atexit

        class Late:
            def __del__(self):
                client.emit(audit("del"))

        atexit.register(lambda: client.emit(audit("registered before")))
        client.emit(audit("first"))
        atexit.register(lambda: client.emit(audit("registered after")))
        late = Late()

        def forever():
            while True:
                client.emit(audit("daemon thread"))
                time.sleep(0.001)

        threading.Thread(target=forever, daemon=True).start()
        while client.stats().offered < 3:
            time.sleep(0.001)
        """,
    )
    heard = operations(daemon)
    assert heard["first"] == heard["registered after"] == 1


def test_a_client_that_is_first_used_at_the_end_delivers_or_says_no(daemon: Daemon) -> None:
    run(
        daemon.place,
        """
        import atexit
        atexit.register(lambda: print(client.emit(audit("late")), client.close(PATIENCE_SECONDS)))
        """,
    )
    deliver(daemon)
    assert operations(daemon) in (once("late"), once())


def test_signal_handlers_may_emit_at_any_moment(daemon: Daemon) -> None:
    printed = run(
        daemon.place,
        """
        import itertools
        numbers, taken = itertools.count(), []

        def emit(who):
            name = f"{who}-{next(numbers)}"  # a handler may interrupt itself, too
            if client.emit(audit(name)):
                taken.append(name)

        signal.signal(signal.SIGALRM, lambda *_: emit("handler"))
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        while sum(name.startswith("handler") for name in taken) < 50:
            emit("main")
            client.flush(0)
            time.sleep(0.0002)
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert client.flush(PATIENCE_SECONDS), client.stats()
        print(*taken)
        """,
    )
    taken = printed.split()
    assert operations(daemon) == once(*taken)


def test_a_program_ends_in_time_beside_a_daemon_that_does_not_answer(place: Path) -> None:
    with Daemon(place) as daemon:
        assert daemon.process is not None
        daemon.process.send_signal(signal.SIGSTOP)
        try:
            # It ends at all, within patience: nothing but its own limit can end it.
            run(place, "client = Client(exit_timeout=0.5)\nclient.emit(audit('stopped'))")
        finally:
            daemon.process.send_signal(signal.SIGCONT)
        deliver(daemon)
        assert operations(daemon) == once("stopped")


def test_a_client_that_is_not_enabled_opens_nothing(place: Path) -> None:
    printed = run(
        place,
        """
        before = sorted(os.listdir("/proc/self/fd"))
        print(client.emit(audit("x")), client.flush(0), client.close())
        assert client.stats().dropped.disabled == 1
        assert threading.active_count() == 1
        assert sorted(os.listdir("/proc/self/fd")) == before
        """,
        GGEND_DISABLED="1",
    )
    assert printed == "False True True\n"
    assert not (place / "spool").exists()


def test_making_a_client_opens_nothing_and_starts_nothing(place: Path) -> None:
    run(
        place,
        """
        seen = []
        sys.addaudithook(lambda event, args: seen.append((event, args))
                         if event.startswith(("open", "socket", "os.", "_thread")) else None)
        made = Client(spool_dir="/nowhere", durable=True)
        assert [event for event in seen if event[0] != "os.putenv"] == [], seen
        assert threading.active_count() == 1
        """,
    )


def test_a_child_process_that_is_executed_inherits_nothing(place: Path) -> None:
    printed = run(
        place,
        """
        import subprocess
        client.emit(audit("mine"))
        while not client.stats().spooled:
            time.sleep(0.01)
        print(subprocess.run(["ls", "-l", "/proc/self/fd"], capture_output=True, text=True,
                             close_fds=False).stdout)
        """,
    )
    assert "spool" not in printed
    assert "socket" not in printed


@pytest.mark.parametrize("durable", [False, True], ids=["plain", "durable"])
def test_finalizers_may_emit_in_the_middle_of_an_emit(daemon: Daemon, durable: bool) -> None:
    """The garbage collector runs all the time, in every thread, the client's own too."""
    printed = run(
        daemon.place,
        f"""
        import gc

        client = Client(durable={durable})
        gc.set_threshold(2, 2, 2)

        class Emitting:
            def __init__(self, name):
                self.itself, self.name = self, name
            def __del__(self):
                client.emit(audit(self.name))
                finalized.append(self.name)

        finalized = []

        def work(thread):
            for n in range(40):
                Emitting(f"finalizer-{{thread}}-{{n}}")
                client.emit(audit(f"{{thread}}-{{n}}"))

        threads = [threading.Thread(target=work, args=(thread,)) for thread in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        while len(finalized) < 120:
            gc.collect()  # in vain while another thread does
            time.sleep(0.001)  # between two attempts
        assert client.close(PATIENCE_SECONDS), client.stats()
        print(client.stats().accepted, client.stats().dropped.total)
        """,
    )
    assert printed == "240 0\n"
    deliver(daemon)
    names = [f"{thread}-{n}" for thread in range(3) for n in range(40)]
    assert operations(daemon) == once(*names, *(f"finalizer-{name}" for name in names))


@pytest.mark.scaled
@pytest.mark.parametrize("durable", [False, True], ids=["plain", "durable"])
def test_an_error_of_a_signal_handler_in_the_middle_of_an_emit_harms_no_other(
    daemon: Daemon, durable: bool
) -> None:
    """As KeyboardInterrupt, at random moments, in a program that goes on."""
    printed = run(
        daemon.place,
        f"""
        import random

        class Interrupt(BaseException):
            pass

        def interrupt(*_):
            raise Interrupt

        rng = random.Random(3)
        signal.signal(signal.SIGALRM, interrupt)
        client = Client(durable={durable})
        taken = []
        for n in range({share_of_examples(10)}):
            try:
                most = rng.choice([3e-5, 3e-4, 3e-3])
                signal.setitimer(signal.ITIMER_REAL, 1e-6 + most * rng.random())
                if client.emit(audit(n)):
                    taken.append(n)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except Interrupt:
                pass
        assert client.close(PATIENCE_SECONDS), client.stats()
        s = client.stats()
        assert s.offered == s.acked and s.spooled == 0, s
        print(*taken)
        """,
    )
    deliver(daemon)
    stored = operations(daemon)
    assert [name for name in printed.split() if not stored[name]] == []
    assert set(stored.values()) == {1}
    assert unbalanced_accounts(daemon) == []


def test_closing_twice_and_in_a_handler_does_no_harm(daemon: Daemon) -> None:
    run(
        daemon.place,
        """
        signal.signal(signal.SIGUSR1, lambda *_: client.close(PATIENCE_SECONDS))
        client.emit(audit("x"))
        os.kill(os.getpid(), signal.SIGUSR1)
        assert client.close(PATIENCE_SECONDS)
        assert client.close(PATIENCE_SECONDS)
        """,
    )
    assert operations(daemon) == once("x")


def test_an_on_drop_that_raises_or_emits_is_the_hosts_own_affair(place: Path) -> None:
    printed = run(
        place,
        """
        told = []

        def on_drop(cause, event):
            told.append(cause)
            client.emit(object())
            raise ValueError("mine")

        import logging
        logging.disable()
        client = Client(on_drop=on_drop, spool_dir="")
        print(client.emit(object()), told, client.stats().dropped.invalid)
        """,
    )
    assert printed == "False ['invalid'] 2\n"


def test_the_host_programs_random_numbers_are_its_own(place: Path) -> None:
    draws = "import random\nrandom.seed(1)\n{}\nprint(random.random())"
    quiet = run(place, draws.format(""))
    busy = run(place, draws.format("client.emit(audit('x'))\nclient.close()"))
    assert busy == quiet
    assert Client().stats().offered == 0


@pytest.mark.parametrize("present", [True, False], ids=["beside a daemon", "without one"])
@pytest.mark.parametrize("order", ["handler last", "handler first", "all in a handler"])
def test_a_first_emit_in_an_exit_handler_is_not_lost(
    place: Path, order: str, present: bool
) -> None:
    """Whether the handler was registered before the client's own, after it, or makes the client."""
    emit = "print(client.emit(audit('last words')))"
    programs = {
        "handler last": f"{_HEAD}\nimport atexit\natexit.register(lambda: {emit})",
        "handler first": f"import atexit\natexit.register(lambda: {emit})\n{_HEAD}",
        "all in a handler": "import atexit, threading\n"
        f"atexit.register(lambda: exec({_HEAD + emit!r}, {{}}))",
    }
    daemon = Daemon(place)
    if present:
        daemon.start()
    ran = run_bare(place, programs[order])
    assert (ran.stdout, ran.stderr) == ("True\n", "")
    if not present:
        daemon.start()
    try:
        deliver(daemon)
        assert operations(daemon) == once("last words")
    finally:
        daemon.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_program_that_becomes_another_user_goes_on_under_an_id_of_its_own(place: Path) -> None:
    """What it connects with after setuid() may not use the id that it began with as root."""
    place.chmod(0o711)
    program = """
        import sys
        client.emit(audit("as root"))
        assert client.flush(PATIENCE_SECONDS)
        os.setgroups([])
        os.setgid(12345)
        os.setuid(12345)
        client.emit(audit("as another, connected as root"))
        assert client.flush(PATIENCE_SECONDS)
        print("restart", flush=True)
        sys.stdin.readline()
        for n in range(3):
            assert client.emit(audit(f"as another {n}"))
        assert client.flush(PATIENCE_SECONDS), client.stats()
        s = client.stats()
        assert (s.offered, s.acked, s.queued, s.spooled, s.dropped.total) == (5, 5, 0, 0, 0), s
        client.close(PATIENCE_SECONDS)
        """
    daemon = Daemon(place, socket_mode="0666")
    daemon.start()
    process = start(place, program)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "restart\n"
        daemon.stop()
        daemon.start()
        _, complaints = process.communicate("\n", timeout=PATIENCE_SECONDS)
        assert process.returncode == 0, complaints
        # It may have come to rest, and then could not have a file of its own again.
        assert complaints == "" or "spool: belongs to uid 0" in complaints
        deliver(daemon)  # what it could not remove is root's, and holds nothing that is to be sent
        assert operations(daemon) == once(
            "as root", "as another, connected as root", *(f"as another {n}" for n in range(3))
        )
        assert unbalanced_accounts(daemon) == []
    finally:
        process.kill()
        process.wait()
        daemon.stop()


@pytest.mark.parametrize("durable", [False, True], ids=["plain", "durable"])
def test_a_fork_that_python_does_not_see_makes_two_producers(daemon: Daemon, durable: bool) -> None:
    """As C forks: none of Python's hooks runs. Both were made as one producer.

    The client's thread has not begun: CPython itself can hang in such a child if another thread
    waits for the interpreter's lock at that moment.
    """
    run(
        daemon.place,
        f"""
        import ctypes
        client = Client(durable={durable})
        pid = ctypes.PyDLL(None).fork()
        who = "parent" if pid else "child"
        for n in range(50):
            assert client.emit(audit(f"{{who}} {{n}}"))
        assert client.close(PATIENCE_SECONDS), client.stats()
        s = client.stats()
        assert s.offered == s.acked == 50, s
        if pid == 0:
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        """,
    )
    assert operations(daemon) == once(
        *(f"{who} {n}" for who in ("parent", "child") for n in range(50))
    )
    # agent_id is the process that emitted: nobody else said it.
    assert daemon.query("SELECT count(DISTINCT agent_id) FROM audit_log") == [(2,)]
    assert unbalanced_accounts(daemon) == []


def test_a_thread_that_outlives_the_main_one_may_be_the_first_to_import_the_client(
    place: Path,
) -> None:
    """It may emit as often as it likes: exit handlers run after it."""
    ran = run_bare(
        place,
        """
        import threading
        def late():
            threading.main_thread().join()
            from ggend_client import Audit, Client
            client = Client()
            for n in range(5):
                e = Audit(agent_id="a", operation=str(n), status="completed")
                assert client.emit(e)
        threading.Thread(target=late).start()
        """,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    with Daemon(place) as daemon:
        deliver(daemon)
        assert operations(daemon) == once(*range(5))
