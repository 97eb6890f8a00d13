"""The pytest plugin: a fixture that collects what the tested program emits.

    def test_the_plan_is_recorded(ggend_events: FakeDaemon) -> None:
        my_program.run()
        assert [event.operation for event in ggend_events.of_type(Audit)] == ["plan"]

A client that the program makes when it is imported finds the daemon, too, but has looked up its
spool before: set GGEND_SPOOL_DIR for the whole run where tests stop the daemon.

pytest loads it by itself in every run (`-p no:ggend` leaves it out), so it does nothing until a
test asks for the fixture.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ggend_client.testing import FakeDaemon

__all__ = ["ggend_events"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the ini option of the fixture."""
    parser.addini(
        "ggend_strict",
        "fail a test that emits an event which ggend would not store (else: warn)",
        type="bool",
        default=False,
    )


@pytest.fixture
def ggend_events(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[FakeDaemon]:
    """A fake ggend, which every client of the test and of its subprocesses finds.

    `events`, `of_type(Audit)` and `rejected` say what came, `wait_for(3)` waits for what threads
    and subprocesses are about to emit. A test that emits what ggend would not store, and does not
    look at `rejected`, gets a warning; with the ini option `ggend_strict`, or GGEND_STRICT=1, it
    fails.
    """
    from ggend_client.options import Options
    from ggend_client.testing import FakeDaemon

    is_strict = request.config.getini("ggend_strict") or Options.of(os.environ).is_strict
    with FakeDaemon() as daemon:
        monkeypatch.setenv("GGEND_SOCKET", str(daemon.socket))
        monkeypatch.setenv("GGEND_SPOOL_DIR", str(tmp_path / "ggend-spool"))
        monkeypatch.delenv("GGEND_DISABLED", raising=False)
        yield daemon
        # What is still on its way would else be the first that the next test sees.
        with suppress(AssertionError):
            daemon.catch_up()
        complaint = daemon.complaint()
    if complaint is not None:
        if is_strict:
            pytest.fail(complaint, pytrace=False)
        request.node.warn(pytest.PytestWarning(complaint))
