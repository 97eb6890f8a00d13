"""Stages, executions and sessions as `with` blocks and decorators: measured, told apart, harmless.

The clock of `ggend_client.spans` is a seam: these tests move it by hand.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

import pytest

import ggend_client
from ggend_client import spans
from ggend_client.context import Binding
from ggend_schema import (
    Event,
    ReceiptEmitted,
    SessionEnded,
    SessionStarted,
    StageCompleted,
)
from ggend_schema.codec import decode_event, encode_event
from ggend_schema.limits import ERROR_CHARS
from support.recording_emitter import Collector

#: Moves the monotonic clock forward by milliseconds.
Clock: TypeAlias = Callable[[float], None]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    now_ns = [5_000_000_000]

    def advance(milliseconds: float) -> None:
        now_ns[0] += round(milliseconds * 1_000_000)

    monkeypatch.setattr(spans, "monotonic_ns", lambda: now_ns[0])
    return advance


def stages(emitter: Collector) -> list[StageCompleted]:
    found = [event for event in emitter.events if isinstance(event, StageCompleted)]
    assert len(found) == len(emitter.events)
    for event in found:
        assert decode_event(encode_event(event)) == event
    return found


def only(emitter: Collector) -> Event:
    (event,) = emitter.events
    assert decode_event(encode_event(event)) == event
    return event


def test_a_stage_is_measured_and_carries_what_was_set(clock: Clock) -> None:
    emitter = Collector()
    with emitter.stage("extract", execution_id="x") as stage:
        stage.input_size_bytes = 10
        stage.output_size_bytes = 20
        clock(1234.4)
    assert only(emitter) == StageCompleted(
        execution_id="x",
        stage="extract",
        duration_ms=1234,
        status="passed",
        input_size_bytes=10,
        output_size_bytes=20,
    )


async def test_a_stage_is_measured_over_awaits(clock: Clock) -> None:
    emitter = Collector(execution="x")
    async with emitter.stage("emit") as stage:
        await asyncio.sleep(0)
        clock(7)
        stage.output_size_bytes = 3
    assert only(emitter) == StageCompleted(
        execution_id="x", stage="emit", duration_ms=7, status="passed", output_size_bytes=3
    )


@pytest.mark.parametrize("step_seconds", [-1e9, 1e9])
def test_a_stepped_wall_clock_changes_no_duration(
    monkeypatch: pytest.MonkeyPatch, step_seconds: float
) -> None:
    emitter = Collector(agent="a")
    wall_ns = time.time_ns() + int(step_seconds * 1e9)
    with (
        emitter.session(agent_count=1),
        emitter.execution(operation="watch"),
        emitter.stage("emit"),
    ):
        monkeypatch.setattr(time, "time", lambda: wall_ns / 1e9)
        monkeypatch.setattr(time, "time_ns", lambda: wall_ns)
    _, stage, receipt, ended = emitter.events
    assert isinstance(stage, StageCompleted)
    assert isinstance(receipt, ReceiptEmitted)
    assert isinstance(ended, SessionEnded)
    assert ended.total_duration_ms is not None
    for duration_ms in (stage.duration_ms, receipt.duration_ms, ended.total_duration_ms):
        assert 0 <= duration_ms < 60_000
    assert {event.timestamp for event in emitter.events} == {None}


def test_a_clock_that_goes_back_gives_no_negative_duration(clock: Clock) -> None:
    emitter = Collector(execution="x")
    with emitter.stage("emit"):
        clock(-50)
    assert stages(emitter)[0].duration_ms == 0


class Odd(Exception):
    """Its text raises."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("text"), "ValueError: text"),
        (TimeoutError(), "TimeoutError"),
        (Odd(), "Odd"),
        (ValueError("x" * ERROR_CHARS), "ValueError: " + "x" * (ERROR_CHARS - 12)),
        (FileNotFoundError(2, "gone", "a\udcff"), "FileNotFoundError: [Errno 2] gone: 'a\\udcff'"),
        (ValueError("\ud800"), "ValueError: \\ud800"),
        (ExceptionGroup("g", [ValueError()]), "ExceptionGroup: g (1 sub-exception)"),
        (asyncio.CancelledError(), "cancelled: CancelledError"),
        (KeyboardInterrupt(), "cancelled: KeyboardInterrupt"),
        (SystemExit(3), "cancelled: SystemExit: 3"),
        (GeneratorExit(), "cancelled: GeneratorExit"),
        (
            asyncio.CancelledError("x" * ERROR_CHARS),
            ("cancelled: CancelledError: " + "x" * ERROR_CHARS)[:ERROR_CHARS],
        ),
    ],
)
def test_an_exception_fails_the_stage_and_passes_through_untouched(
    error: BaseException, message: str
) -> None:
    emitter = Collector(execution="x")
    cause, context = error.__cause__, error.__context__
    with pytest.raises(type(error)) as caught, emitter.stage("emit"):
        raise error
    assert caught.value is error
    assert (error.__cause__, error.__context__) == (cause, context)
    # Neither the block nor what it says afterwards shows in the traceback.
    assert [frame.name for frame in traceback.extract_tb(error.__traceback__)] == [
        "test_an_exception_fails_the_stage_and_passes_through_untouched"
    ]
    assert stages(emitter)[0].status == "failed"
    assert stages(emitter)[0].error_message == message


