"""List commands: the commands of `ggend query` that list or summarise the rows of a table."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

from ggend.cli.common import filters as by
from ggend.cli.common.options import DatabaseOption, FormatOption, LimitOption, chosen_database
from ggend.cli.render.output import Format, show
from ggend.queries.list_query import Filters, read_listing
from ggend.queries.run import NAMED, open_readonly, run

__all__ = ["agents", "audit", "collisions", "executions", "sessions", "stages", "violations"]


def executions(
    *,
    agent: by.Agent = None,
    status: by.Status = None,
    operation: by.Operation = None,
    environment: by.Environment = None,
    session: by.Session = None,
    since: by.Since = None,
    until: by.Until = None,
    text: by.Substring = None,
    before: by.Before = None,
    wide: by.Wide = False,
    database: DatabaseOption = None,
    form: FormatOption = Format.TABLE,
    limit: LimitOption = 20,
) -> None:
    """List executions, newest first.

    --text searches the id, the error message and the receipt's JSON.

    Examples:

        ggend query executions --status failed --since 24h
        ggend query executions --agent agent-1 --limit 50 --format csv
    """
    _list(
        "executions",
        database,
        form,
        limit,
        wide=wide,
        agent=agent,
        status=status,
        operation=operation,
        environment=environment,
        session=session,
        since=since,
        until=until,
        text=text,
        before=before,
    )


def agents(
    *,
    agent: by.Agent = None,
    operation: by.Operation = None,
    environment: by.Environment = None,
    session: by.Session = None,
    since: by.Since = None,
    until: by.Until = None,
    database: DatabaseOption = None,
    form: FormatOption = Format.TABLE,
    limit: LimitOption = 100,
) -> None:
    """Show a summary of each agent, busiest first.

    Examples:

        ggend query agents --since 7d
        ggend query agents --format csv > agents.csv
    """
    _summarise(
        "agents",
        database,
        form,
        limit,
        agent=agent,
        operation=operation,
        environment=environment,
        session=session,
        since=since,
        until=until,
    )


def stages(
    *,
    agent: by.Agent = None,
    stage: by.Stage = None,
    status: by.Status = None,
    session: by.Session = None,
    since: by.Since = None,
    until: by.Until = None,
    database: DatabaseOption = None,
    form: FormatOption = Format.TABLE,
    limit: LimitOption = 100,
) -> None:
    """Show the duration of each pipeline stage, slowest first.

    Example:

        ggend query stages --agent agent-1 --since 24h
    """
    _summarise(
        "stages",
        database,
        form,
        limit,
        agent=agent,
        stage=stage,
        status=status,
        session=session,
        since=since,
        until=until,
    )


def sessions(
    *,
    session: by.Session = None,
    status: by.Status = None,
    since: by.Since = None,
    until: by.Until = None,
    text: by.Substring = None,
    before: by.Before = None,
    wide: by.Wide = False,
    database: DatabaseOption = None,
    form: FormatOption = Format.TABLE,
    limit: LimitOption = 20,
) -> None:
    """List the sessions of the swarm, newest first.

    --since and --until compare the start of a session. --text searches the id and the context.

    Example:

        ggend query sessions --status running --format json
    """
    _list(
        "sessions",
        database,
        form,
        limit,
        wide=wide,
        session=session,
        status=status,
        since=since,
        until=until,
        text=text,
        before=before,
    )


def collisions(
    *,
    agent: by.Agent = None,
    severity: by.Severity = None,
    kind: by.Type = None,
    session: by.Session = None,
    since: by.Since = None,
    until: by.Until = None,
    text: by.Substring = None,
    before: by.Before = None,
    wide: by.Wide = False,
    database: DatabaseOption = None,
    form: FormatOption = Format.TABLE,
    limit: LimitOption = 20,
) -> None:
    """List collisions between agents, newest first.

    --agent matches either of the two agents. --text searches the description and the resolution.

    Example:

        ggend query collisions --type file_conflict --severity warning
    """
    _list(
        "collisions",
        database,
        form,
        limit,
        wide=wide,
        agent=agent,
        severity=severity,
        type=kind,
        session=session,
        since=since,
        until=until,
        text=text,
        before=before,
    )


def violations(
    *,
    agent: by.Agent = None,
    severity: by.Severity = None,
    execution: by.ExecutionId = None,
    session: by.Session = None,
    since: by.Since = None,
    until: by.Until = None,
    text: by.Substring = None,
    before: by.Before = None,
    wide: by.Wide = False,
    database: DatabaseOption = None,
    form: FormatOption = Format.TABLE,
    limit: LimitOption = 20,
) -> None:
    """List violations of objectives, newest first.

    --text searches the metric and the description.

    Example:

        ggend query violations --severity critical --since 7d
    """
    _list(
        "violations",
        database,
        form,
        limit,
        wide=wide,
        agent=agent,
        severity=severity,
        execution=execution,
        session=session,
        since=since,
        until=until,
        text=text,
        before=before,
    )


def audit(
    *,
    agent: by.Agent = None,
    status: by.Status = None,
    operation: by.Operation = None,
    execution: by.ExecutionId = None,
    session: by.Session = None,
    since: by.Since = None,
    until: by.Until = None,
    text: by.Substring = None,
    before: by.Before = None,
    wide: by.Wide = False,
    database: DatabaseOption = None,
    form: FormatOption = Format.TABLE,
    limit: LimitOption = 20,
) -> None:
    """List audit entries of agents, newest first.

    --text searches the operation, the error message and the context.

    Example:

        ggend query audit --agent agent-1 --status failed --text timeout
    """
    _list(
        "audit",
        database,
        form,
        limit,
        wide=wide,
        agent=agent,
        status=status,
        operation=operation,
        execution=execution,
        session=session,
        since=since,
        until=until,
        text=text,
        before=before,
    )


def _list(
    name: str,
    database: Path | None,
    form: Format,
    limit: int,
    *,
    wide: bool,
    **chosen: Any,
) -> None:
    filters = by.filters_of(**chosen)
    with closing(open_readonly(chosen_database(database))) as connection:
        result = read_listing(connection, name, filters, limit=limit, wide=wide)
    show(result, form=form, fit=not wide)


def _summarise(name: str, database: Path | None, form: Format, limit: int, **chosen: Any) -> None:
    """Read the public view if there are no filters: its rows may be precomputed."""
    filters = by.filters_of(**chosen)
    with closing(open_readonly(chosen_database(database))) as connection:
        if filters == Filters():
            result = run(connection, NAMED[name], limit)
        else:
            result = read_listing(connection, name, filters, limit=limit)
    show(result, form=form, fit=True)
