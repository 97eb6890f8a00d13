"""Turn: one thread at a time, and one that comes to it again is told, where a lock would hang.

The garbage collector runs finalizers in the middle of anything, and so do signal handlers: what
they call may be what they interrupt. They may also raise there, as KeyboardInterrupt does: nothing
then stays taken.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

__all__ = ["Reentered", "Turn", "in_turn"]

_P = ParamSpec("_P")
_R = TypeVar("_R")


class Reentered(Exception):
    """This thread is in the middle of it."""


class Turn:
    """What the methods of one object share."""

    __slots__ = ("is_taken", "lock")

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.is_taken = False


class _HasTurn(Protocol):
    _turn: Turn


_S = TypeVar("_S", bound=_HasTurn)


def in_turn(
    method: Callable[Concatenate[_S, _P], _R],
) -> Callable[Concatenate[_S, _P], _R]:
    """Make a method wait while another thread is in one of the object's. Raises Reentered."""

    @wraps(method)
    def call(self: _S, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        turn = self._turn
        with turn.lock:
            if turn.is_taken:
                raise Reentered
            turn.is_taken = True  # no call before the next line: nobody raises in between
            try:
                return method(self, *args, **kwargs)
            finally:
                turn.is_taken = False

    return call
