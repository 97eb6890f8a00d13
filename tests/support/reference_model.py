"""Reference model: what becomes of each event by the promises alone, in memory, one at a time.

It knows nothing of SQL, batched statements, caches or transactions. What the stored ones look like
in their tables is in `table_model`.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple, TypeAlias

import msgspec

from ggend_schema import (
    Audit,
    Collision,
    Event,
    EventCode,
    MemorySaved,
    ReceiptEmitted,
    SessionEnded,
    SessionStarted,
    StageCompleted,
)

__all__ = ["Account", "Delivery", "Fates", "Held", "Offer", "ReferenceModel", "Waiting"]

Outcome: TypeAlias = Literal["stored", "duplicate", "superseded", "parked", "rejected"]
Parent: TypeAlias = tuple[str, str]

#: The order in which the events of one batch take effect: parents first.
RANKS: tuple[type[Event], ...] = (
    SessionStarted,
    ReceiptEmitted,
    StageCompleted,
    Collision,
    SessionEnded,
    MemorySaved,
    Audit,
)


class Offer(NamedTuple):
    """An event as it was sent. Each has a stamp of its own; `broken` is why it is no event."""

    event: Event | None
    stamp_ns: int
    encoded: bytes
    encoding: str
    broken: EventCode | None = None


class Delivery(NamedTuple):
    """What one submission brings. Without a producer: lines of a user, without numbers."""

    producer: bytes | None
    uid: int
    first_sequence: int | None
    offers: Sequence[Offer]
    lost: int = 0
    shed: int = 0
    permanent: bool = False


@dataclass
class Account:
    """Who sent how many events and what became of them."""

    kind: Literal["producer", "anonymous", "folded"]
    producer: bytes | None
    uid: int
    permanent: bool = False
    finished: bool = False
    last_sequence: int = 0
    shed: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    #: The total that this account was added to, if it is forgotten.
    folded_into: Account | None = None

    @property
    def current(self) -> Account:
        """The account that counts for this one now."""
        return self.folded_into or self


@dataclass(frozen=True)
class Held:
    """An event with the account that its fate counts in, and its number there."""

    account: Account
    sequence: int
    offer: Offer
    #: Whom it came from, as the quarantine says.
    producer: bytes | None
    uid: int
    #: Why it was rejected.
    code: EventCode | None = None


class Waiting(NamedTuple):
    """A parked event."""

    parent: Parent
    since: int
    held: Held


@dataclass
class Fates:
    """What a submission is told."""

    last_sequence: int
    failure: EventCode | None = None
    counts: Counter[str] = field(default_factory=Counter)
    rejects: list[tuple[int, EventCode]] = field(default_factory=list)


#: An event on its way, and who is told what became of it.
Case: TypeAlias = tuple[Held, Callable[[Held, Outcome, EventCode | None], None]]


class ReferenceModel:
    """The state of one database."""

    def __init__(self, parked_limit: int, refuses: Callable[[Event], bool]) -> None:
        self.accounts: list[Account] = []
        self.stored: list[Held] = []
        self.memories: dict[str, tuple[tuple[str, bytes, int], Held]] = {}
        self.parked: list[Waiting] = []
        self.rejected: list[Held] = []
        #: Commits so far, with the one that is being reckoned.
        self.commits = 0
        #: Events whose parent is stored, but which wait still while others are parked.
        self._late = 0
        self._parked_limit = parked_limit
        self._refuses = refuses
        self._receipts: dict[str, ReceiptEmitted] = {}
        self._sessions: dict[str, SessionStarted] = {}
        self._ends: dict[str, SessionEnded] = {}
        self._freed: list[Account] = []
        #: Accounts that were added to the total.
        self.remembered: dict[bytes | None, Account] = {}

    # What is asked of it

    def settle(self, deliveries: Iterable[Delivery], *, late: int = 0) -> list[Fates]:
        """Settle a batch.

        Of what it releases, so many are stored after it only. They count as parked until then:
        they are in the table, and its size is what the limit bounds.
        """
        cases: list[Case] = []
        fates = [self._admit(delivery, cases) for delivery in deliveries]
        self._decide(cases, late)
        return fates

    def open(self, producer: bytes | None, uid: int, *, permanent: bool = False) -> Account:
        """Return the sender's account; one that said it was done has come back."""
        kind: Literal["producer", "anonymous"] = "producer" if producer else "anonymous"
        for account in self.accounts:
            if account.kind == kind and (account.producer or account.uid) == (producer or uid):
                account.finished = False
                return account
        if producer in self.remembered:
            return self._reopen(self.remembered.pop(producer), permanent=permanent)
        account = Account(kind, producer, uid, permanent)
        self.accounts.append(account)
        return account

    def finish(self, producer: bytes) -> None:
        """A producer is done, or taken to be."""
        for account in list(self.accounts):
            if account.producer == producer and not account.permanent:
                account.finished = True
                self._fold(account)

    def requeue(
        self, wanted: Sequence[Held], *, late: int = 0
    ) -> list[tuple[Outcome, EventCode | None]]:
        """Try rejected events again; `late` as for a batch."""
        told: dict[int, tuple[Outcome, EventCode | None]] = {}

        def tell(held: Held, outcome: Outcome, code: EventCode | None) -> None:
            (place,) = (n for n, row in enumerate(self.rejected) if row.offer is held.offer)
            if outcome == "rejected":
                self.rejected[place] = replace(self.rejected[place], code=code)
            else:
                del self.rejected[place]
                if (forgotten := self.remembered.get(held.producer)) is not None:
                    forgotten.counts["rejected"] = max(0, forgotten.counts["rejected"] - 1)
            told[held.offer.stamp_ns] = outcome, code
            self._move(held.account, "parked", outcome)

        for held in wanted:
            self._count(held.account, "rejected", -1)
            self._count(held.account, "parked", 1)
        self._decide(
            [(replace(held, account=held.account.current, code=None), tell) for held in wanted],
            late,
        )
        return [told[held.offer.stamp_ns] for held in wanted]

    def settled(self, producer: bytes | None) -> int:
        """Return the last number of a producer that is known, also of one that is forgotten."""
        known = [account for account in self.accounts if account.producer == producer]
        known += [self.remembered[producer]] if producer in self.remembered else []
        return max((account.last_sequence for account in known), default=0)

    def purge_rejected(self, unwanted: Sequence[Held]) -> None:
        """Throw rejected events away."""
        for held in unwanted:
            self.rejected.remove(held)
            self._count(held.account, "purged", 1)

    def give_up(self, commits: int) -> None:
        """Reject what was parked by the first so many commits."""
        expired = [waiting for waiting in self.parked if waiting.since <= commits]
        self.parked = [waiting for waiting in self.parked if waiting.since > commits]
        for waiting in expired:
            self._released(waiting.held, "rejected", EventCode.ORPHANED)
        self._fold_freed()

    # How

    def _admit(self, delivery: Delivery, cases: list[Case]) -> Fates:
        account = self.open(delivery.producer, delivery.uid, permanent=delivery.permanent)
        expected = account.last_sequence + 1
        first = delivery.first_sequence or expected
        fates = Fates(account.last_sequence)
        if first - delivery.lost > expected:
            fates.failure = EventCode.GAP
            return fates

        def tell(held: Held, outcome: Outcome, code: EventCode | None) -> None:
            account.counts[outcome] += 1
            fates.counts[outcome] += 1
            if code is not None:
                fates.rejects.append((held.sequence, code))
                self.rejected.append(replace(held, code=code))

        account.shed = max(account.shed, delivery.shed)
        if first > expected:
            account.counts["lost"] += first - expected
            account.last_sequence = first - 1
        for sequence, offer in enumerate(delivery.offers, first):
            if sequence <= account.last_sequence:
                account.counts["replayed"] += 1
                fates.counts["replayed"] += 1
            else:
                account.last_sequence = sequence
                held = Held(account, sequence, offer, account.producer, account.uid)
                cases.append((held, tell))
        fates.last_sequence = account.last_sequence
        return fates

    def _decide(self, cases: Iterable[Case], late: int) -> None:
        self._late = late
        released = 0
        waiting: dict[type[Event] | None, deque[Case]] = {kind: deque() for kind in (None, *RANKS)}
        for case in cases:
            event = case[0].offer.event
            waiting[None if event is None else type(event)].append(case)
        for held, tell in waiting[None]:
            tell(held, "rejected", held.offer.broken)
        for kind in RANKS:
            queue = waiting[kind]
            while queue:
                held, tell = queue.popleft()
                outcome, code = self._fate(held)
                tell(held, outcome, code)
                if outcome == "stored" and kind in (SessionStarted, ReceiptEmitted):
                    released += self._release(held, waiting)
        assert late <= released
        self._fold_freed()

    def _fate(self, held: Held) -> tuple[Outcome, EventCode | None]:
        event = held.offer.event
        assert event is not None
        parent = parent_of(event)
        if parent is not None and parent[1] not in (
            self._receipts if parent[0] == "receipt" else self._sessions
        ):
            if len(self.parked) + self._late >= self._parked_limit:
                return "rejected", EventCode.PARKED_FULL
            self.parked.append(Waiting(parent, self.commits, held))
            return "parked", None
        outcome = self._known(event)
        if outcome is None and isinstance(event, MemorySaved):
            assert event.timestamp is not None
            key = event.timestamp, held.producer or b"", held.sequence
            if event.agent_id in self.memories and key < self.memories[event.agent_id][0]:
                outcome = "superseded"
        if outcome is not None:
            return outcome, EventCode.CONFLICT if outcome == "rejected" else None
        if self._refuses(event):
            return "rejected", EventCode.REFUSED_BY_DATABASE
        match event:
            case ReceiptEmitted():
                self._receipts[event.execution_id] = event
            case SessionStarted():
                self._sessions[event.session_id] = event
            case SessionEnded():
                self._ends[event.session_id] = event
            case MemorySaved():
                self.memories[event.agent_id] = key, held
                return "stored", None
        self.stored.append(held)
        return "stored", None

    def _known(self, event: Event) -> Outcome | None:
        """What an event is to the one that has its id already, if one has."""
        there: Event | None = None
        match event:
            case ReceiptEmitted():
                there = self._receipts.get(event.execution_id)
            case SessionStarted():
                there = self._sessions.get(event.session_id)
            case SessionEnded():
                there = self._ends.get(event.session_id)
        if there is None:
            return None
        if isinstance(there, ReceiptEmitted) and isinstance(event, ReceiptEmitted):
            there, event = as_stored(there), as_stored(event)
            if event.duration_source and there.duration_ms == 0:
                # A plain 0 is what versions without the mark stored for an unknown duration.
                there = msgspec.structs.replace(there, duration_source="unknown")
        return "duplicate" if content(there) == content(event) else "rejected"

    def _release(self, held: Held, waiting: dict[type[Event] | None, deque[Case]]) -> int:
        """What waited for this one comes before what came with it; return how many that are."""
        event = held.offer.event
        if isinstance(event, ReceiptEmitted):
            parent = "receipt", event.execution_id
        else:
            assert isinstance(event, SessionStarted)
            parent = "session", event.session_id
        children = [child for child in self.parked if child.parent == parent]
        for child in reversed(children):
            assert child.held.offer.event is not None
            waiting[type(child.held.offer.event)].appendleft((child.held, self._released))
        self.parked = [child for child in self.parked if child.parent != parent]
        return len(children)

    def _released(self, held: Held, outcome: Outcome, code: EventCode | None) -> None:
        self._move(held.account, "parked", outcome)
        if code is not None:
            # Of one that was put back after its producer was forgotten, nobody knows any more.
            account = held.account.current
            self.rejected.append(
                replace(
                    held, account=account, producer=account.producer, uid=account.uid, code=code
                )
            )

    def _move(self, account: Account, column: str, to: str) -> None:
        self._count(account, column, -1)
        self._count(account, to, 1)
        self._freed.append(account.current)

    def _count(self, account: Account, column: str, change: int) -> None:
        account.current.counts[column] += change

    def _fold_freed(self) -> None:
        for account in self._freed:
            self._fold(account)
        self._freed.clear()

    def _fold(self, account: Account) -> None:
        """Add one that is done to the total, unless something of it is still parked."""
        if not account.finished or account.counts["parked"] or account.folded_into is not None:
            return
        total = next((other for other in self.accounts if other.kind == "folded"), None)
        if total is None:
            total = Account("folded", None, 0)
            self.accounts.append(total)
        total.counts.update(account.counts)
        total.last_sequence += account.last_sequence
        total.shed += account.shed
        account.folded_into = total
        self.accounts.remove(account)
        if account.last_sequence:
            self.remembered[account.producer] = account

    def _reopen(self, account: Account, *, permanent: bool) -> Account:
        """Take one that is forgotten out of the total, as far as its counts are still there."""
        (total,) = (other for other in self.accounts if other.kind == "folded")
        names = ("stored", "duplicate", "superseded", "rejected", "lost")
        wanted = Counter({name: account.counts[name] for name in names[1:]})
        wanted["stored"] = account.last_sequence - wanted.total()
        moved = Counter({name: min(wanted[name], total.counts[name]) for name in names})
        for name in (name for name in names if name != "rejected"):
            moved[name] += min(wanted.total() - moved.total(), total.counts[name] - moved[name])
        total.counts.subtract(moved)
        total.last_sequence -= moved.total()
        moved["duplicate"] += account.last_sequence - moved.total()
        account.counts, account.shed, account.permanent = moved, 0, permanent
        account.finished, account.folded_into = False, None
        self.accounts.append(account)
        return account


def parent_of(event: Event) -> Parent | None:
    """What an event cannot be stored without."""
    if isinstance(event, StageCompleted):
        return "receipt", event.execution_id
    if isinstance(event, Collision | SessionEnded):
        return "session", event.session_id
    return None


def as_stored(event: ReceiptEmitted) -> ReceiptEmitted:
    """The receipt as it is stored: 0 stands for an unknown duration."""
    return msgspec.structs.replace(event, duration_ms=0) if event.duration_source else event


def content(event: Event) -> str:
    """What makes two events of one id the same: everything but the moment."""
    fields = msgspec.structs.asdict(event) | {"timestamp": None}
    if isinstance(event, ReceiptEmitted):
        fields["files_generated"] = fields["files_generated"] or 0
    return repr(fields)
