"""bind(): whose events these are, in nested blocks, threads and tasks, and in subprocesses."""

from __future__ import annotations

import asyncio
import contextvars
import json
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ggend_client.context import Bind, Binding, binding_here
from support.patience import PATIENCE_SECONDS
from support.recording_emitter import Collector

NOBODY = Binding()


def test_an_argument_wins_over_a_bind_and_a_bind_over_the_client() -> None:
    emitter = Collector(agent="client", session="client", execution="client")
    with emitter.bind(agent="outer", session="outer"), emitter.bind(agent="inner"):
        assert emitter.audit(operation="o", status="started", agent_id="argument")
        assert emitter.audit(operation="o", status="started")
    assert emitter.audit(operation="o", status="started")
    said = [(e.agent_id, e.session_id, e.execution_id) for e in emitter.events]  # type: ignore[union-attr]
    assert said == [
        ("argument", "outer", "client"),
        ("inner", "outer", "client"),
        ("client", "client", "client"),
    ]


def test_a_bind_ends_with_an_exception_that_passes_through() -> None:
    emitter = Collector()
    error = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError) as caught, emitter.bind(agent="a"):
        raise error
    assert caught.value is error
    assert emitter.bound() == NOBODY


def test_binds_left_in_another_order_leave_nothing_behind() -> None:
    emitter = Collector()
    first, second = emitter.bind(agent="first", session="s"), emitter.bind(agent="second")
    first.enter()
    second.enter()
    first.leave()
    assert emitter.bound() == Binding(agent="second")
    second.leave()
    assert emitter.bound() == NOBODY


def test_a_bind_left_twice_or_in_another_context_does_not_raise() -> None:
    emitter = Collector()
    bind = emitter.bind(agent="a")
    bind.enter()
    contextvars.Context().run(bind.leave)
    assert emitter.bound() == Binding(agent="a")
    bind.leave()
    bind.leave()
    assert emitter.bound() == NOBODY


def test_a_bind_can_be_used_inside_itself() -> None:
    emitter = Collector()
    bind = emitter.bind(agent="a")
    with bind, bind:
        pass
    with bind:
        with bind, emitter.bind(agent="b"):
            pass
        assert emitter.bound() == Binding(agent="a")
    assert emitter.bound() == NOBODY


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=30))
def test_any_order_of_entering_and_leaving_ends_with_what_was_not_left(
    steps: list[tuple[int, bool]],
) -> None:
    binds = [Bind(Binding(agent=f"a{n}")) for n in range(4)]

    def run() -> None:
        entered: list[int] = []
        for n, enters in steps:
            if enters:
                binds[n].enter()
                entered.append(n)
            else:
                binds[n].leave()
                if n in entered:
                    del entered[len(entered) - 1 - entered[::-1].index(n)]
            expected = f"a{entered[-1]}" if entered else None
            assert binding_here(NOBODY).agent == expected

    contextvars.Context().run(run)


def test_a_thread_begins_without_and_can_bind_for_itself() -> None:
    emitter = Collector(agent="client")
    seen: list[Binding] = []
    inside, checked = threading.Event(), threading.Event()

    def work() -> None:
        seen.append(emitter.bound())
        with emitter.bind(agent="thread"):
            seen.append(emitter.bound())
            inside.set()
            checked.wait(PATIENCE_SECONDS)

    with emitter.bind(agent="main"):
        thread = threading.Thread(target=work)
        thread.start()
        assert inside.wait(PATIENCE_SECONDS)
        assert emitter.bound() == Binding(agent="main")
        checked.set()
        thread.join(PATIENCE_SECONDS)
    assert seen == [Binding(agent="client"), Binding(agent="thread")]


def test_a_copy_of_the_context_takes_the_binding_to_a_pool() -> None:
    emitter = Collector()
    with emitter.bind(execution="e"), ThreadPoolExecutor(1) as pool:
        context = contextvars.copy_context()
        assert pool.submit(context.run, emitter.bound).result(PATIENCE_SECONDS) == Binding(
            execution="e"
        )
        assert pool.submit(emitter.bound).result(PATIENCE_SECONDS) == NOBODY


async def test_tasks_inherit_and_do_not_disturb_each_other() -> None:
    emitter = Collector()
    together = asyncio.Barrier(20)

    async def work(n: int) -> tuple[Binding, Binding, Binding]:
        before = emitter.bound()
        with emitter.bind(agent=f"a{n}"):
            await together.wait()
            inside = emitter.bound()
            in_thread = await asyncio.to_thread(emitter.bound)
        await together.wait()
        assert emitter.bound() == before
        return before, inside, in_thread

    with emitter.bind(session="s"):
        seen = await asyncio.gather(*(work(n) for n in range(20)))
    for n, (before, inside, in_thread) in enumerate(seen):
        assert before == Binding(session="s")
        assert inside == in_thread == Binding(agent=f"a{n}", session="s")
    assert emitter.bound() == NOBODY


async def test_a_generator_finalised_in_another_task_does_not_raise() -> None:
    emitter = Collector()

    async def bound() -> AsyncIterator[None]:
        with emitter.bind(agent="generator"):
            yield

    generator = bound()
    await asyncio.create_task(anext(generator))  # type: ignore[arg-type]
    assert emitter.bound() == NOBODY
    await asyncio.create_task(generator.aclose())  # type: ignore[attr-defined]
    assert emitter.bound() == NOBODY


def test_a_generator_closed_late_takes_only_its_own_binding_away() -> None:
    emitter = Collector()

    def bound() -> Iterator[None]:
        with emitter.bind(agent="generator"):
            yield

    generator = bound()
    next(generator)
    with emitter.bind(session="s"):
        generator.close()  # type: ignore[attr-defined]
        assert emitter.bound() == Binding(session="s")
    assert emitter.bound() == NOBODY


def test_a_wrong_bind_is_refused_and_binds_nothing() -> None:
    emitter = Collector()
    with emitter.bind(agnet="a"):  # type: ignore[call-arg]
        assert emitter.bound() == NOBODY
    assert len(emitter.reasons) == 1
    assert "agnet" in emitter.reasons[0]


def test_a_subprocess_gets_the_binding_and_the_place_of_the_daemon() -> None:
    emitter = Collector(agent="a", variables={"GGEND_SOCKET": "/run/x.sock"})
    with emitter.bind(session="s\u00e9"), emitter.execution(operation="watch") as run:
        environ = emitter.child_env()
    program = "import json, os; print(json.dumps(dict(os.environ)))"
    told = json.loads(subprocess.check_output([sys.executable, "-c", program], env=environ))
    assert told == {
        **os.environ,
        "GGEND_AGENT": "a",
        "GGEND_SESSION": "s\u00e9",
        "GGEND_EXECUTION": run.execution_id,
        "GGEND_SOCKET": "/run/x.sock",
    }


def test_an_id_that_no_environment_can_hold_does_not_break_the_subprocess() -> None:
    emitter = Collector(agent="a\0b", session="\ud800", execution=5)  # type: ignore[arg-type]
    environ = emitter.child_env()
    assert not {"GGEND_AGENT", "GGEND_SESSION", "GGEND_EXECUTION"} & set(environ)
