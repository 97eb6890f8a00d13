"""Command lines: random ones, of the real commands, with values that fit and values that do not.

A line follows from its seed alone. Paths begin with `PLACE`, which stands for the directory of the
run: nothing else on the host is named. `--follow` is left out, because it never ends.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

import click

from ggend.cli.app import app
from ggend.cli.common.choice import OneOf
from ggend.cli.common.command import leaves
from ggend.config import Config
from torture.odd_values import (
    EVENTS,
    FILES,
    FITTING,
    MOMENTS,
    NUMBERS,
    ODD_SECONDS,
    ODD_TEXTS,
    PLACE,
    SETTINGS,
    SQL,
    WORDS,
)

__all__ = ["USUAL", "CommandLine", "command_line", "command_names"]

#: What standard input and standard output can be.
_INPUTS = ("empty", "empty", "closed", "garbage", "events", "refusal", "consent")
_OUTPUTS = ("pipe", "closed", "full", "terminal")
_USUAL_OUTPUTS = ("pipe", "pipe", "terminal")

#: Which share of the values of a line is wrong. Most are right in most lines: one that is wrong
#: in each way ends at the first.
_ODDITIES = (0.02, 0.05, 0.1, 0.4)

#: Options whose value is a moment or an age, and commands whose argument is something special.
_MOMENTS = frozenset({"since", "until", "older_than"})

#: Commands that read to the end of what they are given, as `cat` does: a FIFO that nobody writes,
#: and a device, have none.
_READS = frozenset({"import events", "import ggen-log", "import receipts"})

_COMMANDS = {
    name.removeprefix("ggend").strip(): command
    for name, command in leaves(app, "ggend")
    if not isinstance(command, click.Group) or name == "ggend"
}
#: The variables of every command line, unless it has other values for them.
USUAL = {"HOME": f"{PLACE}/home", "XDG_RUNTIME_DIR": f"{PLACE}/run", "GGEND_PAGER": "cat"}

_OPTIONS = sorted(
    {
        option
        for command in _COMMANDS.values()
        for parameter in command.params
        for option in parameter.opts
        if option.startswith("-") and option != "--follow"
    }
)


class CommandLine(NamedTuple):
    """What is run, and with what around it."""

    arguments: tuple[str, ...]
    environ: dict[str, str]
    stdin: str = "empty"
    stdout: str = "pipe"
    has_daemon: bool = False
    #: Whether the user is in no list of users, as in a container.
    is_nobody: bool = False

    @property
    def command(self) -> str:
        """The words that name its command."""
        named = (" ".join(self.arguments[:count]) for count in (2, 1))
        return next((name for name in named if name in _COMMANDS), "")

    @property
    def asks_for_help(self) -> bool:
        """Whether it is a command and `-h`, which works everywhere."""
        return self.arguments == (*self.command.split(), "-h")


def command_names() -> list[str]:
    """Return the names of the commands without the first word; the first is that of `ggend`."""
    return list(_COMMANDS)


def command_line(seed: str) -> CommandLine:
    """Return the command line that follows from a seed."""
    rng = random.Random(seed)
    name = rng.choice(list(_COMMANDS))
    oddity = rng.choice(_ODDITIES)
    if rng.random() < 0.08:
        arguments = ["-h"]
    else:
        arguments = _arguments(rng, name, oddity)
        if rng.random() < oddity:
            _spoil(rng, arguments)
    if name in _READS:
        arguments = [word for word in arguments if word not in {"fifo", "full"}]
    environ, is_nobody = _environ(rng, oddity)
    return CommandLine(
        arguments=(*name.split(), *arguments),
        environ=environ,
        stdin=rng.choice(_INPUTS),
        stdout=rng.choice(_OUTPUTS) if rng.random() < 2 * oddity else rng.choice(_USUAL_OUTPUTS),
        has_daemon=rng.random() < 0.2,
        is_nobody=is_nobody,
    )


def _arguments(rng: random.Random, name: str, oddity: float) -> list[str]:
    options: list[list[str]] = []
    positional: list[str] = []
    for parameter in _COMMANDS[name].params:
        fitting = FILES.get(f"{name} {parameter.name}") or FILES.get(parameter.name or "")
        if isinstance(parameter, click.Argument):
            positional += _positional(rng, parameter, oddity, fitting)
            continue
        assert isinstance(parameter, click.Option)
        is_wanted = parameter.name in {"database", "socket", "directory"} or parameter.required
        if "--follow" in parameter.opts or rng.random() > (0.7 if is_wanted else 0.25):
            continue
        for _ in range(2 if rng.random() < 0.05 else 1):
            option = rng.choice([*parameter.opts, *parameter.secondary_opts])
            if parameter.is_flag:
                options.append([option])
            elif option.startswith("--") and rng.random() < 0.3:
                options.append([f"{option}={_value(rng, parameter, oddity, fitting)}"])
            else:
                options.append([option, _value(rng, parameter, oddity, fitting)])
    rng.shuffle(options)
    words = [word for option in options for word in option]
    return words + positional if rng.random() < 0.5 else positional + words


def _positional(
    rng: random.Random, argument: click.Argument, oddity: float, files: Sequence[str] | None
) -> list[str]:
    if argument.name in {"kind", "fields"}:
        event = rng.choice(EVENTS)
        return list(event[:1] if argument.name == "kind" else event[1:]) if event else []
    if argument.nargs == -1:
        return [_value(rng, argument, oddity, files) for _ in range(rng.choice([0, 1, 1, 2, 3]))]
    is_given = rng.random() < (0.97 if argument.required else 0.8)
    return [_value(rng, argument, oddity, files)] if is_given else []


def _value(
    rng: random.Random, parameter: click.Parameter, oddity: float, files: Sequence[str] | None
) -> str:
    is_odd = rng.random() < oddity
    if is_odd and rng.random() < 0.5:
        return rng.choice([*ODD_TEXTS, *NUMBERS, *WORDS])
    match parameter.type:
        case click.Path():
            return rng.choice(FILES["odd"] if is_odd else files or FILES["path"])
        case OneOf():
            words = parameter.type.shell_complete(click.Context(app), parameter, "")
            return str(rng.choice(words).value)
        case click.FloatRange():
            return rng.choice((*ODD_SECONDS, *NUMBERS) if is_odd else NUMBERS[:5])
        case click.IntRange() | click.types.IntParamType():
            return rng.choice(NUMBERS if is_odd else NUMBERS[:5])
    if parameter.name in _MOMENTS:
        return rng.choice(MOMENTS if is_odd else MOMENTS[:11])
    if parameter.name in FITTING and not is_odd:
        return rng.choice(FITTING[parameter.name])
    if parameter.name == "statement":
        return rng.choice(SQL)
    return rng.choice(WORDS)


def _spoil(rng: random.Random, arguments: list[str]) -> None:
    """Change something: a word is lost, cut, said twice or put in."""
    for _ in range(rng.choice([1, 1, 2])):
        at = rng.randrange(len(arguments)) if arguments else 0
        match rng.randrange(5):
            case 0 if arguments:
                del arguments[at]
            case 1 if arguments:
                arguments[at] = arguments[at][: rng.randrange(len(arguments[at]) + 1)]
            case 2 if arguments:
                arguments.insert(at, arguments[at])
            case 3:
                arguments.insert(at, rng.choice(_OPTIONS))
            case _:
                arguments.insert(at, rng.choice(["--", "-", *ODD_TEXTS, *WORDS]))


def _environ(rng: random.Random, oddity: float) -> tuple[dict[str, str], bool]:
    """Return the variables, and whether the user has no home that anybody knows of."""
    environ = dict(USUAL)
    if rng.random() < 0.06:
        environ |= {"LANG": rng.choice(["C", "C.UTF-8", "xx_YY.odd", "POSIX"])}
        # A new interpreter: it finds the host's places unless it is told others.
        environ |= {"GGEND_SOCKET": f"{PLACE}/d/g.sock", "GGEND_DATABASE": f"{PLACE}/good.db"}
        return environ, False
    is_nobody = rng.random() < 0.08
    if is_nobody:
        del environ["HOME"]
    elif rng.random() < oddity:
        environ["HOME"] = rng.choice(
            [f"{PLACE}/missing/home", f"{PLACE}/text.txt", f"{PLACE}/fifo", f"{PLACE}/closed"]
        )
    for name, values, share in SETTINGS:
        if rng.random() < share * min(1, 5 * oddity):
            environ[name] = rng.choice(values)
    if rng.random() < oddity / 2:
        name = f"GGEND_{rng.choice(Config.__struct_fields__).upper()}"
        environ[name] = rng.choice(_odd_settings())
    return environ, is_nobody


def _odd_settings() -> Sequence[str]:
    return [text for text in (*ODD_TEXTS, *NUMBERS, *WORDS, *FILES["odd"]) if "\0" not in text]
