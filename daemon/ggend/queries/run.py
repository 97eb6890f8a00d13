"""Run: the named queries of a tier 2 database, and the execution of one statement.

Never writes. `readonly` decides what a statement may do on the connection.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from ggend.database.readonly import STEPS_BETWEEN_LOOKS, open_readonly, primary_code
from ggend.errors import DatabaseUnusable, TookTooLong, UsageMistake
from ggend.queries.result import Result
from ggend_schema.value_words import shown

__all__ = ["NAMED", "columns_of", "not_accepted", "open_readonly", "run"]

RECENT = """
SELECT *
FROM recent_executions
"""

#: The view, and beside passed and failed executions the others, so that they add up.
AGENTS = """
SELECT
    agent_id, total_executions, successful_executions, failed_executions,
    total_executions - successful_executions - failed_executions AS other_executions,
    avg_duration_ms, min_duration_ms, max_duration_ms, total_files_generated, last_execution
FROM agent_performance_summary
"""

STAGES = """
SELECT *
FROM pipeline_stage_performance
"""

#: What `ggend query NAME` runs where nothing is filtered: the views.
NAMED: dict[str, str] = {
    "recent": RECENT,
    "agents": AGENTS,
    "stages": STAGES,
}


COLUMN_NAMES = """
SELECT name
FROM pragma_table_info(:table)
"""

#: More columns than a table can have.
_MOST_COLUMNS = 32_767


#: Bytes of text and blobs that a result may have: it is held in memory before it is shown.
RESULT_BYTES = 256 * 1024 * 1024


def run(
    connection: sqlite3.Connection,
    sql: str,
    limit: int,
    parameters: Mapping[str, object] | None = None,
    *,
    seconds: float | None = None,
) -> Result:
    """Run one statement that reads, and return its first `limit` rows.

    The statement has ended when this returns: an open one would keep the daemon from reusing its
    WAL while the user looks at the result. Raises UsageMistake, and TookTooLong after `seconds`.
    """
    begin = time.monotonic()
    try:
        with _ended_after(connection, seconds):
            cursor = connection.execute(sql, parameters or {})
            rows = list(_rows(cursor, limit + 1))
            cursor.close()
    except (sqlite3.Error, sqlite3.Warning) as error:
        if primary_code(error) != sqlite3.SQLITE_INTERRUPT:
            raise _refused(error) from error
        if seconds is None or time.monotonic() < begin + seconds:
            raise KeyboardInterrupt from error
        raise TookTooLong(
            f"the query was stopped after {seconds:g} s",
            hint="use a longer --timeout, a WHERE clause that uses an index, or --database with a "
            "copy of the database (`sqlite3 tier2.db '.backup copy.db'`)",
        ) from error
    except (UnicodeEncodeError, OverflowError) as error:
        raise not_accepted(error) from error
    columns = [column[0] for column in cursor.description or ()]
    return Result(columns=columns, rows=rows[:limit], has_more=len(rows) > limit)


@contextmanager
def _ended_after(connection: sqlite3.Connection, seconds: float | None) -> Iterator[None]:
    """Interrupt statements of the connection after some seconds, with SQLITE_INTERRUPT."""
    if seconds is None:
        yield
        return
    deadline = time.monotonic() + seconds
    connection.set_progress_handler(lambda: time.monotonic() > deadline, STEPS_BETWEEN_LOOKS)
    try:
        yield
    finally:
        connection.set_progress_handler(lambda: 0, STEPS_BETWEEN_LOOKS)


def _rows(cursor: sqlite3.Cursor, limit: int) -> Iterator[tuple[object, ...]]:
    size = 0
    for number, row in enumerate(cursor, 1):
        size += sum(len(value) for value in row if isinstance(value, str | bytes))
        if size > RESULT_BYTES:
            cursor.close()
            raise TookTooLong(
                f"the first {number:,} rows of the result are larger than "
                f"{RESULT_BYTES // 2**20} MiB",
                hint="use a smaller --limit, select fewer columns, or use `ggend export`",
            )
        yield row
        if number == limit:
            return


def columns_of(connection: sqlite3.Connection, table: str) -> list[str]:
    """Return the names of a table's columns in their order; none: there is no such table."""
    rows = run(connection, COLUMN_NAMES, _MOST_COLUMNS, {"table": table}).rows
    return [str(name) for (name,) in rows]


def not_accepted(error: UnicodeEncodeError | OverflowError) -> UsageMistake:
    """Return the error for a value that SQLite cannot be given."""
    if isinstance(error, OverflowError):
        return UsageMistake(
            "a number is too large for SQLite", hint=f"the largest whole number is {2**63 - 1}"
        )
    return UsageMistake(
        f"{shown(error.object)} is not UTF-8 text", hint="ggend and SQLite take text in UTF-8 only"
    )


def _refused(error: Exception) -> UsageMistake | DatabaseUnusable:
    code = primary_code(error)
    if code in (sqlite3.SQLITE_AUTH, sqlite3.SQLITE_READONLY):
        return UsageMistake(
            f"this command can only read: {error}",
            hint="only the daemon writes; send events with `ggend emit`",
        )
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return DatabaseUnusable(
            f"the database is damaged: {error}", hint="restore a backup; keep the damaged file"
        )
    if code == sqlite3.SQLITE_BUSY:
        return DatabaseUnusable(
            "the database is locked by another program", hint="try again in a moment"
        )
    if "user-defined aggregate" in str(error):
        return UsageMistake(
            "percentile(value, percent) takes numbers, and a percent from 0 to 100",
            hint="use CAST(value AS REAL) for numbers that are stored as text",
        )
    if "has no name" in str(error):
        return UsageMistake(
            "a parameter of the statement has no name",
            hint="write it as :name, and give its value with -p NAME=VALUE",
        )
    if "no such column" in str(error):
        return UsageMistake(
            f"SQLite refused the query: {error}",
            hint="`ggend schema TABLE` lists the columns of a table",
        )
    if "binding parameter" in str(error):
        return UsageMistake(f"a parameter has no value: {error}", hint="give it with -p NAME=VALUE")
    if "no such table" in str(error):
        return UsageMistake(
            f"SQLite refused the query: {error}",
            hint="`ggend schema` lists the tables; version 1.0.0 lacks ggend's own tables",
        )
    return UsageMistake(
        f"SQLite refused the query: {error}",
        hint='give a single statement that reads, such as "SELECT * FROM receipts"',
    )
