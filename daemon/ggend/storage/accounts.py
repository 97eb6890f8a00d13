"""Accounts: who sent how many events and what became of them, promise 3 of the architecture.

    last_sequence = stored + duplicate + superseded + parked + rejected + lost

holds for each row of `producers` after every commit; a CHECK constraint holds it too. `purged`
stands beside the sum: of what was stored or rejected, the rows that are no longer there. The cache
lives on the writer's thread and is thrown away when a transaction is rolled back.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping, Sequence

from msgspec import Struct

from ggend.storage.seen_time import SeenTime
from ggend_schema.errors import SchemaError
from ggend_schema.limits import PRODUCER_BYTES

__all__ = ["Account", "Accounts", "NotYours", "Sender", "UnknownProducer", "account_key"]

#: Accounts remembered between batches. More than producers alive at a time on one host; the
#: cache is emptied, not searched for the oldest, since every entry can be read again.
_REMEMBERED = 10_000


class Sender(Struct, frozen=True):
    """Who is at the other end of a connection. Without a producer: the anonymous lines of a uid."""

    uid: int
    gid: int
    pid: int
    producer: bytes | None = None
    permanent: bool = False
    client: str = ""


class NotYours(SchemaError):
    """A producer id belongs to the uid that used it first."""

    def __init__(self, producer: bytes, uid: int) -> None:
        self.producer, self.uid = producer, uid
        super().__init__(
            f"producer {producer.hex()} belongs to another user than uid {uid}; use a new id"
        )


class UnknownProducer(LookupError):
    """A producer has received an Ack, but has no account: the database is a different one."""

    def __init__(self, producer: bytes, acked: int) -> None:
        super().__init__(
            f"sequence {acked} of producer {producer.hex()} was acknowledged, but the database has "
            "no account of it: the database was replaced, is an older copy, or has forgotten it; "
            "send Hello without `acked` to start over"
        )


class Account:
    """One row of `producers`: what is settled, and what this batch adds."""

    __slots__ = (
        "duplicate",
        "id",
        "is_finished",
        "last_sequence",
        "lost",
        "parked",
        "producer",
        "rejected",
        "replayed",
        "rival",
        "shed",
        "stored",
        "superseded",
        "uid",
    )

    def __init__(
        self,
        account_id: int,
        producer: bytes | None,
        uid: int,
        last_sequence: int,
        *,
        is_finished: bool = False,
    ) -> None:
        self.id = account_id
        self.is_finished = is_finished
        self.producer = producer
        self.uid = uid
        self.last_sequence = last_sequence
        #: Another user who has an account for the same content; None: nobody.
        self.rival: int | None = None
        self.shed = 0
        self.clear()

    def clear(self) -> None:
        """Forget what the batch added."""
        self.stored = self.duplicate = self.superseded = 0
        self.parked = self.rejected = self.lost = self.replayed = 0


class Accounts:
    """The accounts that the current batches touch."""

    def __init__(self, seen: SeenTime) -> None:
        #: The time of the batch, as stored.
        self.now = ""
        self._seen = seen
        self._by_key: dict[object, Account] = {}
        self._touched: dict[int, Account] = {}
        self._released: dict[int, list[int]] = {}

    def of(self, connection: sqlite3.Connection, sender: Sender) -> Account:
        """Return the sender's account, opened if it is new. Raises NotYours.

        One that was forgotten is opened again where it was.
        """
        key = account_key(sender)
        account = self._by_key.get(key)
        if account is None:
            account = (
                _load(connection, sender)
                or (None if sender.permanent else self._reopen(connection, sender))
                or self._open(connection, sender)
            )
            if len(self._by_key) >= max(_REMEMBERED, 2 * len(self._touched)):
                # Those of this batch hold numbers that are in no row yet. Where they are most of
                # the cache there is little to drop, and no use in looking each time.
                touched = self._touched.keys()
                self._by_key = {k: a for k, a in self._by_key.items() if a.id in touched}
            self._by_key[key] = account
        if sender.producer is not None and account.uid != sender.uid:
            raise NotYours(sender.producer, sender.uid)
        if sender.permanent:  # another may have come since
            account.rival = _rival(connection, sender)
        if account.is_finished:
            # It said it was done, and came back before its parked events were released.
            connection.execute(_RESUME, (account.id,))
            account.is_finished = False
        self._touched[account.id] = account
        return account

    def is_known(self, connection: sqlite3.Connection, sender: Sender) -> bool:
        """Whether there is an account of a producer, or was one that is remembered."""
        if _load(connection, sender) is not None:
            return True
        return connection.execute(_REMEMBERED_ONE, (sender.producer,)).fetchone() is not None

    def release(
        self, account_id: int, *, stored: int = 0, duplicate: int = 0, rejected: int = 0
    ) -> None:
        """Move counts of parked events to what became of them."""
        moved = self._released.setdefault(account_id, [0, 0, 0])
        moved[0] += stored
        moved[1] += duplicate
        moved[2] += rejected

    def save(self, connection: sqlite3.Connection) -> None:
        """Write what the batch added, in its transaction."""
        seen_s = self._seen.now()
        saved = connection.executemany(
            _ADD,
            [
                (
                    account.last_sequence,
                    self.now,
                    seen_s,
                    account.stored,
                    account.duplicate,
                    account.superseded,
                    account.parked,
                    account.rejected,
                    account.lost,
                    account.replayed,
                    account.shed,
                    account.id,
                )
                for account in self._touched.values()
            ],
        )
        if self._touched and saved.rowcount != len(self._touched):
            raise sqlite3.IntegrityError("an account was deleted while the daemon was using it")
        for account in self._touched.values():
            account.clear()
        self._touched.clear()
        if self._released:
            connection.executemany(
                _RELEASE,
                [
                    (stored + duplicate + rejected, stored, duplicate, rejected, account_id)
                    for account_id, (stored, duplicate, rejected) in self._released.items()
                ],
            )
            for account_id in self._released:
                self._fold(connection, account_id)
            self._released.clear()

    def identity(
        self, connection: sqlite3.Connection, account_id: int
    ) -> tuple[bytes | None, int, str | None]:
        """Return producer id, uid and client of an account."""
        row: tuple[bytes | None, int, str | None] = connection.execute(
            _IDENTITY, (account_id,)
        ).fetchone()
        return row

    def requeue(self, connection: sqlite3.Connection, account_id: int, outcome: str) -> None:
        """Move the count of one rejected event to what became of it."""
        connection.execute(_REQUEUE, {"id": account_id, "outcome": outcome})

    def accept_requeued(
        self, connection: sqlite3.Connection, producer: bytes | None, account_id: int
    ) -> None:
        """Note that one rejected event of a producer, which may be forgotten, is no more.

        Under another account of the producer, from before it was remembered, it is not counted.
        """
        connection.execute(_REJECTED_NO_MORE, (producer, account_id))

    def forget_silent(
        self, connection: sqlite3.Connection, *, before_s: int, after: int, limit: int
    ) -> int | None:
        """Finish, among the next `limit` producers, those last heard of before a seen time.

        Returns the id after which the next slice begins; None: this was the last.
        """
        found = connection.execute(_SILENT, (before_s, after, limit)).fetchall()
        for account_id, producer, is_silent in found:
            if is_silent:
                self._by_key.pop(producer, None)
                connection.execute(_FINISH, (account_id,))
                self._fold(connection, account_id)
        return found[-1][0] if len(found) == limit else None

    def finish(self, connection: sqlite3.Connection, sender: Sender) -> None:
        """Forget a producer that is done; one with parked events waits until they are released."""
        if sender.producer is None or sender.permanent:
            return
        account = _load(connection, sender)
        if account is None or account.uid != sender.uid:
            return
        self._by_key.pop(sender.producer, None)
        connection.execute(_FINISH, (account.id,))
        self._fold(connection, account.id)

    def forget_forgotten(
        self, connection: sqlite3.Connection, *, before_s: int, most: int, limit: int
    ) -> bool:
        """Drop up to `limit` of what is remembered of forgotten producers; say if that was all.

        Dropped is what was forgotten before a seen time, and of more than `most` the oldest.
        """
        (count,) = connection.execute(_REMEMBERED_COUNT).fetchone()
        dropped = connection.execute(_DROP_OLD, (before_s, limit)).rowcount
        if dropped < limit and count - dropped > most:
            dropped += connection.execute(
                _DROP_OLD, (2**62, min(limit - dropped, count - dropped - most))
            ).rowcount
        return dropped < limit

    def purge(self, connection: sqlite3.Connection, rows: Mapping[int | None, int]) -> None:
        """Count purged rows on the accounts that they came under.

        Rows that name no account, or one that was folded meanwhile, count on the folded total.
        """
        unnamed = 0
        for account_id, purged in rows.items():
            found = 0
            if account_id is not None:
                found = connection.execute(_PURGE, (purged, account_id)).rowcount
            unnamed += 0 if found else purged
        if unnamed:
            connection.execute(_OPEN_FOLDED, (self.now, self.now))
            connection.execute(_PURGE_FOLDED, (unnamed,))

    def rollback(self) -> None:
        """Drop the cache: what it holds was rolled back."""
        self._by_key.clear()
        self._touched.clear()
        self._released.clear()

    def _open(self, connection: sqlite3.Connection, sender: Sender) -> Account:
        cursor = connection.execute(
            _OPEN,
            (
                "anonymous" if sender.producer is None else "producer",
                os.urandom(PRODUCER_BYTES) if sender.permanent else sender.producer,
                sender.producer if sender.permanent else None,
                sender.uid,
                sender.gid,
                sender.pid,
                sender.client,
                sender.permanent,
                self.now,
                self.now,
            ),
        )
        assert cursor.lastrowid is not None  # noqa: S101 - a successful INSERT has one
        return Account(cursor.lastrowid, sender.producer, sender.uid, 0)

    def _reopen(self, connection: sqlite3.Connection, sender: Sender) -> Account | None:
        """Take a producer that was forgotten out of the folded total again."""
        found = connection.execute(_REMEMBERED_ONE, (sender.producer,)).fetchone()
        if found is None:
            return None
        uid, account_id, last_sequence, *counts = found
        if uid != sender.uid:
            raise NotYours(sender.producer or b"", sender.uid)
        folded = connection.execute(_FOLDED).fetchone()
        moved = _take_out(folded, [last_sequence - sum(counts), *counts])
        connection.execute(_UNFOLD, (sum(moved), *moved))
        # What was parked since, by a requeue, waits on in the folded total.
        moved[1] += last_sequence - sum(moved)
        connection.execute(
            _OPEN_AGAIN,
            (
                *(account_id, sender.producer, uid, sender.gid, sender.pid, sender.client),
                *(sender.permanent, self.now, self.now, last_sequence, *moved),
            ),
        )
        connection.execute(_REMEMBER_NO_MORE, (sender.producer,))
        return Account(account_id, sender.producer, uid, last_sequence)

    def _fold(self, connection: sqlite3.Connection, account_id: int) -> None:
        """Add an account to the folded total and delete it, if it is finished and nothing parked.

        How far it came is remembered. One that would bring the total near what an integer holds
        stays as it is: producers may lie.
        """
        if connection.execute(_IS_DONE, (account_id,)).fetchone() is None:
            return
        connection.execute(_OPEN_FOLDED, (self.now, self.now))
        connection.execute(_FOLD, (self.now, account_id))
        connection.execute(_REMEMBER, (self._seen.now(), account_id))
        connection.execute(_FORGET, (account_id,))


#: Where `rejected` stands in what `_FOLDED` returns.
_REJECTED_AT = 3


def _take_out(folded: Sequence[int], wanted: Sequence[int]) -> list[int]:
    """Return what to take of each count, all of `wanted` together where that is possible.

    Requeued events have moved from one count of the folded total to another since. What else is
    rejected there stays: it is counted for events that are in quarantine.
    """
    moved = [min(want, there) for want, there in zip(wanted, folded, strict=True)]
    left = sum(wanted) - sum(moved)
    for position, there in enumerate(folded):
        if position == _REJECTED_AT:
            continue
        more = min(left, there - moved[position])
        moved[position] += more
        left -= more
    return moved


def account_key(sender: Sender) -> object:
    """Return what tells a sender's account from all others."""
    if sender.producer is None:
        return sender.uid
    return (sender.producer, sender.uid) if sender.permanent else sender.producer


