"""`ggend accounts`: what became of every event, by producer and in total, and whether it is so."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import msgspec
import typer

from ggend.cli.common.options import DatabaseOption, FormatOption, LimitOption, chosen_database
from ggend.cli.render.output import Format, complain, show, show_json, show_line
from ggend.database.check.accounting import audit_accounts
from ggend.database.findings import Verdict
from ggend.errors import DatabaseUnusable
from ggend.queries.accounts import COUNTS, Accounts, read_accounts
from ggend.queries.result import Result
from ggend.queries.snapshot import columns_of, snapshot

__all__ = ["accounts"]

#: Columns that are never left out on a terminal, though nothing is counted in them.
_ALWAYS_SHOWN = frozenset({"account", "client", "uid", "last_sequence", "stored"})


def accounts(
    *,
    producer: Annotated[
        str | None,
        typer.Option(metavar="HEX", help="Only this producer; the beginning of its id is enough."),
    ] = None,
    client: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only producers of this name.")
    ] = None,
    database: DatabaseOption = None,
    form: FormatOption = Format.TABLE,
    limit: LimitOption = 20,
) -> None:
    """Show what became of every event, by producer and in total, and verify it.

    The producers last heard of come first. last_sequence is always the sum of stored, duplicate,
    superseded, parked, rejected and lost; replayed, purged and shed stand beside it. An account is
    a producer's id; `anonymous`, for the lines without a number of one user; or `folded`, for all
    producers that said they were done.

    All accounts are verified, also those that are not shown: that each adds up, that as many of
    its events wait as it counts parked, that no more of them are in quarantine than it counts
    rejected, and that the tables have a row for each stored event where that can be told.

    Exit status: 0 verified, 65 something does not add up.

    Examples:

        ggend accounts
        ggend accounts --client ggend_client --format json
    """
    path = chosen_database(database)
    with snapshot(path) as connection:
        if "producers" not in columns_of(connection):
            raise DatabaseUnusable(
                f"{path} is of version 1.0.0, which has no accounts",
                hint="`ggend init` upgrades a database in place",
            )
        found = read_accounts(connection, limit=limit, producer=producer, client=client)
        findings = audit_accounts(connection)
    if form is Format.JSON:
        rows = [dict(zip(found.rows.columns, row, strict=True)) for row in found.rows.rows]
        for row in rows:
            row["producer"] = _hex(row["producer"])
        show_json({"accounts": rows, "total": found.total, "findings": findings})
    elif form in (Format.TABLE, Format.MARKDOWN):
        show(_for_people(found, form), form=form, fit=True)
    else:
        show(msgspec.structs.replace(found.rows, has_more=False), form=form)
    sys.stdout.flush()
    if found.rows.has_more:
        shown, total = len(found.rows.rows), found.total["accounts"]
        complain(
            f"only the first {shown:,} of {total:,} accounts are shown", hint="--limit shows more"
        )
    is_wrong = False
    for one in findings:
        if one.verdict is not Verdict.OK:
            is_wrong |= one.verdict is Verdict.FAILED
            complain(f"{one.what}: {one.detail}")
        elif form is Format.TABLE:
            show_line(f"verified {one.what}: {one.detail}")
    if is_wrong:
        raise typer.Exit(os.EX_DATAERR)


def _for_people(found: Accounts, form: Format) -> Result:
    """Name each account in one column, and put the total below.

    On a terminal, what is zero everywhere is left out: the rest fits.
    """
    wanted = ["account", "client", "uid", *COUNTS, "last_seen", "first_seen"]
    rows = [dict(zip(found.rows.columns, row, strict=True)) for row in found.rows.rows]
    for row in rows:
        row["account"] = _hex(row["producer"]) or row["kind"]
    rows.append({"account": f"total of {found.total['accounts']:,}", **found.total})
    if form is Format.TABLE and sys.stdout.isatty():
        wanted = [
            name for name in wanted if name in _ALWAYS_SHOWN or any(row.get(name) for row in rows)
        ]
    return Result(
        columns=wanted,
        rows=[tuple(row.get(name) for name in wanted) for row in rows],
    )


def _hex(producer: object) -> str | None:
    return producer.hex() if isinstance(producer, bytes) else None
