"""`ggend accounts`: the counts of each producer and in total, and their verification."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from ggend.cli.common.chosen import chosen_database
from ggend.cli.common.command import command
from ggend.cli.common.completion import complete_producers
from ggend.cli.common.options import columns_option, database_option, format_option, limit_option
from ggend.cli.render.output import Format, complain, show, show_json, show_line
from ggend.database.account_counts import COUNTS
from ggend.database.check.accounting import audit_accounts
from ggend.database.findings import Verdict
from ggend.queries.accounts import Accounts, read_accounts
from ggend.queries.result import Result
from ggend.queries.snapshot import require_table, snapshot

__all__ = ["accounts"]

#: Columns that a terminal always shows, even if every count in them is zero.
_ALWAYS_SHOWN = frozenset({"account", "client", "uid", "last_sequence", "stored"})


@command()
@click.option(
    "--producer",
    metavar="HEX",
    help="Only this producer. A prefix of its id is enough.",
    shell_complete=complete_producers,
)
@click.option("--client", metavar="NAME", help="Only producers with this client name.")
@columns_option
@database_option
@format_option
@limit_option(20)
def accounts(
    *,
    producer: str | None,
    client: str | None,
    columns: str | None,
    database: Path | None,
    form: Format,
    limit: int,
) -> None:
    """Show how many events each producer sent and their outcomes, and verify these accounts.

    The most recently active producers come first. On a terminal, counts that are zero in all
    accounts are left out; --columns shows them. An account holds the counts of one producer id;
    `anonymous` counts a user's lines without a sequence number; `folded` sums all producers that
    have finished. last_sequence always equals stored + duplicate + superseded + parked + rejected +
    lost. replayed, purged and shed are not part of that sum.

    All accounts are verified, including those not shown: the counts add up; the events that are
    parked are as many as the account says; the quarantine holds no more events than it counts as
    rejected; and, where this can be checked, each stored event has a row.

    Exit status: 0 verified, 65 an account does not add up.

    Examples:

        ggend accounts
        ggend accounts --client ggend_client --format json
    """
    path = chosen_database(database)
    with snapshot(path) as connection:
        require_table(connection, path, "producers", lacks="has no accounts")
        found = read_accounts(connection, limit=limit, producer=producer, client=client)
        findings = audit_accounts(connection)
    if form is Format.JSON and columns is None:
        rows = [dict(zip(found.rows.columns, row, strict=True)) for row in found.rows.rows]
        for row in rows:
            row["producer"] = _hex(row["producer"])
        show_json({"accounts": rows, "total": found.total, "findings": findings})
    elif form in (Format.TABLE, Format.MARKDOWN):
        people = _for_people(found, is_whole=columns is not None, form=form)
        show(people, form=form, kept=("account", *COUNTS), columns=columns)
    else:
        show(_named(found.rows), form=form, columns=columns)
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
        raise click.exceptions.Exit(os.EX_DATAERR)


def _for_people(found: Accounts, *, is_whole: bool, form: Format) -> Result:
    """Return the accounts and a row with their total.

    Unless it `is_whole`, a terminal has no room for counts that are zero in all accounts.
    """
    named = _named(found.rows)
    rows = [dict(zip(named.columns, row, strict=True)) for row in named.rows]
    rows.append({"account": f"total of {found.total['accounts']:,}", **found.total})
    wanted = ["account", "client", "uid", *COUNTS, "last_seen", "first_seen"]
    if is_whole:
        wanted = named.columns
    elif form is Format.TABLE and sys.stdout.isatty():
        wanted = [
            name for name in wanted if name in _ALWAYS_SHOWN or any(row.get(name) for row in rows)
        ]
    return Result(
        columns=wanted,
        rows=[tuple(row.get(name) for name in wanted) for row in rows],
    )


def _named(found: Result) -> Result:
    """Name each account in the first column: by the id of its producer, or by its kind."""
    rows = []
    for row in found.rows:
        values = dict(zip(found.columns, row, strict=True))
        values["client"] = values["client"] or None
        rows.append((_hex(values["producer"]) or values["kind"], *values.values()))
    return Result(columns=["account", *found.columns], rows=rows)


def _hex(producer: object) -> str | None:
    return producer.hex() if isinstance(producer, bytes) else None
