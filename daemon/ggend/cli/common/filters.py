"""Filters: the options by which the commands choose rows, and how they become `list_query.Filters`.

Which values a filter takes is decided in `list_definitions`, not here.
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

Agent: TypeAlias = Annotated[str | None, typer.Option("--agent", help="Only of this agent.")]
Status: TypeAlias = Annotated[str | None, typer.Option("--status", help="Only with this status.")]
Operation: TypeAlias = Annotated[
    str | None, typer.Option("--operation", help="Only of this operation.")
]
Environment: TypeAlias = Annotated[
    str | None, typer.Option("--environment", help="Only in this environment.")
]
Session: TypeAlias = Annotated[
    str | None, typer.Option("--session", metavar="ID", help="Only of this session.")
]
ExecutionId: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--execution",
        metavar="ID",
        help="Only of this execution; the beginning of its id is enough.",
    ),
]
Stage: TypeAlias = Annotated[
    str | None, typer.Option("--stage", help="Only this stage: `emit` or μ₃_emit.")
]
Severity: TypeAlias = Annotated[
    str | None, typer.Option("--severity", help="Only of this severity.")
]
Type: TypeAlias = Annotated[str | None, typer.Option("--type", help="Only of this type.")]
Substring: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--text", help="Only with this text somewhere; upper and lower case are the same."
    ),
]
Since: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--since",
        metavar="MOMENT",
        help="From then on: an age (90m, 24h, 7d, 2w), a date, or a timestamp (UTC).",
    ),
]
Until: TypeAlias = Annotated[
    str | None,
    typer.Option("--until", metavar="MOMENT", help="Before then; written like --since."),
]
Before: TypeAlias = Annotated[
    int | None,
    typer.Option("--before", metavar="ID", min=0, help="The next page: rows with a smaller id."),
]
Wide: TypeAlias = Annotated[
    bool, typer.Option("--wide", help="Every column of the table, JSON included.")
]


def filters_of(
    *,
    since: str | None = None,
    until: str | None = None,
    execution: str | None = None,
    **others: Any,
) -> Filters:
    """Return what was typed as filters. Raises UsageMistake."""
    now = datetime.now(UTC)
    return Filters(
        since=None if since is None else parse_moment(since, now=now),
        until=None if until is None else parse_moment(until, now=now),
        execution=None if execution is None else execution.removesuffix("…"),
        **others,
    )
