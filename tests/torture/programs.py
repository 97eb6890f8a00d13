"""Programs: many short programs of mixed styles and ends, with and without a daemon that is killed.

Each (`guest.py`) notes what emit() took. Afterwards a replay brings what was left, and then the
tables must hold every noted event once. An event that is stored and not noted is one of which
emit() had not returned: it may be there, once.
"""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from msgspec import Struct

from ggend_client.replay import replay
from support.daemon_process import Daemon, free_place
from support.framed_peer import unbalanced_accounts
from support.patience import PATIENCE_SECONDS

__all__ = ["Outcome", "program_round"]

_GUEST = Path(__file__).with_name("guest.py")

#: Share of the programs that are killed from outside, and how long they live at most.
_KILLED, _LIFE_SECONDS = 0.2, 0.6

#: Seconds that the daemon is there and away at a time, at most.
_UP_SECONDS, _AWAY_SECONDS = 2.0, 0.5

#: How many programs run at the same time.
_AT_A_TIME = 4


class Outcome(Struct, frozen=True):
    """What one round found. `problems` is empty when nothing was lost or doubled."""

    programs: int
    #: Events that emit() took, and those of them that a replay brought.
    taken: int
    replayed: int
    kills: int
    seconds: float
    problems: list[str]


def program_round(
    *, count: int, seed: int, tell: Callable[[int], None] = lambda _: None
) -> Outcome:
    """Run so many programs beside one daemon, and check what is stored. Bounded in time."""
    begin = time.monotonic()
    rng = random.Random(seed)
    with free_place() as name:
        place = Path(name)
        (place / "notes").mkdir()
        daemon = Daemon(place, log_level="warning")
        problems: list[str] = []
        over = threading.Event()
        kills = [0]
        trouble = threading.Thread(target=_kill_again, args=(daemon, rng.random(), over, kills))
        trouble.start()
        try:
            with ThreadPoolExecutor(_AT_A_TIME) as pool:
                seeds = range(seed, seed + count)
                for number, problem in enumerate(pool.map(lambda one: _run(place, one), seeds)):
                    problems += [problem] if problem else []
                    tell(number + 1)
        finally:
            over.set()
            trouble.join()
        if daemon.process is None or daemon.process.poll() is not None:
            daemon.start()
        try:
            replayed, more = _bring(daemon)
            taken, found = _compare(daemon, place / "notes")
            problems += more + found
        finally:
            daemon.stop()
        if "Traceback" in (log := daemon.log.read_text(errors="replace")):
            problems.append(f"the daemon's log has a traceback: {log[-2000:]}")
    return Outcome(count, taken, replayed, kills[0], time.monotonic() - begin, problems)


def _kill_again(daemon: Daemon, seed: float, over: threading.Event, kills: list[int]) -> None:
    """Start and kill the daemon until it is over; leave it as it is then."""
    rng = random.Random(seed)
    while not over.wait(rng.uniform(0, _AWAY_SECONDS)):
        daemon.start()
        if over.wait(rng.uniform(0, _UP_SECONDS)):
            return
        daemon.kill()
        kills[0] += 1


def _run(place: Path, seed: int) -> str | None:
    """Run one program and whatever it makes to the end; return what went wrong."""
    rng = random.Random(-seed)
    # Every process that comes of it holds this end of a pipe until it ends.
    alive, held = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", _GUEST, str(seed), place / "notes" / str(seed)],
        env={
            **os.environ,
            "GGEND_SOCKET": os.fspath(place / "g.sock"),
            "GGEND_SPOOL_DIR": os.fspath(place / "spool"),
        },
        pass_fds=[held],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    os.close(held)
    assert process.stderr is not None
    try:
        if rng.random() < _KILLED:
            if not select.select([alive], [], [], rng.uniform(0, _LIFE_SECONDS))[0]:
                process.kill()
            process.wait()
            # Its children are orphans then: they end as they would.
        if not select.select([alive], [], [], PATIENCE_SECONDS)[0]:
            os.killpg(process.pid, signal.SIGUSR1)
            _end_session(process.pid)
            said = process.stderr.read().decode(errors="replace")
            return f"program {seed} did not end: {said}"
        said = process.stderr.read().decode(errors="replace")
        # What a pool says whose master was killed is its own affair.
        return f"program {seed} said: {said}" if "ggend_client" in said else None
    finally:
        process.kill()
        _end_session(process.pid)
        process.stderr.close()
        process.wait()
        os.close(alive)


def _end_session(leader: int) -> None:
    """End what a program left behind. Whatever left its session ends by itself."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return


def _bring(daemon: Daemon) -> tuple[int, list[str]]:
    """Replay until nothing is left; return how many events came, and what went wrong."""
    spool = daemon.place / "spool"
    report = replay(spool, lambda: [daemon.socket], timeout=PATIENCE_SECONDS)
    left = sorted(path.name for path in spool.iterdir()) if spool.exists() else []
    problems = [f"the replay left {report.left} events: {report.error}"] if report.left else []
    return report.events, problems + ([f"the spool has {left}"] if left else [])


def _compare(daemon: Daemon, notes: Path) -> tuple[int, list[str]]:
    """Return how many events were taken, and what is lost, doubled or unbalanced."""
    noted: Counter[str] = Counter()
    for path in notes.iterdir():
        # A process can be killed in the middle of a line, at its end.
        noted.update(line for line in path.read_text().split("\n")[:-1])
    stored = Counter(str(row[0]) for row in daemon.query("SELECT operation FROM audit_log"))
    lost = sorted(name for name in noted if not stored[name])
    doubled = sorted(name for name, times in stored.items() if times > 1)
    problems = [f"{len(lost)} events are lost: {lost[:20]}"] if lost else []
    problems += [f"{len(doubled)} events are doubled: {doubled[:20]}"] if doubled else []
    problems += [f"accounts: {row}" for row in unbalanced_accounts(daemon)]
    return noted.total(), problems
