"""Faults: a scripted run of the daemon in which one system call on its files fails, and its oracle.

    SCENARIO:CALL:ERROR:N[+]      fresh:pwrite64:ENOSPC:17, crashed:openat:EIO:3+

names a case: the N-th call of this name on the database, its companions, its lock or its directory
fails, or from the N-th on all do until the disk is well again. `short` writes half and lets the
rest through, `torn` writes half and then there is no room. A daemon that ends is started again, as
a service manager would. Whatever happened, in the end the tables hold what they hold after a run
without a fault, and nothing that was acked was missing in between.
"""

from __future__ import annotations

import contextlib
import errno
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from msgspec import Struct

from support.daemon_process import Daemon, free_place
from support.fork_server import Before
from support.processes import Process, start_ggend
from torture.aftermath import contents, copy_database, unsound
from torture.course import Course
from torture.interception import Answer, Interception
from torture.scripted import HALF, Scripted

__all__ = ["ERRORS", "Fault", "FaultBench", "Trial"]

SCENARIOS = ("fresh", "crashed")

#: What may go wrong with each call.
ERRORS = {
    "openat": ("EIO", "ENOSPC", "EMFILE"),
    "pread64": ("EIO",),
    "pwrite64": ("ENOSPC", "EIO", "short", "torn"),
    "fsync": ("EIO", "ENOSPC"),
    "fdatasync": ("EIO", "ENOSPC"),
    "ftruncate": ("EIO", "ENOSPC"),
    "unlink": ("EIO",),
}

#: Seconds after which a lasting fault is over: the daemon has tried twice by then.
_LASTING_SECONDS = 1.2

#: Small, so that the script reaches checkpoints.
_CHECKPOINT_EVENTS = 100

#: How much of the log is shown where something is wrong; the end of a line says what it is about.
_SHOWN_LINES = 12
_SHOWN_CHARS = 300


class Fault(Struct, frozen=True):
    """One case."""

    scenario: str
    call: str
    error: str
    number: int
    lasting: bool = False

    def __str__(self) -> str:
        return f"{self.scenario}:{self.call}:{self.error}:{self.number}{'+' * self.lasting}"

    @classmethod
    def parse(cls, text: str) -> Fault:
        """Read what `str` wrote. Raises ValueError."""
        scenario, call, error, number = text.split(":")
        if scenario not in SCENARIOS or error not in ERRORS.get(call, ()):
            raise ValueError(text)
        return cls(scenario, call, error, int(number.removesuffix("+")), number.endswith("+"))


class Trial(Struct, frozen=True):
    """What became of one case. `problems` is empty when every promise held."""

    #: `not reached`, `went on`, or how the daemon ended, once for each time.
    outcome: str
    problems: list[str]


class _Decider:
    """Says of each call what becomes of it, and knows where and when the fault began."""

    def __init__(self, fault: Fault | None) -> None:
        self._fault = fault
        self.began: float | None = None
        self.file = ""

    def __call__(self, call: str, number: int, file: str) -> Answer:
        fault = self._fault
        if fault is None or fault.call != call or number < fault.number:
            return "through"
        is_first = self.began is None
        if self.began is None:
            self.began, self.file = time.monotonic(), file
        is_rest = fault.error == "torn" and number == fault.number + 1
        lasts = fault.lasting and time.monotonic() < self.began + _LASTING_SECONDS
        if not (is_first or is_rest or lasts):
            return "through"
        if fault.error == "short" or (fault.error == "torn" and is_first):
            return "half"
        return errno.ENOSPC if fault.error == "torn" else int(getattr(errno, fault.error))

    def failed_sync(self) -> float | None:
        """When a sync of the WAL failed, on which every ack rests.

        One of the database itself keeps what is in the WAL there.
        """
        is_sync = self._fault is not None and self._fault.call in ("fsync", "fdatasync")
        return self.began if is_sync and self.file.endswith("-wal") else None


class _Intercepted(Daemon):
    """A daemon whose calls are answered."""

    #: Many of them start at the same time.
    patience_seconds = 45.0

    def __init__(self, place: Path, interception: Interception) -> None:
        super().__init__(place, checkpoint_events=_CHECKPOINT_EVENTS)
        self._interception = interception

    def spawn(self, environ: dict[str, str], log: IO[bytes]) -> Process:
        return self._interception.run(
            lambda script, descriptor: start_ggend(
                "serve", environ=environ, stderr=log, before=Before(script, descriptor)
            )
        )