def test_the_words_of_the_host_win_over_those_of_the_exception() -> None:
    emitter = Collector(execution="x")
    stage = emitter.stage("emit")
    stage.error_message = "no templates" * ERROR_CHARS
    with pytest.raises(ZeroDivisionError), stage:
        raise ZeroDivisionError
    assert stages(emitter)[0].error_message == ("no templates" * ERROR_CHARS)[:ERROR_CHARS]


def test_an_error_message_alone_makes_a_stage_failed_unless_its_status_is_set() -> None:
    emitter = Collector(execution="x")
    with emitter.stage("emit") as stage:
        stage.error_message = "no templates"
    with emitter.stage("emit") as stage:
        stage.error_message = "one template is old"
        stage.status = "passed"
    with emitter.stage("emit") as stage:
        stage.status = "failed"
    assert [(event.status, event.error_message) for event in stages(emitter)] == [
        ("failed", "no templates"),
        ("passed", "one template is old"),
        ("failed", None),
    ]


def test_a_stage_without_an_execution_is_refused_and_its_block_runs() -> None:
    emitter = Collector()
    ran = False
    with emitter.stage("emit"):
        ran = True
    assert ran
    assert emitter.events == []
    assert "execution" in emitter.reasons[0]


def test_wrong_calls_are_refused_once_and_their_blocks_run() -> None:
    emitter = Collector(agent="a", execution="outer")
    ran = []
    with emitter.stage("emit", size=3) as stage:  # type: ignore[call-arg]
        stage.output_size_bytes = 1
        ran.append("stage")
    with emitter.execution() as run:  # type: ignore[call-arg]
        run.files_generated = 1
        # It is not a stage of the execution around it.
        assert emitter.bound().execution == run.execution_id != "outer"
        ran.append("execution")
    with emitter.session() as session:  # type: ignore[call-arg]
        session.failed_operations = 1
        ran.append("session")
    assert ran == ["stage", "execution", "session"]
    assert emitter.events == []
    assert len(emitter.reasons) == 3
    for reason, word in zip(emitter.reasons, ("size", "operation", "agent_count"), strict=True):
        assert word in reason


def test_what_cannot_be_text_is_refused_in_place_of_raising() -> None:
    emitter = Collector(execution="x")
    with emitter.stage("emit") as stage:
        stage.error_message = 5  # type: ignore[assignment]
    assert emitter.events == []
    assert len(emitter.reasons) == 1


def test_a_stage_can_be_used_again_but_not_inside_itself(clock: Clock) -> None:
    emitter = Collector(execution="x")
    stage = emitter.stage("emit")
    for milliseconds in (5, 6):
        with stage:
            clock(milliseconds)
    assert [event.duration_ms for event in stages(emitter)] == [5, 6]
    with stage, stage:
        pass
    assert len(stages(emitter)) == 3
    assert emitter.reasons == ["StageSpan was exited without being entered"]


