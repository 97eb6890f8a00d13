"""AuditHandler: what a log record becomes, and that it never harms the program that logs."""

from __future__ import annotations

import logging
import logging.handlers
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ggend_client import Audit, Client
from ggend_client.log_handler import AuditHandler
from ggend_client.testing import FakeDaemon
from ggend_schema.limits import ERROR_CHARS, OPERATION_CHARS
from support.patience import PATIENCE_SECONDS


@pytest.fixture
def ggend() -> Iterator[FakeDaemon]:
    with FakeDaemon() as fake:
        yield fake


@pytest.fixture
def client(ggend: FakeDaemon) -> Iterator[Client]:
    with Client(ggend.socket, agent="a1", spool_dir="") as made:
        yield made


@pytest.fixture
def log(client: Client) -> Iterator[logging.Logger]:
    # Not of getLogger: pytest's own handlers would look at its records, too.
    logger = logging.Logger("program.plan")
    logger.addHandler(AuditHandler(client))
    yield logger
    for handler in logger.handlers:
        handler.close()


def one(ggend: FakeDaemon) -> Audit:
    """Return the only event that came."""
    assert ggend.rejected == []
    (audit,) = ggend.of_type(Audit)
    return audit


def context_of(audit: Audit) -> dict[str, Any]:
    assert isinstance(audit.context, dict)
    return audit.context


def log_failure(log: logging.Logger, message: str, error: str, **options: Any) -> None:
    def fail() -> None:
        raise ValueError(error)

    try:
        fail()
    except ValueError:
        log.exception(message, **options)


def test_a_record_says_what_was_done_by_whom_and_where(
    ggend: FakeDaemon, log: logging.Logger
) -> None:
    log.info("wrote %s\nin two lines", "src/lib.rs")
    audit = one(ggend)
    assert (audit.operation, audit.status, audit.agent_id) == (
        "wrote src/lib.rs",
        "completed",
        "a1",
    )
    assert audit.error_message is None
    context = context_of(audit)
    assert isinstance(context.pop("line"), int)
    assert context == {
        "level": "INFO",
        "logger": "program.plan",
        "message": "wrote src/lib.rs\nin two lines",
        "module": "test_log_handler",
    }


def test_an_exception_is_failed_with_its_text_and_its_traceback(
    ggend: FakeDaemon, log: logging.Logger
) -> None:
    log_failure(log, "planning", "no such plan")
    audit = one(ggend)
    assert (audit.status, audit.operation) == ("failed", "planning")
    assert audit.error_message == "ValueError: no such plan"
    assert context_of(audit)["traceback"].startswith("Traceback (most recent call last)")


def test_an_error_without_an_exception_has_its_message_as_the_error(
    ggend: FakeDaemon, log: logging.Logger
) -> None:
    log.critical("disk full")
    assert one(ggend).error_message == "disk full"


@pytest.mark.parametrize(
    ("level", "status"), [(logging.WARNING, "completed"), (logging.ERROR, "failed")]
)
def test_from_error_on_it_has_failed(
    level: int, status: str, ggend: FakeDaemon, log: logging.Logger
) -> None:
    log.log(level, "so")
    assert one(ggend).status == status


def test_levels_and_filters_hold(ggend: FakeDaemon, log: logging.Logger) -> None:
    handler = log.handlers[0]
    handler.setLevel(logging.WARNING)
    handler.addFilter(lambda record: "secret" not in record.getMessage())
    log.info("too low")
    log.warning("a secret")
    log.warning("seen")
    assert one(ggend).operation == "seen"


def test_ids_come_from_the_record_then_from_what_is_bound_then_from_the_option(
    ggend: FakeDaemon, client: Client, log: logging.Logger
) -> None:
    log.handlers[:] = [AuditHandler(client, agent="option")]
    log.info("one")
    with client.bind(agent="bound", execution="e1"):
        log.info("two")
        log.info("three", extra={"agent_id": "own", "session_id": "s1", "execution_id": "e2"})
    ids = [(a.agent_id, a.session_id, a.execution_id) for a in ggend.of_type(Audit)]
    assert ids == [("option", None, None), ("bound", None, "e1"), ("own", "s1", "e2")]
    assert not any("extra" in context_of(audit) for audit in ggend.of_type(Audit))


def test_without_any_agent_it_is_logging(ggend: FakeDaemon, log: logging.Logger) -> None:
    with Client(ggend.socket, spool_dir="") as nobody:
        log.handlers[:] = [AuditHandler(nobody)]
        log.info("one", extra={"agent_id": "no name\n"})
        audit = one(ggend)
    assert audit.agent_id == "logging"
    assert context_of(audit)["extra"] == {"agent_id": "no name\n"}


