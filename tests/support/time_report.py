"""Time report: which test files take the time of a run, and how many programs they start.

A program costs more than most tests: an interpreter with the daemon's modules takes as long as a
hundred pure ones. What the fork server forks costs little, and is not counted. `./dev check
--durations` prints the report.
"""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from collections.abc import Iterable

import pytest

__all__ = ["StartCounter", "report_lines"]

#: What CPython's audit hooks call the start of a process.
_STARTS = frozenset({"subprocess.Popen", "os.fork", "os.posix_spawn"})

#: The property of a test's report that says how many programs it started.
_PROPERTY = "programs started"

#: Files that the report names.
_FILES = 25


class StartCounter:
    """Counts the processes that this process starts."""

    def __init__(self) -> None:
        self._count = 0
        sys.addaudithook(self._hear)

    def _hear(self, event: str, _: object) -> None:
        self._count += event in _STARTS

    def note_in(self, item: pytest.Item) -> None:
        """Write into a test's report what was started since the last one."""
        item.user_properties.append((_PROPERTY, self._count))
        self._count = 0


def report_lines(reports: Iterable[pytest.TestReport]) -> list[str]:
    """Return a line for each of the slowest files, and one for all: seconds, tests, programs."""
    seconds: defaultdict[str, float] = defaultdict(float)
    tests: defaultdict[str, int] = defaultdict(int)
    starts: defaultdict[str, int] = defaultdict(int)
    for report in reports:
        file = report.nodeid.partition("::")[0]
        seconds[file] += report.duration
        tests[file] += report.when == "call"
        if report.when == "teardown":
            starts[file] += sum(
                int(str(value)) for name, value in report.user_properties if name == _PROPERTY
            )
    slowest = sorted(seconds, key=seconds.__getitem__, reverse=True)
    rows = [(file, seconds[file], tests[file], starts[file]) for file in slowest[:_FILES]]
    total = (
        f"all {len(slowest)} files",
        sum(seconds.values()),
        sum(tests.values()),
        sum(starts.values()),
    )
    return [
        f"{'seconds':>9} {'tests':>6} {'programs':>9}  file",
        *(
            f"{taken:9.1f} {ran:6} {started:9}  {os.path.relpath(file)}"
            for file, taken, ran, started in rows
        ),
        f"{total[1]:9.1f} {total[2]:6} {total[3]:9}  {total[0]}",
    ]
