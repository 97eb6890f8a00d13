"""The typed methods: each makes its event, and whatever the arguments nothing is raised."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ggend_client import Client, fork_hooks
from ggend_client.emitter import Emitter
from ggend_schema import (
    EVENT_TYPES,
    Audit,
    Collision,
    Event,
    MemorySaved,
    ReceiptEmitted,
    SessionEnded,
    SessionStarted,
    StageCompleted,
)
from ggend_schema.codec import decode_event, encode_event
from ggend_schema.limits import ERROR_CHARS
from support.patience import PATIENCE_SECONDS
from support.recording_emitter import Collector

WHOLE: list[Event] = [
    Audit(
        agent_id="a",
        operation="plan",
        status="completed",
        duration_ms=1,
        error_message="e",
        context={"k": [1, None]},
        execution_id="x",
        session_id="s",
        timestamp="2026-01-29T12:34:56Z",
    ),
    ReceiptEmitted(
        execution_id="x",
        agent_id="a",
        operation="generation",
        status="partial",
        duration_ms=2,
        timestamp="2026-01-29T12:34:56Z",
        manifest_hash="ab",
        ontology_hash="cd",
        files_generated=3,
        files_modified=4,
        receipt={"k": 1.5},
        error_message="e",
        environment="prod",
        session_id="s",
        duration_source="unknown",
    ),
    StageCompleted(
        execution_id="x",
        stage="extract",
        duration_ms=3,
        status="failed",
        input_size_bytes=5,
        output_size_bytes=6,
        error_message="e",
        timestamp="2026-01-29T12:34:56Z",
        duration_source="unknown",
    ),
    Collision(
        session_id="s",
        agent_id_1="a",
        agent_id_2="b",
        collision_type="file_conflict",
        description="d",
        severity="warning",
        resolution="r",
        timestamp="2026-01-29T12:34:56Z",
    ),
    SessionStarted(session_id="s", agent_count=2, context=[1], timestamp="2026-01-29T12:34:56Z"),
    SessionEnded(
        session_id="s",
        status="cancelled",
        total_duration_ms=7,
        successful_operations=8,
        failed_operations=9,
        timestamp="2026-01-29T12:34:56Z",
    ),
    MemorySaved(
        agent_id="a",
        memory={"k": "v"},
        collision_history=[{"with": "b"}],
        retry_count=1,
        last_error="e",
        timestamp="2026-01-29T12:34:56Z",
    ),
]

METHODS = [*EVENT_TYPES, "save_memory"]

#: Method, what it needs beside the ids, the id, the name in bind().
LACKING: list[tuple[str, dict[str, object], str, str]] = [
    ("audit", {"operation": "o", "status": "started"}, "agent_id", "agent"),
    (
        "receipt_emitted",
        {"operation": "watch", "status": "passed", "duration_ms": 1, "execution_id": "x"},
        "agent_id",
        "agent",
    ),
    (
        "receipt_emitted",
        {"operation": "watch", "status": "passed", "duration_ms": 1, "agent_id": "a"},
        "execution_id",
        "execution",
    ),
    (
        "stage_completed",
        {"stage": "emit", "status": "passed", "duration_ms": 1},
        "execution_id",
        "execution",
    ),
    (
        "collision",
        {
            "agent_id_1": "a",
            "agent_id_2": "b",
            "collision_type": "file_conflict",
            "description": "d",
            "severity": "info",
        },
        "session_id",
        "session",
    ),
    ("session_started", {"agent_count": 1}, "session_id", "session"),
    ("session_ended", {"status": "completed"}, "session_id", "session"),
    ("memory_saved", {"memory": {}}, "agent_id", "agent"),
    ("save_memory", {"value": {}}, "agent_id", "agent"),
]


class Hostile:
    """An object of the host whose every text raises."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no comparison")

    __hash__ = None  # type: ignore[assignment]


