"""Analytics: the activity of the swarm in a period, compared with the period before.

Never writes, never reads a clock. Times are compared by julianday(): version 1.0.0 wrote them in
several notations, and text order is time order only within one. An index brings the rows near the
period, by their date (receipts of 30 days and more are scanned); their exact times are compared
afterwards. A row with an invalid time is in no period.
"""

from __future__ import annotations

import sqlite3
from collections import Counter

import msgspec

from ggend.database.known_durations import known_duration
from ggend.queries.summaries import (
    Bucket,
    Group,
    Groups,
    Summary,
    Tally,
    percentiles_ms,
    total_of,
)
from ggend.queries.time_filters import MOMENT
from ggend_schema.timestamps import format_ms

__all__ = ["Analytics", "Count", "Stage", "analyse"]

_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS

#: The longest periods whose trend has a step for each hour, and for each day.
_BY_HOUR_MS = 2 * _DAY_MS
_BY_DAY_MS = 400 * _DAY_MS

#: From here on, reading the whole table once is faster than agent by agent.
_LONG_MS = 7 * _DAY_MS

#: Agents and errors that are listed.
_LISTED = 10

#: Characters of an error message by which messages are told apart: bounds the memory, and what
#: follows is mostly detail of the one case.
_ERROR_CHARS = 200


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """How one stage of the pipeline did; `share` is its part of the time of all stages."""

    stage: str
    runs: int
    failed: int
    #: Runs whose duration nobody recorded: the figures below are of the others, if there are any.
    unknown_durations: int
    avg_ms: float | None
    p50_ms: int | None
    p90_ms: int | None
    p95_ms: int | None
    p99_ms: int | None
    max_ms: int | None
    share: float


class Count(msgspec.Struct, frozen=True, kw_only=True):
    """How often something happened; an error has no severity."""

    name: str
    severity: str | None
    count: int


class Analytics(msgspec.Struct, frozen=True, kw_only=True):
    """A period: since (included) until (not included), and the one before."""

    since: str
    until: str
    agent: str | None
    executions: Summary
    before: Summary
    trend: list[Bucket]
    operations: list[Group]
    agents: list[Group]
    #: All agents of the period, of which the busiest are listed.
    agents_total: int
    environments: list[Group]
    stages: list[Stage]
    audits: dict[str, int]
    #: By type.
    collisions: list[Count]
    #: By metric.
    violations: list[Count]
    #: By message: of executions, stages and audit entries.
    errors: list[Count]


