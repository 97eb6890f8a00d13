"""Emitter: what `Client` and `AsyncClient` have in common, events and what goes around them.

It adds to the typed events what measures (`stage`, `execution`, `session`), what says whose
events these are (`bind`), and what hands that to a subprocess. Owns no I/O and no thread.

Nothing here raises into the host, whatever the arguments, but `staged`, at the moment when a
function is decorated that it cannot measure.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import NoReturn, ParamSpec, TypeVar

from ggend_client.context import Bind, Binding
from ggend_client.events import TypedEvents, never_raising
from ggend_client.spans import ExecutionSpan, SessionSpan, StageSpan
from ggend_client.staged import staged
from ggend_schema.events import JsonValue, Operation, Stage

__all__ = ["Emitter"]

_P = ParamSpec("_P")
_R = TypeVar("_R")


def _unbound(emitter: Emitter, reason: str) -> Bind:
    emitter.refuse(reason)
    return Bind(Binding())


def _faulty_stage(emitter: Emitter, reason: str) -> StageSpan:
    return StageSpan(emitter, "extract", fault=reason)


def _faulty_execution(emitter: Emitter, reason: str) -> ExecutionSpan:
    return ExecutionSpan(emitter, "generation", fault=reason)


def _faulty_session(emitter: Emitter, reason: str) -> SessionSpan:
    return SessionSpan(emitter, 0, fault=reason)


class Emitter(TypedEvents):
    """Says events, measures, and binds. Safe to use from any thread and any task."""

    def __init__(self, binding: Binding, variables: Mapping[str, str] | None = None) -> None:
        """`variables` are what a subprocess needs beside the binding to find the same daemon."""
        super().__init__(binding)
        self._variables = dict(variables or {})

    def __reduce__(self) -> NoReturn:
        """Refuse to be copied or pickled: a copy would number its events as this one does."""
        raise TypeError(
            f"a {type(self).__name__} belongs to its process and cannot be copied or pickled: "
            "make one where it is needed"
        )

    @never_raising(_unbound)
    def bind(
        self,
        *,
        agent: str | None = None,
        session: str | None = None,
        execution: str | None = None,
    ) -> Bind:
        """With this, events of this thread or task take these ids unless they are given others.

        New threads begin without: bind there again, or run them in a copy of the context.
        """
        return Bind(Binding(agent=agent, session=session, execution=execution))

    def child_env(self) -> dict[str, str]:
        """Return a copy of the environment with the binding, for `subprocess.run(env=…)`."""
        return {**os.environ, **self._variables, **self.bound().variables()}

    @never_raising(_faulty_stage)
    def stage(self, stage: Stage, *, execution_id: str | None = None) -> StageSpan:
        """Measure a stage: `with client.stage("extract") as s: s.output_size_bytes = …`."""
        return StageSpan(self, stage, execution_id=execution_id)

    def staged(
        self, stage: Stage, *, execution_id: str | None = None
    ) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
        """Measure every call of a function or coroutine function as a stage.

        Raises TypeError for an async generator or a static or class method, when decorated.
        """

        def decorate(function: Callable[_P, _R]) -> Callable[_P, _R]:
            return staged(lambda: self.stage(stage, execution_id=execution_id), function)

        return decorate

    @never_raising(_faulty_execution)
    def execution(
        self,
        *,
        operation: Operation,
        agent_id: str | None = None,
        execution_id: str | None = None,
        session_id: str | None = None,
    ) -> ExecutionSpan:
        """Measure an execution, under a new random id if none is given, and bind it inside."""
        return ExecutionSpan(
            self, operation, agent_id=agent_id, execution_id=execution_id, session_id=session_id
        )

    @never_raising(_faulty_session)
    def session(
        self,
        *,
        agent_count: int,
        session_id: str | None = None,
        context: JsonValue = None,
    ) -> SessionSpan:
        """Say that a session begins and ends, under a new random id if none is given; bind it."""
        return SessionSpan(self, agent_count, session_id=session_id, context=context)
