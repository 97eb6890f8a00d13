"""`ggend analytics`: the activity of the swarm in a period, compared with the period before."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import click

from ggend.cli.common.choice import OneOf
from ggend.cli.common.chosen import chosen_database
from ggend.cli.common.command import command
from ggend.cli.common.options import database_option, report_format_option
from ggend.cli.render.output import show_json
from ggend.cli.render.sections import ReportForm, show_sections
from ggend.errors import UsageMistake
from ggend.queries.analytics import Analytics, Count, Period, analyse
from ggend.queries.result import Result
from ggend.queries.snapshot import snapshot
from ggend.queries.summaries import Bucket, Group, Summary
from ggend.queries.time_filters import parse_moment
from ggend_schema.errors import InvalidEvent
from ggend_schema.timestamps import parse_us

__all__ = ["analytics"]

#: Columns of the longest bar of the trend.
_BAR = 24

#: Characters of an error message that are shown: a line of a terminal.
_ERROR_CHARS = 66


@command()
@click.option("--period", "-p", type=OneOf(Period), default="24h", help="Length of the period.")
@click.option("--until", help="End of the period: an age such as 7d, or a date.")
@click.option("--agent", help="Only rows of this agent.")
@database_option
@report_format_option
def analytics(
    *, period: Period, until: str | None, agent: str | None, database: Path | None, form: ReportForm
) -> None:
    """Show the activity of the swarm in a period, compared with the period before.

    The report covers executions, their trend (per hour for 24h, otherwise per day), operations,
    agents, environments, stages, audit entries, collisions, violations and the most frequent
    errors. Percentiles are exact.

    Examples:

        ggend analytics --period 7d
        ggend analytics --period 30d --agent agent-1 --format markdown
        ggend analytics --until 2026-02-01 --format json
    """
    now = datetime.now(UTC)
    end = parse_moment(until, now=now) if until else now.isoformat()
    with snapshot(chosen_database(database)) as connection:
        try:
            found = analyse(connection, period, until_ms=parse_us(end) // 1000, agent=agent)
        except InvalidEvent as error:
            raise UsageMistake(
                f"the {period} before {end} and the {period} before those do not lie within the "
                "years 1970 to 9999",
                hint="give another --until",
            ) from error
    if form is ReportForm.JSON:
        show_json(found)
        return
    whose = f", agent {found.agent}" if found.agent is not None else ""
    show_sections(
        f"{found.since} to {found.until}{whose}",
        _sections(found, draws=form is ReportForm.TABLE and sys.stdout.isatty()),
        form=form,
    )


def _sections(found: Analytics, *, draws: bool) -> list[tuple[str, Result]]:
    trend = _trend(found.trend, draws=draws)
    shown = len(found.agents)
    agents = (
        "Agents"
        if shown == found.agents_total
        else f"The busiest {shown} of {found.agents_total:,} agents"
    )
    return [
        ("Executions", _compared(found.executions, found.before)),
        ("Trend", trend),
        ("Operations", _groups("operation", found.operations)),
        (agents, _groups("agent", found.agents)),
        ("Environments", _groups("environment", found.environments)),
        ("Stages", _stages(found)),
        ("Audit entries", _table(["status", "entries"], [*found.audits.items()])),
        ("Collisions", _counts("type", found.collisions)),
        ("Violations", _counts("metric", found.violations)),
        ("Errors", _errors(found.errors)),
    ]


def _table(columns: list[str], rows: Sequence[tuple[object, ...]]) -> Result:
    return Result(columns=columns, rows=list(rows))


def _compared(now: Summary, before: Summary) -> Result:
    pairs = [
        ("executions", now.executions, before.executions),
        ("passed", now.passed, before.passed),
        ("failed", now.failed, before.failed),
        ("partial", now.partial, before.partial),
        ("cancelled", now.cancelled, before.cancelled),
        ("success, %", _percent(now.success_rate), _percent(before.success_rate)),
        *(
            [("unknown duration", now.unknown_durations, before.unknown_durations)]
            if now.unknown_durations or before.unknown_durations
            else []
        ),
        ("average, ms", now.avg_ms, before.avg_ms),
        ("p50, ms", now.p50_ms, before.p50_ms),
        ("p95, ms", now.p95_ms, before.p95_ms),
        ("longest, ms", now.max_ms, before.max_ms),
    ]
    return _table(
        ["what", "now", "before", "change"],
        [(what, one, other, _change(one, other)) for what, one, other in pairs],
    )


def _change(now: float | None, before: float | None) -> str | None:
    if now is None or before is None:
        return None
    return f"{round(now - before, 2):+,}"


def _percent(share: float | None) -> float | None:
    return None if share is None else round(share * 100, 2)


def _trend(buckets: list[Bucket], *, draws: bool) -> Result:
    most = max(bucket.executions for bucket in buckets)
    if not most:
        return _table([], [])
    columns = ["from", "executions", "failed", "success, %", "average, ms", "p95, ms"]
    # Days begin when the period does, not at midnight.
    rows: list[tuple[object, ...]] = [
        (
            bucket.start[:16].replace("T", " "),
            bucket.executions,
            bucket.failed,
            _percent(bucket.success_rate),
            bucket.avg_ms,
            bucket.p95_ms,
        )
        for bucket in buckets
    ]
    if not draws:
        return _table(columns, rows)
    # A bar instead of the average keeps it within 80 columns.
    return _table(
        [*columns[:3], "p95, ms", ""],
        [
            (*row[:3], row[5], "█" * -(-bucket.executions * _BAR // most))
            for row, bucket in zip(rows, buckets, strict=True)
        ],
    )


def _groups(name: str, groups: list[Group]) -> Result:
    return _table(
        [name, "executions", "failed", "success, %", "average, ms", "p95, ms"],
        [
            (
                group.name,
                group.executions,
                group.failed,
                _percent(group.success_rate),
                group.avg_ms,
                group.p95_ms,
            )
            for group in groups
        ],
    )


def _stages(found: Analytics) -> Result:
    return _table(
        ["stage", "runs", "failed", "average, ms", "p95, ms", "longest, ms", "time, %"],
        [
            (
                stage.stage,
                stage.runs,
                stage.failed,
                stage.avg_ms,
                stage.p95_ms,
                stage.max_ms,
                _percent(stage.share),
            )
            for stage in found.stages
        ],
    )


def _counts(name: str, counts: list[Count]) -> Result:
    return _table(
        [name, "severity", "count"], [(each.name, each.severity, each.count) for each in counts]
    )


def _errors(errors: list[Count]) -> Result:
    return _table(["count", "message"], [(each.count, each.name[:_ERROR_CHARS]) for each in errors])