async def test_a_cancelled_task_is_cancelled_and_its_stage_and_receipt_say_so() -> None:
    emitter = Collector(agent="a")
    inside = asyncio.Event()

    async def work() -> None:
        async with emitter.execution(operation="generation"), emitter.stage("emit"):
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()
    stage, receipt = emitter.events
    assert isinstance(stage, StageCompleted)
    assert (stage.status, stage.error_message) == ("failed", "cancelled: CancelledError")
    assert isinstance(receipt, ReceiptEmitted)
    assert (receipt.status, receipt.error_message) == ("cancelled", "CancelledError")
    assert stage.execution_id == receipt.execution_id


async def test_a_timeout_cancels_the_stage_inside_and_fails_the_one_outside() -> None:
    emitter = Collector(execution="x")

    async def work() -> None:
        outside, inside = emitter.stage("emit"), emitter.stage("extract")
        async with outside, asyncio.timeout(0.001), inside:
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await work()
    assert [event.error_message for event in stages(emitter)] == [
        "cancelled: CancelledError",
        "TimeoutError",
    ]


def test_an_execution_binds_a_new_id_and_says_its_receipt(clock: Clock) -> None:
    emitter = Collector(session="s")
    run = emitter.execution(operation="generation", agent_id="a")
    with run as inside:
        assert inside is run
        with emitter.stage("extract"):
            clock(40)
        assert emitter.audit(operation="o", status="started")
        clock(60)
        run.files_generated = 3
        run.files_modified = 4
        run.receipt = {"k": [1]}
        run.manifest_hash = "ab"
        run.ontology_hash = "cd"
        run.environment = "prod"
    stage, audit, receipt = emitter.events
    assert isinstance(stage, StageCompleted)
    assert stage.execution_id == run.execution_id
    assert (audit.agent_id, audit.execution_id) == ("a", run.execution_id)  # type: ignore[union-attr]
    assert receipt == ReceiptEmitted(
        execution_id=run.execution_id,
        agent_id="a",
        operation="generation",
        status="passed",
        duration_ms=100,
        manifest_hash="ab",
        ontology_hash="cd",
        files_generated=3,
        files_modified=4,
        receipt={"k": [1]},
        environment="prod",
        session_id="s",
    )
    assert emitter.bound() == Binding(session="s")
    assert len(bytes.fromhex(run.execution_id)) == 16


def test_executions_inside_each_other_have_their_own_ids() -> None:
    emitter = Collector(agent="a", execution="of the parent process")
    with emitter.execution(operation="generation", execution_id="outer"):
        with emitter.execution(operation="validation", session_id="s") as inner:
            pass
        with emitter.stage("emit"):
            pass
    first, stage, second = emitter.events
    assert isinstance(first, ReceiptEmitted)
    assert isinstance(stage, StageCompleted)
    assert isinstance(second, ReceiptEmitted)
    assert (first.execution_id, first.session_id) == (inner.execution_id, "s")
    assert (second.execution_id, second.session_id) == ("outer", None)
    assert stage.execution_id == "outer"
    assert inner.execution_id not in ("outer", "of the parent process")


@pytest.mark.parametrize(
    ("error", "set_status", "status", "session_status"),
    [
        (None, None, "passed", "completed"),
        (None, "partial", "partial", "completed"),
        (ValueError("text"), None, "failed", "failed"),
        (ValueError("text"), "partial", "failed", "failed"),
        (KeyboardInterrupt(), None, "cancelled", "cancelled"),
        (SystemExit(0), "partial", "cancelled", "cancelled"),
    ],
)
def test_the_end_of_a_run_is_its_status(
    error: BaseException | None, set_status: Any, status: str, session_status: str
) -> None:
    emitter = Collector(agent="a")
    run = emitter.execution(operation="generation")
    run.status = set_status
    with contextlib.suppress(BaseException), emitter.session(agent_count=1), run:
        if error is not None:
            raise error
    _, receipt, ended = emitter.events
    assert isinstance(receipt, ReceiptEmitted)
    assert receipt.status == status
    assert isinstance(ended, SessionEnded)
    assert ended.status == session_status
    assert emitter.bound() == Binding(agent="a")


