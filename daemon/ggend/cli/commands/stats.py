"""`ggend stats`: sizes and counts of a database."""

from __future__ import annotations

from pathlib import Path

import click

from ggend.cli.common.choice import OneOf
from ggend.cli.common.chosen import chosen_database
from ggend.cli.common.command import command
from ggend.cli.common.options import database_option
from ggend.cli.render.output import Format, show, show_json
from ggend.errors import UsageMistake
from ggend.queries.result import Result
from ggend.queries.snapshot import snapshot
from ggend.queries.stats import Stats, stats_of

__all__ = ["stats"]

_KIB = 1024


@command()
@database_option
@click.option(
    "--format",
    "-f",
    "form",
    type=OneOf(Format),
    default="table",
    help="Output format: table, json or markdown.",
)
def stats(*, database: Path | None, form: Format) -> None:
    """Show the size and contents of a database: rows, running sessions, parked and rejected events.

    The counts are exact. A database of a million receipts takes about a second.

    Examples:

        ggend stats
        ggend stats --database other.db --format json
    """
    if form in (Format.CSV, Format.NDJSON):
        raise UsageMistake(f"stats cannot be printed as {form}", hint="use table, json or markdown")
    path = chosen_database(database)
    with snapshot(path) as connection:
        found = stats_of(connection, path)
    if form is Format.JSON:
        show_json(found)
    else:
        show(Result(columns=["what", "value"], rows=_rows(found)), form=form)


def _rows(found: Stats) -> list[tuple[object, ...]]:
    version = str(found.schema_version) if found.schema_version else "1.0.0"
    rows: list[tuple[object, ...]] = [
        ("database", found.database),
        ("size", _size(found.size_bytes)),
        ("WAL", _size(found.wal_bytes)),
        ("schema version", version),
        ("id", found.database_id),
        *((f"rows of {table}", f"{count:,}") for table, count in found.rows.items()),
        ("first receipt", found.first_receipt),
        ("newest receipt", found.newest_receipt),
        ("receipts", _listed(found.receipts_by_status)),
        ("agents", f"{found.agents:,}"),
        ("sessions running", f"{found.sessions_running:,}"),
        ("violations", _listed(found.violations_by_severity)),
    ]
    if found.accounts is not None:
        rows += [
            ("events parked", f"{found.parked:,}"),
            ("events rejected", f"{found.rejected:,}"),
            ("accounts", _listed(found.accounts)),
        ]
    return rows


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items()) or "none"


def _size(count: float) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if count < _KIB:
            return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:,.1f} {unit}"
        count /= _KIB
    return f"{count:,.2f} GiB"
