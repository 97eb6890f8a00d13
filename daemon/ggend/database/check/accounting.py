"""Accounting: verifies that the accounts agree with each other and with the tables.

Never writes. Only a broken invariant is a failure. Rows that the accounts do not count (rows of
version 1.0.0, rows written with plain SQL) are a warning with their minimum number. Saves of a
memory replace each other, so the tables do not show how many there were: stored events without a
row can be detected only if no memory was ever saved.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections import Counter
from collections.abc import Iterator

import msgspec
from msgspec import Struct

from ggend.database.findings import Finding, Verdict

__all__ = ["audit_accounts"]

#: Problems of one kind that are listed.
_SPELLED_OUT = 5


class _Owner(Struct, array_like=True, gc=False):
    """Of a parked event what is looked at here: msgspec skips the rest of the array."""

    account_id: int


_owners: msgspec.msgpack.Decoder[list[_Owner]] = msgspec.msgpack.Decoder(list[_Owner])


def audit_accounts(connection: sqlite3.Connection) -> list[Finding]:
    """Compare the accounts with the rows, in one snapshot. Raises sqlite3.Error."""
    with _one_moment(connection):
        return [
            _of("accounts", _texts(connection, _SUMS), _number(connection)),
            _of_parked(connection),
            _of("rejected", _texts(connection, _REJECTED), _rejected_number(connection)),
            _stored(connection),
        ]


@contextlib.contextmanager
def _one_moment(connection: sqlite3.Connection) -> Iterator[None]:
    """A daemon may write between two statements."""
    if connection.in_transaction:
        yield
        return
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")


def _of(what: str, problems: list[str], fine: str) -> Finding:
    if not problems:
        return Finding(what, Verdict.OK, fine)
    hidden = len(problems) - _SPELLED_OUT
    more = f"; and {hidden:,} more" * (hidden > 0)
    return Finding(what, Verdict.FAILED, "; ".join(problems[:_SPELLED_OUT]) + more)


def _texts(connection: sqlite3.Connection, sql: str) -> list[str]:
    return [text for (text,) in connection.execute(sql)]


def _number(connection: sqlite3.Connection) -> str:
    (accounts,) = connection.execute("SELECT COUNT(*) FROM producers").fetchone()
    return f"{accounts:,} accounts add up"


def _parked_number(connection: sqlite3.Connection) -> str:
    (events,) = connection.execute(_PARKED_TOTAL).fetchone()
    return f"the accounts count all {events:,} parked events"


def _rejected_number(connection: sqlite3.Connection) -> str:
    kept, rejected = connection.execute(_REJECTED_TOTAL).fetchone()
    return f"{kept:,} of {rejected:,} rejected events are kept; no account has too many"


def _of_parked(connection: sqlite3.Connection) -> Finding:
    problems = _parked(connection)
    if problems or connection.execute(_HAS_NOTES).fetchone() is None:
        return _of("parked", problems, _parked_number(connection))
    stuck = _texts(connection, _STUCK)
    if stuck:
        return _of("parked", stuck, "")
    noted, left = connection.execute(_RELEASING).fetchone()
    more = f"; {left:,} of them are being released: {noted:,} parents arrived" * bool(noted)
    return Finding("parked", Verdict.OK, _parked_number(connection) + more)


def _parked(connection: sqlite3.Connection) -> list[str]:
    there: Counter[int] = Counter()
    problems: list[str] = []
    for parent, parent_id, events, payload in connection.execute(_PAYLOADS):
        try:
            together = _owners.decode(payload)
        except (msgspec.DecodeError, TypeError) as error:
            problems.append(f"the events parked for {parent} {parent_id!r} cannot be read: {error}")
            continue
        if len(together) != events:
            problems.append(
                f"a row for {parent} {parent_id!r} counts {events} events but holds {len(together)}"
            )
        there.update(owner.account_id for owner in together)
    counted = dict(connection.execute(_PARKED).fetchall())
    problems += [
        f"account {account} counts {counted.get(account, 0)} parked events, but "
        f"{there[account]} are parked"
        for account in sorted(counted.keys() | there.keys())
        if counted.get(account, 0) != there[account]
    ]
    return problems


def _stored(connection: sqlite3.Connection) -> Finding:
    stored, purged, folded, unkept, rows, memories = connection.execute(_STORED).fetchone()
    # What was stored and then purged counts on the folded total, and nowhere else.
    if not memories and stored > rows + folded:
        missing = stored - rows - folded
        detail = f"{missing:,} of {stored:,} stored events have no row and were not purged"
        return Finding("stored", Verdict.FAILED, detail)
    # Of what was purged, no more were rejected events than are rejected and not there.
    others = rows + memories + max(0, purged - unkept) - stored
    if others > 0:
        detail = f"at least {others:,} rows are in no account: from 1.0.0, or from plain SQL"
        return Finding("stored", Verdict.WARNING, detail)
    if memories:
        detail = f"{rows + memories:,} rows for {stored:,} stored events, and no row too many"
    else:
        detail = f"all {stored:,} stored events have their rows or were purged"
    return Finding("stored", Verdict.OK, detail)


_SUMS = """
    SELECT 'account ' || id || ' does not add up'
    FROM producers
    WHERE last_sequence <> stored + duplicate + superseded + parked + rejected + lost"""
_PARKED = "SELECT id, parked FROM producers WHERE parked <> 0"
_PARKED_TOTAL = "SELECT coalesce(SUM(parked), 0) FROM producers"
#: The table of the parents whose events are released in slices came with version 6.
_HAS_NOTES = "SELECT 1 FROM sqlite_schema WHERE name = 'pending_releases'"
_RELEASING = """
    SELECT COUNT(DISTINCT noted.parent || noted.parent_id), coalesce(SUM(waiting.events), 0)
    FROM pending_releases AS noted
    JOIN parked_events AS waiting
        ON waiting.parent_id = noted.parent_id AND waiting.parent = noted.parent"""
#: A parent releases what waits for it, or is noted, in the transaction that stores it.
_STUCK = """
    SELECT
        SUM(events) || ' events are parked for ' || parent || ' ' || quote(parent_id)
        || ', which is stored, but nothing releases them'
    FROM parked_events AS waiting
    WHERE iif(
            parent = 'receipt',
            EXISTS (SELECT 1 FROM receipts WHERE execution_id = waiting.parent_id),
            EXISTS (SELECT 1 FROM workflow_sessions WHERE session_id = waiting.parent_id))
      AND NOT EXISTS (
        SELECT 1
        FROM pending_releases AS noted
        WHERE noted.parent_id = waiting.parent_id
          AND noted.parent = waiting.parent)
    GROUP BY parent_id, parent"""
_PAYLOADS = "SELECT parent, parent_id, events, payload FROM parked_events"
#: What a producer that is done left behind counts on the folded total. `purged` of other accounts
#: is of rejected events alone; on the folded total it is of all kinds.
_REJECTED = """
    SELECT
        'account ' || coalesce(p.id, '(missing)') || ' counts ' || coalesce(p.rejected, 0)
        || ' rejected events, but ' || kept || ' are kept'
        || iif(p.kind <> 'folded' AND p.purged > 0, ' and ' || p.purged || ' were purged', '')
    FROM (
        SELECT coalesce(p.id, f.id) AS account, COUNT(*) AS kept
        FROM rejected_events AS r
        LEFT JOIN producers AS p ON p.id = r.account_id
        LEFT JOIN producers AS f ON f.kind = 'folded' AND f.kind <> 'producer' AND p.id IS NULL
        GROUP BY 1) AS r
    LEFT JOIN producers AS p ON p.id = r.account
    WHERE coalesce(p.rejected, 0) < kept + iif(p.kind = 'folded', 0, coalesce(p.purged, 0))"""
_REJECTED_TOTAL = """
    SELECT
        (SELECT COUNT(*) FROM rejected_events),
        (SELECT coalesce(SUM(rejected), 0) FROM producers)"""
#: Rows that events made; memories are in `memory_order` as often as agents, not as saves.
_STORED = """
    SELECT
        coalesce(SUM(stored), 0),
        coalesce(SUM(purged), 0),
        coalesce(SUM(purged) FILTER (WHERE kind = 'folded'), 0),
        coalesce(SUM(rejected), 0) - (SELECT COUNT(*) FROM rejected_events),
        (SELECT COUNT(*) FROM receipts)
        + (SELECT COUNT(*) FROM pipeline_metrics)
        + (SELECT COUNT(*) FROM collision_detection)
        + (SELECT COUNT(*) FROM workflow_sessions)
        + (SELECT COUNT(*) FROM session_ends)
        + (SELECT COUNT(*) FROM audit_log),
        (SELECT COUNT(*) FROM memory_order)
    FROM producers"""