def test_every_run_has_an_id_of_its_own() -> None:
    emitter = Collector(agent="a")
    ids = {emitter.execution(operation="watch").execution_id for _ in range(100)}
    ids |= {emitter.session(agent_count=1).session_id for _ in range(100)}
    assert len(ids) == 200


def test_an_execution_of_nobody_is_refused() -> None:
    emitter = Collector()
    with emitter.execution(operation="watch"):
        pass
    assert emitter.events == []
    assert "agent_id" in emitter.reasons[0]


def test_the_agent_of_a_receipt_is_the_one_at_its_start() -> None:
    emitter = Collector()
    bind, run = emitter.bind(agent="start"), emitter.execution(operation="watch")
    bind.enter()
    run.__enter__()
    bind.leave()
    with emitter.bind(agent="end"):
        run.__exit__(None, None, None)
    assert isinstance(event := only(emitter), ReceiptEmitted)
    assert event.agent_id == "start"


def test_a_session_is_said_at_both_ends_and_bound(clock: Clock) -> None:
    emitter = Collector(agent="a")
    with emitter.session(agent_count=3, context={"k": 1}) as session:
        assert emitter.audit(operation="o", status="started")
        session.successful_operations = 2
        session.failed_operations = 1
        clock(2500)
    started, audit, ended = emitter.events
    assert started == SessionStarted(session_id=session.session_id, agent_count=3, context={"k": 1})
    assert audit.session_id == session.session_id  # type: ignore[union-attr]
    assert ended == SessionEnded(
        session_id=session.session_id,
        status="completed",
        total_duration_ms=2500,
        successful_operations=2,
        failed_operations=1,
    )


async def test_concurrent_executions_keep_their_stages_apart() -> None:
    emitter = Collector(agent="a")
    together = asyncio.Barrier(20)

    async def work(n: int) -> None:
        async with emitter.execution(operation="generation", execution_id=f"x{n}"):
            async with emitter.stage("extract") as stage:
                await together.wait()
                stage.output_size_bytes = n
            await asyncio.to_thread(measured, n)

    @emitter.staged("emit")
    def measured(n: int) -> None:
        pass

    await asyncio.gather(*(work(n) for n in range(20)))
    for n in range(20):
        own = [event for event in emitter.events if getattr(event, "execution_id", "") == f"x{n}"]
        assert [type(event) for event in own] == [StageCompleted, StageCompleted, ReceiptEmitted]
        assert own[0].output_size_bytes == n  # type: ignore[union-attr]


def test_a_decorated_function_is_measured_in_every_call(clock: Clock) -> None:
    emitter = Collector(execution="x")

    @emitter.staged("emit")
    def countdown(n: int, *, step: int = 1) -> int:
        """Count down."""
        clock(10)
        return n if n <= 0 else countdown(n - step)

    assert countdown(2) == 0
    assert [event.duration_ms for event in stages(emitter)] == [10, 20, 30]
    assert countdown.__name__ == "countdown"
    assert countdown.__doc__ == "Count down."
    assert str(inspect.signature(countdown)) == "(n: 'int', *, step: 'int' = 1) -> 'int'"


def test_a_decorated_function_keeps_state_per_call_across_threads() -> None:
    emitter = Collector()

    @emitter.staged("emit")
    def work(n: int) -> int:
        if n % 2:
            raise ValueError(n)
        return n

    def bound_work(n: int) -> int:
        with emitter.bind(execution=f"x{n}"):
            return work(n)

    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(bound_work, n) for n in range(200)]
    assert sum(future.exception() is not None for future in futures) == 100
    assert sorted((event.execution_id, event.status) for event in stages(emitter)) == sorted(
        (f"x{n}", "failed" if n % 2 else "passed") for n in range(200)
    )


