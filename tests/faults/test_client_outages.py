"""The client while daemons come and go, and while the disk or others spoil its spool.

The programs run in processes of their own; what emit() took is compared with what is stored.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from ggend_client import Audit, Client
from ggend_client.replay import ReplayReport, replay
from ggend_client.spool.directory import list_spools
from support.daemon_process import Daemon
from support.examples import share_of_examples
from support.framed_peer import unbalanced_accounts
from support.patience import PATIENCE_SECONDS, wait_until

_HEAD = f"""
import os, sys, threading, time, signal
from ggend_client import Audit, Client

PATIENCE_SECONDS = {PATIENCE_SECONDS}

def audit(name):
    return Audit(agent_id="a", operation=str(name), status="completed")

client = Client()
"""

is_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount, or be another user")


def start(place: Path, program: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _HEAD + textwrap.dedent(program)],
        env={
            **os.environ,
            "GGEND_SOCKET": os.fspath(place / "g.sock"),
            "GGEND_SPOOL_DIR": os.fspath(place / "spool"),
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process: subprocess.Popen[str], said: str = "", *, complaint: str = "") -> str:
    """Wait for a program's end, and return what it printed; it has nothing else to complain of."""
    try:
        printed, complaints = process.communicate(said, timeout=PATIENCE_SECONDS)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, complaints
    assert complaint in complaints if complaint else complaints == ""
    return printed


def bring(daemon: Daemon) -> ReplayReport:
    return replay(daemon.place / "spool", lambda: [daemon.socket], timeout=PATIENCE_SECONDS)


def deliver(daemon: Daemon) -> None:
    """Bring what programs left to the daemon; afterwards nothing must be there."""
    report = bring(daemon)
    assert (report.left, report.error) == (0, None)
    spool = daemon.place / "spool"
    assert not spool.exists() or list(spool.iterdir()) == []


def operations(daemon: Daemon) -> list[str]:
    return [str(row[0]) for row in daemon.query("SELECT operation FROM audit_log ORDER BY id")]


def names(many: int, what: str = "") -> list[str]:
    return [f"{what}{n}" for n in range(many)]


def test_nothing_taken_is_lost_or_doubled_while_the_daemon_is_killed_twenty_times(
    place: Path,
) -> None:
    program = """
        me, taken = sys.argv[1] if len(sys.argv) > 1 else os.getpid(), 0
        stop = threading.Event()
        threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
        while not stop.is_set():
            for _ in range(20):
                if client.emit(audit(f"{me}-{taken}")):
                    taken += 1
            time.sleep(0.005)
        client.flush(PATIENCE_SECONDS)
        print(me, taken)
        """
    rng = random.Random(5)
    daemon = Daemon(place)
    daemon.start()
    programs = [start(place, program) for _ in range(3)]
    try:
        for _ in range(20):
            time.sleep(rng.uniform(0.02, 0.25))  # any moment
            daemon.kill()
            time.sleep(rng.choice([0, 0, 0.1]))  # clients notice, or do not
            daemon.start()
        printed = [end(process).split() for process in programs]
        deliver(daemon)
        expected = Counter(f"{me}-{n}" for me, taken in printed for n in range(int(taken)))
        assert Counter(operations(daemon)) == expected
        assert expected.total() > 1_000
        assert unbalanced_accounts(daemon) == []
    finally:
        for process in programs:
            process.kill()
            process.communicate()
        daemon.stop()


def test_what_was_emitted_without_a_daemon_comes_in_order_with_the_next_client(
    place: Path,
) -> None:
    end(start(place, "for n in range(3000): client.emit(audit(n))"))
    with Daemon(place) as daemon:
        program = """
            client.emit(audit("next"))
            client.flush(PATIENCE_SECONDS)
            spool = os.environ["GGEND_SPOOL_DIR"]
            while any(name.endswith(".segment") for name in os.listdir(spool)):
                time.sleep(0.01)
            """
        end(start(place, program))
        stored = operations(daemon)
        stored.remove("next")
        assert stored == names(3000)


def test_a_program_that_waited_for_its_daemon_is_heard_in_order(place: Path) -> None:
    program = """
        for n in range(500):
            client.emit(audit(n))
        while not client.stats().spooled:
            time.sleep(0.01)
        print("away", flush=True)
        for n in range(500, 3000):
            client.emit(audit(n))
            time.sleep(0.0005)
        assert client.flush(PATIENCE_SECONDS), client.stats()
        """
    process = start(place, program)
    assert process.stdout is not None
    assert process.stdout.readline() == "away\n"
    with Daemon(place) as daemon:
        end(process)
        assert operations(daemon) == names(3000)
        assert not list((place / "spool").iterdir())


