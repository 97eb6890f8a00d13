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

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ggend_client.testing import FakeDaemon

__all__ = ["ggend_events"]


@pytest.fixture
def ggend_events(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeDaemon]:
    """A fake ggend, which every client of the test and of its subprocesses finds.

    `events`, `of_type(Audit)` and `rejected` say what came, `wait_for(3)` waits for what threads
    and subprocesses are about to emit.
    """
    from ggend_client.testing import FakeDaemon

    with FakeDaemon() as daemon:
        monkeypatch.setenv("GGEND_SOCKET", str(daemon.socket))
        monkeypatch.setenv("GGEND_SPOOL_DIR", str(tmp_path / "ggend-spool"))
        monkeypatch.delenv("GGEND_DISABLED", raising=False)
        yield daemon
        # What is still on its way would else be the first that the next test sees.
        with suppress(AssertionError):
            daemon.catch_up()
