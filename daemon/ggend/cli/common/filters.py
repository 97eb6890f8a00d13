"""Filters: the options that select rows, and their conversion to `list_query.Filters`.

Which filters a list has, and which values they take, is decided in `list_definitions`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, TypeAlias

import click

from ggend.cli.common.completion import Completer, complete_choices, complete_ids
from ggend.queries.list_query import Filters
from ggend.queries.time_filters import parse_period

__all__ = [
    "FILTERS",
    "Decorator",
    "agent_option",
    "before_option",
    "choice_option",
    "filters_of",
    "since_option",
    "text_option",
    "until_option",
    "wide_option",
]

Decorator: TypeAlias = Callable[[Callable[..., None]], Callable[..., None]]


def _text(
    option: str,
    help_text: str,
    metavar: str | None = None,
    complete: Completer | None = None,
) -> Decorator:
    return click.option(option, metavar=metavar, help=help_text, shell_complete=complete)


text_option = _text("--text", "Case-insensitive text search.")
since_option = _text(
    "--since",
    "Start time: an age (90m, 24h, 7d, 2w), a date, or a timestamp (UTC).",
    metavar="MOMENT",
)
until_option = _text("--until", "End time (exclusive), in the format of --since.", metavar="MOMENT")
before_option = click.option(
    "--before",
    type=click.IntRange(min=0),
    metavar="ID",
    help="Only rows with a smaller id: the next page.",
)
wide_option = click.option("--wide", is_flag=True, help="Show every column, including JSON.")

agent_option = _text(
    "--agent",
    "Only rows of this agent. A unique beginning is enough.",
    complete=complete_ids("agent"),
)

#: The options of the fields of Filters that take any text.
FILTERS: dict[str, Decorator] = {
    "agent": agent_option,
    "environment": _text("--environment", "Only rows of this environment."),
    "execution": _text(
        "--execution",
        "Only rows of executions whose id begins so.",
        "ID",
        complete_ids("execution"),
    ),
    "session": _text(
        "--session",
        "Only rows of this session. A unique beginning is enough.",
        "ID",
        complete_ids("session"),
    ),
    "since": since_option,
    "until": until_option,
    "text": text_option,
    "before": before_option,
}


def choice_option(name: str, words: Iterable[str]) -> Decorator:
    """Return the option of a filter that takes some words only, which its help names."""
    # Stages have spellings with letters that keyboards lack.
    named = ", ".join(word for word in words if word.isascii())
    return _text(f"--{name}", f"Only this {name}: {named}.", complete=complete_choices)


def filters_of(
    *,
    since: str | None = None,
    until: str | None = None,
    execution: str | None = None,
    **others: Any,
) -> Filters:
    """Convert option values to filters. Raises UsageMistake."""
    begin, end = parse_period(since, until, now=datetime.now(UTC))
    return Filters(
        since=begin,
        until=end,
        execution=None if execution is None else execution.strip(),
        **others,
    )
