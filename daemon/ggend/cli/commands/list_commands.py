"""List commands: the commands of `ggend query` that list or summarise the rows of a table.

A command has an option for each filter of its list in `list_definitions`; nothing is said twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from ggend.cli.common.chosen import chosen_database
from ggend.cli.common.command import Command, command
from ggend.cli.common.filters import (
    FILTERS,
    Decorator,
    choice_option,
    filters_of,
    wide_option,
)
from ggend.cli.common.options import (
    columns_option,
    database_option,
    format_option,
    limit_option,
    local_option,
)
from ggend.cli.render.output import Format, show
from ggend.queries.list_definitions import LISTINGS
from ggend.queries.list_query import Filters, read_listing
from ggend.queries.run import NAMED, open_readonly, run

__all__ = ["LIST_COMMANDS"]

#: Rows that are shown at most, where --limit does not say it: of lists and of summaries.
_LIMITS = (20, 100)

_HELP = {
    "executions": """List executions, the newest stored first.

    --text searches the id, the error message and the receipt's JSON.

    Examples:

        ggend query executions --status failed --since 24h
        ggend query executions --agent agent-1 --limit 50 --format csv
    """,
    "agents": """Show a summary of each agent, busiest first.

    Examples:

        ggend query agents --since 7d
        ggend query agents --format csv > agents.csv
    """,
    "stages": """Show the duration of each pipeline stage, slowest first.

    Example:

        ggend query stages --agent agent-1 --since 24h
    """,
    "sessions": """List the sessions of the swarm, newest first.

    --since and --until compare the start of a session. --text searches the id and the context.

    Example:

        ggend query sessions --status running --format json
    """,
    "collisions": """List collisions between agents, the newest stored first.

    --agent matches either of the two agents. --text searches the description and the resolution.

    Example:

        ggend query collisions --type file_conflict --severity warning
    """,
    "violations": """List violations of objectives, the newest stored first.

    --text searches the metric and the description.

    Example:

        ggend query violations --severity critical --since 7d
    """,
    "audit": """List audit entries of agents, the newest stored first.

    --text searches the operation, the error message and the context.

    Example:

        ggend query audit --agent agent-1 --status failed --text timeout
    """,
}


def _command(name: str) -> Command:
    """Return a command, with an option for each filter of its list."""
    is_summary = LISTINGS[name].summary is not None

    def listed(
        *,
        database: Path | None,
        form: Format,
        limit: int,
        columns: str | None,
        local: bool,
        wide: bool = False,
        **options: Any,
    ) -> None:
        filters = filters_of(**options)
        with closing(open_readonly(chosen_database(database))) as connection:
            if is_summary and filters == Filters():
                # The public view: its rows may be precomputed.
                result = run(connection, NAMED[name], limit)
            else:
                result = read_listing(
                    connection, name, filters, limit=limit, wide=wide or bool(columns)
                )
        kept = None if wide else LISTINGS[name].kept
        show(result, form=form, kept=kept, columns=columns, local=local)

    listed.__doc__ = _HELP[name]
    function: Callable[..., None] = listed
    for option in reversed(list(_options(name))):
        function = option(function)
    return command(name)(function)


def _options(name: str) -> Iterator[Decorator]:
    listing = LISTINGS[name]
    is_summary = listing.summary is not None
    wanted = {*listing.conditions, "since", "until"}
    if not is_summary:
        wanted |= {"text", "before"}
    yield from (choice_option(filter_name, words) for filter_name, words in listing.choices.items())
    yield from (option for filter_name, option in FILTERS.items() if filter_name in wanted)
    yield columns_option
    yield local_option
    if not is_summary:
        yield wide_option
    yield database_option
    yield format_option
    yield limit_option(_LIMITS[is_summary])


#: The commands by their names, in the order of help.
LIST_COMMANDS = {name: _command(name) for name in _HELP}
