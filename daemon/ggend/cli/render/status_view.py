"""Status view: a daemon's answer to `status` on one screen: health, then rates, then the rest.

An answer of another version may lack some of it. Never asks the daemon.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ggend.cli.render.durations import age_text
from ggend.cli.render.record import Section, record_text
from ggend.cli.render.sizes import counted, size_text

__all__ = ["status_view"]

#: What is counted, in the words of `ggend accounts`; the others are shown where they are not zero.
_ALWAYS = ("last_sequence", "stored", "duplicate", "superseded", "parked", "rejected", "lost")
_SOMETIMES = ("replayed", "purged", "shed")

#: Columns of a count.
_COUNT = 15


def status_view(answer: Mapping[str, Any]) -> str:
    """Return the answer as text that is safe to print."""
    return record_text(_sections(answer))


def _sections(answer: Mapping[str, Any]) -> Iterator[Section]:
    up = age_text(answer.get("uptime_seconds") or 0)
    state = (
        f"{answer.get('health')}, up {up}, pid {answer.get('pid')}, ggend {answer.get('version')}"
    )
    yield "", [("health", state), *_troubles(answer), ("hooks", _hooks(answer))]
    yield "", list(_rates(answer))
    yield "", list(_events(answer))
    yield "", list(_places(answer))


def _troubles(answer: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if answer.get("trouble"):
        yield "trouble", str(answer["trouble"])
    for hook, error in (answer.get("hook_errors") or {}).items():
        yield "hook failed", f"{hook}: {error}"
    if answer.get("objectives_error"):
        yield "objectives", f"not reloaded: {answer['objectives_error']}"


def _hooks(answer: Mapping[str, Any]) -> str:
    behind = {hook: lag for hook, lag in (answer.get("hook_lag_rows") or {}).items() if lag}
    if not behind:
        return "up to date"
    return ", ".join(f"{hook} is {counted(lag, 'row')} behind" for hook, lag in behind.items())


def _rates(answer: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    rate = answer.get("events_per_second")
    if rate is not None:
        yield "rate", f"{rate:,} events a second in the last minute"
    age = answer.get("last_commit_age_seconds")
    ago = "just now" if age is not None and age < 1 else f"{age_text(age or 0)} ago"
    last = "" if age is None else f", the last {ago}"
    yield (
        "commits",
        f"{answer.get('commits', 0):,} since the start{last}",
    )
    if (times := _spread(answer, "commit_ms", " ms")) != "":
        yield "commit time", times
    if (batches := _spread(answer, "batch_events", "")) != "":
        yield "events a batch", batches
    queued, size = answer.get("queued_events") or 0, answer.get("queued_bytes") or 0
    yield "queue", f"{counted(queued, 'event')}, {size_text(size)}"


def _spread(answer: Mapping[str, Any], name: str, unit: str) -> str:
    median, most = answer.get(f"{name}_median"), answer.get(f"{name}_max")
    if median is None or most is None:
        return ""
    return f"{median:,}{unit} at the median, {most:,} at most"


def _events(answer: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    since = answer.get("since_start") or {}
    yield "events", f"{'in all':>{_COUNT}}{'since the start':>{_COUNT + 3}}"
    for name in (*_ALWAYS, *_SOMETIMES):
        count, new = answer.get(name), since.get(name, 0)
        if count is not None and (name in _ALWAYS or count or new):
            yield name, f"{count:>{_COUNT},}{new:>{_COUNT + 3},}"


def _places(answer: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield (
        "connections",
        f"{answer.get('connections', 0):,} of at most {answer.get('max_connections', 0):,}; "
        f"{answer.get('connections_total', 0):,} since the start",
    )
    readers = answer.get("wal_pinned_by") or []
    kept = f", kept from shrinking by {'; '.join(map(_reader, readers))}" if readers else ""
    yield "WAL", f"{size_text(answer.get('wal_bytes') or 0)}{kept}"
    yield "database", f"{answer.get('database')}"
    yield "id", f"{answer.get('database_id')}, schema version {answer.get('schema_version')}"
    yield "socket", f"{answer.get('socket')}"
    if answer.get("log_lines_dropped"):
        yield "log", f"{answer['log_lines_dropped']:,} lines were dropped"


def _reader(reader: Mapping[str, Any]) -> str:
    pid = f"pid {reader['pid']}, " if reader.get("pid") else ""
    return f"{reader.get('command')} ({pid}for {age_text(reader.get('seconds') or 0)})"
