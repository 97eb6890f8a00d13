"""Recording emitter: an emitter that keeps what is emitted and why the rest was refused."""

from __future__ import annotations

from ggend_client.context import Binding
from ggend_client.emitter import Emitter
from ggend_schema import Event

__all__ = ["Collector"]


class Collector(Emitter):
    """No daemon, no thread: `events` and `reasons` are what a client would have counted."""

    def __init__(
        self,
        *,
        agent: str | None = None,
        session: str | None = None,
        execution: str | None = None,
        variables: dict[str, str] | None = None,
    ) -> None:
        super().__init__(Binding(agent=agent, session=session, execution=execution), variables)
        self.events: list[Event] = []
        self.reasons: list[str] = []

    def emit(self, event: Event) -> bool:
        """Keep the event."""
        self.events.append(event)
        return True

    def refuse(self, reason: str) -> bool:
        """Keep the reason."""
        self.reasons.append(reason)
        return False
