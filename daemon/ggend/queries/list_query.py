"""List query: the tables as lists, newest first, with filters and pages; and summaries of them.

Filter values are checked here and bound as parameters. Statements are composed of the constant
fragments of `list_definitions`. A database of version 1.0.0 lacks some columns: they are left out,
and a filter that needs one is refused. Never writes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from datetime import date, timedelta

import msgspec

from ggend.database.known_durations import known_duration, knows_unknown
from ggend.errors import UsageMistake
from ggend.queries.choices import known_word
from ggend.queries.id_lookup import Kind, parts_of, whole_id
from ggend.queries.list_definitions import LISTINGS, UNKNOWN_DURATIONS, Listing
from ggend.queries.result import Result
from ggend.queries.run import columns_of, run
from ggend.queries.time_filters import MOMENT

__all__ = ["Filters", "read_listing"]

#: Rows whose ids an index gives, and that are fetched by them, in some ms. With more, walking the
#: table meets the first page sooner, unless they all are old.
_FEW = 10_000

#: Filters that take an id as tables show it.
_SHORTENED: tuple[Kind, ...] = ("agent", "session")

#: Text that sorts behind every timestamp.
_LAST_TEXT = "\U0010ffff"

#: Texts of a time in another zone lie within a day of the UTC day.
_ZONES = timedelta(days=1)


class Filters(msgspec.Struct, frozen=True, kw_only=True):
    """The filters; None: not set. `time_filters` converts `since` and `until`."""

    agent: str | None = None
    status: str | None = None
    operation: str | None = None
    environment: str | None = None
    session: str | None = None
    stage: str | None = None
    severity: str | None = None
    type: str | None = None
    execution: str | None = None
    since: str | None = None
    until: str | None = None
    text: str | None = None
    before: int | None = None


def read_listing(
    connection: sqlite3.Connection,
    name: str,
    filters: Filters,
    *,
    limit: int,
    wide: bool = False,
) -> Result:
    """Return the newest rows that the filters let through. Raises UsageMistake."""
    listing = LISTINGS[name]
    parameters = _parameters(listing, filters)
    _check_columns(connection, listing, parameters)
    for kind in _SHORTENED:
        if kind in parameters:
            parameters[kind] = whole_id(connection, kind, str(parameters[kind]))
    where = _where(connection, listing, parameters)
    if listing.summary is not None:
        known = known_duration(connection, listing.table)
        beginning, end = (part.format(known=known) for part in listing.summary)
        sql = beginning + where + end
        return run(connection, sql, limit, parameters)
    columns = ", ".join(_columns_there(connection, listing, wide=wide))
    # NOT INDEXED: by id only. Every index that helps is in `where` as a subquery.
    sql = f"SELECT {columns}\nFROM {listing.table} NOT INDEXED{where}\nORDER BY id DESC"
    result = run(connection, sql, limit, parameters)
    if not result.has_more:
        return result
    last = result.rows[-1][result.columns.index("id")]
    return msgspec.structs.replace(result, next_page=f"--before {last} shows the next page")


def _parameters(listing: Listing, filters: Filters) -> dict[str, object]:
    """Return the value to bind for each filter that is set, and for those of the time range."""
    parameters: dict[str, object] = {}
    for name in filters.__struct_fields__:
        value = getattr(filters, name)
        if value is None:
            continue
        if name not in listing.conditions and name not in ("since", "until", "text", "before"):
            raise UsageMistake(f"{listing.table} has no filter `{name}`")
        choices = listing.choices.get(name)
        if choices is not None:
            value = known_word(value, choices, kind=name, option=name)
        parameters[name] = value
    if filters.execution is not None:
        beginning, end = parts_of(filters.execution)
        parameters |= {"execution": beginning, "execution_end": end}
    if filters.text is not None:
        parameters["text"] = f"%{_escape_like(filters.text)}%"
    parameters["since_text"] = _day(filters.since, -_ZONES) if filters.since else ""
    # Half-open, and the day of `until` counts: one more.
    parameters["until_text"] = _day(filters.until, 2 * _ZONES) if filters.until else _LAST_TEXT
    return parameters


def _escape_like(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _day(moment: str, distance: timedelta) -> str:
    try:
        return (date.fromisoformat(moment[:10]) + distance).isoformat()
    except OverflowError:  # the last days of the year 9999
        return _LAST_TEXT


def _check_columns(
    connection: sqlite3.Connection, listing: Listing, parameters: Mapping[str, object]
) -> None:
    for name, (table, column) in listing.needs.items():
        if name in parameters and column not in columns_of(connection, table):
            raise UsageMistake(
                f"--{name} needs the column `{column}` of {table}, which a database of version "
                "1.0.0 does not have",
                hint="`ggend init` upgrades a database in place",
            )


def _columns_there(connection: sqlite3.Connection, listing: Listing, *, wide: bool) -> list[str]:
    there = columns_of(connection, listing.table)
    made: dict[str, str] = {}
    if "duration_source" in there:
        made["duration_ms"] = f"{known_duration(connection, listing.table)} AS duration_ms"
    if listing.table == "workflow_sessions" and knows_unknown(connection, "receipts"):
        made["unknown_durations"] = UNKNOWN_DURATIONS
    wanted = [
        column
        for column in listing.columns
        if column in there or column in made or not column.isidentifier()
    ]
    if wide:
        wanted += [column for column in there if column not in wanted]
    return [made.get(column, column) for column in wanted]


def _where(connection: sqlite3.Connection, listing: Listing, parameters: dict[str, object]) -> str:
    """Return the WHERE clause, and add to the parameters what it needs."""
    conditions = [sql for name, sql in listing.conditions.items() if name in parameters]
    time = _time_conditions(listing, parameters)
    conditions += time
    if "text" in parameters:
        alternatives = (HAS_TEXT.format(column=column) for column in listing.text)
        conditions.append(f"({' OR '.join(alternatives)})")
    if "before" in parameters:
        conditions.append("id < :before")
    ids = _few_ids(connection, listing, parameters, time)
    if ids is not None:
        parameters["ids"] = msgspec.json.encode(ids).decode()
        conditions.append(AMONG)
    return "\nWHERE " + "\n  AND ".join(conditions) if conditions else ""


def _time_conditions(listing: Listing, parameters: Mapping[str, object]) -> list[str]:
    has = [sql for name, sql in {"since": SINCE, "until": UNTIL}.items() if name in parameters]
    return [sql.format(time=listing.time) for sql in ([WITHIN_TEXT, *has] if has else has)]


def _few_ids(
    connection: sqlite3.Connection,
    listing: Listing,
    parameters: Mapping[str, object],
    time: list[str],
) -> list[object] | None:
    """Return the ids that one of the filters leaves, by its index; None where they are many."""
    for name, path in listing.paths.items():
        if name in parameters or (name == "time" and time):
            # What the index holds is compared in the index.
            by_index = "\n  AND ".join([path, *time]) if ":since_text" in path else path
            found = run(connection, by_index, _FEW, parameters)
            if not found.has_more:
                return [row[0] for row in found.rows]
    return None


AMONG = "id IN (SELECT value FROM json_each(:ids))"

#: A notation of a time, not merely text that julianday() takes, such as `now` or a plain number.
WITHIN_TEXT = """{time} >= :since_text
  AND {time} < :until_text
  AND {time} LIKE '____-__-__%'"""
SINCE = MOMENT + " >= julianday(:since)"
UNTIL = MOMENT + " < julianday(:until)"
HAS_TEXT = "{column} LIKE :text ESCAPE '\\'"
