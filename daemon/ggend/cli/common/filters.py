"""Filters: the options that select rows, and their conversion to `list_query.Filters`.

Which filters a list has, and which values they take, is decided in `list_definitions`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, TypeAlias

import typer

from ggend.queries.list_query import Filters
from ggend.queries.time_filters import parse_moment

__all__ = ["FILTERS", "Before", "Since", "Substring", "Until", "Wide", "filters_of"]


def _text(option: str, help_text: str, metavar: str | None = None) -> Any:
    return Annotated[str | None, typer.Option(option, metavar=metavar, help=help_text)]


Substring: TypeAlias = Annotated[
    str | None, typer.Option("--text", help="Case-insensitive text search.")
]
Since: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--since",
        metavar="MOMENT",
        help="Start time: an age (90m, 24h, 7d, 2w), a date, or a timestamp (UTC).",
    ),
]
Until: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--until", metavar="MOMENT", help="End time (exclusive), in the format of --since."
    ),
]
Before: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--before", metavar="ID", min=0, help="Only rows with a smaller id: the next page."
    ),
]
Wide: TypeAlias = Annotated[bool, typer.Option("--wide", help="Show every column, including JSON.")]

#: The options of the fields of Filters, in the order in which help shows them.
FILTERS: dict[str, Any] = {
    "agent": _text("--agent", "Only rows of this agent."),
    "stage": _text("--stage", "Only this stage, such as `emit` or μ₃_emit."),
    "status": _text("--status", "Only rows with this status."),
    "severity": _text("--severity", "Only rows of this severity."),
    "type": _text("--type", "Only rows of this type."),
    "operation": _text("--operation", "Only rows of this operation."),
    "environment": _text("--environment", "Only rows of this environment."),
    "execution": _text(
        "--execution", "Only rows of this execution. A prefix of its id is enough.", "ID"
    ),
    "session": _text("--session", "Only rows of this session.", "ID"),
    "since": Since,
    "until": Until,
    "text": Substring,
    "before": Before,
}


def filters_of(
    *,
    since: str | None = None,
    until: str | None = None,
    execution: str | None = None,
    **others: Any,
) -> Filters:
    """Convert option values to filters. Raises UsageMistake."""
    now = datetime.now(UTC)
    return Filters(
        since=None if since is None else parse_moment(since, now=now),
        until=None if until is None else parse_moment(until, now=now),
        execution=None if execution is None else execution.removesuffix("…"),
        **others,
    )