async def test_a_decorated_coroutine_function_is_measured_until_it_returns(clock: Clock) -> None:
    emitter = Collector(execution="x")
    together = asyncio.Barrier(3)

    @emitter.staged("emit")
    async def work(n: int) -> int:
        await together.wait()
        clock(10)
        return n

    assert inspect.iscoroutinefunction(work)
    assert await asyncio.gather(*(work(n) for n in range(3))) == [0, 1, 2]
    # All three began before the first clock(10).
    assert [event.duration_ms for event in stages(emitter)] == [10, 20, 30]


async def test_a_callable_object_with_a_coroutine_is_measured_until_it_returns(
    clock: Clock,
) -> None:
    class Work:
        async def __call__(self) -> int:
            await asyncio.sleep(0)
            clock(10)
            return 5

    emitter = Collector(execution="x")
    assert await emitter.staged("emit")(Work())() == 5
    assert [event.duration_ms for event in stages(emitter)] == [10]


async def test_a_cancelled_coroutine_says_so() -> None:
    emitter = Collector(execution="x")
    inside = asyncio.Event()

    @emitter.staged("emit")
    async def work() -> None:
        inside.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert stages(emitter)[0].error_message == "cancelled: CancelledError"


def test_a_decorated_generator_is_measured_from_its_first_value_to_its_end(clock: Clock) -> None:
    emitter = Collector(execution="x")

    @emitter.staged("extract")
    def values() -> Iterator[int]:
        for n in range(3):
            clock(10)
            yield n

    waiting = values()
    clock(1000)
    assert list(waiting) == [0, 1, 2]
    assert [(event.duration_ms, event.status) for event in stages(emitter)] == [(30, "passed")]
    emitter.events.clear()
    stopped = values()
    next(stopped)
    stopped.close()  # type: ignore[attr-defined]
    assert stages(emitter)[0].error_message == "cancelled: GeneratorExit"


def test_methods_of_every_kind_can_be_decorated() -> None:
    emitter = Collector(execution="x")

    class Host:
        @emitter.staged("emit")
        def method(self, n: int) -> tuple[Host, int]:
            return self, n

        @classmethod
        @emitter.staged("emit")
        def of_class(cls) -> type[Host]:
            return cls

        @staticmethod
        @emitter.staged("emit")
        def static(n: int) -> int:
            return n

        @property
        @emitter.staged("emit")
        def value(self) -> int:
            return 5

    host = Host()
    assert host.method(3) == (host, 3)
    assert host.of_class() is Host
    assert host.static(4) == 4
    assert host.value == 5
    assert len(stages(emitter)) == 4


def test_what_cannot_be_measured_is_refused_when_it_is_decorated() -> None:
    emitter = Collector()

    async def values() -> Any:
        yield 1

    with pytest.raises(TypeError, match=r"async generator.*client\.stage"):
        emitter.staged("emit")(values)
    kinds: list[Any] = [staticmethod, classmethod]
    for kind in kinds:
        with pytest.raises(TypeError, match=f"below @{kind.__name__}"):
            emitter.staged("emit")(kind(values))


def test_a_decorated_function_passes_exceptions_with_one_frame_more() -> None:
    emitter = Collector(execution="x")
    error = ValueError("text")

    @emitter.staged("emit")
    def work() -> None:
        raise error

    with pytest.raises(ValueError, match="text") as caught:
        work()
    assert caught.value is error
    names = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    assert names[1:] == ["wrapper", "work"]
    assert stages(emitter)[0].error_message == "ValueError: text"


@pytest.mark.parametrize("old", ["StageRun", "ExecutionRun", "SessionRun"])
def test_names_of_the_version_before_still_work(old: str) -> None:
    with pytest.warns(DeprecationWarning, match=f"{old} was renamed to {old[:-3]}Span"):
        renamed = getattr(ggend_client, old)
    assert renamed.__name__ == f"{old[:-3]}Span"
