"""Usage: what is wrong with a command line, as a message and a hint like those of other errors."""

from __future__ import annotations

import re

import click

__all__ = ["usage_problem"]

#: What click says of numbers, and the plain words for it.
_WORDS = (
    (re.compile(r"is not in the range x>=(\S+?)\.?$"), r"is less than \1"),
    (re.compile(r"a valid integer( range)?"), "a whole number"),
    (re.compile(r"a valid float( range)?"), "a number"),
)


def usage_problem(error: click.UsageError) -> tuple[str, str]:
    """Return the message and the hint."""
    path = error.ctx.command_path if error.ctx else "ggend"
    hint = f"`{path} --help` shows the options"
    match error:
        case click.NoSuchOption():
            message = f"{path} has no option {error.option_name}"
            hint = _meant(_possible(error)) + hint
        case click.NoSuchCommand():
            message = f"{path} has no command `{error.command_name}`"
            hint = _meant(error.possibilities) + f"`{path} --help` lists the commands"
        case click.MissingParameter():
            message = f"{path} needs {_named(error)}"
        case click.BadParameter():
            message = f"{_named(error)}: {_plain(error.message)}"
        case _:
            message = _plain(error.format_message())
    return message, hint


def _possible(error: click.NoSuchOption) -> list[str]:
    """Return the options that may be meant; some commands have --json for what others do so."""
    params = error.ctx.command.params if error.ctx else []
    if error.option_name == "--json" and any(param.name == "form" for param in params):
        return ["--format json"]
    return list(error.possibilities or [])


def _meant(possibilities: list[str] | None) -> str:
    return f"did you mean `{possibilities[0]}`? " if possibilities else ""


def _named(error: click.BadParameter) -> str:
    """Return the name of the parameter as it is typed."""
    if error.param is None or error.ctx is None:
        return str(error.param_hint or "a value")
    if isinstance(error.param, click.Argument):
        return error.param.make_metavar(error.ctx).strip("[].")
    return max(error.param.opts, key=len)


def _plain(message: str) -> str:
    """Return click's sentence as the part of one, in plain words."""
    for found, words in _WORDS:
        message = found.sub(words, message)
    return message[:1].lower() + message[1:].rstrip(".")
