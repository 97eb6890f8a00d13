"""Execution view: one execution, as `ggend query execution` shows it.

Fields, then its stages as a waterfall, its audit entries and its violations. Everything that was
stored is escaped here. Never reads the database.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from ggend.cli.render.formats import cell, escape, with_zones
from ggend.cli.render.output import table_text
from ggend.cli.render.styles import STYLES
from ggend.cli.render.waterfall import Span, waterfall
from ggend.queries.execution import Execution, Record
from ggend.queries.result import Result

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["as_json", "decoded", "execution_view", "zoned"]

#: Columns of the output if it does not go to a terminal.
_PIPE_WIDTH = 100

#: Columns of the longest name of a field, and a gap.
_LABEL = 13


def execution_view(found: Execution) -> str:
    """Return everything about one execution as text that is safe to print."""
    from rich.console import Console
    from rich.text import Text

    console = Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH)
    with console.capture() as captured:
        for label, value in _fields(found):
            line = Text(label.ljust(_LABEL), style="bold")
            line.append(escape(value), style=STYLES.get(value, "not bold"))
            # The terminal wraps long lines, so that text copied from it has no line breaks.
            console.print(line, soft_wrap=True)
        console.print()
        _draw_stages(console, found)
    tables = [
        ("audit entries", _compact(found.audit, without="context_json")),
        # The time of a violation is that of its execution.
        ("violations", _compact(found.violations, without="timestamp")),
    ]
    return captured.get() + "".join(_section(name, rows) for name, rows in tables)


def as_json(found: Execution) -> dict[str, Any]:
    """Return everything about one execution, its JSON columns decoded."""
    execution = zoned({**found.execution, "receipt": decoded(found.execution["receipt_json"])})
    del execution["receipt_json"]
    audit = [
        {**entry, "context": decoded(entry["context_json"])} for entry in _objects(found.audit)
    ]
    for entry in audit:
        del entry["context_json"]
    return {
        "execution": execution,
        "stages": found.stages,
        "audit": audit,
        "violations": _objects(found.violations),
        "session": found.session,
    }


def zoned(record: Record) -> Record:
    """Return the record; the times that SQLite wrote have their zone."""
    (values,) = with_zones(list(record), [list(record.values())])
    return dict(zip(record, values, strict=True))


def decoded(text: object) -> Any:
    """Return the value of a JSON column, or the text itself if it is not valid JSON."""
    if not isinstance(text, str):
        return text
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return text


def _objects(result: Result) -> list[Record]:
    return [dict(zip(result.columns, row, strict=True)) for row in result.rows]


def _fields(found: Execution) -> Iterator[tuple[str, str]]:
    execution = found.execution
    for label, column in {
        "execution": "execution_id",
        "agent": "agent_id",
        "operation": "operation",
        "status": "status",
        "error": "error_message",
        "started": "timestamp",
    }.items():
        if execution[column] is not None:
            yield label, str(execution[column])
    yield "duration", _lasted(execution)
    generated, modified = execution["files_generated"], execution["files_modified"]
    yield "files", f"{_number(generated)} generated, {_number(modified)} modified"
    for label, column in {
        "environment": "environment",
        "manifest": "manifest_hash",
        "ontology": "ontology_hash",
    }.items():
        if execution[column] is not None:
            yield label, str(execution[column])
    if execution.get("session_id") is not None:
        yield "session", _session_line(str(execution["session_id"]), found.session)
    if execution["receipt_json"] is not None:
        size = len(str(execution["receipt_json"]).encode(errors="replace"))
        yield "receipt", f"{_number(size)} bytes of JSON (--receipt shows it)"
    yield "row", f"{execution['id']}, stored {execution['created_at']} UTC"


def _session_line(session_id: str, session: Record | None) -> str:
    if session is None:
        return f"{session_id} (not stored)"
    lasted, unknown = session["total_duration_ms"], session["unknown_durations"]
    of_unknown = f", {_number(unknown)} executions of unknown duration" if unknown else ""
    return (
        f"{session_id} ({session['status']}, {_number(session['agent_count'])} agents, "
        f"since {session['start_time']}"
        + (f", {_number(lasted)} ms" if lasted is not None else "")
        + f"{of_unknown})"
    )


def _lasted(record: Record) -> str:
    """Return the duration of an execution or a stage."""
    if record.get("duration_source") is not None:
        return "unknown"
    return f"{_number(record['duration_ms'])} ms"


def _draw_stages(console: Console, found: Execution) -> None:
    from rich.text import Text

    stages = found.stages
    if not stages:
        console.print("no stages", style="dim")
        return
    names = _aligned([cell(stage["stage"]) for stage in stages])
    states = _aligned([cell(stage["status"]) for stage in stages])
    times = _aligned([_lasted(stage) for stage in stages], right=True)
    block, edge = _bar_characters()
    bars = waterfall(
        [Span(_whole(stage["offset_ms"]), _whole(stage["duration_ms"]) or 0) for stage in stages],
        duration_ms=_whole(found.execution["duration_ms"]) or 0,
        width=console.width - len(f"{names[0]}  {states[0]}  {times[0]}  {edge}{edge}"),
        block=block,
    )
    console.print(f"stages ({len(stages)})", style="bold")
    for stage, name, state, time, bar in zip(stages, names, states, times, bars, strict=True):
        style = STYLES.get(stage["status"], "")
        line = Text(f"{name}  ").append(state, style=style).append(f"  {time}  ")
        if bar:
            line.append(edge).append(bar, style=style).append(edge)
        else:
            line.append(f"invalid time: {cell(stage['timestamp'])}")
        console.print(line, soft_wrap=True)
        if stage["error_message"] is not None:
            console.print(Text(f"  {cell(stage['error_message'])}", style="red"), soft_wrap=True)


def _section(name: str, rows: Result) -> str:
    if not rows.rows:
        return f"\nno {name}\n"
    return f"\n{name} ({len(rows.rows)})\n{table_text(rows, kept=rows.columns)}"


def _compact(result: Result, *, without: str) -> Result:
    """Leave out one column, and all empty columns, so that a row fits into a line."""
    kept = [
        (name, column)
        for name, column in zip(result.columns, zip(*result.rows, strict=True), strict=False)
        if name != without and any(value is not None for value in column)
    ]
    return Result(
        columns=[name for name, _ in kept],
        rows=list(zip(*(column for _, column in kept), strict=True)),
    )


def _aligned(texts: list[str], *, right: bool = False) -> list[str]:
    width = max(map(len, texts))
    return [text.rjust(width) if right else text.ljust(width) for text in texts]


def _whole(value: object) -> int | None:
    """Return the value as an integer, or None: SQLite columns may hold values of any type."""
    return int(value) if isinstance(value, (int, float)) else None


def _number(value: object) -> str:
    return f"{value:,}" if isinstance(value, (int, float)) else cell(value)


def _bar_characters() -> tuple[str, str]:
    """Return the characters of a bar and of its edges that the output encoding supports."""
    try:
        "█│".encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return "#", "|"
    return "█", "│"
