"""Context: whose events these are, when the caller does not say it with each of them.

What `bind` sets holds for the current context (contextvars): the thread or the asyncio task, and
the tasks started inside; new threads begin without. It holds for all clients of the process.
Never raises into the host: a bind that is left out of order, twice or in another context takes
itself out of the context that it is left in, if it is there.
"""

from __future__ import annotations

from contextvars import ContextVar
from types import TracebackType

from msgspec import Struct

__all__ = ["Bind", "Binding", "binding_here"]


class Binding(Struct, frozen=True, kw_only=True, gc=False):
    """The ids that an event takes unless it is given others."""

    agent: str | None = None
    session: str | None = None
    execution: str | None = None

    def over(self, outer: Binding) -> Binding:
        """Return this one, with what it does not say taken from `outer`."""
        return Binding(
            agent=outer.agent if self.agent is None else self.agent,
            session=outer.session if self.session is None else self.session,
            execution=outer.execution if self.execution is None else self.execution,
        )

    def variables(self) -> dict[str, str]:
        """Return it as environment variables. What no environment can hold is left out."""
        named = {
            "GGEND_AGENT": self.agent,
            "GGEND_SESSION": self.session,
            "GGEND_EXECUTION": self.execution,
        }
        return {
            name: value
            for name, value in named.items()
            if isinstance(value, str) and _fits_environment(value)
        }


class Bind:
    """`with` this, a binding holds. It can be used again, and inside itself."""

    __slots__ = ("given",)

    def __init__(self, given: Binding) -> None:
        self.given = given

    def __enter__(self) -> None:
        self.enter()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.leave()

    def enter(self) -> None:
        """Bind, inside of what is bound already."""
        here = _here.get()
        _here.set(_Layers(binds=(*here.binds, self), binding=self.given.over(here.binding)))

    def leave(self) -> None:
        """Take the innermost layer of this bind away, wherever it is."""
        binds = list(_here.get().binds)
        for place in reversed(range(len(binds))):
            if binds[place] is self:
                del binds[place]
                break
        else:
            return
        binding = _NOTHING.binding
        for bind in binds:
            binding = bind.given.over(binding)
        _here.set(_Layers(binds=tuple(binds), binding=binding) if binds else _NOTHING)


class _Layers(Struct, frozen=True):
    """The binds that hold in a context, the innermost last, and what they come to."""

    binds: tuple[Bind, ...]
    binding: Binding


def binding_here(own: Binding) -> Binding:
    """Return what is bound in this context, with the rest from a client's own binding."""
    here = _here.get()
    return own if here is _NOTHING else here.binding.over(own)


def _fits_environment(value: str) -> bool:
    try:
        return b"\0" not in value.encode()
    except UnicodeEncodeError:
        return False


_NOTHING = _Layers(binds=(), binding=Binding())
_here: ContextVar[_Layers] = ContextVar("ggend_binding", default=_NOTHING)