def test_a_stopped_daemon_holds_nobody_up_and_gets_everything_later(place: Path) -> None:
    program = """
        client.emit(audit("before"))
        assert client.flush(PATIENCE_SECONDS)
        print("stop", flush=True)
        sys.stdin.readline()
        for n in range(5000):
            client.emit(audit(n))
        print("emitted", flush=True)
        sys.stdin.readline()
        assert client.flush(PATIENCE_SECONDS), client.stats()
        """
    with Daemon(place) as daemon:
        assert daemon.process is not None
        process = start(place, program)
        assert process.stdout is not None
        assert process.stdin is not None
        process.stdout.readline()
        daemon.process.send_signal(signal.SIGSTOP)
        try:
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline() == "emitted\n"  # while the daemon is stopped
            wait_until(lambda: any(one.segments for one in list_spools(place / "spool")))
        finally:
            daemon.process.send_signal(signal.SIGCONT)
        end(process, "\n")
        assert operations(daemon) == ["before", *names(5000)]


@pytest.mark.scaled
def test_a_program_that_is_killed_leaves_what_it_had_emitted(place: Path) -> None:
    """Ten times, at any moment, with a daemon that is away."""
    program = """
        for n in range(100_000):
            client.emit(audit(f"{os.getpid()}-{n}"))
            if n % 20 == 0:
                time.sleep(0.001)
            print(os.getpid(), n + 1, flush=True)
        """
    rng = random.Random(7)
    promised: dict[str, int] = {}
    for _ in range(share_of_examples(0.2)):
        process = start(place, program)
        assert process.stdout is not None
        process.stdout.readline()
        timer = threading.Timer(rng.uniform(0.02, 0.15), process.kill)
        timer.start()
        printed, _ = process.communicate(timeout=PATIENCE_SECONDS)
        timer.join()
        whole = [line.split() for line in printed.splitlines(keepends=True) if line[-1:] == "\n"]
        for pid, emitted in whole[-1:]:
            promised[pid] = int(emitted)
    with Daemon(place) as daemon:
        deliver(daemon)
        stored = Counter(operations(daemon))
        assert set(stored.values()) <= {1}
        for pid, safe in promised.items():
            assert [n for n in range(safe) if not stored[f"{pid}-{n}"]] == [], pid
        assert sum(promised.values()) > 100
        assert unbalanced_accounts(daemon) == []


def test_what_was_meant_for_one_daemon_is_not_given_to_another(place: Path) -> None:
    end(start(place, "client.emit(audit('mine'))"))
    (place / "other").mkdir()
    with Daemon(place / "other") as other:
        spool = place / "spool"
        report = replay(spool, lambda: [other.socket], timeout=PATIENCE_SECONDS)
        assert (report.events, report.left) == (0, 0)
        with Client(other.socket, spool_dir=spool) as client:
            send(client, "other-", 1)
            assert client.flush(PATIENCE_SECONDS)
        assert operations(other) == ["other-0"]
    with Daemon(place) as daemon:
        deliver(daemon)
        assert operations(daemon) == ["mine"]


