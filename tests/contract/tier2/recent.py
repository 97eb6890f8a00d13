"""Recent: what `recent_executions` says, compared with the rows that were inserted.

How the view is written is nobody's business here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

from contract.tier2.check import Check, expect
from contract.tier2.promise import WORDS
from contract.tier2.replica import Probe, Replica

__all__ = ["checks"]

_VIEW = "recent_executions"

#: Executions that it shows at most.
_NEWEST = 100

_START = "2026-01-29T12:00:00.000Z"


class Window(NamedTuple):
    """Audit entries without an execution, and how many fall into a receipt's time."""

    what: str
    receipt: str
    duration_ms: int
    entries: tuple[str, ...]
    counted: int


def checks() -> Iterator[Check]:
    """All checks of what the view says."""
    yield Check(f"{_VIEW} of nothing", _is_empty)
    yield Check("recent_executions: the newest 100", _shows_the_newest)
    yield Check("recent_executions: by id", _goes_by_id)
    yield Check("recent_executions: fewer than 100", _shows_all)
    yield Check("recent_executions: values", _shows_the_receipts)
    yield Check("recent_executions: violations", _counts_violations)
    for claim in (
        _counts_by_execution,
        _counts_once,
        _counts_own_agent,
        _counts_in_each,
        _counts_old_and_new,
    ):
        what = claim.__name__.strip("_").replace("_", " ")
        yield Check(f"recent_executions.audit_entries {what}", claim, added=True)
    for window in _windows():
        name = f"recent_executions.audit_entries: {window.what}"
        yield Check(name, partial(_counts_by_time, window), added=True)


def _is_empty(replica: Replica) -> None:
    with replica.probe() as probe:
        expect(probe.view(_VIEW) == [], f"{_VIEW}: has rows without any data")


def _names(rows: Iterable[dict[str, Any]]) -> list[Any]:
    return [row.get("execution_id") for row in rows]


def _shows_the_newest(replica: Replica) -> None:
    with replica.probe() as probe:
        for number in range(_NEWEST + 30):
            probe.insert("receipts", execution_id=f"e{number}")
        found = _names(probe.view(_VIEW))
        expect(
            len(found) == _NEWEST,
            f"recent_executions: shows {len(found)} rows of 130, the contract says {_NEWEST}",
        )
        wanted = [f"e{number}" for number in reversed(range(30, _NEWEST + 30))]
        expect(
            found == wanted,
            "recent_executions: does not show the newest 100 receipts, newest first",
        )


def _goes_by_id(replica: Replica) -> None:
    """Neither by timestamp nor by created_at, which hold what a client or a clock said."""
    with replica.probe() as probe:
        for place in (700, 20, 350):
            probe.insert(
                "receipts",
                id=place,
                execution_id=f"e{place}",
                timestamp=f"2026-01-29T12:00:00.{1000 - place:03}Z",
                created_at=f"2026-01-{30 - place // 100:02} 12:00:00",
            )
        found = _names(probe.view(_VIEW))
        expect(
            found == ["e700", "e350", "e20"],
            f"recent_executions: order is {found}, the contract says by id, newest first",
        )


def _shows_all(replica: Replica) -> None:
    with replica.probe() as probe:
        for _ in range(37):
            probe.insert("receipts")
        found = len(probe.view(_VIEW))
        expect(found == 37, f"recent_executions: shows {found} rows of 37, the contract says 37")


def _shows_the_receipts(replica: Replica) -> None:
    receipts = [
        {
            "execution_id": f"e{number}",
            "agent_id": f"a{number}",
            "operation": operation,
            "status": WORDS["receipts", "status"][number % 4],
            "timestamp": f"2026-01-29T12:00:{number:02}.000Z",
            "files_generated": number or None,
            "files_modified": 3 * number,
            "duration_ms": 1000 + number,
        }
        for number, operation in enumerate(WORDS["receipts", "operation"])
    ]
    with replica.probe() as probe:
        for receipt in receipts:
            probe.insert("receipts", **receipt)
        found = {row.get("execution_id"): row for row in probe.view(_VIEW)}
    for receipt in receipts:
        row = found.get(receipt["execution_id"], {})
        for name, value in receipt.items():
            expect(
                row.get(name) == value,
                f"recent_executions.{name}: is {row.get(name)!r}, the receipt has {value!r}",
            )


def _counts_violations(replica: Replica) -> None:
    with replica.probe() as probe:
        for number in range(4):
            probe.insert("receipts", execution_id=f"e{number}")
            for _ in range(number):
                probe.insert("slo_violations", execution_id=f"e{number}", metric="m")
        probe.insert("slo_violations", execution_id="nowhere")
        found = {row.get("execution_id"): row.get("slo_violations") for row in probe.view(_VIEW)}
        expect(
            found == {"e0": 0, "e1": 1, "e2": 2, "e3": 3},
            f"recent_executions.slo_violations: counts {found}, there are 0, 1, 2 and 3",
        )


def _expect_entries(probe: Probe, wanted: dict[str, int], what: str) -> None:
    for row in probe.view(_VIEW):
        name = row.get("execution_id")
        if name in wanted:
            found, right = row.get("audit_entries"), wanted[name]
            expect(
                found == right,
                f"recent_executions.audit_entries: is {found!r} for {what}, "
                f"the contract says {right}",
            )