class FaultBench:
    """What runs without a fault have shown, and the cases that follow from it."""

    def __init__(self, place: Path) -> None:
        self._crashed = place / "crashed"
        self._crashed.mkdir()
        with _case(None) as (daemon, _, _):
            producer = Scripted()
            daemon.start()
            producer.send(daemon.socket, upto=HALF)
            daemon.kill()
            copy_database(daemon.database, self._crashed)
        self._tables: dict[str, list[str]] = {}
        #: Calls of each name that a run of each scenario makes.
        self.calls: dict[str, Counter[str]] = {}
        for scenario in SCENARIOS:
            self._well(scenario)

    def cases(self) -> Iterator[Fault]:
        """Yield every case."""
        for scenario, calls in self.calls.items():
            for call, errors in ERRORS.items():
                for number in range(1, calls[call] + 1):
                    for error in errors:
                        yield Fault(scenario, call, error, number)
                        if error != "short":
                            yield Fault(scenario, call, error, number, lasting=True)

    def sample(self, count: int, seed: int) -> list[Fault]:
        """Choose some cases: one of each call and error first, then any."""
        rng = random.Random(seed)
        left = list(self.cases())
        rng.shuffle(left)
        kinds: dict[tuple[str, str], Fault] = {}
        for fault in left:
            kinds.setdefault((fault.call, fault.error), fault)
        first = list(kinds.values())
        return (first + [fault for fault in left if fault not in first])[:count]

    def run(self, fault: Fault) -> Trial:
        """Run one case."""
        with _case(fault) as (daemon, interception, decider):
            producer = self._begin(fault.scenario, daemon)
            run = Course(daemon, producer, decider.failed_sync)
            run.to_the_end()
            problems = run.problems + producer.problems + interception.mistakes
            if not problems:
                problems += self._differences(fault.scenario, daemon)
            if problems:
                problems.append(
                    f"it was on {Path(decider.file).name}; the log ends: {_last_lines(daemon.log)}"
                )
        if decider.began is None:
            return Trial("not reached", problems)
        return Trial(", then ".join(run.ends) or "went on", problems)

    def _well(self, scenario: str) -> None:
        """Run a scenario without a fault, and keep what it made."""
        with _case(None) as (daemon, interception, _):
            run = Course(daemon, self._begin(scenario, daemon))
            run.to_the_end()
            assert not run.problems + run.ends, run.problems + run.ends
            self._tables[scenario] = contents(daemon.database)
            self.calls[scenario] = interception.counts

    def _begin(self, scenario: str, daemon: Daemon) -> Scripted:
        if scenario == "fresh":
            return Scripted()
        copy_database(self._crashed / daemon.database.name, daemon.place)
        return Scripted(acked=HALF)

    def _differences(self, scenario: str, daemon: Daemon) -> list[str]:
        wanted, found = self._tables[scenario], contents(daemon.database)
        if wanted != found:
            # What the hooks had not looked at when it ended, they look at after the next start.
            with Daemon(daemon.place) as again:
                again.wait_for_hooks()
            found = contents(daemon.database)
        problems = [f"missing: {row}" for row in (Counter(wanted) - Counter(found)).elements()]
        problems += [f"too much: {row}" for row in (Counter(found) - Counter(wanted)).elements()]
        return problems + unsound(daemon.database)


def _last_lines(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()[-_SHOWN_LINES:]
    return "".join(f"\n    {line[-_SHOWN_CHARS:]}" for line in lines)


@contextlib.contextmanager
def _case(fault: Fault | None) -> Iterator[tuple[Daemon, Interception, _Decider]]:
    """A place of its own, with a daemon that is not started and does not outlive it."""
    decider = _Decider(fault)
    with free_place() as name:

        def concerns(file: str) -> bool:
            return file == name or file.startswith(f"{name}/tier2.db")

        with Interception(concerns, decider) as interception:
            daemon = _Intercepted(Path(name), interception)
            try:
                yield daemon, interception, decider
            finally:
                if daemon.process is not None and daemon.process.poll() is None:
                    daemon.kill()