def analyse(
    connection: sqlite3.Connection, *, since_ms: int, until_ms: int, agent: str | None = None
) -> Analytics:
    """Work out a period, which must not be empty, of all agents or of one.

    Raises InvalidEvent if it, or the one before, does not lie within the years 1970 to 9999.
    """
    length_ms = until_ms - since_ms
    step_ms = _step_of(length_ms)
    window = _window(since_ms, until_ms, agent)
    errors: Counter[str] = Counter()
    everything, before = Tally(), Tally()
    operations, agents, environments = Groups(), Groups(), Groups()
    trend = [Tally() for _ in range(-(-length_ms // step_ms))]
    for moment_ms, who, operation, environment, status, duration_ms, error in connection.execute(
        _receipts(length_ms, agent).format(
            duration=known_duration(connection, "receipts", alias="r")
        ),
        _window(since_ms - length_ms, until_ms, agent),
    ):
        if moment_ms < since_ms:
            before.add(status, duration_ms)
            continue
        everything.add(status, duration_ms)
        trend[(moment_ms - since_ms) // step_ms].add(status, duration_ms)
        operations[operation].add(status, duration_ms)
        agents[who].add(status, duration_ms)
        environments[environment].add(status, duration_ms)
        if error:
            errors[error] += 1
    stages = _stages(connection, window, errors)
    audits = _audits(connection, window, errors)
    ranked = agents.ranked()
    return Analytics(
        since=format_ms(since_ms),
        until=format_ms(until_ms),
        agent=agent,
        executions=everything.summary(),
        before=before.summary(),
        trend=[
            tally.bucket(format_ms(since_ms + step * step_ms)) for step, tally in enumerate(trend)
        ],
        operations=operations.ranked(),
        agents=ranked[:_LISTED],
        agents_total=len(ranked),
        environments=environments.ranked(),
        stages=stages,
        audits=audits,
        collisions=[
            Count(name=name, severity=severity, count=count)
            for name, severity, count in connection.execute(_COLLISIONS, window)
        ],
        violations=[
            Count(name=name, severity=severity, count=count)
            for name, severity, count in connection.execute(_VIOLATIONS, window)
        ],
        errors=[
            Count(name=message, severity=None, count=count)
            for message, count in sorted(errors.items(), key=_most_first)[:_LISTED]
        ],
    )


def _step_of(length_ms: int) -> int:
    if length_ms <= _BY_HOUR_MS:
        return _HOUR_MS
    return _DAY_MS if length_ms <= _BY_DAY_MS else 30 * _DAY_MS


def _window(since_ms: int, until_ms: int, agent: str | None) -> dict[str, str | None]:
    """Return the parameters of every query."""
    return {
        "since": format_ms(since_ms),
        "until": format_ms(until_ms),
        # What the index is asked for: whole days, and one more on each side, because an offset
        # such as +02:00 may move the text to another day.
        "low": format_ms(since_ms - _DAY_MS)[:10],
        "high": format_ms(until_ms + 2 * _DAY_MS)[:10],
        "agent": agent,
    }


def _receipts(length_ms: int, agent: str | None) -> str:
    """Return the query for receipts.

    Agent by agent a page is read again for each agent that has a row on it: over a long period of
    all agents, reading the whole table once is faster.
    """
    if agent is not None:
        return _ONE_AGENT + _RECEIPTS + _BY_AGENT + _RECEIPTS_IN_WINDOW
    if length_ms <= _LONG_MS:
        return _ALL_AGENTS + _RECEIPTS + _BY_AGENT + _RECEIPTS_IN_WINDOW
    return _RECEIPTS + _BY_SCAN + _RECEIPTS_IN_WINDOW


def _most_first(counted: tuple[str, int]) -> tuple[int, str]:
    return -counted[1], counted[0]


def _stages(
    connection: sqlite3.Connection, window: dict[str, str | None], errors: Counter[str]
) -> list[Stage]:
    durations: dict[str, Counter[int]] = {}
    unknown: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    statement = _STAGES.format(
        duration=known_duration(connection, "pipeline_metrics", alias="of_agent")
    )
    for stage, status, duration_ms, error in connection.execute(statement, window):
        known = durations.setdefault(stage, Counter())
        if duration_ms is None:
            unknown[stage] += 1
        else:
            known[duration_ms] += 1
        if status == "failed":
            failed[stage] += 1
        if error:
            errors[error] += 1
    whole = sum(map(total_of, durations.values()))
    return [
        Stage(
            stage=stage,
            runs=counts.total() + unknown[stage],
            failed=failed[stage],
            unknown_durations=unknown[stage],
            avg_ms=round(total_of(counts) / counts.total(), 2) if counts else None,
            **percentiles_ms(counts),
            max_ms=max(counts, default=None),
            share=total_of(counts) / whole if whole else 0.0,
        )
        for stage, counts in sorted(durations.items())
    ]


def _audits(
    connection: sqlite3.Connection, window: dict[str, str | None], errors: Counter[str]
) -> dict[str, int]:
    cursor = connection.execute(_AUDITS, window)
    counts = dict(zip((name for name, *_ in cursor.description), cursor.fetchone(), strict=True))
    for error, count in connection.execute(_AUDIT_ERRORS, window):
        errors[error] += count
    return counts


# Composed of this module's constants alone, hence S608.

_OF_RECEIPT = MOMENT.format(time="r.timestamp")
_OF_ROW = MOMENT.format(time="timestamp")
#: Agents one by one through the index, instead of a scan: receipts have no index on time alone.
_ALL_AGENTS = """
    WITH RECURSIVE agents (agent_id) AS (
        SELECT MIN(agent_id)
        FROM receipts
        UNION ALL
        SELECT (SELECT MIN(r.agent_id) FROM receipts AS r WHERE r.agent_id > a.agent_id)
        FROM agents AS a
        WHERE a.agent_id IS NOT NULL
    )"""
_ONE_AGENT = """
    WITH agents (agent_id) AS (VALUES (:agent))"""
_RECEIPTS = f"""
    SELECT
        CAST(round(({_OF_RECEIPT} - 2440587.5) * 86400000) AS INTEGER),
        r.agent_id,
        r.operation,
        r.environment,
        r.status,
        {{duration}},
        substr(r.error_message, 1, {_ERROR_CHARS})"""
_BY_AGENT = """
    FROM agents AS a
    CROSS JOIN receipts AS r -- in this order: agents are few
    WHERE r.agent_id = a.agent_id"""
_BY_SCAN = """
    FROM receipts AS r NOT INDEXED
    WHERE true"""
_RECEIPTS_IN_WINDOW = f"""
      AND r.timestamp >= :low
      AND r.timestamp < :high
      AND {_OF_RECEIPT} >= julianday(:since)
      AND {_OF_RECEIPT} < julianday(:until)"""
_IN_WINDOW = f"""
    WHERE timestamp >= :low
      AND timestamp < :high
      AND {_OF_ROW} >= julianday(:since)
      AND {_OF_ROW} < julianday(:until)"""
_OF_AGENT = """
      AND (:agent IS NULL OR EXISTS (
          SELECT 1
          FROM receipts AS r
          WHERE r.execution_id = of_agent.execution_id
            AND r.agent_id = :agent))"""
_STAGES = f"""
    SELECT stage, status, {{duration}}, substr(error_message, 1, {_ERROR_CHARS})
    FROM pipeline_metrics AS of_agent {_IN_WINDOW} {_OF_AGENT}"""  # noqa: S608
#: Four counts in one pass: grouped, SQLite would sort millions of rows to make four.
_AUDITS = f"""
    SELECT
        COUNT(*) FILTER (WHERE status = 'started') AS started,
        COUNT(*) FILTER (WHERE status = 'completed') AS completed,
        COUNT(*) FILTER (WHERE status = 'failed') AS failed,
        COUNT(*) FILTER (WHERE status = 'skipped') AS skipped
    FROM audit_log {_IN_WINDOW}
      AND (:agent IS NULL OR agent_id = :agent)"""  # noqa: S608
_AUDIT_ERRORS = f"""
    SELECT substr(error_message, 1, {_ERROR_CHARS}), COUNT(*)
    FROM audit_log
    WHERE status = 'failed'
      AND error_message <> ''
      AND {_OF_ROW} >= julianday(:since)
      AND {_OF_ROW} < julianday(:until)
      AND (:agent IS NULL OR agent_id = :agent)
    GROUP BY 1"""  # noqa: S608
_COLLISIONS = f"""
    SELECT collision_type, severity, COUNT(*)
    FROM collision_detection {_IN_WINDOW}
      AND (:agent IS NULL OR :agent IN (agent_id_1, agent_id_2))
    GROUP BY 1, 2
    ORDER BY 3 DESC, 1, 2"""  # noqa: S608
_VIOLATIONS = f"""
    SELECT metric, severity, COUNT(*)
    FROM slo_violations AS of_agent {_IN_WINDOW} {_OF_AGENT}
    GROUP BY 1, 2
    ORDER BY 3 DESC, 1, 2"""  # noqa: S608
