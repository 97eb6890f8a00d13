"""Fuzz: odd clients against a live daemon, and a good one beside them who must notice nothing.

Each conversation follows from a seed of its own, which is named with what went wrong. Afterwards
everything that was acked is in the tables once, and the accounts add up. What decoding makes of the
same bytes without a daemon is `decoding`'s.
"""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from msgspec import Struct

from ggend_schema.messages import Request
from support.daemon_process import Daemon, free_place
from support.framed_peer import Peer, audit, batch
from torture.conversation import TIMEOUT_SECONDS, Heard, converse
from torture.decoding import problems_of
from torture.dialogues import Spoken, spoken

__all__ = ["Fuzzed", "fuzz", "memory_mib"]

#: Seconds in which the well-behaved producer has its ack. Far above what is measured (the worst of
#: a long run is printed), since the machine may be busy with other things.
_CANARY_SECONDS = 5.0

#: MiB of memory that the daemon may take. One frame of 4 MiB that is all empty arrays takes some
#: 350 decoded, and as much again while it is looked at and on its way to the writer (measured:
#: 940 with nothing but these).
_RSS_MIB = 1_024

#: Sizes of the values that grow when decoded: mostly small, sometimes as large as a JSON field
#: may be, and sometimes a whole frame.
_BOMB_BYTES = (4_096,) * 60 + (300_000, 1_000_000, 3_900_000)

#: Seconds between two looks at the daemon.
_LOOK_SECONDS = 0.05

#: Problems after which a run ends.
_ENOUGH = 10


class Fuzzed(Struct, frozen=True):
    """What a run did. `problems` is empty when every promise held."""

    conversations: int
    sent_mib: float
    #: Audit entries of odd clients that were acked, and found.
    acked: int
    rejected: int
    canary_acks: int
    canary_worst_ms: float
    peak_rss_mib: float
    last_rss_mib: float
    problems: list[str]


class _Run:
    """What the threads of one run share."""

    def __init__(self, daemon: Daemon, seed: int) -> None:
        self.daemon = daemon
        self.seed = seed
        self.stopping = threading.Event()
        self.problems: list[str] = []
        self.conversations = self.sent = self.acked = 0
        self.canary_acks = 0
        self.canary_worst = 0.0
        self.operations = _operations(daemon)
        self._lock = threading.Lock()

    def report(self, where: str, problems: Sequence[str]) -> None:
        with self._lock:
            self.problems += [f"{where}: {problem}" for problem in problems]
            if len(self.problems) >= _ENOUGH:
                self.stopping.set()

    def count(self, said: Spoken, heard: Heard) -> None:
        with self._lock:
            self.conversations += 1
            self.sent += len(said.sent)
            self.acked += sum(1 for number in said.clean if number <= heard.acked)


def fuzz(
    *, seconds: float, seed: int, clients: int = 8, tell: Callable[[float], None] = lambda _: None
) -> Fuzzed:
    """Talk nonsense to one daemon for so long, with so many clients at a time."""
    with (
        free_place() as name,
        Daemon(
            Path(name),
            log_level="warning",
            rejected_max_events=10**9,
            partial_timeout_seconds=TIMEOUT_SECONDS,
            answer_timeout_seconds=TIMEOUT_SECONDS,
            # So long that it ends nothing that another timeout has to end.
            idle_timeout_seconds=3_600,
        ) as daemon,
    ):
        run = _Run(daemon, seed)
        threads = [
            threading.Thread(target=_guarded, args=(run, work, number))
            for work, number in [(_be_good, 0), *((_be_odd, number) for number in range(clients))]
        ]
        for thread in threads:
            thread.start()
        try:
            peak, last = _watch(run, seconds, tell)
        finally:
            run.stopping.set()
            for thread in threads:
                thread.join()
        rejected = _verify(run)
    return Fuzzed(
        conversations=run.conversations,
        sent_mib=run.sent / 2**20,
        acked=run.acked,
        rejected=rejected,
        canary_acks=run.canary_acks,
        canary_worst_ms=run.canary_worst * 1000,
        peak_rss_mib=peak,
        last_rss_mib=last,
        problems=run.problems,
    )


def _operations(daemon: Daemon) -> list[str]:
    """The requests that this daemon knows, by its own word."""
    with Peer(daemon.socket) as peer:
        peer.hello()
        peer.send(Request(id=1, op="?"))
        message = getattr(peer.read(), "message", None) or ""
    return str(message).partition("there are ")[2].split(", ")


def _guarded(run: _Run, work: Callable[[_Run, int], None], number: int) -> None:
    try:
        work(run, number)
    except Exception as error:
        run.report(f"{work.__name__} {number}", [f"{error!r:.500}"])
        run.stopping.set()


def _watch(run: _Run, seconds: float, tell: Callable[[float], None]) -> tuple[float, float]:
    """Look at the process until the time is over; return its highest and its last memory."""
    begin = time.monotonic()
    process = run.daemon.process
    assert process is not None
    last = 0.0
    while (passed := time.monotonic() - begin) < seconds and not run.stopping.is_set():
        if process.poll() is not None:
            run.report("daemon", [f"ended with status {process.returncode}"])
            run.stopping.set()
            break
        last = memory_mib(run.daemon, "VmRSS")
        tell(passed)
        run.stopping.wait(_LOOK_SECONDS)
    if process.poll() is not None:
        return last, last
    peak = memory_mib(run.daemon, "VmHWM")
    if peak > _RSS_MIB:
        run.report("daemon", [f"{peak:.0f} MiB of memory, over {_RSS_MIB}"])
    return peak, last


