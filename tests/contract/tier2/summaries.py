"""Summaries: what the two summaries say, compared with what Python computes from the same rows.

How the views are written is nobody's business here.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from random import Random
from typing import Any

from contract.tier2.check import Check, expect
from contract.tier2.promise import WORDS
from contract.tier2.replica import Replica

__all__ = ["checks"]

_AGENTS = "agent_performance_summary"
_STAGES = "pipeline_stage_performance"

#: Half of the last decimal that an average has.
_HALF_CENT = 0.005 + 1e-9


def checks() -> Iterator[Check]:
    """All checks of what the summaries say."""
    for view in (_AGENTS, _STAGES):
        yield Check(f"{view} of nothing", partial(_is_empty, view))
    for what, agents in _agents().items():
        yield Check(f"agent_performance_summary: {what}", partial(_sums_up_agents, agents))
    yield Check("agent_performance_summary: order", _orders_agents)
    yield Check("agent_performance_summary: missing counts", _sums_up_missing_counts)
    for what, stages in _stages().items():
        yield Check(f"pipeline_stage_performance: {what}", partial(_sums_up_stages, stages))
    yield Check("pipeline_stage_performance: order", _orders_stages)
    for view in (_AGENTS, _STAGES):
        yield Check(f"{view}: unknown durations", partial(_leaves_out_unknown, view), added=True)


def _is_empty(view: str, replica: Replica) -> None:
    with replica.probe() as probe:
        expect(probe.view(view) == [], f"{view}: has rows without any data")


def _expect_average(name: str, found: object, durations: Sequence[int]) -> None:
    exact = sum(durations) / len(durations)
    expect(
        isinstance(found, int | float)
        and abs(found - exact) <= _HALF_CENT
        and round(found, 2) == found,
        f"{name}: is {found!r} for {exact!r}, the contract says 2 decimals",
    )


def _expect_values(view: str, row: dict[str, Any], wanted: Mapping[str, object]) -> None:
    for name, right in wanted.items():
        expect(
            row.get(name) == right, f"{view}.{name}: is {row.get(name)!r}, the rows say {right!r}"
        )


#: What an agent did: status, duration, files, second of the day.
_Deeds = list[tuple[str, int, int, int]]


def _agents() -> dict[str, dict[str, _Deeds]]:
    random = Random(1)
    statuses = WORDS["receipts", "status"]
    return {
        "one of each status": {"a": [(status, 10, 1, 5) for status in statuses]},
        "thirds": {"a": [("passed", ms, 0, ms) for ms in (10, 10, 11)]},
        "large durations": {"a": [("failed", 10**12, 10**12, 3)] * 4},
        "the latest is not the last": {"a": [("passed", 5, 1, 50), ("failed", 3, 2, 10)]},
        "many": {
            f"agent-{number}": [
                (
                    random.choice(statuses),
                    random.randrange(7000),
                    random.randrange(9),
                    random.randrange(60),
                )
                for _ in range(number + 1)
            ]
            for number in range(7)
        },
    }


def _sums_up_agents(agents: dict[str, _Deeds], replica: Replica) -> None:
    view = _AGENTS
    with replica.probe() as probe:
        for agent, deeds in agents.items():
            for status, duration, files, second in deeds:
                probe.insert(
                    "receipts",
                    agent_id=agent,
                    status=status,
                    duration_ms=duration,
                    files_generated=files,
                    timestamp=f"2026-01-29T12:00:{second % 60:02}.000Z",
                )
        found = {row.get("agent_id"): row for row in probe.view(view)}
    expect(set(found) == set(agents), f"{view}: has rows for {sorted(found, key=str)}")
    for agent, deeds in agents.items():
        row = found[agent]
        counts = Counter(status for status, _, _, _ in deeds)
        durations = [duration for _, duration, _, _ in deeds]
        latest = max(second % 60 for _, _, _, second in deeds)
        wanted = {
            "total_executions": len(deeds),
            "successful_executions": counts["passed"],
            "failed_executions": counts["failed"],
            "min_duration_ms": min(durations),
            "max_duration_ms": max(durations),
            "total_files_generated": sum(files for _, _, files, _ in deeds),
            "last_execution": f"2026-01-29T12:00:{latest:02}.000Z",
        }
        _expect_values(view, row, wanted)
        _expect_average(f"{view}.avg_duration_ms", row.get("avg_duration_ms"), durations)


def _orders_agents(replica: Replica) -> None:
    with replica.probe() as probe:
        for agent, executions in (("b", 2), ("c", 5), ("a", 1), ("d", 3)):
            for _ in range(executions):
                probe.insert("receipts", agent_id=agent)
        found = [row.get("agent_id") for row in probe.view(_AGENTS)]
        expect(
            found == ["c", "d", "b", "a"],
            f"agent_performance_summary: order is {found}, the contract says most executions first",
        )


def _sums_up_missing_counts(replica: Replica) -> None:
    """files_generated may be NULL: the others are summed all the same."""
    with replica.probe() as probe:
        for files in (None, 4, 3, None):
            probe.insert("receipts", agent_id="a", files_generated=files, duration_ms=10)
        row = probe.view(_AGENTS)[0]
        wanted = {"total_files_generated": 7, "total_executions": 4, "avg_duration_ms": 10}
        _expect_values("agent_performance_summary", row, wanted)


def _stages() -> dict[str, dict[str, list[tuple[str, int]]]]:
    random = Random(2)
    words = WORDS["pipeline_metrics", "stage"]
    return {
        "one of each status": {words[0]: [("passed", 7), ("failed", 9)]},
        "thirds": {words[4]: [("passed", ms) for ms in (10, 10, 11)]},
        "all failed": {words[1]: [("failed", 10**12)] * 3},
        "many": {
            word: [
                (random.choice(("passed", "failed")), random.randrange(3000))
                for _ in range(5 * number)
            ]
            for number, word in enumerate(words, start=1)
        },
    }


def _sums_up_stages(stages: dict[str, list[tuple[str, int]]], replica: Replica) -> None:
    view = _STAGES
    with replica.probe() as probe:
        for stage, runs in stages.items():
            for status, duration in runs:
                probe.insert("pipeline_metrics", stage=stage, status=status, duration_ms=duration)
        found = {row.get("stage"): row for row in probe.view(view)}
    expect(set(found) == set(stages), f"{view}: has rows for {sorted(found, key=str)}")
    for stage, runs in stages.items():
        durations = [duration for _, duration in runs]
        counts = Counter(status for status, _ in runs)
        wanted = {
            "executions": len(runs),
            "min_duration_ms": min(durations),
            "max_duration_ms": max(durations),
            "passed": counts["passed"],
            "failed": counts["failed"],
        }
        _expect_values(view, found[stage], wanted)
        _expect_average(f"{view}.avg_duration_ms", found[stage].get("avg_duration_ms"), durations)


def _leaves_out_unknown(view: str, replica: Replica) -> None:
    """They count as executions; where no duration is known there are no figures."""
    table, name, executions = {
        _AGENTS: ("receipts", "agent_id", "total_executions"),
        _STAGES: ("pipeline_metrics", "stage", "executions"),
    }[view]
    some, none = WORDS["pipeline_metrics", "stage"][:2]
    with replica.probe() as probe:
        for whose, duration, source in (
            (some, 0, "unknown"),
            (some, 10, None),
            (some, 20, None),
            (some, 0, "unknown"),
            (none, 0, "unknown"),
        ):
            named = {name: whose}
            probe.insert(table, duration_ms=duration, duration_source=source, **named)
        found = {row.get(name): row for row in probe.view(view)}
    columns = (executions, "avg_duration_ms", "min_duration_ms", "max_duration_ms")
    for whose, right in ((some, (4, 15, 10, 20)), (none, (1, None, None, None))):
        expect(whose in found, f"{view}: has no row for {whose}")
        _expect_values(view, found[whose], dict(zip(columns, right, strict=True)))


def _orders_stages(replica: Replica) -> None:
    """By the average, not by the longest or the most."""
    durations: dict[str, list[int]] = defaultdict(list)
    for place, times in enumerate(([9000, 1, 1, 1], [3000], [2600, 2600], [2500], [4000])):
        durations[WORDS["pipeline_metrics", "stage"][place]] += times
    with replica.probe() as probe:
        for stage, times in durations.items():
            for duration in times:
                probe.insert("pipeline_metrics", stage=stage, duration_ms=duration)
        found = [row.get("stage") for row in probe.view(_STAGES)]
    wanted = sorted(durations, key=lambda stage: -sum(durations[stage]) / len(durations[stage]))
    expect(
        found == wanted,
        f"pipeline_stage_performance: order is {found}, the contract says slowest average first",
    )
