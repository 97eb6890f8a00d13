"""`ggend analytics`: the activity of the swarm in a period, compared with the period before."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import click

from ggend.cli.common.chosen import chosen_database
from ggend.cli.common.command import command
from ggend.cli.common.filters import agent_option, since_option, until_option
from ggend.cli.common.options import database_option, format_option, section_option
from ggend.cli.render.output import Format, show_json
from ggend.cli.render.sections import Section, show_sections
from ggend.errors import UsageMistake
from ggend.queries.analytics import Analytics, Count, Stage, analyse
from ggend.queries.id_lookup import whole_id
from ggend.queries.result import Result
from ggend.queries.snapshot import snapshot
from ggend.queries.summaries import PERCENTS, Bucket, Group, Summary
from ggend.queries.time_filters import parse_age, parse_moment, parse_period
from ggend_schema.errors import InvalidEvent
from ggend_schema.timestamps import parse_us

__all__ = ["analytics"]

#: The length of the period where nothing else is said.
_PERIOD = "24h"

_PERCENTILES = tuple(f"p{percent}_ms" for percent in PERCENTS)

#: The tables of the report.
_SECTIONS = (
    *("executions", "trend", "operations", "agents", "environments", "stages", "audit"),
    *("collisions", "violations", "errors"),
)

#: Columns of the longest bar of the trend.
_BAR = 24

#: Characters of an error message that are shown: a line of a terminal.
_ERROR_CHARS = 66


@command()
@click.option(
    "--period",
    "-p",
    metavar="AGE",
    help="Length of the period that ends at --until, such as 12h, 7d or 30d. Default: 24h.",
)
@since_option
@until_option
@agent_option
@section_option(*_SECTIONS)
@database_option
@format_option
def analytics(
    *,
    period: str | None,
    since: str | None,
    until: str | None,
    agent: str | None,
    section: str | None,
    database: Path | None,
    form: Format,
) -> None:
    """Show the activity of the swarm in a period, compared with the period before.

    The report covers executions, their trend (per hour up to two days, otherwise per day),
    operations, agents, environments, stages, audit entries, collisions, violations and the most
    frequent errors. Percentiles are exact.

    Examples:

        ggend analytics --period 7d
        ggend analytics --since 30d --agent agent-1 --format markdown
        ggend analytics --until 2026-02-01 --format json
        ggend analytics --section agents --format csv
    """
    if period is not None and since is not None:
        raise UsageMistake("--period and --since cannot be combined", hint="give one of them")
    now = datetime.now(UTC)
    until = parse_moment(until or "0s", now=now)
    begin, _ = parse_period(since, until, now=now)
    until_ms = _ms(until)
    since_ms = _ms(begin) if begin else until_ms - parse_age(period or _PERIOD) * 1000
    with snapshot(chosen_database(database)) as connection:
        try:
            found = analyse(
                connection,
                since_ms=since_ms,
                until_ms=until_ms,
                agent=None if agent is None else whole_id(connection, "agent", agent),
            )
        except InvalidEvent as error:
            raise UsageMistake(
                "the period, or the one of the same length before it, does not lie within the "
                "years 1970 to 9999",
                hint="give another --since, --until or --period",
            ) from error
    if form is Format.JSON and section is None:
        show_json(found)
        return
    whose = f", agent {found.agent}" if found.agent is not None else ""
    show_sections(
        f"{found.since} to {found.until}{whose}",
        _sections(found, form),
        form=form,
        chosen=section,
    )


def _ms(moment: str) -> int:
    return parse_us(moment) // 1000


def _sections(found: Analytics, form: Format) -> list[Section]:
    is_for_people = form in (Format.TABLE, Format.MARKDOWN)
    draws = form is Format.TABLE and sys.stdout.isatty()
    shown = len(found.agents)
    agents = (
        "Agents"
        if shown == found.agents_total
        else f"The busiest {shown} of {found.agents_total:,} agents"
    )
    audits = Result(columns=["status", "entries"], rows=[*found.audits.items()])
    trend = _trend(found.trend, draws=draws, is_for_people=is_for_people)
    return [
        Section("executions", "Executions", _compared(found, is_for_people=is_for_people)),
        Section("trend", "Trend", trend, tuple(trend.columns[:3])),
        _groups("operations", "Operations", "operation", found.operations),
        _groups("agents", agents, "agent", found.agents),
        _groups("environments", "Environments", "environment", found.environments),
        Section("stages", "Stages", _stages(found), ("stage", "runs", "failed", *_PERCENTILES[2:])),
        Section("audit", "Audit entries", audits),
        Section("collisions", "Collisions", _counts("type", found.collisions)),
        Section("violations", "Violations", _counts("metric", found.violations)),
        Section("errors", "Errors", _errors(found.errors, is_for_people=is_for_people)),
    ]


def _table(columns: list[str], rows: Sequence[tuple[object, ...]]) -> Result:
    return Result(columns=columns, rows=list(rows))


def _compared(found: Analytics, *, is_for_people: bool) -> Result:
    now, before = found.executions, found.before
    pairs = [
        ("executions", now.executions, before.executions),
        ("passed", now.passed, before.passed),
        ("failed", now.failed, before.failed),
        ("partial", now.partial, before.partial),
        ("cancelled", now.cancelled, before.cancelled),
        ("success_percent", _percent(now.success_rate), _percent(before.success_rate)),
        *(
            [("unknown_durations", now.unknown_durations, before.unknown_durations)]
            if now.unknown_durations or before.unknown_durations
            else []
        ),
        ("avg_ms", now.avg_ms, before.avg_ms),
        ("p50_ms", now.p50_ms, before.p50_ms),
        ("p90_ms", now.p90_ms, before.p90_ms),
        ("p95_ms", now.p95_ms, before.p95_ms),
        ("p99_ms", now.p99_ms, before.p99_ms),
        ("max_ms", now.max_ms, before.max_ms),
    ]
    return _table(
        ["what", "now", "before", "change"],
        [
            (what, one, other, _change(one, other, is_for_people=is_for_people))
            for what, one, other in pairs
        ],
    )


def _change(now: float | None, before: float | None, *, is_for_people: bool) -> object:
    if now is None or before is None:
        return None
    change = round(now - before, 2)
    return f"{change:+,}" if is_for_people else change


def _percent(share: float | None) -> float | None:
    return None if share is None else round(share * 100, 2)


def _trend(buckets: list[Bucket], *, draws: bool, is_for_people: bool) -> Result:
    most = max(bucket.executions for bucket in buckets)
    if not most:
        return _table([], [])
    columns = ["from", "executions", "failed", "success_percent", "avg_ms", *_PERCENTILES]
    # Days begin when the period does, not at midnight.
    rows: list[tuple[object, ...]] = [
        (
            bucket.start[:16].replace("T", " ") if is_for_people else bucket.start,
            bucket.executions,
            bucket.failed,
            _percent(bucket.success_rate),
            bucket.avg_ms,
            *_percentiles(bucket),
        )
        for bucket in buckets
    ]
    if not draws:
        return _table(columns, rows)
    # A bar instead of the average keeps it within 80 columns.
    return _table(
        [*columns[:3], "p95_ms", ""],
        [
            (*row[:3], bucket.p95_ms, "█" * -(-bucket.executions * _BAR // most))
            for row, bucket in zip(rows, buckets, strict=True)
        ],
    )


def _groups(name: str, title: str, column: str, groups: list[Group]) -> Section:
    result = _table(
        [column, "executions", "failed", "success_percent", "avg_ms", *_PERCENTILES],
        [
            (
                group.name,
                group.executions,
                group.failed,
                _percent(group.success_rate),
                group.avg_ms,
                *_percentiles(group),
            )
            for group in groups
        ],
    )
    return Section(name, title, result, (column, "executions", "failed", *_PERCENTILES[2:]))


def _stages(found: Analytics) -> Result:
    return _table(
        ["stage", "runs", "failed", "avg_ms", *_PERCENTILES, "max_ms", "time_percent"],
        [
            (
                stage.stage,
                stage.runs,
                stage.failed,
                stage.avg_ms,
                *_percentiles(stage),
                stage.max_ms,
                _percent(stage.share),
            )
            for stage in found.stages
        ],
    )


def _percentiles(of: Summary | Stage) -> tuple[int | None, ...]:
    return of.p50_ms, of.p90_ms, of.p95_ms, of.p99_ms


def _counts(name: str, counts: list[Count]) -> Result:
    return _table(
        [name, "severity", "count"], [(each.name, each.severity, each.count) for each in counts]
    )


def _errors(errors: list[Count], *, is_for_people: bool) -> Result:
    most = _ERROR_CHARS if is_for_people else None
    return _table(["count", "message"], [(each.count, each.name[:most]) for each in errors])
