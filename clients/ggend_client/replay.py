"""Replay: deliver what processes that have ended left in a spool directory.

Each of their spools is adopted under its lock and brought to the daemon by a worker of its own,
under the dead producer's id, so that the daemon recognises what it has already. Interrupted at
any moment, the next one goes on where the daemon says that it is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from ggend_client import fork_hooks
from ggend_client.errors import ClientError
from ggend_client.spool.directory import SpoolSummary, list_spools, lock_path
from ggend_client.spool.lock import destination_of
from ggend_client.spool.spool import Spool
from ggend_client.transport.backoff import Backoff
from ggend_client.transport.outbox import Outbox
from ggend_client.transport.requests import known_sequence
from ggend_client.transport.sender import Sender
from ggend_client.transport.session import Session
from ggend_client.transport.worker import Worker

__all__ = ["ReplayReport", "left_behind", "replay"]


class ReplayReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a replay did."""

    #: Spools that were delivered whole, and are gone.
    spools: int = 0
    #: Events that the daemon settled.
    events: int = 0
    #: Events that are still there.
    left: int = 0
    #: Events that were set aside, because they are over thirty days old by every clock.
    expired: int = 0
    #: Producers whose old events were not sent, though asked for: the daemon does not know them,
    #: and may have stored some before it forgot them.
    doubtful: tuple[SpoolSummary, ...] = ()
    #: What was not sent because it is meant for another socket.
    elsewhere: tuple[SpoolSummary, ...] = ()
    #: Why events are left, for people.
    error: str | None = None


def left_behind(directory: Path, socket: Path) -> tuple[bool, int]:
    """Return whether something waits here for who comes by on the way to this socket.

    And how many producers the directory has. Raises OSError.
    """
    found = list_spools(directory)
    destination = destination_of(socket)
    waits = any(
        _is_left_behind(directory, one) and one.destination in {"", destination} for one in found
    )
    return waits, len(found)


def replay(
    directory: Path,
    places: Callable[[], Sequence[Path]],
    *,
    timeout: float,
    all_sockets: bool = False,
    expired: bool = False,
    accept_duplicates: bool = False,
) -> ReplayReport:
    """Deliver the spools of processes that have ended, for at most `timeout` seconds.

    `places` returns the sockets to try, the first of which is the one that spools must be meant
    for, or else (`all_sockets`) may be. `expired`: also what is too old, unless it may be stored
    already and the daemon cannot tell, or else (`accept_duplicates`) all of it. Never raises: what
    went wrong is in the report.
    """
    deadline = time.monotonic() + timeout
    spools = events = left = too_old = 0
    error: str | None = None
    destination = destination_of(places()[0])
    elsewhere: list[SpoolSummary] = []
    doubtful: list[SpoolSummary] = []
    try:
        found = list_spools(directory)
    except OSError as problem:
        return ReplayReport(error=str(problem))
    for summary in found:
        is_asked_for = expired and bool(summary.expired) and not summary.is_held
        if not (is_asked_for or _is_left_behind(directory, summary)):
            continue
        if time.monotonic() >= deadline:
            error = error or "there was no time for all"
            break
        if not all_sockets and summary.destination not in {"", destination}:
            elsewhere.append(summary)  # a test's daemon, another host directory's
            continue
        try:
            takes_old = expired and (accept_duplicates or _is_sure(summary, places))
            spool = Spool(directory, summary.producer)
            settled, remaining, reason = _deliver(
                spool, summary.producer, places, deadline, expired=takes_old
            )
            if expired and not takes_old and (summary.expired or spool.expired):
                doubtful.append(summary)
            too_old += spool.expired
        except (OSError, ClientError) as problem:
            error = str(problem)  # the next one may be all right
            continue
        events += settled
        left += remaining
        spools += settled > 0 and not remaining
        error = reason if remaining else error
    return ReplayReport(
        spools=spools,
        events=events,
        left=left,
        expired=too_old,
        doubtful=tuple(doubtful),
        elsewhere=tuple(elsewhere),
        error=error,
    )


def _is_left_behind(directory: Path, summary: SpoolSummary) -> bool:
    if summary.is_held:
        return False
    if summary.segments or summary.parts:
        return True
    return not summary.expired and lock_path(directory, summary.producer).exists()


def _is_sure(summary: SpoolSummary, places: Callable[[], Sequence[Path]]) -> bool:
    """Return whether the daemon would recognise what it has of this producer, if it has any.

    Raises ClientErrors.
    """
    if not summary.is_offered:
        return True
    return any(known_sequence(place, summary.producer) for place in places() if place.exists())


def _deliver(
    spool: Spool,
    producer: bytes,
    places: Callable[[], Sequence[Path]],
    deadline: float,
    *,
    expired: bool,
) -> tuple[int, int, str | None]:
    """Return how many events were settled, how many were not, and what went wrong last."""
    try:
        is_adopted = spool.adopt(expired=expired)
    except ClientError:
        spool.close()  # somebody else may be able to
        raise
    if not is_adopted or spool.first_sequence is None:
        spool.close()
        return 0, 0, None
    offered = spool.unsettled()
    adopted = _Adopted(spool, producer, spool.first_sequence, places)
    fork_hooks.watch(adopted)
    adopted.worker.stop(deadline)
    adopted.worker.run()
    left = spool.unsettled()
    return offered - left, left, adopted.worker.last_error


class _Adopted:
    """The worker of a dead producer; a child that is forked meanwhile has no part in it."""

    def __init__(
        self,
        spool: Spool,
        producer: bytes,
        first_sequence: int,
        places: Callable[[], Sequence[Path]],
    ) -> None:
        outbox = Outbox(max_events=0, max_bytes=0)
        session = Session(producer, client_name="ggend_client.replay", base=first_sequence - 1)
        self.worker = Worker(
            outbox,
            session,
            Sender(outbox, session, spool, time.monotonic),
            places,
            linger_seconds=0,
            backoff=Backoff(),
        )

    def begin_anew(self) -> None:
        """Give up what belongs to the parent (see `fork_hooks`)."""
        self.worker.abandon()
