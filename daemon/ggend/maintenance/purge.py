"""Purge: removes rows older than a cutoff, in slices short enough to run between two batches.

Never touches state (agent_memory, parked events, producers), and never a row that is not old.

Age is `created_at` (`received_at` of a rejected event). Rows are deleted in order of `id`, up to
the first row newer than the cutoff: whatever the clock did, the audit log never loses rows from its
middle. A row whose time is not a valid date is not old. In this order:

1. receipts, each with all its stages, violations and breaches, whatever their own age;
2. stages and violations without a receipt (version 1.0.0 left some) and breaches without one;
3. collisions, then ended sessions that no remaining receipt or collision refers to;
4. audit entries, and rejected events.

The counts of an ended session stay. A purge that was interrupted is finished by the next one.
Tables that are to be kept lose no row, and neither does a table whose deletion would remove rows
from them. If a user's trigger refuses a deletion, DeletionRefused names the table.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Collection
from contextlib import closing
from pathlib import Path

import msgspec
from msgspec import Struct

from ggend.errors import NoRoom
from ggend.maintenance.offline import open_offline
from ggend.storage.writer_state import WriterState

__all__ = [
    "SLICE_ROWS",
    "DeletionRefused",
    "Position",
    "Slice",
    "purge_file",
    "purge_slice",
    "smaller_slice",
]

#: Rows that one slice deletes, about. Beside 200,000 receipts that is 7 ms of work and 7 ms for the
#: disk, 25 ms at most: so long a batch waits that comes meanwhile. Half as many take three quarters
#: of the time.
SLICE_ROWS = 1_000

#: Rows of a slice at least, where a larger one has no room in the WAL. In a database of 85 MB,
#: 1,000 rows took 5.5 MiB there, 100 took 0.8 MiB, and 10 took 0.14 MiB.
_LEAST_ROWS = 10
_LEAST_KIB = 150
_SLICE_MIB = 6


class DeletionRefused(sqlite3.IntegrityError):
    """A user's trigger or constraint refuses a deletion; no row of the slice is deleted."""

    def __init__(self, table: str, why: sqlite3.Error) -> None:
        super().__init__(
            f"rows of {table} cannot be deleted: {why}; no row of this slice was deleted"
        )


