"""Who waits while the disk is full: events, until there is room; a request is answered."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio

from ggend.errors import NoRoom
from ggend.ingest.intake import Call, Intake, Lane, Submission
from ggend.ingest.writer import run_writer
from ggend.runtime.metrics import Metrics
from ggend.runtime.shutdown import Shutdown
from ggend.storage.writer_state import WriterState
from support.patience import PATIENCE_SECONDS
from support.store_harness import P1, StoreHarness, audit, opened


class Asked:
    """A call, and what it was answered."""

    def __init__(self, sql: str, *, waits: bool) -> None:
        self.answered = anyio.Event()
        self.answer: Any = None

        def run(connection: sqlite3.Connection, _state: WriterState) -> int:
            return connection.execute(sql).rowcount

        self.call = Call(run, self._take, self._take, waits=waits)

    def _take(self, _call: Call, answer: Any) -> None:
        self.answer = answer
        self.answered.set()


@asynccontextmanager
async def _full(path: Path) -> AsyncIterator[tuple[StoreHarness, Intake, Metrics, anyio.Event]]:
    """A writer whose database has a row and cannot grow."""
    async with opened(path) as harness:
        await harness.settle(audit(operation="old"))
        pages = await harness.value("PRAGMA page_count")
        await harness.rows(f"PRAGMA max_page_count = {pages}")
        intake, metrics, shutdown = Intake(100_000), Metrics(), Shutdown(PATIENCE_SECONDS)
        committed = anyio.Event()
        with anyio.fail_after(PATIENCE_SECONDS):
            async with anyio.create_task_group() as tasks:

                async def write() -> None:
                    await run_writer(
                        *(intake, harness.store, metrics, committed.set, shutdown),
                        batch_events=4_096,
                        checkpoint_events=100_000,
                    )

                tasks.start_soon(write)
                yield harness, intake, metrics, committed
                await harness.rows("PRAGMA max_page_count = 1000000")
                intake.close()


_GROW = "INSERT INTO audit_log (timestamp, agent_id, operation, status, context_json) VALUES "
_MUCH = _GROW + "('t', 'a', 'much', 'completed', hex(zeroblob(200000)))"


async def test_a_request_that_has_no_room_is_answered(in_memory: Path) -> None:
    async with _full(in_memory / "tier2.db") as (harness, intake, metrics, committed):
        asked = Asked(_MUCH, waits=False)
        await intake.put(asked.call, Lane())
        await asked.answered.wait()
        assert isinstance(asked.answer, NoRoom)
        assert "full" in str(asked.answer)
        assert "nothing was changed" in str(asked.answer)
        assert await harness.count("audit_log") == 1
        await committed.wait()  # a page can be written all the same
        assert metrics.trouble is None


async def test_requests_go_before_events_that_wait(in_memory: Path) -> None:
    """What frees rows works, whatever else the batch holds; the events are stored at last."""
    async with _full(in_memory / "tier2.db") as (harness, intake, metrics, _):
        stored = anyio.Event()
        many = [audit(operation=f"{n}", context="x" * 500) for n in range(2_000)]
        waiting = harness.sent(P1, *many)
        waiting.done = lambda _submission, _outcome: stored.set()
        greeting = Asked("SELECT 1", waits=True)
        together = Asked("DELETE FROM audit_log WHERE operation = 'old'", waits=False)
        items: list[Submission | Call] = [waiting, greeting.call, together.call]
        for item in items:
            await intake.put(item, Lane())
        await together.answered.wait()
        assert together.answer == 1
        later = Asked("DELETE FROM audit_log", waits=False)
        await intake.put(later.call, Lane())
        await later.answered.wait()
        assert later.answer == 0
        assert "full" in str(metrics.trouble)
        assert not stored.is_set()
        assert not greeting.answered.is_set()
        await harness.rows("PRAGMA max_page_count = 1000000")
        await stored.wait()
        await greeting.answered.wait()
        assert await harness.count("audit_log") == 2_000
