"""Options: the options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from ggend.cli.common.choice import OneOf
from ggend.cli.common.completion import complete_columns, complete_ids, complete_words
from ggend.cli.render.output import Format
from ggend.errors import UsageMistake
from ggend_schema.limits import NAME_CHARS

__all__ = [
    "PATH",
    "agents_option",
    "batch_timeout_option",
    "columns_option",
    "config_option",
    "database_option",
    "format_option",
    "limit_option",
    "local_option",
    "path_argument",
    "section_option",
    "socket_option",
    "timeout_option",
]

F = TypeVar("F", bound=Callable[..., Any])

#: The type of a path. Whether it is there is for the command to say.
PATH = click.Path(path_type=Path)

#: Seconds that a timeout may have: a day. A longer one is a mistake in the unit.
_DAY_SECONDS = 86_400


class _Seconds(click.FloatRange):
    """The type of a timeout."""

    def __init__(self, *, least: float) -> None:
        super().__init__(min=least)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number. Raises click.BadParameter."""
        number = float(super().convert(value, param, ctx))
        if not number <= _DAY_SECONDS:  # or it is no number
            self.fail(f"{value} is not a number of seconds up to {_DAY_SECONDS}", param, ctx)
        return number


database_option = click.option(
    "--database",
    "-d",
    type=PATH,
    help="The SQLite file. Default: the configured, the user's or the system's database.",
)
config_option = click.option(
    "--config", "-c", type=PATH, help="The TOML file to read instead of the default one."
)
path_argument = click.argument(
    "path", type=PATH, required=False, metavar="[PATH]", help="The SQLite file, as --database."
)
socket_option = click.option(
    "--socket",
    "-s",
    type=PATH,
    help="The daemon's socket. Default: the configured, the user's or the system's socket.",
)
format_option = click.option(
    "--format",
    "-f",
    "form",
    type=OneOf(Format),
    default="table",
    help="Output format. NDJSON has one JSON object per line.",
)

columns_option = click.option(
    "--columns",
    multiple=True,
    callback=lambda _context, _option, given: ",".join(given) or None,
    metavar="A,B",
    help="Show only these columns, in this order.",
    shell_complete=complete_columns,
)
local_option = click.option(
    "--local", is_flag=True, help="Show times in the local time zone instead of UTC."
)


def section_option(*names: str) -> Callable[[F], F]:
    """Return the option that chooses one of the sections of a report."""
    return click.option(
        "--section",
        metavar="NAME",
        help=f"Only this table of the report: {', '.join(names)}.",
        shell_complete=complete_words(*names),
    )


def timeout_option(
    default: float, help_text: str = "Timeout in seconds.", *, least: float = 0.1
) -> Callable[[F], F]:
    """Return the option that limits how long a command waits."""
    return click.option(
        "--timeout",
        type=_Seconds(least=least),
        default=default,
        metavar="SECONDS",
        help=help_text,
    )


#: Of imports, which send many batches.
batch_timeout_option = timeout_option(30.0, "Timeout in seconds for each batch sent to the daemon.")


def agents_option(default: str, help_text: str) -> Callable[[F], F]:
    """Return the option that names the agent of imported receipts."""
    return click.option(
        "--agent",
        default=default,
        callback=_checked_agent,
        help=help_text,
        shell_complete=complete_ids("agent"),
    )


def limit_option(default: int) -> Callable[[F], F]:
    """Return the option that limits the number of rows."""
    return click.option(
        "--limit",
        "-n",
        type=click.IntRange(min=1),
        metavar="N",
        default=default,
        help="Maximum number of rows.",
    )


def _checked_agent(_context: click.Context, _option: click.Parameter, agent: str) -> str:
    """Return a valid agent name. Raises UsageMistake."""
    if not (agent.isprintable() and 1 <= len(agent) <= NAME_CHARS):
        raise UsageMistake(
            f"{agent!r} is not a valid agent name",
            hint=f"--agent takes 1 to {NAME_CHARS} printable characters",
        )
    return agent