def smaller_slice(path: Path, rows: int, why: str) -> int:
    """Return a smaller number of rows to try after the disk was full. Raises NoRoom."""
    if rows > _LEAST_ROWS:
        return max(rows // 10, _LEAST_ROWS)
    raise NoRoom(
        f"the disk of {path} is full: {why}; deleting {rows} rows needs about {_LEAST_KIB} KiB "
        f"in {path.name}-wal",
        hint=f"free about {_SLICE_MIB} MiB on that disk and run it again to resume; rows deleted "
        "so far stay deleted",
    )


class Position(Struct, frozen=True, forbid_unknown_fields=True):
    """Where a purge resumes: the current table, and the last id that it has checked."""

    table: str
    after: int = 0


class Slice(Struct, frozen=True):
    """The rows that one slice deleted, by table, and the start of the next one; None: the last."""

    deleted: dict[str, int]
    next: Position | None


def purge_file(
    path: Path,
    cutoff: str,
    tell: Callable[[dict[str, int]], None],
    *,
    kept: Collection[str] = (),
) -> None:
    """Purge a database that no daemon has open; `tell` receives the counts of each slice.

    Raises AlreadyRunning, DatabaseUnusable, DeletionRefused, NoRoom, sqlite3.Error.
    """
    position: Position | None = None
    rows, is_wal_empty = SLICE_ROWS, True
    with open_offline(path) as offline:
        while True:
            try:
                with offline.transaction():
                    done = purge_slice(
                        offline.connection,
                        offline.state,
                        cutoff=cutoff,
                        position=position,
                        limit=rows,
                        kept=kept,
                    )
            except sqlite3.OperationalError as error:
                if getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_FULL:
                    raise
                if is_wal_empty:
                    rows = smaller_slice(path, rows, str(error))
                offline.empty_wal(0)  # it is written over then
                is_wal_empty = True
                continue
            is_wal_empty = False
            tell(done.deleted)
            if (position := done.next) is None:
                return


def purge_slice(
    connection: sqlite3.Connection,
    state: WriterState,
    *,
    cutoff: str,
    position: Position | None,
    limit: int = SLICE_ROWS,
    kept: Collection[str] = (),
) -> Slice:
    """Look at about `limit` rows and delete the old ones, in the open transaction.

    `cutoff` is UTC, as `2026-01-29 12:34:56`. A receipt is deleted with all rows that belong to it,
    unless those alone are more than a slice. Raises DeletionRefused, and LookupError for an invalid
    position.
    """
    tables = [step.table for step in _STEPS]
    start = position or Position(tables[0])
    if start.table not in tables:
        raise LookupError(f"a purge has no step {start.table!r}; it has {', '.join(tables)}")
    work = _Work(connection, cutoff, limit)
    reached: Position | None = None
    for step in _STEPS[tables.index(start.table) :]:
        if any(table in kept for table, _ in step.deletes):
            continue
        after = work.run(step, start.after if step.table == start.table else 0)
        if after is not None:
            reached = Position(step.table, after)
            break
    state.accounts.purge(connection, work.purged)
    state.quarantine.leave(work.deleted["rejected_events"], work.freed_bytes)
    return Slice(dict(+work.deleted), reached)


class _Step(Struct, frozen=True):
    """How one table is purged."""

    table: str
    #: Reads in order of id: the id, whether it is old, whether it may go, how many rows go with it.
    look: str
    #: Tables and statements: first what points at the rows, at last the rows.
    deletes: tuple[tuple[str, str], ...]


class _Work:
    """One slice: what it has deleted, and how much it may."""

    __slots__ = ("_connection", "_cutoff", "_limit", "deleted", "freed_bytes", "purged")

    def __init__(self, connection: sqlite3.Connection, cutoff: str, limit: int) -> None:
        self._connection = connection
        self._cutoff = cutoff
        self._limit = limit
        self.deleted: Counter[str] = Counter()
        #: Events whose rows are deleted, by account; None: the account is unknown.
        self.purged: Counter[int | None] = Counter()
        #: Kept bytes of the rejected events that are deleted.
        self.freed_bytes = 0

    def run(self, step: _Step, after: int) -> int | None:
        """Do a step; return the id that it has reached, None at its end."""
        left = self._limit - self.deleted.total()
        if left <= 0:
            return after
        found = self._connection.execute(
            step.look, {"after": after, "cutoff": self._cutoff, "limit": left}
        )
        doomed: list[int] = []
        reached, looked, cost, is_over = after, 0, 0, False
        with closing(found):
            for row_id, is_old, may_go, rows in found:
                is_over = not is_old
                if is_over or (cost + rows > left and (cost or self.deleted)):
                    break
                reached, looked, cost = row_id, looked + 1, cost + rows
                if may_go:
                    doomed.append(row_id)
            else:
                is_over = looked < left
        if doomed and not self._delete(step, doomed, left, is_too_much=cost > left):
            return after
        return None if is_over else reached

    def _delete(self, step: _Step, doomed: list[int], limit: int, *, is_too_much: bool) -> bool:
        """Delete rows and what belongs to them; return whether that was all.

        It is not where one receipt has more rows than a slice may delete.
        """
        parameters = {"doomed": msgspec.json.encode(doomed).decode(), "limit": limit}
        if step.table == "rejected_events":
            for account_id, rows, size in self._connection.execute(_BY_ACCOUNT, parameters):
                self.purged[account_id] += rows
                self.freed_bytes += size
        for table, statement in step.deletes:
            try:
                rows = self._connection.execute(statement, parameters).rowcount
            except sqlite3.IntegrityError as error:
                raise DeletionRefused(table, error) from error
            self.deleted[table] += rows
            if table in _EVENTS:
                self.purged[None] += rows
            if is_too_much and rows >= limit:
                return False
        return True


#: The tables whose rows are events that came in: hooks make violations and breaches, and the
#: account of a rejected event is known.
_EVENTS = {
    "receipts",
    "pipeline_metrics",
    "collision_detection",
    "workflow_sessions",
    "session_ends",
    "audit_log",
}

# What follows is composed of constants of this module alone; every value is bound.
# ruff: noqa: S608

_BY_ACCOUNT = """
    SELECT account_id, COUNT(*), coalesce(SUM(size_bytes) FILTER (WHERE event IS NOT NULL), 0)
    FROM rejected_events
    WHERE id IN (SELECT value FROM json_each(:doomed))
    GROUP BY account_id"""

_HAS_NO_RECEIPT = """
    NOT EXISTS (SELECT 1 FROM receipts AS r WHERE r.execution_id = t.execution_id)"""
_IS_DONE_WITH = """
    status <> 'running'
    AND NOT EXISTS (SELECT 1 FROM receipts AS r WHERE r.session_id = t.session_id)
    AND NOT EXISTS (SELECT 1 FROM collision_detection AS c WHERE c.session_id = t.session_id)"""
#: Not counted further than a slice: one receipt may have a million stages.
_ROWS_OF_A_RECEIPT = """
    1
    + (SELECT COUNT(*) FROM (
        SELECT 1 FROM pipeline_metrics AS m WHERE m.execution_id = t.execution_id LIMIT :limit))
    + (SELECT COUNT(*) FROM (
        SELECT 1 FROM slo_violations AS v WHERE v.execution_id = t.execution_id LIMIT :limit))"""

_CHILDREN = """
    DELETE FROM {table}
    WHERE id IN (
        SELECT child.id
        FROM json_each(:doomed) AS doomed
        CROSS JOIN receipts AS r ON r.id = doomed.value
        CROSS JOIN {table} AS child ON child.execution_id = r.execution_id
        LIMIT :limit)"""
#: Each breach of an execution has a violation, by which it is found in the index that it has. Where
#: one receipt is more than a slice, a slice looks at the violations that it deletes, not at all.
_BREACHES = """
    DELETE FROM slo_breaches
    WHERE id IN (
        SELECT b.id
        FROM (
            SELECT v.metric AS measured, v.execution_id AS execution, v.severity AS severe
            FROM json_each(:doomed) AS doomed
            CROSS JOIN receipts AS r ON r.id = doomed.value
            CROSS JOIN slo_violations AS v ON v.execution_id = r.execution_id
            LIMIT :limit)
        CROSS JOIN slo_breaches AS b
            ON b.metric = measured AND b.subject = execution AND b.severity = severe)"""
_ENDS = """
    DELETE FROM session_ends
    WHERE session_id IN (
        SELECT s.session_id
        FROM json_each(:doomed) AS doomed
        CROSS JOIN workflow_sessions AS s ON s.id = doomed.value)"""


def _step(
    table: str,
    *,
    moment: str = "t.created_at",
    may_go: str = "true",
    rows: str = "1",
    first: tuple[tuple[str, str], ...] = (),
) -> _Step:
    look = f"""
    SELECT t.id, {moment} >= '1970-01-01' AND {moment} < :cutoff, {may_go}, {rows}
    FROM {table} AS t
    WHERE t.id > :after
    ORDER BY t.id
    LIMIT :limit"""
    delete = f"""
    DELETE FROM {table}
    WHERE id IN (SELECT value FROM json_each(:doomed))"""
    return _Step(table, look, (*first, (table, delete)))


_STEPS = (
    _step(
        "receipts",
        rows=_ROWS_OF_A_RECEIPT,
        first=(
            ("slo_breaches", _BREACHES),
            ("slo_violations", _CHILDREN.format(table="slo_violations")),
            ("pipeline_metrics", _CHILDREN.format(table="pipeline_metrics")),
        ),
    ),
    _step("pipeline_metrics", may_go=_HAS_NO_RECEIPT),
    _step("slo_violations", may_go=_HAS_NO_RECEIPT),
    _step("slo_breaches", may_go=_HAS_NO_RECEIPT),
    _step("collision_detection"),
    _step("workflow_sessions", may_go=_IS_DONE_WITH, first=(("session_ends", _ENDS),)),
    _step("audit_log"),
    _step("rejected_events", moment="replace(t.received_at, 'T', ' ')"),
)
