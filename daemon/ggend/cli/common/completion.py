"""Completion: what Tab offers for the values of options and arguments.

Ids come from the database that the command line chooses: only read, at most for a moment, and
nothing where that fails. What reads it is imported only when Tab asks.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar, get_args, get_type_hints

from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    import sqlite3

    from click import Context, Parameter

    from ggend_schema.events import Event

__all__ = [
    "Completer",
    "complete_breaches",
    "complete_choices",
    "complete_columns",
    "complete_event_types",
    "complete_fields",
    "complete_ids",
    "complete_log_levels",
    "complete_memories",
    "complete_percentile_names",
    "complete_producers",
    "complete_rejected",
    "complete_tables",
    "complete_words",
]

T = TypeVar("T")

Items: TypeAlias = list[CompletionItem[str]]
Completer: TypeAlias = Callable[["Context", "Parameter", str], Items]

#: How long Tab waits for a database that does not answer. Index steps take some ms.
_WAIT_SECONDS = 2.0

#: Fields of events that are ids, and of what.
_ID_FIELDS: Mapping[str, Literal["execution", "agent", "session"]] = {
    "agent_id": "agent",
    "agent_id_1": "agent",
    "agent_id_2": "agent",
    "execution_id": "execution",
    "session_id": "session",
}

#: The columns of what is no list of `list_definitions`, by the command.
_COLUMNS: Mapping[str, str] = {
    "accounts": "account kind producer client uid last_sequence stored duplicate superseded parked "
    "rejected lost replayed purged shed permanent finished first_seen last_seen id",
    "config show": "key value source meaning",
    "parked list": "waits_for parent_id events age types since clients producers",
    "query percentiles": "runs p50_ms p90_ms p95_ms p99_ms",
    "query recent": "execution_id agent_id operation status timestamp files_generated "
    "files_modified duration_ms audit_entries slo_violations",
    "rejected list": "id received_at code message event_type producer sequence client uid "
    "size_bytes kept",
    "spool list": "producer owner events bytes age set_aside meant_for",
}

#: One column of a summary, by the line of its SQL: `agent_id,` or `COUNT(*) AS runs,`.
_SUMMARY_COLUMN = re.compile(r"^ +(?:.* AS )?(\w+),?$", re.MULTILINE)


def complete_words(*words: str) -> Completer:
    """Complete one of some words."""

    def complete(_ctx: Context, _param: Parameter, incomplete: str) -> Items:
        return _items(words, incomplete)

    return complete


def complete_ids(kind: Literal["execution", "agent", "session"]) -> Completer:
    """Complete an id that is stored."""

    def complete(ctx: Context, _param: Parameter, incomplete: str) -> Items:
        return _items(_ids(ctx, kind, incomplete), incomplete)

    return complete


def complete_memories(ctx: Context, _param: Parameter, incomplete: str) -> Items:
    """Complete an agent that saved a memory."""

    def read(connection: sqlite3.Connection) -> list[str]:
        from ggend.queries.suggestions import agents_with_memory

        return agents_with_memory(connection, incomplete)

    return _items(_from_database(ctx, read), incomplete)


def complete_breaches(ctx: Context, _param: Parameter, incomplete: str) -> Items:
    """Complete the id of a breach, newest first, or an execution with a violation."""

    def read(connection: sqlite3.Connection) -> list[CompletionItem[str]]:
        from ggend.queries.suggestions import breaches, violated_executions

        numbered = [
            CompletionItem(number, help=about) for number, about in breaches(connection, incomplete)
        ]
        return numbered + _items(violated_executions(connection, incomplete), incomplete)

    return _from_database(ctx, read)


def complete_rejected(ctx: Context, param: Parameter, incomplete: str) -> Items:
    """Complete the id of a rejected event that is not on the line yet, newest first."""

    def read(connection: sqlite3.Connection) -> list[tuple[str, str]]:
        from ggend.queries.suggestions import rejected_events

        return rejected_events(connection, incomplete)

    given = ctx.params.get(param.name or "")
    taken = {str(one) for one in given} if isinstance(given, tuple) else set()
    found = _from_database(ctx, read)
    return [CompletionItem(one, help=about) for one, about in found if one not in taken]


def complete_producers(ctx: Context, _param: Parameter, incomplete: str) -> Items:
    """Complete the id of a producer."""

    def read(connection: sqlite3.Connection) -> list[str]:
        from ggend.queries.suggestions import producers

        return producers(connection, incomplete.lower())

    return _items(_from_database(ctx, read), incomplete.lower())


def complete_tables(ctx: Context, param: Parameter, incomplete: str) -> Items:
    """Complete the name of a table; of an argument, also `all`."""

    def read(connection: sqlite3.Connection) -> list[str]:
        from ggend.queries.suggestions import tables

        return tables(connection)

    more = ["all"] if param.param_type_name == "argument" else []
    return _items([*more, *_from_database(ctx, read)], incomplete)


def complete_choices(ctx: Context, param: Parameter, incomplete: str) -> Items:
    """Complete a filter by the values that the command's list allows."""
    from ggend.queries.list_definitions import LISTINGS

    listing = LISTINGS.get(ctx.command.name or "")
    choices = listing.choices.get(param.name or "", {}) if listing else {}
    return _items(_typed(choices, incomplete), incomplete)