def _load(connection: sqlite3.Connection, sender: Sender) -> Account | None:
    if sender.producer is None:
        row = connection.execute(_LOAD_ANONYMOUS, (sender.uid,)).fetchone()
    elif sender.permanent:
        row = connection.execute(_LOAD_PERMANENT, (sender.producer, sender.uid)).fetchone()
    else:
        row = connection.execute(_LOAD, (sender.producer,)).fetchone()
    if row is None:
        return None
    account_id, uid, last_sequence, finished = row
    return Account(account_id, sender.producer, uid, last_sequence, is_finished=bool(finished))


def _rival(connection: sqlite3.Connection, sender: Sender) -> int | None:
    found = connection.execute(_RIVAL, (sender.producer, sender.uid)).fetchone()
    return None if found is None else int(found[0])


_LOAD = """
    SELECT id, uid, last_sequence, finished
    FROM producers
    WHERE producer = ?"""
_LOAD_PERMANENT = """
    SELECT id, uid, last_sequence, finished
    FROM producers
    WHERE source = ?
      AND uid = ?"""
_RIVAL = """
    SELECT uid
    FROM producers
    WHERE source = ?
      AND uid <> ?
    ORDER BY id
    LIMIT 1"""
_IDENTITY = """
    SELECT coalesce(source, producer), uid, client
    FROM producers
    WHERE id = ?"""
