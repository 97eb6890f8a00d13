"""Fixtures: a place with short paths, and a daemon that runs in it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from running import Daemon, free_place

# A deadline for one example would make a slow machine a failing test; pytest-timeout bounds a test.
settings.register_profile("ggend", deadline=None)
settings.load_profile("ggend")


# No client of a test, or of a program that it starts, spools unless the test says where.
os.environ["GGEND_SPOOL_DIR"] = ""

# A shell starts what it runs in the background with SIGINT ignored, and so would be its children.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of the suite in `contract/tier2`."""
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


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory of the test's own, with a path short enough for sockets."""
    with free_place() as name:
        yield Path(name)


@pytest.fixture
def daemon(place: Path) -> Iterator[Daemon]:
    """A running daemon with a fresh database."""
    with Daemon(place) as running:
        yield running