def test_what_the_program_adds_becomes_json_whatever_it_is(
    ggend: FakeDaemon, log: logging.Logger
) -> None:
    class Sly(str):
        def __str__(self) -> str:
            raise RuntimeError("no")

    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    endless: list[object] = []
    endless.append(endless)
    log.info(
        "one",
        extra={
            "number": 2**70,
            "real": float("inf"),
            "bytes": b"\xff",
            "path": Path("a"),
            "when": datetime(2026, 1, 29, tzinfo=UTC),
            "half": "\ud800",
            "set": {1},
            "keys": {1: "one", None: 2.5},
            "sly": Sly("text"),
            "broken": Broken(),
            "endless": endless,
            "many": list(range(100_000)),
            "long": "x" * 1_000_000,
        },
    )
    extra = context_of(one(ggend))["extra"]
    assert len(extra.pop("many")) < 200
    assert len(extra.pop("long", "")) <= 500
    assert "[[" in str(extra.pop("endless"))
    assert extra == {
        "number": str(2**70),
        "real": "inf",
        "bytes": "b'\\xff'",
        "path": "a",
        "when": "2026-01-29 00:00:00+00:00",
        "half": "\\ud800",
        "set": [1],
        "keys": {"1": "one", "None": 2.5},
        "sly": "<Sly: RuntimeError: no>",
        "broken": "<Broken: RuntimeError: no>",
    }


def test_the_worst_texts_stay_within_the_limits(ggend: FakeDaemon, log: logging.Logger) -> None:
    """A control character takes six bytes as JSON, the most that a character can take."""
    worst = "\x01" * 20_000
    extra = {f"{n:04d}{worst}": worst for n in range(1000)}
    log_failure(log, "-" + worst, worst, extra=extra, stack_info=True)
    audit = one(ggend)
    assert len(audit.operation) == OPERATION_CHARS
    assert len(audit.error_message or "") == ERROR_CHARS


def test_a_message_that_cannot_be_made_is_said_as_far_as_it_goes(
    ggend: FakeDaemon, log: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    log.info("of %s and %d", "one")
    assert one(ggend).operation == (
        "of %s and %d (TypeError: not enough arguments for format string)"
    )
    assert capsys.readouterr().err == ""


def test_a_filter_that_fails_is_counted_and_not_raised(
    ggend: FakeDaemon, client: Client, log: logging.Logger
) -> None:
    log.handlers[0].addFilter(lambda _: 1 / 0)  # type: ignore[arg-type, return-value]
    log.info("one")
    assert ggend.events == []
    assert "ZeroDivisionError" in str(client.stats().last_drop)


def test_it_does_not_feed_on_itself(ggend: FakeDaemon, client: Client, log: logging.Logger) -> None:
    class Talkative:
        def __str__(self) -> str:
            log.info("inside")
            return "outside"

    log.info("%s", Talkative())
    log.name = "ggend"
    log.error("cannot reach the daemon")
    assert one(ggend).operation == "outside"
    assert "another was turned into an event" in str(client.stats().last_drop)


def test_many_threads_may_log_at_once(ggend: FakeDaemon, log: logging.Logger) -> None:
    threads = [
        threading.Thread(target=lambda: list(map(log.info, ["one"] * 200))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ggend.of_type(Audit)) == 800


def test_a_record_keeps_its_own_time_behind_a_queue(ggend: FakeDaemon, log: logging.Logger) -> None:
    waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
    behind = logging.handlers.QueueListener(waiting, log.handlers[0])
    log.handlers[:] = [logging.handlers.QueueHandler(waiting)]
    log_failure(log, "planning", "no such plan")
    record = waiting.get()
    record.created = 1_769_690_096.789
    waiting.put(record)
    behind.start()
    behind.stop()
    audit = one(ggend)
    assert audit.timestamp == "2026-01-29T12:34:56.789+00:00"
    assert "ValueError: no such plan" in context_of(audit)["message"]


PROGRAM = f"""
import logging, os, sys
from ggend_client import Client
from ggend_client.log_handler import AuditHandler
PATIENCE = {PATIENCE_SECONDS}
client = Client(spool_dir="")
logging.getLogger().addHandler(AuditHandler(client))
log = logging.getLogger("program")
"""


def run(ggend: FakeDaemon, program: str) -> None:
    environ = {**os.environ, "GGEND_SOCKET": str(ggend.socket), "GGEND_AGENT": "a1"}
    ran = subprocess.run(
        [sys.executable, "-W", "ignore:This process", "-c", PROGRAM + program],
        env=environ,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def test_the_last_words_of_a_program_arrive_and_what_comes_after_does_no_harm(
    ggend: FakeDaemon,
) -> None:
    run(
        ggend,
        """
import atexit
class Late:
    def __del__(self):
        log.error("too late")
kept = sys.modules["kept"] = Late()
log.error("one")
atexit.register(log.error, "last words")
""",
    )
    operations = [audit.operation for audit in ggend.of_type(Audit)]
    assert operations == ["one", "last words"]


def test_a_forked_child_logs_too_while_other_threads_do(ggend: FakeDaemon) -> None:
    run(
        ggend,
        """
import threading
ends = threading.Event()
def talk():
    while not ends.wait(0.0001):
        log.error("parent")
talking = threading.Thread(target=talk, daemon=True)
talking.start()
for _ in range(5):
    pid = os.fork()
    if pid == 0:
        log.error("child")
        os._exit(0 if client.flush(PATIENCE) else 1)
    assert os.waitpid(pid, 0)[1] == 0
ends.set()
talking.join()
assert client.flush(PATIENCE)
""",
    )
    operations = [audit.operation for audit in ggend.of_type(Audit)]
    assert operations.count("child") == 5
    assert set(operations) == {"parent", "child"}
