"""AsyncClient: the client for asyncio. Only `flush`, `close` and `load_memory` are awaited.

It owns a `Client`, which does the work on its own thread. What waits, waits on a thread of its
own that nobody joins: a wait that is cancelled is over at once, and neither the loop nor its
executor is held up by what is left of it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from ggend_client.client import LINGER_SECONDS, MAX_BYTES, MAX_EVENTS, Client
from ggend_client.emitter import Emitter
from ggend_client.stats import Statistics
from ggend_schema import Event
from ggend_schema.messages import Reject

__all__ = ["AsyncClient"]

_T = TypeVar("_T")


class AsyncClient(Emitter):
    """One producer. Safe to use from any thread and any loop; make one and keep it."""

    def __init__(
        self,
        socket: str | Path | None = None,
        *,
        service: str | None = None,
        agent: str | None = None,
        session: str | None = None,
        spool_dir: str | Path | None = None,
        max_events: int = MAX_EVENTS,
        max_bytes: int = MAX_BYTES,
        linger_seconds: float = LINGER_SECONDS,
        exit_timeout: float = 1.0,
        durable: bool = False,
        strict: bool | None = None,
        on_drop: Callable[[str, Event | None], object] | None = None,
        enabled: bool = True,
    ) -> None:
        """Everything as with `Client`. Needs no running loop."""
        self._client = Client(
            socket,
            service=service,
            agent=agent,
            session=session,
            spool_dir=spool_dir,
            max_events=max_events,
            max_bytes=max_bytes,
            linger_seconds=linger_seconds,
            exit_timeout=exit_timeout,
            durable=durable,
            strict=strict,
            on_drop=on_drop,
            enabled=enabled,
        )
        super().__init__(self._client.own_binding)

    def emit(self, event: Event) -> bool:
        """Take the event, or count why not and return False. Never blocks, never raises."""
        return self._client.emit(event)

    def refuse(self, reason: str) -> bool:
        """Count an event that could not be made, with the reason; return False. Never raises."""
        return self._client.refuse(reason)

    def child_env(self) -> dict[str, str]:
        """Return a copy of the environment with the binding, for a subprocess's `env`."""
        return self._client.child_env()

    def stats(self) -> Statistics:
        """Return what became of the events so far."""
        return self._client.stats()

    def recent_rejects(self) -> list[Reject]:
        """Return the last events that the daemon put in quarantine, with its reasons."""
        return self._client.recent_rejects()

    async def flush(self, timeout: float = 2.0, *, strict: bool | None = None) -> bool:  # noqa: ASYNC109
        """Wait until everything emitted before this call is settled, as `Client.flush` does."""
        return await _elsewhere(lambda: self._client.flush(timeout, strict=strict))

    async def close(self, timeout: float = 1.0) -> bool:  # noqa: ASYNC109
        """Refuse new events, and wait for the acks of the old ones, as `Client.close` does.

        A close that is cancelled goes on by itself.
        """
        return await _elsewhere(lambda: self._client.close(timeout))

    async def load_memory(self, agent_id: str | None = None, timeout: float = 2.0) -> Any:  # noqa: ASYNC109
        """Return what an agent saved last, None: nothing. Raises ClientErrors."""
        # Resolved here: what is bound in this task is not bound on the other thread.
        agent = self.bound().agent if agent_id is None else agent_id
        return await _elsewhere(lambda: self._client.load_memory(agent, timeout))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()


async def _elsewhere(call: Callable[[], _T]) -> _T:
    """Await a call that blocks. Cancelled, it returns at once and the call ends by itself."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_T] = loop.create_future()

    def settle(result: _T | None, error: BaseException | None) -> None:
        if future.done():  # cancelled
            return
        if error is None:
            future.set_result(result)  # type: ignore[arg-type]
        else:
            future.set_exception(error)

    def run() -> None:
        result, failure = None, None
        try:
            result = call()
        except BaseException as error:  # told to who awaits
            failure = error
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, result, failure)

    try:
        threading.Thread(target=run, name="ggend-wait", daemon=True).start()
    except RuntimeError:  # no more threads, or none any more: it is done here, within its deadline
        return call()
    return await future