def test_two_that_find_the_same_spool_deliver_it_once(place: Path) -> None:
    end(start(place, "for n in range(5000): client.emit(audit(n))"))
    with Daemon(place) as daemon:
        threads = [threading.Thread(target=bring, args=(daemon,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_SECONDS)
        deliver(daemon)
        assert operations(daemon) == names(5000)


@contextmanager
def small_file_system(place: Path, options: str) -> Iterator[Path]:
    where = place / "small"
    where.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", where], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("tmpfs cannot be mounted here")
    try:
        yield where
    finally:
        subprocess.run(["umount", where], check=True)


@is_root
def test_a_full_spool_directory_keeps_events_in_memory_until_there_is_room(place: Path) -> None:
    with small_file_system(place, "size=256k") as small:
        program = f"""
            client = Client(spool_dir={os.fspath(small / "spool")!r}, max_events=20_000)
            taken = [n for n in range(15_000) if client.emit(audit(n))]
            while "No space" not in str(client.stats().last_error):
                time.sleep(0.01)
            s = client.stats()
            assert s.spooled and s.queued, s
            print(len(taken), flush=True)
            sys.stdin.readline()
            assert client.flush(PATIENCE_SECONDS), client.stats()
            assert client.stats().dropped.total == 0
            """
        process = start(place, program)
        assert process.stdout is not None
        assert process.stdout.readline() == "15000\n"
        with Daemon(place) as daemon:
            end(process, "\n", complaint="only in memory: ")
            assert operations(daemon) == names(15_000)
        assert list((small / "spool").iterdir()) == []


@is_root
def test_what_the_dead_left_on_a_full_disk_is_delivered_from_where_it_is(place: Path) -> None:
    with small_file_system(place, "size=256k") as small:
        spool = small / "spool"
        program = f"""
            client = Client(spool_dir={os.fspath(spool)!r})
            for n in range(300):
                assert client.emit(audit(f"{{os.getpid()}} {{n}}"))
            os.kill(os.getpid(), 9)
            """
        killed = [start(place, program) for _ in range(2)]
        for process in killed:
            process.communicate(timeout=PATIENCE_SECONDS)
        with suppress(OSError), (small / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(bytes(4096))
        with Daemon(place) as daemon:
            report = replay(spool, lambda: [daemon.socket], timeout=PATIENCE_SECONDS)
            assert (report.events, report.left, report.error) == (600, 0, None)
            assert sorted(operations(daemon)) == sorted(
                f"{process.pid} {n}" for process in killed for n in range(300)
            )
        assert list(spool.iterdir()) == []


@is_root
def test_a_spool_directory_that_is_read_only_is_named_and_emit_goes_on(place: Path) -> None:
    with small_file_system(place, "size=256k,ro") as small:
        printed = end(
            start(
                place,
                f"""
                client = Client(spool_dir={os.fspath(small / "spool")!r})
                assert client.emit(audit("x"))
                client.close(0.3)
                print(client.stats().last_error, client.stats().queued)
                """,
            ),
            complaint="1 events were lost when the client ended: ",
        )
    assert "Read-only file system" in printed
    assert printed.endswith(" 1\n")


def spoil_with_a_file(spool: Path) -> None:
    spool.write_text("mine")


def spoil_with_a_link(spool: Path) -> None:
    spool.symlink_to(spool.parent)


def spoil_with_an_owner(spool: Path) -> None:
    spool.mkdir(mode=0o700)
    os.chown(spool, 12345, 12345)


def spoil_with_a_mode(spool: Path) -> None:
    spool.mkdir()
    spool.chmod(0o777)


@is_root
@pytest.mark.parametrize(
    "spoil",
    [spoil_with_a_file, spoil_with_a_link, spoil_with_an_owner, spoil_with_a_mode],
    ids=["file", "link", "owner", "mode"],
)
def test_a_spool_made_by_others_is_not_used(place: Path, spoil: Callable[[Path], None]) -> None:
    spoil(place / "spool")
    printed = end(
        start(
            place,
            """
            assert client.emit(audit("x"))
            client.close(0.2)
            print(client.stats().spooled, client.stats().queued, client.stats().last_error)
            """,
        ),
        complaint="1 events were lost when the client ended: ",
    )
    assert printed.startswith("0 1 ")
    assert str(place / "spool") in printed
    with Daemon(place) as daemon:
        assert bring(daemon).events == 0


def test_a_spool_that_is_removed_in_use_loses_what_was_in_it_and_nothing_else(
    place: Path,
) -> None:
    program = """
        for n in range(100):
            client.emit(audit(n))
        while client.stats().spooled < 100:
            time.sleep(0.01)
        print("spooled", flush=True)
        sys.stdin.readline()
        assert client.emit(audit("after"))
        assert client.flush(PATIENCE_SECONDS), client.stats()
        s = client.stats()
        assert s.offered == s.acked + s.dropped.lost == 101, s
        """
    process = start(place, program)
    assert process.stdout is not None
    process.stdout.readline()
    shutil.rmtree(place / "spool")
    with Daemon(place) as daemon:
        end(process, "\n")
        assert operations(daemon)[-1] == "after"
        assert unbalanced_accounts(daemon) == []


def test_rubbish_in_the_spool_directory_is_no_obstacle(place: Path) -> None:
    end(start(place, "client.emit(audit('kept'))"))
    spool = place / "spool"
    some = "ab" * 16
    (spool / f"{some}-{1:020}.segment").write_bytes(b"garbage" * 100)
    os.mkfifo(spool / f"{'cd' * 16}-{1:020}.segment")
    (spool / f"{'ef' * 16}-{1:020}.segment").mkdir()
    (spool / "note.txt").write_text("mine")
    (spool / f"{'12' * 16}.lock").write_text("")
    with Daemon(place) as daemon:
        report = bring(daemon)
        assert (report.left, report.error) == (0, None)
        assert operations(daemon) == ["kept"]
        assert (spool / f"{some}-{1:020}.segment.corrupt").exists()
        assert (spool / "note.txt").exists()


def test_a_socket_that_is_something_else_is_waited_out(place: Path) -> None:
    (place / "g.sock").write_text("not a socket")
    process = start(
        place,
        """
        client.emit(audit("x"))
        while not client.stats().last_error:
            time.sleep(0.01)
        print(client.flush(0), client.stats().last_error, flush=True)
        sys.stdin.readline()
        assert client.flush(PATIENCE_SECONDS), client.stats()
        """,
    )
    assert process.stdout is not None
    assert "no daemon accepts" in process.stdout.readline()
    (place / "g.sock").unlink()
    with Daemon(place) as daemon:
        end(process, "\n")
        assert operations(daemon) == ["x"]


def test_a_datagram_socket_in_its_place_is_waited_out(place: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(os.fspath(place / "g.sock"))
        end(start(place, "client.emit(audit('x'))"))
    (place / "g.sock").unlink()
    with Daemon(place) as daemon:
        deliver(daemon)
        assert operations(daemon) == ["x"]


def test_a_socket_path_that_another_daemon_takes_over_is_followed(place: Path) -> None:
    process = start(
        place,
        """
        client.emit(audit("first"))
        assert client.flush(PATIENCE_SECONDS)
        print("first", flush=True)
        sys.stdin.readline()
        client.emit(audit("second"))
        assert client.flush(PATIENCE_SECONDS), client.stats()
        """,
    )
    assert process.stdout is not None
    with Daemon(place):
        assert process.stdout.readline() == "first\n"
    (place / "tier2.db").rename(place / "other.db")
    with Daemon(place) as daemon:
        end(process, "\n", complaint="no longer in the daemon's database")
        assert operations(daemon) == ["second"]
        assert unbalanced_accounts(daemon) == []


@is_root
def test_a_user_who_may_not_connect_keeps_events_in_a_spool_of_his_own(place: Path) -> None:
    place.chmod(0o711)
    own = place / "own"
    own.mkdir()
    os.chown(own, 12345, 12345)
    program = f"""
        os.setgid(12345)
        os.setuid(12345)
        client = Client(spool_dir={os.fspath(own / "spool")!r})
        client.emit(audit("x"))
        client.close(2)
        print(client.stats().spooled, client.stats().last_error)
        """
    with Daemon(place) as daemon:
        daemon.socket.chmod(0o600)
        printed = end(start(place, program))
        assert printed.startswith("1 ")
        assert "Permission denied" in printed
        [left] = (own / "spool").glob("*.segment")
        assert left.stat().st_uid == 12345


def test_a_clock_that_is_stepped_back_loses_and_expires_nothing(place: Path) -> None:
    process = start(
        place,
        """
        real, step = time.time_ns, [0]
        import ggend_client.transport.outbox as outbox
        outbox.time_ns = time.time_ns = lambda: real() - step[0]
        with client.execution(operation="generation", agent_id="a", execution_id="e"):
            client.emit(audit(0))
            step[0] = 90 * 24 * 3600 * 10**9
            client.emit(audit(1))
        client.close(1)
        """,
    )
    end(process)
    with Daemon(place) as daemon:
        deliver(daemon)
        assert operations(daemon) == ["0", "1"]
        assert daemon.query("SELECT duration_ms >= 0 FROM receipts") == [(1,)]


def test_an_older_copy_of_the_database_stops_nobody_and_doubles_nothing(place: Path) -> None:
    """What the copy does not have is gone; the client tells it what is lost, and goes on."""
    daemon = Daemon(place)
    daemon.start()
    with Client(daemon.socket, spool_dir=place / "spool") as client:
        send(client, "a", 100)
        assert client.flush(PATIENCE_SECONDS)
        daemon.stop()
        with (
            closing(sqlite3.connect(daemon.database)) as source,
            closing(sqlite3.connect(place / "copy.db")) as copy,
        ):
            source.backup(copy)
        daemon.start()
        send(client, "b", 100)
        assert client.flush(PATIENCE_SECONDS)
        daemon.stop()
        send(client, "c", 100)
        for suffix in ("", "-wal", "-shm"):
            Path(f"{daemon.database}{suffix}").unlink(missing_ok=True)
        (place / "copy.db").rename(daemon.database)
        daemon.start()
        assert client.flush(PATIENCE_SECONDS), client.stats()
    try:
        assert operations(daemon) == [*names(100, "a"), *names(100, "c")]
        assert unbalanced_accounts(daemon) == []
        assert daemon.query("SELECT sum(lost) FROM producers") == [(100,)]
    finally:
        daemon.stop()


def send(client: Client, what: str, many: int) -> None:
    for name in names(many, what):
        assert client.emit(Audit(agent_id="a", operation=name, status="completed"))