_LOAD_ANONYMOUS = """
    SELECT id, uid, last_sequence, finished
    FROM producers
    WHERE kind = 'anonymous'
      AND kind <> 'producer' -- lets the partial index serve
      AND uid = ?"""
_OPEN = """
    INSERT INTO producers (
        kind, producer, source, uid, gid, pid, client, permanent, first_seen, last_seen)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_ADD = """
    UPDATE producers
    SET last_sequence = ?,
        last_seen = ?,
        seen_s = ?,
        stored = stored + ?,
        duplicate = duplicate + ?,
        superseded = superseded + ?,
        parked = parked + ?,
        rejected = rejected + ?,
        lost = lost + ?,
        replayed = replayed + ?,
        shed = max(shed, ?)
    WHERE id = ?"""
_RELEASE = """
    UPDATE producers
    SET parked = parked - ?,
        stored = stored + ?,
        duplicate = duplicate + ?,
        rejected = rejected + ?
    WHERE id = ?"""
_FINISH = """
    UPDATE producers
    SET finished = 1
    WHERE id = ?
      AND permanent = 0"""
_REQUEUE = """
    UPDATE producers
    SET rejected = rejected - 1,
        stored = stored + (:outcome = 'stored'),
        duplicate = duplicate + (:outcome = 'duplicate'),
        superseded = superseded + (:outcome = 'superseded'),
        parked = parked + (:outcome = 'parked')
    WHERE id = :id"""
_SILENT = """
    SELECT id, producer, permanent = 0 AND finished = 0 AND seen_s < ?
    FROM producers
    WHERE id > ?
      AND kind = 'producer'
    ORDER BY id
    LIMIT ?"""
_RESUME = """
    UPDATE producers
    SET finished = 0
    WHERE id = ?"""
_IS_DONE = """
    SELECT 1
    FROM producers
    WHERE id = ?
      AND finished = 1
      AND parked = 0
      AND max(last_sequence, shed) < 0x4000000000000000 - coalesce((
          SELECT max(last_sequence, shed)
          FROM producers
          WHERE kind = 'folded'
            AND kind <> 'producer'), 0) -- lets the partial index serve"""
_OPEN_FOLDED = """
    INSERT INTO producers (kind, uid, first_seen, last_seen)
    VALUES ('folded', 0, ?, ?)
    ON CONFLICT (kind, uid) WHERE kind <> 'producer' DO NOTHING"""
_FOLD = """
    UPDATE producers
    SET last_seen = ?,
        last_sequence = producers.last_sequence + done.last_sequence,
        stored = producers.stored + done.stored,
        duplicate = producers.duplicate + done.duplicate,
        superseded = producers.superseded + done.superseded,
        rejected = producers.rejected + done.rejected,
        lost = producers.lost + done.lost,
        replayed = producers.replayed + done.replayed,
        purged = producers.purged + done.purged,
        shed = producers.shed + done.shed
    FROM (SELECT * FROM producers WHERE id = ?) AS done
    WHERE producers.kind = 'folded'
      AND producers.kind <> 'producer' -- lets the partial index serve"""
_PURGE = """
    UPDATE producers
    SET purged = purged + ?
    WHERE id = ?"""
_PURGE_FOLDED = """
    UPDATE producers
    SET purged = purged + ?
    WHERE kind = 'folded'
      AND kind <> 'producer' -- lets the partial index serve"""
_REMEMBER = """
    INSERT OR REPLACE INTO forgotten_producers
        (producer, uid, account_id, last_sequence, duplicate, superseded, rejected, lost, seen_s)
    SELECT producer, uid, id, last_sequence, duplicate, superseded, rejected, lost, ?
    FROM producers
    WHERE id = ?
      AND last_sequence > 0"""
_REMEMBERED_ONE = """
    SELECT uid, account_id, last_sequence, duplicate, superseded, rejected, lost
    FROM forgotten_producers
    WHERE producer = ?"""
_REMEMBERED_COUNT = "SELECT COUNT(*) FROM forgotten_producers"
_REMEMBER_NO_MORE = """
    DELETE FROM forgotten_producers
    WHERE producer = ?"""
_REJECTED_NO_MORE = """
    UPDATE forgotten_producers
    SET rejected = max(0, rejected - 1)
    WHERE producer = ?
      AND account_id = ?"""
_DROP_OLD = """
    DELETE FROM forgotten_producers
    WHERE producer IN (
        SELECT producer
        FROM forgotten_producers
        WHERE seen_s < ?
        ORDER BY seen_s
        LIMIT ?)"""
_FOLDED = """
    SELECT stored, duplicate, superseded, rejected, lost
    FROM producers
    WHERE kind = 'folded'
      AND kind <> 'producer' -- lets the partial index serve"""
_UNFOLD = """
    UPDATE producers
    SET last_sequence = last_sequence - ?,
        stored = stored - ?,
        duplicate = duplicate - ?,
        superseded = superseded - ?,
        rejected = rejected - ?,
        lost = lost - ?
    WHERE kind = 'folded'
      AND kind <> 'producer' -- lets the partial index serve"""
_OPEN_AGAIN = """
    INSERT INTO producers (
        kind, id, producer, uid, gid, pid, client, permanent, first_seen, last_seen, last_sequence,
        stored, duplicate, superseded, rejected, lost)
    VALUES ('producer', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_FORGET = """
    DELETE FROM producers
    WHERE id = ?"""
