"""Spans: `with` blocks that measure a stage, an execution or a session, and say how it ended.

Durations come from a monotonic clock; no timestamp is sent, because the daemon takes the moment
of emit as the end and subtracts the duration. The host's exceptions pass through untouched, and
nothing is raised into the host: what cannot be said is refused with its reason.

An ordinary exception is a failure. What is none (asyncio.CancelledError, KeyboardInterrupt,
SystemExit, GeneratorExit) is a cancellation. A misspelled attribute does raise (AttributeError):
what is set there would never be said.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from time import monotonic_ns
from types import TracebackType
from typing import Generic, Literal, Self, TypeAlias, TypeVar

from ggend_client.context import Bind, Binding
from ggend_client.error_text import error_text, fitting
from ggend_client.errors import InvalidCall
from ggend_client.events import TypedEvents
from ggend_schema.events import (
    JsonValue,
    Operation,
    ReceiptStatus,
    SessionEndStatus,
    Stage,
    StageStatus,
)
from ggend_schema.limits import ERROR_CHARS

__all__ = ["ExecutionSpan", "SessionSpan", "Span", "StageSpan"]

Outcome: TypeAlias = Literal["passed", "failed", "cancelled"]

#: Bytes of a random id: nobody else makes the same.
ID_BYTES = 16

NS_PER_MS = 1_000_000

_Status = TypeVar("_Status", bound=str)


class Span(ABC, Generic[_Status]):
    """Something that begins and ends, for one `with` or `async with` at a time."""

    __slots__ = ("__weakref__", "_emitter", "_fault", "_started_ns", "error_message", "status")

    def __init__(self, emitter: TypedEvents, fault: str | None) -> None:
        self._emitter = emitter
        #: Why nothing can be said at the end: the call that made this was wrong.
        self._fault = fault
        self._started_ns: int | None = None
        #: What went wrong, in the host's words. It alone makes the run a failed one.
        self.error_message: str | None = None
        #: For what the end of the block alone does not say, such as "partial". An exception that
        #: leaves the block overrides it.
        self.status: _Status | None = None

    @abstractmethod
    def _begin(self) -> None:
        """Bind what holds inside; say that it begins."""

    @abstractmethod
    def _unbind(self) -> None:
        """Undo what `_begin` bound."""

    @abstractmethod
    def _end(self, duration_ms: int, outcome: Outcome, message: str | None) -> None:
        """Say how it ended."""

    def __enter__(self) -> Self:
        try:
            self._begin()
        except InvalidCall:  # of a strict client
            self._unbind()
            raise
        except Exception as error:
            self._fault = error_text(error)
        self._started_ns = monotonic_ns()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        ended_ns = monotonic_ns()
        started_ns, self._started_ns = self._started_ns, None
        try:
            self._unbind()
            if self._fault is not None:
                self._emitter.refuse(self._fault)
            elif started_ns is None:
                self._emitter.refuse(f"{type(self).__name__} was exited without being entered")
            else:
                duration_ms = max(0, round((ended_ns - started_ns) / NS_PER_MS))
                self._end(duration_ms, *self._outcome(error))
        except InvalidCall:  # of a strict client; what the host raised itself comes first
            if error is None:
                raise
        except Exception as failure:
            self._emitter.refuse(error_text(failure))

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, traceback)

    def _outcome(self, error: BaseException | None) -> tuple[Outcome, str | None]:
        message = self.error_message
        if message is not None:
            message = fitting(message)
        elif error is not None:
            message = error_text(error)
        if error is None:
            return ("passed" if message is None else "failed"), message
        self.status = None
        return ("failed" if isinstance(error, Exception) else "cancelled"), message


class StageSpan(Span[StageStatus]):
    """One of the five stages. Say what it read and wrote by setting the attributes."""

    __slots__ = ("_stage", "execution_id", "input_size_bytes", "output_size_bytes")

    def __init__(
        self,
        emitter: TypedEvents,
        stage: Stage,
        *,
        execution_id: str | None = None,
        fault: str | None = None,
    ) -> None:
        super().__init__(emitter, fault)
        self._stage = stage
        self.execution_id = execution_id
        self.input_size_bytes: int | None = None
        self.output_size_bytes: int | None = None

    def _begin(self) -> None:
        if self.execution_id is None:
            self.execution_id = self._emitter.bound().execution

    def _unbind(self) -> None:
        """A stage binds nothing."""

    def _end(self, duration_ms: int, outcome: Outcome, message: str | None) -> None:
        if outcome == "cancelled":
            # Stages know only passed and failed.
            message = f"cancelled: {message}"[:ERROR_CHARS]
        self._emitter.stage_completed(
            stage=self._stage,
            duration_ms=duration_ms,
            status=self.status or ("passed" if outcome == "passed" else "failed"),
            execution_id=self.execution_id,
            input_size_bytes=self.input_size_bytes,
            output_size_bytes=self.output_size_bytes,
            error_message=message,
        )


class ExecutionSpan(Span[ReceiptStatus]):
    """One execution of the pipeline, bound for what is inside. Its receipt is said at the end."""

    __slots__ = (
        "_bind",
        "_bound",
        "_operation",
        "environment",
        "execution_id",
        "files_generated",
        "files_modified",
        "manifest_hash",
        "ontology_hash",
        "receipt",
    )

    def __init__(
        self,
        emitter: TypedEvents,
        operation: Operation,
        *,
        agent_id: str | None = None,
        execution_id: str | None = None,
        session_id: str | None = None,
        fault: str | None = None,
    ) -> None:
        super().__init__(emitter, fault)
        self._operation = operation
        self.execution_id = _new_id() if execution_id is None else execution_id
        self._bind = Bind(Binding(agent=agent_id, session=session_id, execution=self.execution_id))
        self._bound = Binding()
        self.manifest_hash: str | None = None
        self.ontology_hash: str | None = None
        self.files_generated: int | None = None
        self.files_modified: int | None = None
        self.receipt: JsonValue = None
        self.environment: str | None = None

    def _begin(self) -> None:
        self._bind.enter()
        self._bound = self._emitter.bound()

    def _unbind(self) -> None:
        self._bind.leave()

    def _end(self, duration_ms: int, outcome: Outcome, message: str | None) -> None:
        self._emitter.receipt_emitted(
            operation=self._operation,
            status=self.status or outcome,
            duration_ms=duration_ms,
            execution_id=self.execution_id,
            agent_id=self._bound.agent,
            session_id=self._bound.session,
            manifest_hash=self.manifest_hash,
            ontology_hash=self.ontology_hash,
            files_generated=self.files_generated,
            files_modified=self.files_modified,
            receipt=self.receipt,
            error_message=message,
            environment=self.environment,
        )


class SessionSpan(Span[SessionEndStatus]):
    """One session of a swarm, bound for what is inside. Its start and its end are said."""

    __slots__ = (
        "_agent_count",
        "_bind",
        "_context",
        "failed_operations",
        "session_id",
        "successful_operations",
    )

    def __init__(
        self,
        emitter: TypedEvents,
        agent_count: int,
        *,
        session_id: str | None = None,
        context: JsonValue = None,
        fault: str | None = None,
    ) -> None:
        super().__init__(emitter, fault)
        self._agent_count = agent_count
        self._context = context
        self.session_id = _new_id() if session_id is None else session_id
        self._bind = Bind(Binding(session=self.session_id))
        #: Left None, these two are derived by the daemon from the receipts of the session.
        self.successful_operations: int | None = None
        self.failed_operations: int | None = None

    def _begin(self) -> None:
        self._bind.enter()
        if self._fault is None:
            self._emitter.session_started(
                session_id=self.session_id, agent_count=self._agent_count, context=self._context
            )

    def _unbind(self) -> None:
        self._bind.leave()

    def _end(self, duration_ms: int, outcome: Outcome, _message: str | None) -> None:
        self._emitter.session_ended(
            session_id=self.session_id,
            status=self.status or ("completed" if outcome == "passed" else outcome),
            total_duration_ms=duration_ms,
            successful_operations=self.successful_operations,
            failed_operations=self.failed_operations,
        )


def _new_id() -> str:
    return os.urandom(ID_BYTES).hex()
