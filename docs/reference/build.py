"""Build the reference pages from the code, or check that they are current.

    python docs/reference/build.py            writes commands.md and client.md
    python docs/reference/build.py --check    exits 1 when one of them is out of date

commands.md comes from the options and docstrings of the commands, client.md from the signatures and
docstrings of the public names of `ggend_client`.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec

import ggend_client
from ggend.cli.app import app
from ggend.cli.common.choice import OneOf
from ggend.cli.common.command import leaves
from ggend_client import log_handler, testing

__all__ = ["generated"]

_HERE = Path(__file__).parent

_COMMANDS_HEAD = """\
# Commands

Generated from the code by `python docs/reference/build.py`; do not edit.
`ggend COMMAND --help` shows the same.
"""
_CLIENT_HEAD = """\
# The Python client

Generated from the code by `python docs/reference/build.py`; do not edit.
[CLIENT.md](../CLIENT.md) explains how to use it.
"""


def _commands() -> Iterator[str]:
    yield _COMMANDS_HEAD
    for name, command in leaves(app, "ggend"):
        yield f"## {name}\n"
        yield inspect.cleandoc(command.help or "").rstrip() + "\n"
        rows = [row for parameter in command.params for row in _option(parameter)]
        if rows:
            yield "| option | meaning | default |\n|---|---|---|\n" + "\n".join(rows) + "\n"


def _option(parameter: Any) -> Iterator[str]:
    if getattr(parameter, "hidden", False):
        return
    names = " ".join(f"`{name}`" for name in [*parameter.opts, *parameter.secondary_opts])
    if parameter.param_type_name == "argument":
        names = f"`{parameter.metavar or parameter.name.upper()}`"
    meaning = _cell(getattr(parameter, "help", None))
    if isinstance(parameter.type, OneOf):
        meaning += f" One of {', '.join(parameter.type.values)}."
    yield f"| {names} | {meaning} | {_default(parameter)} |"


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    default = parameter.default
    if isinstance(default, Enum):
        default = default.value
    is_shown = isinstance(default, int | float | str) and not isinstance(default, bool)
    return f"`{default}`" if is_shown else ""


def _cell(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


#: What a reader comes for; the other names follow by alphabet.
_FIRST = ("Client", "AsyncClient", "ask")


def _client() -> Iterator[str]:
    yield _CLIENT_HEAD
    for name in [*_FIRST, *(name for name in ggend_client.__all__ if name not in _FIRST)]:
        yield from _public(f"ggend_client.{name}", getattr(ggend_client, name))
    for module in (log_handler, testing):
        for name in module.__all__:
            yield from _public(f"{module.__name__}.{name}", getattr(module, name))


def _public(name: str, found: Any) -> Iterator[str]:
    yield f"## {name}\n"
    if inspect.isclass(found) and issubclass(found, msgspec.Struct):
        yield f"```python\n{_fields(name, found)}\n```\n"
    elif (inspect.isclass(found) and not issubclass(found, Exception)) or inspect.isfunction(found):
        yield f"```python\n{_signature(name, found)}\n```\n"
    elif inspect.isclass(found):
        yield f"An exception, a kind of {found.__bases__[0].__name__}.\n"
    else:
        yield "The union of all event types.\n"
        return
    yield _text(found)
    if inspect.isclass(found) and not issubclass(found, msgspec.Struct | Exception):
        yield from _methods(found)


def _methods(owner: type) -> Iterator[str]:
    for name, method in inspect.getmembers(owner):
        function = method.fget if isinstance(method, property) else method
        module = getattr(function, "__module__", None) or ""
        if name.startswith("_") or not module.startswith("ggend_client"):
            continue
        if isinstance(method, property):
            yield f"### {owner.__name__}.{name}\n\n{_text(method)}"
        elif inspect.isfunction(method):
            call = _signature(name, method, leave_out="self")
            yield f"### {owner.__name__}.{name}\n\n```python\n{call}\n```\n\n{_text(method)}"


def _fields(name: str, struct: type[msgspec.Struct]) -> str:
    of = inspect.signature(struct).parameters
    lines = [
        f"    {_parameter(of[field])},{_bounds(of[field].annotation)}"
        for field in struct.__struct_fields__
    ]
    return "\n".join([f"{name.rpartition('.')[2]}(", *lines, ")"])


def _signature(name: str, function: Callable[..., Any], leave_out: str = "") -> str:
    signature = inspect.signature(function)
    parts: list[str] = []
    is_starred = False
    for parameter in signature.parameters.values():
        if parameter.name == leave_out:
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not is_starred:
            is_starred = True
            parts.append("*")
        parts.append(_parameter(parameter))
    returned = signature.return_annotation
    arrow = "" if returned in (signature.empty, "None") else f" -> {_annotation(returned)}"
    short = f"{name.rpartition('.')[2]}({', '.join(parts)}){arrow}"
    if len(short) <= 100:
        return short
    lines = "\n".join(f"    {part}," for part in parts)
    return f"{name.rpartition('.')[2]}(\n{lines}\n){arrow}"


def _parameter(parameter: inspect.Parameter) -> str:
    text = parameter.name
    if parameter.annotation is not parameter.empty:
        text += f": {_annotation(parameter.annotation)}"
    if parameter.default is not parameter.empty:
        text += f" = {parameter.default!r}"
    return text


def _annotation(annotation: Any) -> str:
    if isinstance(annotation, str):
        return annotation
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _annotation(arguments[0])
    if origin is Literal:
        return f"Literal[{', '.join(map(repr, arguments))}]"
    if origin in (Union, UnionType):
        return " | ".join(map(_annotation, arguments))
    if origin is not None:
        return f"{origin.__name__}[{', '.join(map(_annotation, arguments))}]"
    return "None" if annotation is NoneType else str(annotation.__name__)


def _bounds(annotation: Any) -> str:
    """Return what msgspec demands of a value, as a comment."""
    if get_origin(annotation) is Annotated:
        meta = annotation.__metadata__[0]
        kinds = ((meta.min_length, meta.max_length, " characters"), (meta.ge, meta.le, ""))
        for low, high, unit in kinds:
            if high is not None:
                return f"  # {low or 0:,} to {high:,}{unit}"
        return "" if meta.ge is None else f"  # at least {meta.ge}"
    inner = [_bounds(argument) for argument in get_args(annotation)]
    return next(filter(None, inner), "") if get_origin(annotation) in (Union, UnionType) else ""


def _text(found: Any) -> str:
    return f"{inspect.cleandoc(inspect.getdoc(found) or '')}\n"


def generated() -> dict[Path, str]:
    """Return the generated files and what should be in them."""
    return {
        _HERE / "commands.md": "\n".join(_commands()),
        _HERE / "client.md": "\n".join(_client()),
    }


def _main() -> int:
    stale = [
        (path, text)
        for path, text in generated().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    for path, text in stale:
        if "--check" in sys.argv[1:]:
            sys.stderr.write(f"{path} is out of date: run python docs/reference/build.py\n")
        else:
            path.write_text(text, encoding="utf-8")
    return int(bool(stale) and "--check" in sys.argv[1:])


if __name__ == "__main__":
    sys.exit(_main())