class HostileError(Exception):
    """An error of the host whose text raises."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize("event", WHOLE, ids=lambda event: type(event).__name__)
def test_every_field_of_an_event_can_be_said(event: Event) -> None:
    emitter = Collector()
    name = event.__struct_config__.tag
    fields = msgspec.structs.asdict(event)
    assert None not in fields.values()
    assert getattr(emitter, str(name))(**fields)
    assert emitter.events == [event]
    assert decode_event(encode_event(emitter.events[0])) == event


@pytest.mark.parametrize("name", EVENT_TYPES)
def test_a_method_has_the_fields_of_its_event_and_no_other(name: str) -> None:
    parameters = inspect.signature(getattr(Emitter, name)).parameters
    assert set(parameters) - {"self"} == set(EVENT_TYPES[name].__struct_fields__)
    assert all(
        parameter.kind is inspect.Parameter.KEYWORD_ONLY
        for parameter in parameters.values()
        if parameter.name != "self"
    )


@pytest.mark.parametrize(("name", "fields", "lacking", "bound"), LACKING)
def test_an_id_that_is_nowhere_is_refused_with_the_way_to_give_it(
    name: str, fields: dict[str, object], lacking: str, bound: str
) -> None:
    emitter = Collector()
    assert getattr(emitter, name)(**fields) is False
    assert emitter.events == []
    assert len(emitter.reasons) == 1
    for word in (lacking, f"bind({bound}=…)", f"GGEND_{bound.upper()}"):
        assert word in emitter.reasons[0]
    with emitter.bind(**{bound: "here"}):
        assert getattr(emitter, name)(**fields) is True
    assert getattr(emitter.events[0], lacking) == "here"


def test_memory_is_saved_by_position_by_keyword_and_for_the_bound_agent() -> None:
    emitter = Collector(agent="bound")
    assert emitter.save_memory("a", {"k": 1})
    assert emitter.save_memory(agent_id="a", value=None)
    assert emitter.save_memory(value=[1])
    assert emitter.events == [
        MemorySaved(agent_id="a", memory={"k": 1}),
        MemorySaved(agent_id="a", memory=None),
        MemorySaved(agent_id="bound", memory=[1]),
    ]
    assert emitter.save_memory("a") is False
    assert "value" in emitter.reasons[0]


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(
    "call",
    [
        lambda method: method(),
        lambda method: method(nothing_like_it=1),
        lambda method: method("by", "position", 3),
        lambda method: method(**{"not an identifier": Hostile()}),
    ],
)
def test_a_wrong_call_is_refused_with_the_name_of_the_method(
    name: str, call: Callable[[Callable[..., object]], object]
) -> None:
    emitter = Collector(agent="a", session="s", execution="x")
    assert call(getattr(emitter, name)) is False
    assert emitter.events == []
    assert len(emitter.reasons) == 1
    assert name in emitter.reasons[0]


anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(st.characters()),
    st.binary(max_size=8),
    st.builds(Hostile),
    st.builds(object),
    st.lists(st.builds(Hostile), max_size=2),
)


named_anything = st.dictionaries(
    st.one_of(
        st.sampled_from(sorted({f for e in EVENT_TYPES.values() for f in e.__struct_fields__})),
        st.sampled_from(["agent", "session", "execution", "value"]),
        st.text(max_size=5),
    ),
    anything,
    max_size=8,
)


@given(
    st.sampled_from([*METHODS, "stage", "execution", "session", "bind"]),
    st.lists(anything, max_size=3),
    named_anything,
)
def test_no_arguments_make_a_method_raise(
    name: str, positional: list[object], named: dict[str, object]
) -> None:
    emitter = Collector()
    result: Any = getattr(emitter, name)(*positional, **named)
    if name in METHODS:
        assert result is (len(emitter.events) == 1)
        assert len(emitter.events) + len(emitter.reasons) == 1
    else:
        with result:
            pass
        assert emitter.events or emitter.reasons or name == "bind"


@given(st.lists(st.tuples(st.sampled_from(WHOLE), st.integers(0, 20), anything), max_size=10))
def test_a_client_counts_each_call_once_whatever_the_arguments(
    calls: list[tuple[Event, int, object]],
) -> None:
    client = Client("/nonexistent/g.sock", spool_dir="")
    taken = 0
    for event, odd, value in calls:
        fields = msgspec.structs.asdict(event)
        if odd < len(fields):
            fields[list(fields)[odd]] = value
        taken += getattr(client, str(event.__struct_config__.tag))(**fields)
    stats = client.stats()
    assert stats.offered == len(calls)
    assert stats.queued == stats.accepted == taken
    assert stats.dropped.total == stats.dropped.invalid == len(calls) - taken
    client.close(0)
    if client._thread is not None:
        client._thread.join(PATIENCE_SECONDS)


def test_what_emit_itself_raises_is_refused_too() -> None:
    class Broken(Collector):
        def emit(self, event: Event) -> bool:  # noqa: ARG002
            raise HostileError

    emitter = Broken(agent="a")
    assert emitter.audit(operation="o", status="started") is False
    assert emitter.reasons == ["HostileError"]


def test_a_long_reason_is_cut() -> None:
    emitter = Collector()
    assert emitter.audit(**{"x" * 2 * ERROR_CHARS: 1}) is False  # type: ignore[arg-type]
    assert len(emitter.reasons[0]) == ERROR_CHARS


def test_an_interrupt_is_not_swallowed() -> None:
    class Interrupted(Collector):
        def emit(self, event: Event) -> bool:  # noqa: ARG002
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Interrupted(agent="a").audit(operation="o", status="started")


def test_without_pages_that_can_be_wiped_a_fork_is_told_by_the_pid(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    flag = fork_hooks._Pid()
    assert flag[0]
    monkeypatch.setattr("os.getpid", lambda: -1)
    assert not flag[0]
    flag[0] = 1
    assert flag[0]