def complete_columns(ctx: Context, _param: Parameter, incomplete: str) -> Items:
    """Complete the last column of `a,b`, by the columns that are not there yet."""
    given, comma, last = incomplete.rpartition(",")
    taken = given.split(",")
    names = [name for name in _columns(ctx) if name not in taken]
    return _items((f"{given}{comma}{name}" for name in names), f"{given}{comma}{last}")


def complete_event_types(_ctx: Context, _param: Parameter, incomplete: str) -> Items:
    """Complete the type of an event."""
    from ggend_schema.events import EVENT_TYPES

    return _items(EVENT_TYPES, incomplete)


def complete_fields(ctx: Context, _param: Parameter, incomplete: str) -> Items:
    """Complete `key=` by the fields of the event's type, and their values where they are known."""
    from ggend_schema.events import EVENT_TYPES

    event = EVENT_TYPES.get(str(ctx.params.get("kind")))
    if event is None:
        return []
    key, sign, value = incomplete.partition("=")
    if sign:
        return _items((f"{key}={one}" for one in _values(ctx, event, key, value)), incomplete)
    given = {str(one).partition("=")[0].removesuffix(":") for one in ctx.params.get("fields") or ()}
    fields = [field for field in event.__struct_fields__ if field not in given]
    return _items((f"{field}{_sign(event, field)}" for field in fields), incomplete)


def complete_percentile_names(ctx: Context, _param: Parameter, incomplete: str) -> Items:
    """Complete the stage, agent or operation that `--by` groups by."""
    from ggend_schema.events import STAGES, Operation

    match str(ctx.params.get("by") or "stage"):
        case "agent":
            return _items(_ids(ctx, "agent", incomplete), incomplete)
        case "operation":
            return _items(get_args(Operation), incomplete)
        case _:
            return _items(_typed(STAGES, incomplete), incomplete)


def complete_log_levels(_ctx: Context, _param: Parameter, incomplete: str) -> Items:
    """Complete a level of the log."""
    from ggend.config import Config

    return _items(get_args(get_type_hints(Config)["log_level"]), incomplete)


def _items(words: Iterable[str], incomplete: str) -> Items:
    """Return the words that begin so. What a shell cannot show on one line is left out."""
    return [
        CompletionItem(word) for word in words if word.startswith(incomplete) and word.isprintable()
    ]


def _typed(words: Iterable[str], incomplete: str) -> list[str]:
    """Leave out spellings with letters that no keyboard has, unless one is typed."""
    return [word for word in words if word.isascii() or word[0] == incomplete[:1]]


def _ids(ctx: Context, kind: Literal["execution", "agent", "session"], text: str) -> list[str]:
    def read(connection: sqlite3.Connection) -> list[str]:
        from ggend.queries.suggestions import ids

        return ids(connection, kind, text)

    return _from_database(ctx, read)


def _columns(ctx: Context) -> list[str]:
    from ggend.queries.list_definitions import LISTINGS

    name = ctx.command_path.partition(" ")[2]
    if name in _COLUMNS:
        return _COLUMNS[name].split()
    listing = LISTINGS.get(name.removeprefix("query "))
    if listing is None:
        return []
    if listing.summary is not None:
        return _SUMMARY_COLUMN.findall(listing.summary[0])
    listed = [column.rpartition(" AS ")[2] for column in listing.columns]

    def read(connection: sqlite3.Connection) -> list[str]:
        from ggend.queries.suggestions import columns_of

        return columns_of(connection, listing.table)

    return [*listed, *(one for one in _from_database(ctx, read) if one not in listed)]


def _values(ctx: Context, event: type[Event], key: str, value: str) -> list[str]:
    """Return the values of a field: the allowed words, or the ids that are stored."""
    if key in _ID_FIELDS:
        return _ids(ctx, _ID_FIELDS[key], value)
    from ggend_schema.value_words import allowed_words

    return list(allowed_words(event, key))


def _sign(event: type[Event], field: str) -> str:
    """Return what stands between a field and its value: `:=` where that is JSON."""
    from ggend_schema.value_words import requirement

    return ":=" if requirement(event, field) is None else "="


def _from_database(ctx: Context, read: Callable[[sqlite3.Connection], list[T]]) -> list[T]:
    """Read the database that the command line chooses; nothing where that fails or takes long."""
    from threading import Thread

    found: list[T] = []
    reader = Thread(target=partial(_read, ctx.params.get("database"), read, found), daemon=True)
    reader.start()
    reader.join(_WAIT_SECONDS)
    return [*found]


def _read(flag: Path | None, read: Callable[[sqlite3.Connection], list[T]], found: list[T]) -> None:
    from ggend.cli.common.chosen import chosen_database
    from ggend.queries.suggestions import glance

    # Whatever it is, the person is typing: there is no place for an error.
    with suppress(Exception), glance(chosen_database(flag and _expanded(flag))) as connection:
        found += read(connection)


def _expanded(path: Path) -> Path:
    """Return a path as the shell will give it: what is typed has its `~` and `$HOME` still."""
    return Path(os.path.expandvars(path)).expanduser()
