"""Power: what every power cut would leave of a recorded run, recovered and judged.

A daemon runs under strace, from the creation of its database over a kill and a drain, while
producers send framed batches and lines. The trace has its writes, its syncs and its answers in one
order. Between two syncs the durable files are the same, and any part of what was done since may be
there too (`disk`); what was acked before the second of them must be there in every case, since the
cut may come right before it. The `-shm` is no part of it: SQLite makes it anew.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from msgspec import Struct

from support.daemon_process import free_place
from torture.disk import Disk, Step, cut_short, some_of
from torture.recording import Promises, Recording, record
from torture.recovered import Oracle
from torture.trace import Call

__all__ = ["Cuts", "power_cuts"]

#: Bytes that a disk writes at once or not at all, of different disks.
_SECTORS = (512, 4096)

#: Syncs by which a database is made, about; and one in how many daemons starts on what they leave.
_CREATION_SYNCS = 10
_CREATION_SHARE = 5


class Cuts(Struct, kw_only=True):
    """What was recorded and recovered. `problems` is empty when every promise held."""

    events: int = 0
    #: Changes to the files, syncs, and how often a WAL began anew.
    steps: int = 0
    syncs: int = 0
    wal_restarts: int = 0
    #: States that were recovered, different contents that came of them, daemons started on them.
    states: int = 0
    contents: int = 0
    restarts: int = 0
    seconds: float = 0.0
    problems: list[str] = []


class _Moment(Struct, frozen=True):
    """All that lies between two syncs: how many steps are older than it, and what was acked."""

    number: int
    disk: Disk
    older: int
    acked: dict[bytes, int]


def power_cuts(
    *,
    executions: int,
    producers: int,
    seed: int,
    moments: int | None = None,
    restarts: int,
    tell: Callable[[int, int], None] = lambda _done, _of: None,
) -> Cuts:
    """Record a run, and cut the power at `moments` of its syncs; None: at every sync and step."""
    rng = random.Random(seed)
    begin = time.monotonic()
    cuts = Cuts()
    with free_place() as name, free_place() as other:
        recording = record(Path(name), executions, producers, rng)
        cuts.events = sum(map(len, recording.offered.values()))
        _count(cuts, recording)
        every = range(cuts.syncs + 1)
        early = min(_CREATION_SYNCS, max(1, restarts // _CREATION_SHARE))
        restarted = set(rng.sample(every[:_CREATION_SYNCS], early))
        later = every[_CREATION_SYNCS:]
        restarted |= set(rng.sample(later, min(restarts - early, len(later))))
        chosen = restarted | set(every if moments is None else rng.sample(every, moments))
        oracle = Oracle(recording.offered, Path(other))
        for moment in _moments(recording):
            if moment.number not in chosen:
                continue
            ways = list(_ways(moment, rng, thorough=moments is None))
            for way, steps in ways:
                problems = oracle.judge(moment.disk.after(steps), moment.acked)
                cuts.problems += [f"sync {moment.number}, {way}: {one}" for one in problems]
            cuts.states += len(ways)
            if moment.number in restarted:
                way, steps = rng.choice(ways)
                problems = oracle.judge_restart(moment.disk.after(steps), moment.acked)
                cuts.problems += [f"sync {moment.number}, {way}: {one}" for one in problems]
                cuts.restarts += 1
            tell(moment.number, cuts.syncs)
        cuts.contents = oracle.contents
    cuts.seconds = time.monotonic() - begin
    return cuts


def _ways(
    moment: _Moment, rng: random.Random, *, thorough: bool
) -> Iterator[tuple[str, list[Step]]]:
    """Name what may have been done of what is pending, and return it."""
    pending = moment.disk.pending
    yield "nothing", []
    lengths = range(moment.older, len(pending))
    for length in lengths if thorough else rng.sample(lengths, min(1, len(lengths))):
        done = pending[:length]
        yield f"{length} steps", done
        for unit in (1, *_SECTORS):
            if (cut := cut_short(pending[length], rng, unit)) is not None:
                yield f"{length} steps and one cut at {unit}", [*done, cut]
    for unit in _SECTORS:
        for _ in range(3 if thorough else 1):
            yield f"some of {len(pending)} steps by {unit}", list(some_of(pending, rng, unit))
    yield "everything", pending


def _moments(recording: Recording) -> Iterator[_Moment]:
    """Do again what was done, and stop before each sync and at the end."""
    disk, promises = Disk(), Promises()
    number = older = 0
    for calls, files in recording.lives:
        for call in calls:
            if call.on.startswith("socket:"):
                promises.hear(call)
            elif call.name in ("fsync", "fdatasync"):
                if call.result != 0:
                    continue
                yield _Moment(number, disk, older, dict(promises.acked))
                number += 1
                _sync(disk, call, recording.database)
                older = len(disk.pending)
            elif call.result is not None or disk.after(disk.pending) != files:
                # One that the kill came into was done only if the file says so.
                _do(disk, call, recording.database)
        assert disk.after(disk.pending) == files, "the trace is not all that happened"
    yield _Moment(number, disk, older, dict(promises.acked))
    assert promises.acked == {one: len(events) for one, events in recording.offered.items()}


def _sync(disk: Disk, call: Call, database: Path) -> None:
    if call.on == str(database.parent):
        disk.sync_directory()
    else:
        disk.sync(call.on.removeprefix(str(database)))


def _do(disk: Disk, call: Call, database: Path) -> None:
    name = call.on.removeprefix(str(database))
    if call.name == "openat":
        disk.create(name)
    elif call.name == "pwrite64":
        done = len(call.data) if call.result is None else call.result
        disk.write(name, call.number, call.data[:done])
    elif call.name == "ftruncate":
        disk.truncate(name, call.number)
    elif call.name == "unlink":
        disk.unlink(name)


def _count(cuts: Cuts, recording: Recording) -> None:
    wal = f"{recording.database}-wal"
    for call in itertools.chain.from_iterable(calls for calls, _ in recording.lives):
        if call.name in ("fsync", "fdatasync"):
            cuts.syncs += call.result == 0
        elif not call.on.startswith("socket:"):
            cuts.steps += 1
            cuts.wal_restarts += call.name == "pwrite64" and (call.on, call.number) == (wal, 0)
