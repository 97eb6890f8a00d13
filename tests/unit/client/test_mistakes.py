"""What a program says wrong is said to it: once for each kind, in words, or at the call."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ggend_client import Audit, Client, Event, InvalidCall, StageCompleted
from ggend_client.mistakes import MOST_KINDS, Mistakes
from ggend_client.testing import FakeDaemon
from ggend_schema.limits import EVENT_BYTES
from support.daemon_process import free_place
from support.patience import PATIENCE_SECONDS, wait_until

Call = Callable[[Any], object]


def _with_stage(client: Any) -> None:
    with client.stage("compile", execution_id="e"):
        pass


#: Calls that say something wrong, and what must be said of it.
MISTAKES: list[tuple[Call, str]] = [
    (
        lambda client: client.audit(agent_id="a", operation="o", status="done"),
        'audit.status is "done"; allowed are started, completed, failed, skipped',
    ),
    (_with_stage, 'stage_completed.stage is "compile"; allowed are normalize, extract, '),
    (
        lambda client: client.audit(agent_id="a", operation="o", status="failed", duration_ms=3.7),
        "audit.duration_ms is 3.7; it must be a whole number from 0 to ",
    ),
    (
        lambda client: client.receipt_emitted(
            execution_id="e", agent_id="a", operation="generate", status="passed", duration_ms=1
        ),
        'receipt_emitted.operation is "generate" (did you mean `generation`?); allowed are ',
    ),
    (
        lambda client: client.emit(
            StageCompleted(execution_id="", stage="emit", duration_ms=1, status="passed")
        ),
        'stage_completed.execution_id is ""; it must be a string of 1 to 200 characters',
    ),
    (
        lambda client: client.audit(
            agent_id="a", operation="o", status="failed", timestamp="yesterday"
        ),
        "audit: timestamp 'yesterday' is not ISO 8601",
    ),
]

#: Calls that make no event.
WRONG_CALLS: list[tuple[Call, str]] = [
    (lambda client: client.audit(operation="o", status="failed"), "audit needs agent_id: give it"),
    (lambda client: client.save_memory("a", {}, retry_count=3), "retry_count"),
    (lambda client: client.emit("an event"), "str is not an event"),
    (
        lambda client: client.audit(agent_id="a", operation="o", status="failed", context=object()),
        "type object is unsupported",
    ),
    (
        lambda client: client.audit(
            agent_id="a", operation="o", status="failed", context="x" * EVENT_BYTES
        ),
        "an event of ",
    ),
]


@pytest.fixture
def place() -> Iterator[Path]:
    with free_place() as name:
        yield Path(name)


def the_one_warning(caplog: pytest.LogCaptureFixture) -> str:
    """Return what was logged: once, where programs look for it."""
    [record] = caplog.records
    assert (record.name, record.levelno) == ("ggend", logging.WARNING)
    return record.getMessage()


def make(place: Path, **options: Any) -> Client:
    return Client(place / "g.sock", spool_dir=place / "spool", **options)


@pytest.mark.parametrize(("call", "words"), MISTAKES)
def test_what_the_daemon_rejects_is_said_once_with_what_is_allowed(
    place: Path, caplog: pytest.LogCaptureFixture, call: Call, words: str
) -> None:
    with FakeDaemon(place / "g.sock") as daemon, make(place) as client:
        for _ in range(3):
            call(client)
        assert client.flush(PATIENCE_SECONDS)
        assert client.stats().rejected == len(daemon.rejected) == 3
    assert words in the_one_warning(caplog)


@pytest.mark.parametrize(("call", "words"), MISTAKES)
def test_without_a_daemon_the_client_says_it_itself(
    place: Path, caplog: pytest.LogCaptureFixture, call: Call, words: str
) -> None:
    client = make(place)
    call(client)
    call(client)
    wait_until(lambda: client.stats().spooled == 2)
    client.close(0)
    assert words in the_one_warning(caplog)


@pytest.mark.parametrize(("call", "words"), WRONG_CALLS)
def test_a_call_that_makes_no_event_is_said_once(
    place: Path, caplog: pytest.LogCaptureFixture, call: Call, words: str
) -> None:
    client = make(place)
    for _ in range(3):
        assert call(client) is False
    assert words in the_one_warning(caplog)
    assert client.stats().dropped.total == 3


@pytest.mark.parametrize(("call", "words"), [*MISTAKES, *WRONG_CALLS])
def test_a_strict_client_raises_at_the_call(
    place: Path, caplog: pytest.LogCaptureFixture, call: Call, words: str
) -> None:
    client = make(place, strict=True)
    with pytest.raises(InvalidCall) as raised:
        call(client)
    assert words in str(raised.value)
    assert client.audit(agent_id="a", operation="o", status="failed")
    assert client.stats().dropped.total == 1
    assert client.close(0)
    assert caplog.records == []


def test_strictness_comes_from_the_environment_too(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GGEND_STRICT", "1")
    with pytest.raises(InvalidCall, match="needs agent_id"):
        make(place).audit(operation="o", status="failed")


def test_what_the_program_raises_comes_before_what_a_strict_client_would(place: Path) -> None:
    client = make(place, strict=True)
    with pytest.raises(KeyError), client.stage("compile", execution_id="e"):  # type: ignore[arg-type]
        raise KeyError
    with pytest.raises(InvalidCall), client.session(agent_count=-1, session_id="s"):
        pass
    assert client.bound().session is None


def test_flush_is_about_durability_and_strict_flush_about_rejects_too(place: Path) -> None:
    with FakeDaemon(place / "g.sock"), make(place) as client:
        assert client.flush(strict=True)
        client.audit(agent_id="a", operation="o", status="completed")
        assert client.flush(PATIENCE_SECONDS, strict=True)
        client.audit(agent_id="a", operation="o", status="done")  # type: ignore[arg-type]
        assert client.flush(PATIENCE_SECONDS)
        assert not client.flush(PATIENCE_SECONDS, strict=True)
        assert client.flush(PATIENCE_SECONDS, strict=True), "said once"
        assert client.stats().rejected == 1


@pytest.mark.parametrize(
    "make_run",
    [
        lambda client: client.stage("emit"),
        lambda client: client.execution(operation="generation"),
        lambda client: client.session(agent_count=1),
    ],
)
def test_an_attribute_that_there_is_not_cannot_be_set(
    place: Path, make_run: Callable[[Client], Any]
) -> None:
    run = make_run(make(place))
    with pytest.raises(AttributeError, match="file_generated"):
        run.file_generated = 3


def test_losses_are_said_once_a_cause_and_all_when_debugged(
    place: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for expected in (["full"], ["full", "full", "closed"]):
        client = Client(place / "nobody", spool_dir="", max_events=1)
        for _ in range(3):
            client.audit(agent_id="a", operation="o", status="failed")
        client.close(0)
        client.audit(agent_id="a", operation="o", status="failed")
        dropped = [message for message in caplog.messages if "an event was dropped" in message]
        assert [message.split("(")[1].split(")")[0] for message in dropped] == expected
        assert "1 events were lost when the client ended: " in caplog.text
        caplog.clear()
        monkeypatch.setenv("GGEND_DEBUG", "1")


def test_reasons_that_are_always_new_do_not_fill_memory(caplog: pytest.LogCaptureFixture) -> None:
    mistakes = Mistakes(None)
    for number in range(3 * MOST_KINDS):
        mistakes.dropped("invalid", f"the {number}th", None)
    assert len(caplog.records) == MOST_KINDS


def test_a_handler_that_emits_or_fails_is_the_hosts_own_affair(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = make(place)

    class Handler(logging.Handler):
        def handle(self, record: logging.LogRecord) -> bool:
            client.emit(object())  # type: ignore[arg-type]
            raise ValueError(record.getMessage())

    logger = logging.getLogger("ggend")
    monkeypatch.setattr(logger, "handlers", [Handler()])
    event: Event = Audit(agent_id="a", operation="o", status="failed", context=object())
    assert not client.emit(event)
    assert client.stats().dropped.invalid == 2
    assert client.stats().last_error == "logging raised ValueError"
