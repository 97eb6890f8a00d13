"""Staged: the decorator that measures every call of a function as a stage."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast

from ggend_client.spans import StageSpan

__all__ = ["staged"]

_P = ParamSpec("_P")
_R = TypeVar("_R")


def staged(make: Callable[[], StageSpan], function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Return the function with `with make():` around each call.

    A coroutine function is measured until it returns, a generator from its first value to its
    end. Raises TypeError for what cannot be measured so, when it is decorated.
    """
    import inspect  # late: only programs that decorate need it

    if isinstance(function, (staticmethod, classmethod)) or not callable(function):
        raise TypeError(f"staged() goes below @{type(function).__name__}, on the function itself")
    if inspect.isasyncgenfunction(function):
        raise TypeError(
            f"staged() cannot measure the async generator {function!r}: "
            "use `with client.stage(…)` inside it"
        )
    # An object may have its coroutine function in the class.
    is_async = any(map(inspect.iscoroutinefunction, (function, type(function).__call__)))
    wrapper: Callable[..., Any]
    if is_async:

        @wraps(function)
        async def wrapper(*args: _P.args, **kwargs: _P.kwargs) -> Any:
            with make():
                return await cast("Awaitable[Any]", function(*args, **kwargs))

    elif inspect.isgeneratorfunction(function):

        @wraps(function)
        def wrapper(*args: _P.args, **kwargs: _P.kwargs) -> Generator[Any, Any, Any]:
            with make():
                return (yield from function(*args, **kwargs))

    else:

        @wraps(function)
        def wrapper(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            with make():
                return function(*args, **kwargs)

    return cast("Callable[_P, _R]", wrapper)
