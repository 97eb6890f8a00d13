"""`ggend slo`: check, explain and backtest service-level objectives."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec

from ggend.cli.common.chosen import chosen_database
from ggend.cli.common.command import group
from ggend.cli.common.completion import complete_breaches
from ggend.cli.common.filters import since_option
from ggend.cli.common.options import PATH, database_option, format_option
from ggend.cli.render.output import Format, progress, show, show_json, show_line, show_text
from ggend.cli.render.record import record_text
from ggend.cli.render.sizes import counted
from ggend.config import load_config
from ggend.errors import UsageMistake
from ggend.queries.id_lookup import whole_id
from ggend.queries.result import Result
from ggend.queries.snapshot import require_table, snapshot
from ggend.queries.time_filters import parse_moment
from ggend.slo.backtest import backtest
from ggend.slo.explain import Explained, explain
from ggend.slo.loader import load_objectives

__all__ = ["slo"]

slo = group(
    "slo", "Check service-level objectives, explain breaches, and test proposed objectives."
)


@slo.command("check")
@click.argument(
    "file",
    type=PATH,
    default=None,
    required=False,
    help="A TOML file. Default: the daemon's objectives.",
)
@format_option
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
def check_objectives(*, file: Path | None, form: Format, as_json: bool) -> None:
    """Validate a file of objectives, and list them in the order in which they are matched.

    Exit status: 0 valid, 78 invalid. With an invalid file, the daemon does not start; on reload, it
    keeps its previous objectives.

    Example:

        ggend slo check objectives.toml
    """
    if file is None:
        file = _configured()
    thresholds = load_objectives(file).thresholds
    if as_json or form is Format.JSON:
        show_json(msgspec.to_builtins(thresholds))
        return
    rows: list[tuple[object, ...]] = [
        (
            each.metric,
            "at least" if each.below else "at most",
            _limit(each.warning, form),
            _limit(each.critical, form),
            each.operation or "all",
            each.environment or "all",
        )
        for each in thresholds
    ]
    columns = ["metric", "is", "warning", "critical", "operation", "environment"]
    is_for_all = all(row[4:] == ("all", "all") for row in rows)
    kept = columns[:4] if is_for_all else columns
    show(
        Result(columns=columns, rows=rows),
        form=form,
        kept=kept,
        choice="--format csv shows all",
    )
    if form is Format.TABLE:
        source = file or "the built-in defaults: no file is configured"
        show_line(f"{counted(len(rows), 'objective')} from {source}")


def _limit(limit: float | None, form: Format) -> object:
    """Return a number with its thousands apart for people, as a number for programs."""
    return limit if limit is None or form is not Format.TABLE else f"{limit:,.15g}"


@slo.command("explain")
@click.argument(
    "key",
    help="The id of an execution, or its beginning, or the id of a breach.",
    shell_complete=complete_breaches,
)
@database_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def explain_breach(*, key: str, database: Path | None, as_json: bool) -> None:
    """Show why a breach was recorded: the limit, the rows, and the arithmetic.

    Example:

        ggend slo explain 1
    """
    path = chosen_database(database)
    with snapshot(path) as connection:
        require_table(connection, path, "slo_breaches", lacks="keeps no reasons of a breach")
        found = explain(connection, key)
        if not found:
            found = explain(connection, whole_id(connection, "execution", key))
    if not found:
        raise UsageMistake(
            f"there is no breach with the id or execution {key!r}",
            hint="`ggend query violations` lists the executions with violations",
        )
    if as_json:
        show_json([{**msgspec.to_builtins(each), "arithmetic": each.arithmetic} for each in found])
        return
    for number, each in enumerate(found):
        if number:
            show_line("")
        _show(each)


@slo.command("backtest")
@click.argument("file", type=PATH, help="The proposed objectives, TOML.")
@since_option
@database_option
@format_option
def backtest_objectives(
    *, file: Path, since: str | None, database: Path | None, form: Format
) -> None:
    """Count the breaches of stored executions under proposed and under current objectives.

    Nothing is written. Both sets of objectives are evaluated on the rows as they are now.

    Example:

        ggend slo backtest objectives.toml --since 30d
    """
    proposed = load_objectives(file)
    today = load_objectives(_configured())
    with (
        snapshot(chosen_database(database)) as connection,
        progress(rows=True) as bar,
    ):
        task = bar.add_task("evaluating", total=None)
        tallies = backtest(
            connection,
            proposed,
            today,
            since=since and parse_moment(since, now=datetime.now(UTC)),
            report=lambda done: bar.update(task, completed=done),
        )
    rows: list[tuple[object, ...]] = [
        (
            each.metric,
            each.severity,
            each.proposed,
            each.today,
            _limit(each.worst, form),
            each.execution_id,
        )
        for each in tallies
    ]
    columns = ["metric", "severity", "proposed", "today", "worst", "execution"]
    show(Result(columns=columns, rows=rows), form=form)


def _configured() -> Path | None:
    return load_config(path=None, environ=os.environ, flags={}).config.objectives


def _show(breach: Explained) -> None:
    recorded = "not recorded by ggend" if breach.id is None else breach.id
    lines = [
        (breach.severity, breach.description),
        ("metric", breach.metric),
        ("execution", str(breach.execution_id)),
        ("breach", f"{recorded}, {breach.timestamp}"),
        ("evaluated", breach.arithmetic),
    ]
    for row in breach.rows:
        fields = ", ".join(
            f"{key} {value}"
            for key, value in row.items()
            if key not in ("table", "id") and value is not None
        )
        lines.append(("row", f"{row['table']} {row['id']}: {fields}"))
    if not breach.rows:
        lines.append(("row", "no longer stored"))
    show_text(record_text([("", lines)]))
