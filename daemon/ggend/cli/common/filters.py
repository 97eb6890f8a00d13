"""Filters: the options that select rows, and their conversion to `list_query.Filters`.

`list_definitions` decides which values a filter takes.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, TypeAlias

import typer

from ggend.queries.list_query import Filters
from ggend.queries.time_filters import parse_moment

__all__ = [
    "Agent",
    "Before",
    "Environment",
    "ExecutionId",
    "Operation",
    "Session",
    "Severity",
    "Since",
    "Stage",
    "Status",
    "Substring",
    "Type",
    "Until",
    "Wide",
    "filters_of",
]

Agent: TypeAlias = Annotated[str | None, typer.Option("--agent", help="Only rows of this agent.")]
Status: TypeAlias = Annotated[
    str | None, typer.Option("--status", help="Only rows with this status.")
]
Operation: TypeAlias = Annotated[
    str | None, typer.Option("--operation", help="Only rows of this operation.")
]
Environment: TypeAlias = Annotated[
    str | None, typer.Option("--environment", help="Only rows of this environment.")
]
Session: TypeAlias = Annotated[
    str | None, typer.Option("--session", metavar="ID", help="Only rows of this session.")
]
ExecutionId: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--execution",
        metavar="ID",
        help="Only rows of this execution. A prefix of its id is enough.",
    ),
]
Stage: TypeAlias = Annotated[
    str | None, typer.Option("--stage", help="Only this stage, such as `emit` or μ₃_emit.")
]
Severity: TypeAlias = Annotated[
    str | None, typer.Option("--severity", help="Only rows of this severity.")
]
Type: TypeAlias = Annotated[str | None, typer.Option("--type", help="Only rows of this type.")]
Substring: TypeAlias = Annotated[
    str | None,
    typer.Option("--text", help="Case-insensitive text search."),
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
