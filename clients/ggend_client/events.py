"""Events: one short, typed, keyword-only method for each event.

Whoever derives from it says how an event is taken (`emit`) and how a call that made none is
counted (`refuse`). Nothing here raises into the host, whatever the arguments: a call that makes
no event is refused with its reason, and returns False. The values are checked by the daemon.

An id that is not given is the one bound here (`context`), or else the client's own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from msgspec import UNSET

from ggend_client.context import Binding, binding_here
from ggend_client.error_text import error_text
from ggend_client.errors import InvalidCall
from ggend_schema import (
    Audit,
    Collision,
    Event,
    MemorySaved,
    ReceiptEmitted,
    SessionEnded,
    SessionStarted,
    StageCompleted,
)
from ggend_schema.events import (
    AuditStatus,
    CollisionType,
    DurationSource,
    JsonValue,
    Operation,
    ReceiptStatus,
    SessionEndStatus,
    Severity,
    Stage,
    StageStatus,
)

__all__ = ["TypedEvents", "needs", "never_raising"]

_E = TypeVar("_E", bound="TypedEvents")
_P = ParamSpec("_P")
_R = TypeVar("_R")


def needs(event: str, field: str) -> str:
    """Say which id an event lacks, and how to give it."""
    name = field.removesuffix("_id")
    return (
        f"{event} needs {field}: give it, bind({name}=…), "
        f"make the client with {name}=… or set GGEND_{name.upper()}"
    )


def never_raising(
    otherwise: Callable[[_E, str], _R],
) -> Callable[[Callable[Concatenate[_E, _P], _R]], Callable[Concatenate[_E, _P], _R]]:
    """Make a method return `otherwise(self, reason)` for what it raises, wrong calls included.

    InvalidCall, which only a strict client raises, passes through.
    """

    def decorate(method: Callable[Concatenate[_E, _P], _R]) -> Callable[Concatenate[_E, _P], _R]:
        @wraps(method)
        def call(emitter: _E, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
            try:
                return method(emitter, *args, **kwargs)
            except InvalidCall:
                raise
            except Exception as error:
                return otherwise(emitter, error_text(error))

        return call

    return decorate


def _refused(emitter: TypedEvents, reason: str) -> bool:
    return emitter.refuse(reason)


class TypedEvents(ABC):
    """What can be said to a daemon, one method an event. True: the event was taken."""

    def __init__(self, binding: Binding) -> None:
        self._binding = binding

    @abstractmethod
    def emit(self, event: Event) -> bool:
        """Take the event, or count why not and return False. Never blocks, never raises."""

    @abstractmethod
    def refuse(self, reason: str) -> bool:
        """Count an event that could not be made, with the reason; return False. Never raises."""

    def bound(self) -> Binding:
        """Return the ids that an event takes here unless it is given others."""
        return binding_here(self._binding)

    @never_raising(_refused)
    def audit(
        self,
        *,
        operation: str,
        status: AuditStatus,
        agent_id: str | None = None,
        duration_ms: int | None = None,
        error_message: str | None = None,
        context: JsonValue = None,
        execution_id: str | None = None,
        session_id: str | None = None,
        timestamp: str | None = None,
    ) -> bool:
        """Say that an agent did something worth remembering."""
        here = binding_here(self._binding)
        agent = here.agent if agent_id is None else agent_id
        if agent is None:
            return self.refuse(needs("audit", "agent_id"))
        return self.emit(
            Audit(
                agent_id=agent,
                operation=operation,
                status=status,
                duration_ms=duration_ms,
                error_message=error_message,
                context=context,
                execution_id=here.execution if execution_id is None else execution_id,
                session_id=here.session if session_id is None else session_id,
                timestamp=timestamp,
            )
        )

    @never_raising(_refused)
    def receipt_emitted(
        self,
        *,
        operation: Operation,
        status: ReceiptStatus,
        duration_ms: int,
        execution_id: str | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
        manifest_hash: str | None = None,
        ontology_hash: str | None = None,
        files_generated: int | None = None,
        files_modified: int | None = None,
        receipt: JsonValue = None,
        error_message: str | None = None,
        environment: str | None = None,
        timestamp: str | None = None,
        duration_source: DurationSource | None = None,
    ) -> bool:
        """Say that an execution of the pipeline has ended. `execution` measures and says it."""
        here = binding_here(self._binding)
        execution = here.execution if execution_id is None else execution_id
        if execution is None:
            return self.refuse(needs("receipt_emitted", "execution_id"))
        agent = here.agent if agent_id is None else agent_id
        if agent is None:
            return self.refuse(needs("receipt_emitted", "agent_id"))
        return self.emit(
            ReceiptEmitted(
                execution_id=execution,
                agent_id=agent,
                operation=operation,
                status=status,
                duration_ms=duration_ms,
                timestamp=timestamp,
                manifest_hash=manifest_hash,
                ontology_hash=ontology_hash,
                files_generated=files_generated,
                files_modified=files_modified,
                receipt=receipt,
                error_message=error_message,
                environment=environment,
                session_id=here.session if session_id is None else session_id,
                duration_source=duration_source,
            )
        )

    @never_raising(_refused)
    def stage_completed(
        self,
        *,
        stage: Stage,
        duration_ms: int,
        status: StageStatus,
        execution_id: str | None = None,
        input_size_bytes: int | None = None,
        output_size_bytes: int | None = None,
        error_message: str | None = None,
        timestamp: str | None = None,
        duration_source: DurationSource | None = None,
    ) -> bool:
        """Say that one of the five stages has ended. `stage` measures and says it."""
        execution = self.bound().execution if execution_id is None else execution_id
        if execution is None:
            return self.refuse(needs("stage_completed", "execution_id"))
        return self.emit(
            StageCompleted(
                execution_id=execution,
                stage=stage,
                duration_ms=duration_ms,
                status=status,
                input_size_bytes=input_size_bytes,
                output_size_bytes=output_size_bytes,
                error_message=error_message,
                timestamp=timestamp,
                duration_source=duration_source,
            )
        )

    @never_raising(_refused)
    def collision(
        self,
        *,
        agent_id_1: str,
        agent_id_2: str,
        collision_type: CollisionType,
        description: str,
        severity: Severity,
        session_id: str | None = None,
        resolution: str | None = None,
        timestamp: str | None = None,
    ) -> bool:
        """Say that two agents met."""
        session = self.bound().session if session_id is None else session_id
        if session is None:
            return self.refuse(needs("collision", "session_id"))
        return self.emit(
            Collision(
                session_id=session,
                agent_id_1=agent_id_1,
                agent_id_2=agent_id_2,
                collision_type=collision_type,
                description=description,
                severity=severity,
                resolution=resolution,
                timestamp=timestamp,
            )
        )

    @never_raising(_refused)
    def session_started(
        self,
        *,
        agent_count: int,
        session_id: str | None = None,
        context: JsonValue = None,
        timestamp: str | None = None,
    ) -> bool:
        """Say that a swarm begins to work. `session` says it and binds the session."""
        session = self.bound().session if session_id is None else session_id
        if session is None:
            return self.refuse(needs("session_started", "session_id"))
        return self.emit(
            SessionStarted(
                session_id=session, agent_count=agent_count, context=context, timestamp=timestamp
            )
        )

    @never_raising(_refused)
    def session_ended(
        self,
        *,
        status: SessionEndStatus,
        session_id: str | None = None,
        total_duration_ms: int | None = None,
        successful_operations: int | None = None,
        failed_operations: int | None = None,
        timestamp: str | None = None,
    ) -> bool:
        """Say that a swarm has ended. What is left out is derived from its receipts."""
        session = self.bound().session if session_id is None else session_id
        if session is None:
            return self.refuse(needs("session_ended", "session_id"))
        return self.emit(
            SessionEnded(
                session_id=session,
                status=status,
                total_duration_ms=total_duration_ms,
                successful_operations=successful_operations,
                failed_operations=failed_operations,
                timestamp=timestamp,
            )
        )

    @never_raising(_refused)
    def memory_saved(
        self,
        *,
        memory: JsonValue,
        agent_id: str | None = None,
        collision_history: list[JsonValue] | None = None,
        retry_count: int = 0,
        last_error: str | None = None,
        timestamp: str | None = None,
    ) -> bool:
        """Say what an agent remembers: the whole of it. The later save wins."""
        agent = self.bound().agent if agent_id is None else agent_id
        if agent is None:
            return self.refuse(needs("memory_saved", "agent_id"))
        return self.emit(
            MemorySaved(
                agent_id=agent,
                memory=memory,
                collision_history=collision_history,
                retry_count=retry_count,
                last_error=last_error,
                timestamp=timestamp,
            )
        )

    @never_raising(_refused)
    def save_memory(self, agent_id: str | None = None, value: JsonValue = UNSET) -> bool:
        """Save an agent's whole memory, any JSON value, for `load_memory` in a later run."""
        if value is UNSET:
            return self.refuse("save_memory needs value=…, any JSON value")
        return self.memory_saved(agent_id=agent_id, memory=value)
