"""Kills: the oracle of exactly once. The daemon is killed at random moments under full load.

Producers in their own processes, every second one with NDJSON lines, note what was acked. After
every kill the file alone must hold at least what was noted before it. At the end the tables must
hold everything that was offered exactly once, and nothing else. In some of its lives the wall clock
of the daemon is wrong, which must expire nothing.
"""

from __future__ import annotations

import contextlib
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import IO

from msgspec import Struct

from support.daemon_process import Daemon, free_place
from support.processes import Process
from torture.oracle import look
from torture.work import COLLISION_EXECUTIONS, SESSION_EXECUTIONS, SLOW_EXECUTIONS, STAGES

__all__ = ["Producer", "Round", "kill_round", "producing"]

_PRODUCER = Path(__file__).with_name("producer.py")

#: Seconds that a daemon lives between two kills at most. Long enough for some batches, and now and
#: then for a checkpoint.
_LIFE_SECONDS = 0.6

#: Share of the ends that are a SIGTERM, with a second signal right behind it: a drain cut short.
_DRAINS = 0.15

#: Share of the lives in which the wall clock is wrong, and by how many seconds: in another century,
#: shortly after 1970, a day before and after.
_WRONG_CLOCKS = 0.2
_OFFSETS = (100 * 365 * 86_400, 86_400 - 1_790_000_000, -86_400, 86_400)

#: What runs the daemon then. Its other clocks are right, as they are when a wall clock is set.
_WRONG_CLOCK = """
import sys, time
seconds, nanoseconds = time.time, time.time_ns
time.time = lambda: seconds() + {0}
time.time_ns = lambda: nanoseconds() + {0} * 1_000_000_000
sys.argv = ["ggend", "serve"]
from ggend.__main__ import main
main()
"""

#: Seconds that producers may take for their last acks.
_LAST_SECONDS = 90.0


class Round(Struct, frozen=True):
    """What one round did. `problems` is empty when every promise held."""

    kills: int
    events: int
    seconds: float
    problems: list[str]


class _Clocked(Daemon):
    """A daemon whose wall clock is set for each of its lives."""

    #: Seconds by which it is wrong.
    offset = 0

    def spawn(self, environ: dict[str, str], log: IO[bytes]) -> Process:
        if not self.offset:
            return super().spawn(environ, log)
        command = [sys.executable, "-c", _WRONG_CLOCK.format(self.offset)]
        return subprocess.Popen(command, env=environ, stdin=subprocess.DEVNULL, stderr=log)


