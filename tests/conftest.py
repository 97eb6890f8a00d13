"""Fixtures: a place with short paths, and a daemon that runs in it."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from support.daemon_process import Daemon, free_place, place_in_memory
from support.patience import TEST_SECONDS
from support.processes import use_fork_server
from support.time_report import StartCounter, report_lines
from support.tools import are_required, missing_in, summary_of

# A deadline for one example would make a slow machine a failing test; pytest-timeout bounds a test.
# `check` is what every run does, `long` what `./dev torture properties` does.
settings.register_profile("check", deadline=None, max_examples=50)
settings.register_profile("long", deadline=None, max_examples=1_000)
settings.load_profile("check")


# No client of a test, or of a program that it starts, spools unless the test says where.
os.environ["GGEND_SPOOL_DIR"] = ""

# A shell starts what it runs in the background with SIGINT ignored, and so would be its children.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of `./dev check`, and of the suite in `contract/tier2`."""
    parser.addoption("--time-report", action="store_true", help="say which files take the time")
    group = parser.getgroup("data contract")
    group.addoption(
        "--target",
        action="append",
        metavar="PATH",
        help="a database or a file of SQL to check, instead of those that ggend makes",
    )
    group.addoption(
        "--contract-version",
        choices=("1.0.0", "2"),
        help="which version's promises the targets keep; default: told by their headers",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test may take the same time, which is far more than any takes."""
    for item in items:
        item.add_marker(pytest.mark.timeout(TEST_SECONDS))


_started = StartCounter()
use_fork_server()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Count the processes that the test started; fail it if it lacks a tool that is required."""
    if call.when == "teardown":
        _started.note_in(item)
    report = yield
    if report.skipped and are_required() and (tool := missing_in(str(report.longrepr))):
        report.outcome = "failed"
        report.longrepr = f"{tool} is not installed, and GGEND_TEST_TOOLS=required"
    return report


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Name the tools that were missing and, if asked, where the time went."""
    stats = terminalreporter.stats
    for line in summary_of(str(report.longrepr) for report in stats.get("skipped", ())):
        terminalreporter.line(line)
    if config.getoption("time_report"):
        terminalreporter.section("time by file")
        reports = [one for kind in stats.values() for one in kind]
        for line in report_lines(one for one in reports if isinstance(one, pytest.TestReport)):
            terminalreporter.line(line)


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory of the test's own, with a path short enough for sockets."""
    with free_place() as name:
        yield Path(name)


@pytest.fixture
def in_memory() -> Iterator[Path]:
    """Such a directory in memory, for a test of what is stored and not of when it is safe."""
    with place_in_memory() as name:
        yield Path(name)


@pytest.fixture
def daemon(place: Path) -> Iterator[Daemon]:
    """A running daemon with a fresh database."""
    with Daemon(place) as running:
        yield running
