"""`ggend stats`: sizes and counts of a database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from ggend.cli.common.chosen import chosen_database
from ggend.cli.common.command import command
from ggend.cli.common.options import database_option, format_option
from ggend.cli.render.output import Format, show, show_json, show_text
from ggend.cli.render.record import Section, record_text
from ggend.cli.render.sizes import counted, size_text
from ggend.queries.result import Result
from ggend.queries.snapshot import snapshot
from ggend.queries.stats import Stats, stats_of

__all__ = ["stats"]


@command()
@database_option
@format_option
def stats(*, database: Path | None, form: Format) -> None:
    """Show the size and contents of a database: rows, running sessions, parked and rejected events.

    The counts are exact. A database of a million receipts takes about a second. The accounts are
    the totals of `ggend accounts`.

    Examples:

        ggend stats
        ggend stats --database other.db --format json
    """
    path = chosen_database(database)
    with snapshot(path) as connection:
        found = stats_of(connection, path)
    if form is Format.JSON:
        show_json(found)
    elif form is Format.TABLE:
        show_text(record_text(_sections(found)))
    else:
        show(Result(columns=["name", "value"], rows=list(_values(found))), form=form)


def _sections(found: Stats) -> Iterator[Section]:
    version = str(found.schema_version) if found.schema_version else "1.0.0"
    yield (
        "",
        [
            ("database", found.database),
            ("size", f"{size_text(found.size_bytes)}, and a WAL of {size_text(found.wal_bytes)}"),
            ("schema version", version),
            *([("id", found.database_id)] if found.database_id else []),
        ],
    )
    first, newest = found.first_receipt, found.newest_receipt
    yield (
        "",
        [
            ("receipts", _listed(found.receipts_by_status)),
            *([("first and newest", f"{first} and {newest}")] if first else []),
            ("agents", f"{found.agents:,}"),
            ("sessions", f"{found.sessions_running:,} running"),
            ("violations", _listed(found.violations_by_severity)),
        ],
    )
    if found.accounts is not None:
        counts = dict(found.accounts)
        numbers = counts.pop("accounts")
        yield (
            "",
            [
                ("accounts", f"{numbers:,}: {_listed(counts)}"),
                ("parked", f"{counted(found.parked or 0, 'event')} without their parent"),
                ("rejected", f"{counted(found.rejected or 0, 'event')} in quarantine"),
            ],
        )
    yield "", [("rows", ""), *((table, f"{count:>13,}") for table, count in found.rows.items())]


def _values(found: Stats) -> Iterator[tuple[object, ...]]:
    """Return each value under a name such as `rows.receipts`."""
    for name, value in msgspec.to_builtins(found).items():
        if isinstance(value, dict):
            yield from ((f"{name}.{key}", part) for key, part in value.items())
        else:
            yield name, value


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items()) or "none"
