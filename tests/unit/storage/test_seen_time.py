"""Seen time: it goes on while a daemon runs, and no clock that is set moves it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from ggend.database.migrate import create
from ggend.maintenance.expiry import begin_round
from ggend.runtime import boot
from ggend.storage import seen_time
from ggend.storage.seen_time import SeenTime, open_seen_time
from ggend.storage.writer_state import Bounds, open_writer_state
from ggend_schema.migrations import schema_version

SECOND = 1_000_000_000
DAY = 86_400 * SECOND


class Clocks:
    """Both clocks of a machine."""

    def __init__(self) -> None:
        self.wall_ns, self.boot_ns = 20_000 * DAY, 1_000 * SECOND

    def pass_by(self, seconds: float, *, wall: float | None = None) -> None:
        """Let time pass; the wall clock may go otherwise."""
        self.boot_ns += int(seconds * SECOND)
        self.wall_ns += int((seconds if wall is None else wall) * SECOND)


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    """An empty database."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as opened:
        create(opened)
        yield opened


def opened(connection: sqlite3.Connection, clocks: Clocks) -> SeenTime:
    return open_seen_time(connection, boot=lambda: clocks.boot_ns, wall=lambda: clocks.wall_ns)


def test_it_stands_still_while_no_daemon_runs(
    connection: sqlite3.Connection, clocks: Clocks
) -> None:
    seen = opened(connection, clocks)
    assert seen.now() == 0
    clocks.pass_by(100)
    seen.save(connection)
    clocks.pass_by(20)
    assert seen.now() == 120
    clocks.pass_by(10**6)
    assert opened(connection, clocks).now() == 100


@pytest.mark.parametrize(
    ("passed", "wall", "jumped"),
    [
        (600, 600, 0),
        (600, 600.7, 0),
        (600, 599.3, 0),
        (0, 0, 0),
        (600, 600 + 10**9, 10**9),
        (600, 600 - 86_400, -86_400),
        (86_400, 86_400 + 40, 0),
    ],
    ids=["none", "a little ahead", "a little behind", "no time", "years", "a day back", "steered"],
)
@pytest.mark.parametrize("restart", [False, True])
def test_a_wall_clock_that_was_set_is_noticed(
    connection: sqlite3.Connection,
    clocks: Clocks,
    passed: float,
    wall: float,
    jumped: float,
    *,
    restart: bool,
) -> None:
    seen = opened(connection, clocks)
    assert seen.jump() == 0
    seen.save(connection)
    clocks.pass_by(passed, wall=wall)
    if restart:
        seen = opened(connection, clocks)
    assert seen.jump() == pytest.approx(jumped)
    assert seen.jump() == 0


def test_after_another_boot_only_a_clock_that_went_back_is_noticed(
    connection: sqlite3.Connection, clocks: Clocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody knows how long the machine was off."""
    opened(connection, clocks).save(connection)
    monkeypatch.setattr(seen_time, "boot_id", lambda: "another")
    clocks.boot_ns, clocks.wall_ns = SECOND, clocks.wall_ns + 40 * DAY
    assert opened(connection, clocks).jump() == 0
    clocks.wall_ns -= 50 * DAY
    assert opened(connection, clocks).jump() == pytest.approx(-10 * 86_400)


def test_a_round_in_which_the_clock_was_set_expires_nothing(
    connection: sqlite3.Connection, clocks: Clocks, caplog: pytest.LogCaptureFixture
) -> None:
    """It says so; the next round goes on by the time that passed."""
    state = open_writer_state(connection, Bounds(), schema_version())
    state.seen = opened(connection, clocks)
    assert begin_round(connection, state) == 0
    clocks.pass_by(600, wall=10**9)
    assert begin_round(connection, state) is None
    assert "the system clock jumped" in caplog.text
    clocks.pass_by(600)
    assert begin_round(connection, state) == 1_200


def test_the_boot_has_an_id_and_a_clock() -> None:
    assert boot.boot_id() == boot.boot_id()
    assert boot.boot_ns() <= boot.boot_ns()