class Producer:
    """One producing process."""

    def __init__(self, daemon: Daemon, kind: str, tag: str, rng: random.Random) -> None:
        self.tag = tag
        self.id = rng.randbytes(16)
        self.log = daemon.place / f"{tag}.acked"
        self.executions = self.events = 0
        self._process = subprocess.Popen(
            [sys.executable, _PRODUCER, kind, daemon.socket, tag, self.id.hex(), self.log],
            stdout=subprocess.PIPE,
            text=True,
        )

    def acked(self) -> int:
        """Return the last number that is noted in full."""
        if not self.log.exists():
            return 0
        lines = self.log.read_text().split("\n")[:-1]
        return int(lines[-1]) if lines else 0

    def ask_to_end(self) -> None:
        """Let it finish what is late, and wait for its last acks."""
        self._process.send_signal(signal.SIGTERM)

    def wait(self) -> str | None:
        """Wait for the last acks; return what went wrong."""
        try:
            out, _ = self._process.communicate(timeout=_LAST_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            return f"{self.tag} did not end"
        if self._process.returncode:
            return f"{self.tag} ended with status {self._process.returncode}: not all was acked"
        self.executions, self.events = map(int, out.split())
        return None

    def kill(self) -> None:
        """End it if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()


def kill_round(
    *, kills: int, producers: int, seed: int, tell: Callable[[int], None] = lambda _: None
) -> Round:
    """Kill one daemon so many times under its producers, and check everything. Bounded in time."""
    rng = random.Random(seed)
    begin = time.monotonic()
    with free_place() as name:
        daemon = _Clocked(Path(name), log_level="warning")
        problems = []
        with producing(daemon, producers, rng) as running:
            daemon.start()
            for number in range(kills):
                time.sleep(rng.uniform(0, _LIFE_SECONDS))
                acked = [producer.acked() for producer in running]
                _end(daemon, drain=rng.random() < _DRAINS)
                problems += _settled_less(daemon.database, running, acked)
                is_wrong = rng.random() < _WRONG_CLOCKS
                daemon.offset = rng.choice(_OFFSETS) if is_wrong else 0
                daemon.start()
                tell(number + 1)
            for producer in running:
                producer.ask_to_end()
            problems += [problem for producer in running if (problem := producer.wait())]
            daemon.wait_for_hooks()
            if daemon.stop() != 0:
                problems.append("the daemon did not stop in order")
            if not problems:
                problems += _check(daemon.database, running)
            log = daemon.log.read_text(errors="replace")
            if "Traceback" in log:
                problems.append(f"the daemon's log has a traceback: {log[-2000:]}")
        events = sum(producer.events for producer in running)
    return Round(kills, events, time.monotonic() - begin, problems)


@contextlib.contextmanager
def producing(daemon: Daemon, count: int, rng: random.Random) -> Iterator[list[Producer]]:
    """Run producers, and end them and the daemon whatever happens."""
    running = [
        Producer(daemon, ("client", "lines")[number % 2], f"p{number}", rng)
        for number in range(count)
    ]
    try:
        yield running
    finally:
        for producer in running:
            producer.kill()
        if daemon.process is not None and daemon.process.poll() is None:
            daemon.kill()


def _end(daemon: Daemon, *, drain: bool) -> None:
    assert daemon.process is not None
    if drain:
        daemon.process.send_signal(signal.SIGTERM)
        time.sleep(0.02)
    daemon.kill()


def _settled_less(database: Path, running: list[Producer], acked: list[int]) -> list[str]:
    """While nobody writes: the file alone must account for everything that was acked."""
    if not database.exists():
        return []
    with closing(sqlite3.connect(database)) as connection:
        tables = connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'producers'")
        if tables.fetchone() is None:
            return [f"{number} acked, and no table" for number in acked if number]
        settled = dict(connection.execute(_SETTLED))
    return [
        f"{producer.tag}: {number} were acked, {settled.get(producer.id, 0)} are in the file"
        for producer, number in zip(running, acked, strict=True)
        if settled.get(producer.id, 0) < number
    ]


def _check(database: Path, running: list[Producer]) -> list[str]:
    """Compare the tables with what was offered."""
    wanted: dict[str, int] = {}
    for producer in running:
        n = producer.executions
        sessions = -(-n // SESSION_EXECUTIONS)
        wanted |= {
            f"audit_log {producer.tag}": 3 * n,
            f"receipts {producer.tag}": n,
            f"pipeline_metrics {producer.tag}": len(STAGES) * n,
            f"collision_detection {producer.tag}": -(-n // COLLISION_EXECUTIONS),
            f"workflow_sessions {producer.tag}": sessions,
            f"slo_breaches {producer.tag}": -(-n // SLOW_EXECUTIONS),
            f"slo_violations {producer.tag}": -(-n // SLOW_EXECUTIONS),
            f"passed in sessions {producer.tag}": n,
            f"agent_memory {producer.tag}": SESSION_EXECUTIONS * (sessions - 1),
            f"accounts {producer.tag}": producer.events,
        }
    wanted |= {"unaccounted": 0, "parked": 0, "rejected": 0, "orphans": 0, "sound": 1}
    found, problems = look(database, {producer.id: producer.tag for producer in running})
    wanted = {key: number for key, number in wanted.items() if number or key in found}
    problems += [
        f"{key}: {found.get(key, 0)} in the tables, {number} offered"
        for key, number in wanted.items()
        if found.get(key, 0) != number
    ]
    problems += [f"nobody offered {key}: {found[key]}" for key in found.keys() - wanted.keys()]
    return problems


#: A permanent producer is known by what it says.
_SETTLED = "SELECT coalesce(source, producer), last_sequence FROM producers"
