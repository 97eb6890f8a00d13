"""Fixtures: a place with short paths, and a daemon that runs in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from running import Daemon, free_place

# A deadline for one example would make a slow machine a failing test; pytest-timeout bounds a test.
settings.register_profile("ggend", deadline=None)
settings.load_profile("ggend")


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
