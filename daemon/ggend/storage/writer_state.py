"""Writer state: what the writer's thread keeps between batches; the database holds it too.

Never writes by itself: each of the three does, in the transaction of its batch.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable, Hashable
from typing import TypeAlias

from msgspec import Struct

from ggend.runtime.boot import boot_ns
from ggend.storage.account_totals import AccountTotals
from ggend.storage.accounts import Accounts
from ggend.storage.parking import PARENT_EVENTS, RELEASED_EVENTS, Parking
from ggend.storage.quarantine import Quarantine
from ggend.storage.seen_time import SeenTime, open_seen_time
from ggend_schema.limits import EVENT_BYTES

__all__ = ["Bounds", "Snapshot", "TakenBack", "WriterState", "open_writer_state"]

#: What it holds at the beginning of a transaction.
Snapshot: TypeAlias = tuple[int, int, int, int]


class Bounds(Struct, frozen=True, kw_only=True):
    """How much the database may hold of what is not in its tables yet, or never will be.

    And how much of what waits one transaction may release.
    """

    parked_events: int = sys.maxsize
    parked_bytes: int = sys.maxsize
    #: For one parent.
    parked_each: int = PARENT_EVENTS
    #: In one transaction.
    released_events: int = RELEASED_EVENTS
    rejected_events: int = sys.maxsize
    rejected_bytes: int = sys.maxsize
    undecodable_bytes: int = EVENT_BYTES


class TakenBack(Exception):
    """One refused row took the transaction with it; the next try knows that row."""


class WriterState:
    """The accounts, the parked and the rejected events of one database."""

    __slots__ = ("accounts", "parking", "quarantine", "refusals", "seen", "totals")

    def __init__(
        self,
        parking: Parking,
        quarantine: Quarantine,
        seen: SeenTime,
        totals: AccountTotals,
    ) -> None:
        self.seen = seen
        self.totals = totals
        self.accounts = Accounts(seen)
        self.parking = parking
        self.quarantine = quarantine
        #: What the database refused by taking the whole transaction back, so that the next try of
        #: the same batch does without. Whoever tries again empties it at the end.
        self.refusals: dict[Hashable, Exception] = {}

    def snapshot(self) -> Snapshot:
        """Return what `rollback` needs to return to this point."""
        parking, quarantine = self.parking, self.quarantine
        return parking.count, parking.bytes, quarantine.count, quarantine.bytes

    def rollback(self, snapshot: Snapshot) -> None:
        """Drop what was not saved: the transaction was rolled back to this snapshot."""
        self.accounts.rollback()
        self.parking.rollback(*snapshot[:2])
        self.quarantine.rollback(*snapshot[2:])


def open_writer_state(
    connection: sqlite3.Connection,
    bounds: Bounds,
    schema_version: int,
    boot: Callable[[], int] = boot_ns,
) -> WriterState:
    """Return the writer state of a database as it stands. `boot` is the clock of the seen time."""
    parked, parked_bytes = connection.execute(_PARKED).fetchone()
    (noted,) = connection.execute(_NOTED).fetchone()
    rejected, rejected_bytes = connection.execute(_REJECTED).fetchone()
    seen = open_seen_time(connection, boot=boot)
    return WriterState(
        Parking(
            count=parked,
            size=parked_bytes,
            limit=bounds.parked_events,
            limit_bytes=bounds.parked_bytes,
            limit_each=bounds.parked_each,
            released_events=bounds.released_events,
            noted=noted,
            schema_version=schema_version,
            seen=seen,
        ),
        Quarantine(
            count=rejected,
            size=rejected_bytes,
            limit=bounds.rejected_events,
            limit_bytes=bounds.rejected_bytes,
            undecodable_bytes=bounds.undecodable_bytes,
            schema_version=schema_version,
        ),
        seen,
        AccountTotals(connection),
    )


_PARKED = """
    SELECT coalesce(SUM(events), 0), coalesce(SUM(length(payload)), 0)
    FROM parked_events"""
_NOTED = "SELECT COUNT(*) FROM pending_releases"
_REJECTED = """
    SELECT COUNT(*), coalesce(SUM(size_bytes) FILTER (WHERE event IS NOT NULL), 0)
    FROM rejected_events"""
