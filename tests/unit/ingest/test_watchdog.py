"""When the watchdog is fed, what STATUS= says, and when an idle daemon probes."""

from __future__ import annotations

import os

import pytest

from ggend.ingest.watchdog import PROBE_SECONDS, STATUS_SECONDS, Watchdog
from ggend.runtime.metrics import Metrics
from ggend.runtime.systemd import watchdog_seconds


class _Desk:
    """A pulse with a clock and a writer that do what the test says."""

    def __init__(self, watchdog_seconds: float | None = 30.0) -> None:
        self.now = 1000.0
        self.in_call_since: float | None = None
        self.metrics = Metrics(lambda: self.now)
        self.pulse = Watchdog(
            self.metrics,
            lambda: self.in_call_since,
            watchdog_seconds=watchdog_seconds,
            clock=lambda: self.now,
        )

    def status(self) -> str | None:
        """The STATUS= that is sent now, if one is."""
        sent = [text for text in self.pulse.due() if text.startswith("STATUS=")]
        return sent[0].removeprefix("STATUS=") if sent else None


def test_it_is_fed_three_times_an_interval() -> None:
    assert _Desk(watchdog_seconds=6.0).pulse.tick_seconds == 2.0
    assert _Desk(watchdog_seconds=600.0).pulse.tick_seconds == STATUS_SECONDS


def test_a_call_that_does_not_come_back_withholds_it_and_is_told() -> None:
    harness = _Desk(watchdog_seconds=30.0)
    harness.in_call_since = harness.now
    harness.now += 15
    assert "WATCHDOG=1" in harness.pulse.due()
    harness.now += 1
    assert "WATCHDOG=1" not in harness.pulse.due()
    assert harness.metrics.snapshot()["health"] == "degraded"
    assert harness.metrics.snapshot()["trouble"] == "the writer has not returned for 16 s"
    harness.in_call_since = None
    assert "WATCHDOG=1" in harness.pulse.due()
    assert harness.metrics.snapshot()["health"] == "ok"


def test_trouble_that_is_waited_out_does_not_withhold_it() -> None:
    harness = _Desk()
    harness.metrics.trouble = "database or disk is full"
    for _ in range(100):
        harness.now += 3
        assert "WATCHDOG=1" in harness.pulse.due()


def test_without_a_watchdog_only_the_status_is_told() -> None:
    harness = _Desk(watchdog_seconds=None)
    assert all(text.startswith("STATUS=") for text in harness.pulse.due())


def test_the_status_says_what_was_done_or_why_it_is_degraded() -> None:
    harness = _Desk()
    assert harness.status() == "0 events stored, 0 connections"
    harness.now += STATUS_SECONDS
    harness.metrics.stored = 1234
    harness.metrics.count_commit(1234, 0.1)
    assert (harness.status() or "").startswith("1,234 events stored, 0 connections, last commit ")
    harness.now += STATUS_SECONDS
    harness.metrics.trouble = "database or disk is full"
    assert harness.status() == "degraded: database or disk is full"
    harness.now += STATUS_SECONDS
    harness.metrics.trouble = None
    harness.metrics.hook_errors["slo:receipts"] = "no such\ntable"
    assert harness.status() == "degraded: slo:receipts: no such table"


def test_the_status_is_sent_when_it_changes_and_not_too_often() -> None:
    harness = _Desk()
    assert harness.status() is not None
    harness.metrics.connections = 1
    harness.now += STATUS_SECONDS / 2
    assert harness.status() is None
    harness.now += STATUS_SECONDS / 2
    assert harness.status() == "0 events stored, 1 connections"
    harness.now += 100
    assert harness.status() is None


def test_a_probe_is_due_after_a_minute_without_a_commit() -> None:
    harness = _Desk(watchdog_seconds=None)
    assert not harness.pulse.is_probe_due()
    harness.now += PROBE_SECONDS
    assert harness.pulse.is_probe_due()
    harness.metrics.trouble = "the batch that is tried again is probe enough"
    assert not harness.pulse.is_probe_due()
    harness.metrics.trouble = None
    harness.metrics.count_commit(0, 0.1)
    assert not harness.pulse.is_probe_due()


def test_a_quick_watchdog_has_quick_probes() -> None:
    """Or a thread that hangs would not be noticed before the next event."""
    harness = _Desk(watchdog_seconds=10.0)
    harness.now += 10.0
    assert harness.pulse.is_probe_due()


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_is_asked_for_by_systemd(
    environ: dict[str, str], seconds: float | None
) -> None:
    assert watchdog_seconds(environ) == seconds
    assert environ == {}
