"""Expiry: removes what has become too old, in slices short enough to run between two batches.

Events parked for longer than `parked_max_age_days` go to quarantine as `orphaned`. Producers that
were silent for longer than `producer_max_silence_days` are forgotten, as if they had finished. Both
are measured by the time that daemons have seen (`seen_time`), never by the wall clock. Never writes
by itself: each slice is a call in the writer's turn.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

import anyio

from ggend.config import Config
from ggend.ingest.intake import Call, Intake, Lane
from ggend.ingest.outcomes import Item, ReleasedOutcomes
from ggend.storage.parking import Place
from ggend.storage.writer_state import WriterState
from ggend_schema.codes import EventCode

__all__ = ["begin_round", "forget_silent", "give_up_parked", "run_expiry"]

log = logging.getLogger("ggend.expiry")

#: Rows that one slice looks at. It reads no payload of those that stay: about a millisecond.
SLICE_ROWS = 1_000

#: Seconds between two rounds at most, and the share of the age that they may be late.
_ROUND_SECONDS = 600.0
_LATE_SHARE = 0.1

#: Days of seen time for which a producer that was forgotten is remembered, and how many of them at
#: most: 68 MiB.
REMEMBERED_DAYS = 400
REMEMBERED_PRODUCERS = 1_000_000

_DAY_SECONDS = 86_400

T = TypeVar("T")


async def run_expiry(intake: Intake, config: Config) -> None:
    """Do a round every ten minutes, or more often where events expire sooner. Ends cancelled."""
    age = timedelta(days=config.parked_max_age_days).total_seconds()
    while True:
        await _round(intake, config)
        await anyio.sleep(min(_ROUND_SECONDS, age * _LATE_SHARE))


async def _round(intake: Intake, config: Config) -> None:
    now_s = await _asked(intake, begin_round)
    if now_s is None:
        return
    days = config.parked_max_age_days
    before_s = now_s - int(days * _DAY_SECONDS)
    place: Place | None = None
    while True:
        place = await _asked(intake, _parked_slice(before_s, days, place))
        if place is None:
            break
    before_s = now_s - int(config.producer_max_silence_days * _DAY_SECONDS)
    after: int | None = 0
    while after is not None:
        after = await _asked(intake, _silent_slice(before_s, after))
    is_done: bool | None = False
    while is_done is False:
        is_done = await _asked(intake, _remembered_slice(now_s - REMEMBERED_DAYS * _DAY_SECONDS))


def begin_round(connection: sqlite3.Connection, state: WriterState) -> int | None:
    """Save the seen time and return it; None when the wall clock was set: nothing expires then."""
    state.seen.save(connection)
    jumped = state.seen.jump()
    if not jumped:
        return state.seen.now()
    log.warning("the system clock jumped; nothing expires in this round", extra={"seconds": jumped})
    return None


def _parked_slice(
    before_s: int, days: float, after: Place | None
) -> Callable[[sqlite3.Connection, WriterState], Place | None]:
    return lambda connection, state: give_up_parked(
        connection, state, before_s=before_s, days=days, after=after
    )


def _silent_slice(
    before_s: int, after: int
) -> Callable[[sqlite3.Connection, WriterState], int | None]:
    return lambda connection, state: forget_silent(
        connection, state, before_s=before_s, after=after
    )


def _remembered_slice(before_s: int) -> Callable[[sqlite3.Connection, WriterState], bool]:
    return lambda connection, state: state.accounts.forget_forgotten(
        connection, before_s=before_s, most=REMEMBERED_PRODUCERS, limit=SLICE_ROWS
    )


async def _asked(
    intake: Intake, run: Callable[[sqlite3.Connection, WriterState], T | None]
) -> T | None:
    """Run a slice in the writer's turn; None also where it failed: the next round tries again."""
    done = anyio.Event()
    result: T | None = None

    def take(_call: Call, value: T | None) -> None:
        nonlocal result
        result = value
        done.set()

    def fail(_call: Call, error: Exception) -> None:
        log.warning("expiry failed and will be retried", extra={"error": error})
        done.set()

    await intake.put(Call(run, take, fail), Lane())
    await done.wait()
    return result


def give_up_parked(
    connection: sqlite3.Connection,
    state: WriterState,
    *,
    before_s: int,
    days: float,
    after: Place | None,
    limit: int = SLICE_ROWS,
) -> Place | None:
    """Reject what was parked before a seen time, among the next rows; return where to go on."""
    expired, place = state.parking.expire(connection, before_s=before_s, after=after, limit=limit)
    for one in expired:
        parked = one.parked
        recorder = ReleasedOutcomes(connection, state, parked.account_id)
        recorder.reject(
            Item(recorder, parked.sequence, parked.event, parked.stamp_ns, None),
            EventCode.ORPHANED,
            f"its {one.parent} {one.parent_id!r} did not arrive within {days:g} days",
        )
    state.quarantine.save(connection)
    state.accounts.save(connection)
    if expired:
        log.info("rejected expired events", extra={"parked events": len(expired)})
    return place


def forget_silent(
    connection: sqlite3.Connection,
    state: WriterState,
    *,
    before_s: int,
    after: int,
    limit: int = SLICE_ROWS,
) -> int | None:
    """Forget producers last heard of before a seen time, among the next; return where to go on."""
    # A producer that said Hello in this batch is not silent, but its row is not updated yet.
    state.accounts.save(connection)
    return state.accounts.forget_silent(connection, before_s=before_s, after=after, limit=limit)