def _counts_by_execution(replica: Replica) -> None:
    with replica.probe() as probe:
        for number in range(3):
            probe.insert("receipts", execution_id=f"e{number}", agent_id="a", timestamp=_START)
            for _ in range(number):
                probe.insert(
                    "audit_log",
                    execution_id=f"e{number}",
                    agent_id="somebody",
                    timestamp="1999-01-01T00:00:00.000Z",
                )
        wanted = {"e0": 0, "e1": 1, "e2": 2}
        _expect_entries(probe, wanted, "entries that name their execution")


def _counts_once(replica: Replica) -> None:
    """An entry that names its execution is not looked for by time as well."""
    with replica.probe() as probe:
        for name in ("mine", "other"):
            probe.insert(
                "receipts", execution_id=name, agent_id="a", timestamp=_START, duration_ms=1000
            )
        probe.insert("audit_log", execution_id="mine", agent_id="a", timestamp=_START)
        wanted = {"mine": 1, "other": 0}
        _expect_entries(probe, wanted, "an entry with an execution and within the time")


def _counts_own_agent(replica: Replica) -> None:
    with replica.probe() as probe:
        for agent in ("a", "A", "a "):
            probe.insert(
                "receipts",
                execution_id=f"by {agent}",
                agent_id=agent,
                timestamp=_START,
                duration_ms=1000,
            )
        probe.insert("audit_log", agent_id="a", timestamp=_START)
        wanted = {"by a": 1, "by A": 0, "by a ": 0}
        _expect_entries(probe, wanted, "an entry of one agent")


def _counts_in_each(replica: Replica) -> None:
    with replica.probe() as probe:
        for name in ("first", "second"):
            probe.insert(
                "receipts", execution_id=name, agent_id="a", timestamp=_START, duration_ms=1000
            )
        for _ in range(3):
            probe.insert("audit_log", agent_id="a", timestamp=_START)
        _expect_entries(probe, {"first": 3, "second": 3}, "two executions at once")


def _counts_old_and_new(replica: Replica) -> None:
    with replica.probe() as probe:
        probe.insert(
            "receipts", execution_id="e", agent_id="a", timestamp=_START, duration_ms=60_000
        )
        probe.insert("audit_log", execution_id="e", agent_id="b", timestamp="2020-01-01T00:00:00Z")
        probe.insert("audit_log", agent_id="a", timestamp="2026-01-29 12:00:30")
        probe.insert("audit_log", agent_id="a", timestamp="2026-01-29T12:00:30.500Z")
        _expect_entries(probe, {"e": 3}, "entries of both kinds")


def _windows() -> Iterator[Window]:
    start = "2026-01-29T12:00:00.500Z"
    for what, entry, counted in (
        ("at its start", "2026-01-29T12:00:00.500Z", True),
        ("a millisecond before", "2026-01-29T12:00:00.499Z", False),
        ("a second before", "2026-01-29T11:59:59.500Z", False),
        ("within", "2026-01-29T12:00:01.000Z", True),
        ("at its end", "2026-01-29T12:00:02.000Z", True),
        ("a millisecond after", "2026-01-29T12:00:02.001Z", False),
        ("a second after", "2026-01-29T12:00:03.000Z", False),
        ("a day after", "2026-01-30T12:00:01.000Z", False),
        ("no time", "", False),
        ("a word for a time", "yesterday", False),
    ):
        yield Window(f"entry {what}", start, 1500, (entry,), counted)
    yield Window("no duration", start, 0, (start, "2026-01-29T12:00:00.501Z"), 1)
    yield Window("midnight", "2026-12-31T23:59:59.900Z", 200, ("2027-01-01T00:00:00.050Z",), 1)
    late = ("2026-01-29T22:00:00.499Z", "2026-01-29T22:00:00.501Z")
    yield Window("ten hours", start, 36_000_000, late, 1)
    yield Window("a receipt without a time", "", 1000, (start,), 0)
    notations = {
        "milliseconds": "2026-01-29T12:00:0{}.000Z",
        "seconds": "2026-01-29T12:00:0{}Z",
        "a space": "2026-01-29 12:00:0{}",
        "a space and milliseconds": "2026-01-29 12:00:0{}.000",
        "an offset of zero": "2026-01-29T12:00:0{}.000+00:00",
    }
    for one, receipt in notations.items():
        for other, entry in notations.items():
            # A second before it, the first, one within, the last, a second after.
            entries = tuple(entry.format(second) for second in (1, 2, 3, 4, 5))
            what = f"receipt with {one}, entries with {other}"
            yield Window(what, receipt.format(2), 2000, entries, 3)


def _counts_by_time(window: Window, replica: Replica) -> None:
    with replica.probe() as probe:
        probe.insert(
            "receipts",
            execution_id="e",
            agent_id="a",
            timestamp=window.receipt,
            duration_ms=window.duration_ms,
        )
        for entry in window.entries:
            probe.insert("audit_log", agent_id="a", timestamp=entry)
        what = f"{window.duration_ms} ms from {window.receipt!r} and {', '.join(window.entries)}"
        _expect_entries(probe, {"e": window.counted}, what)