def memory_mib(daemon: Daemon, kind: str) -> float:
    """Return the memory of a running daemon: `VmRSS` now, or `VmHWM`, the most so far."""
    assert daemon.process is not None
    for line in Path(f"/proc/{daemon.process.pid}/status").read_text().splitlines():
        if line.startswith(f"{kind}:"):
            return int(line.split()[1]) / 1024
    return 0.0


def _be_good(run: _Run, _: int) -> None:
    """A producer that does everything right is acked in time, always."""
    producer = random.Random(run.seed).randbytes(16)
    sequence = 1
    with Peer(run.daemon.socket) as peer:
        peer.hello(producer)
        while not run.stopping.is_set():
            begin = time.monotonic()
            peer.send(
                batch(sequence, *[audit("canary", operation=str(sequence + n)) for n in range(3)])
            )
            rejects = peer.read_to_ack(sequence + 2)
            seconds = time.monotonic() - begin
            run.canary_worst = max(run.canary_worst, seconds)
            if rejects or seconds > _CANARY_SECONDS:
                run.report("canary", [f"{rejects or 'acked'} after {seconds:.1f} s"])
            sequence += 3
            run.canary_acks = sequence - 1
            run.stopping.wait(0.02)


def _be_odd(run: _Run, client: int) -> None:
    """One odd conversation after another; what was acked is looked up at once."""
    number = 0
    with closing(sqlite3.connect(f"file:{run.daemon.database}?mode=ro", uri=True)) as connection:
        while not run.stopping.is_set():
            where = f"{run.seed}/{client}/{number}"
            number += 1
            rng = random.Random(where)
            said = spoken(rng, run.operations, bomb_bytes=rng.choice(_BOMB_BYTES))
            problems = problems_of(said.sent, random.Random(where)) if number % 4 == 0 else []
            heard = converse(run.daemon.socket, said, rng)
            run.count(said, heard)
            problems += heard.problems
            if said.producer is not None:
                problems += _unaccounted(connection, said, heard)
            if problems:
                run.report(where, problems)


def _unaccounted(connection: sqlite3.Connection, said: Spoken, heard: Heard) -> list[str]:
    """An ack means that it is in the file, once; without one it may be, but not twice."""
    assert said.producer is not None
    stored = [int(row[0]) for row in connection.execute(_AUDITS, (said.producer.hex(),))]
    problems = []
    if len(stored) != len(set(stored)):
        problems.append(f"{len(stored)} rows for {len(set(stored))} audit entries")
    missing = {number for number in said.clean if number <= heard.acked} - set(stored)
    if missing:
        problems.append(f"acked up to {heard.acked} and not stored: {sorted(missing)[:5]}")
    account = connection.execute(_ACCOUNT, (said.producer,)).fetchone()
    if account is None and heard.acked and not said.finishes:
        problems.append(f"acked up to {heard.acked}, and there is no account")
    if account is not None and account[0] < heard.acked:
        problems.append(f"acked up to {heard.acked}, settled up to {account[0]}")
    return problems


def _verify(run: _Run) -> int:
    """Look at everything when all is quiet; return how many events were rejected."""
    daemon = run.daemon
    assert daemon.process is not None
    if daemon.process.poll() is None and daemon.stop() != 0:
        run.report("daemon", ["did not stop in order"])
    run.report("accounts", [str(row) for sql in _UNBALANCED for row in daemon.query(sql)[:5]])
    canary = daemon.query(_CANARY)
    if canary[0][0] != canary[0][1] or canary[0] < (run.canary_acks,):
        run.report("canary", [f"{run.canary_acks} acked; rows and different ones: {canary[0]}"])
    for pragma in ("integrity_check", "foreign_key_check"):
        found = daemon.query(f"PRAGMA {pragma}")
        if found not in ([], [("ok",)]):
            run.report(pragma, [str(found[:3])])
    log = daemon.log.read_text(errors="replace")
    run.report(
        "log",
        [
            line[:2000]
            for line in log.splitlines()
            if "Traceback" in line or "level=error" in line or "level=critical" in line
        ][:3],
    )
    (rejected,) = daemon.query("SELECT coalesce(SUM(rejected), 0) FROM producers")
    assert isinstance(rejected[0], int)
    return rejected[0]


_AUDITS = """
    SELECT operation
    FROM audit_log
    WHERE agent_id = ?"""
_ACCOUNT = """
    SELECT last_sequence
    FROM producers
    WHERE producer = ?"""
#: What breaks promise 3. Of the rejected, some may be deleted: requests ask for it.
_UNBALANCED = (
    """
    SELECT kind, producer, last_sequence
    FROM producers
    WHERE last_sequence <> stored + duplicate + superseded + parked + rejected + lost""",
    """
    SELECT *
    FROM (
        SELECT
            (SELECT coalesce(SUM(parked), 0) FROM producers) AS parked,
            (SELECT coalesce(SUM(events), 0) FROM parked_events) AS parked_rows,
            (SELECT coalesce(SUM(rejected), 0) FROM producers) AS rejected,
            (SELECT coalesce(SUM(purged), 0) FROM producers) AS purged,
            (SELECT COUNT(*) FROM rejected_events) AS rejected_rows)
    WHERE parked <> parked_rows
       OR rejected NOT BETWEEN rejected_rows AND rejected_rows + purged""",
)
_CANARY = """
    SELECT COUNT(*), COUNT(DISTINCT operation)
    FROM audit_log
    WHERE agent_id = 'canary'"""
