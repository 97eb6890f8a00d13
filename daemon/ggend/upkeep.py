"""Upkeep: what time does to a database, in slices short enough to run between two batches.

What has been parked for longer than `parked_max_age_days` goes to quarantine as `orphaned`.
Producers that were silent for longer than `producer_max_silence_days` are forgotten, as if they had
said that they were done. Never writes by itself: each slice is a call in the writer's turn.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

import anyio

from ggend.books import Books
from ggend.config import Config
from ggend.intake import Call, Intake
from ggend.ledger import Released
from ggend.parking import Place
from ggend_schema.codes import EventCode
from ggend_schema.timestamps import format_ms

__all__ = ["forget_silent", "give_up_parked", "run_upkeep"]

log = logging.getLogger("ggend.upkeep")

#: Rows that one slice looks at. It reads no payload of those that stay: about a millisecond.
SLICE_ROWS = 1_000

#: Seconds between two rounds at most, and the share of the age that they may be late.
_ROUND_SECONDS = 600.0
_LATE_SHARE = 0.1

_DAY_NS = 86_400 * 1_000_000_000

T = TypeVar("T")


async def run_upkeep(
    intake: Intake, config: Config, clock: Callable[[], int] = time.time_ns
) -> None:
    """Do a round every ten minutes, or more often where events expire sooner. Ends cancelled."""
    age = timedelta(days=config.parked_max_age_days).total_seconds()
    while True:
        await _round(intake, config, clock)
        await anyio.sleep(min(_ROUND_SECONDS, age * _LATE_SHARE))


async def _round(intake: Intake, config: Config, clock: Callable[[], int]) -> None:
    before_ns = clock() - int(config.parked_max_age_days * _DAY_NS)
    days = config.parked_max_age_days
    place: Place | None = None
    while True:
        place = await _asked(intake, _parked_slice(before_ns, days, place))
        if place is None:
            break
    silent_ns = clock() - int(config.producer_max_silence_days * _DAY_NS)
    before = format_ms(max(0, silent_ns) // 1_000_000)
    after: int | None = 0
    while after is not None:
        after = await _asked(intake, _silent_slice(before, after))


def _parked_slice(
    before_ns: int, days: float, after: Place | None
) -> Callable[[sqlite3.Connection, Books], Place | None]:
    return lambda connection, books: give_up_parked(
        connection, books, before_ns=before_ns, days=days, after=after
    )


def _silent_slice(before: str, after: int) -> Callable[[sqlite3.Connection, Books], int | None]:
    return lambda connection, books: forget_silent(connection, books, before=before, after=after)


async def _asked(intake: Intake, run: Callable[[sqlite3.Connection, Books], T | None]) -> T | None:
    """Run a slice in the writer's turn; None also where it failed: the next round tries again."""
    done = anyio.Event()
    result: T | None = None

    def take(_call: Call, value: T | None) -> None:
        nonlocal result
        result = value
        done.set()

    def fail(_call: Call, error: Exception) -> None:
        log.warning("upkeep failed, to be tried again", extra={"error": error})
        done.set()

    await intake.put(Call(run, take, fail), _round)
    await done.wait()
    return result


def give_up_parked(
    connection: sqlite3.Connection,
    books: Books,
    *,
    before_ns: int,
    days: float,
    after: Place | None,
    limit: int = SLICE_ROWS,
) -> Place | None:
    """Reject what was parked before a moment, among the next rows; return where to go on."""
    expired, place = books.parking.expire(connection, before_ns=before_ns, after=after, limit=limit)
    for one in expired:
        parked = one.parked
        ledger = Released(connection, books, parked.account_id)
        ledger.reject(
            (ledger, parked.sequence, parked.event, parked.stamp_ns, None),
            EventCode.ORPHANED,
            f"its {one.parent} {one.parent_id!r} did not come within {days:g} days",
        )
    books.quarantine.save(connection)
    books.accounts.save(connection)
    if expired:
        log.info("given up", extra={"parked events": len(expired)})
    return place


def forget_silent(
    connection: sqlite3.Connection,
    books: Books,
    *,
    before: str,
    after: int,
    limit: int = SLICE_ROWS,
) -> int | None:
    """Forget producers last heard of before a moment, among the next; return where to go on."""
    # Who said Hello in this very batch has been heard of, though its row does not say so yet.
    books.accounts.save(connection)
    return books.accounts.forget_silent(connection, before=before, after=after, limit=limit)
