"""Fixtures: a place with short paths, and a daemon that runs in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from running import Daemon, free_place


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
