"""Rollups: what the two summary views need not count again, kept exact (docs/adr/0018).

Up to a watermark, rows are counted in `agent_totals`, `stage_totals` and `duration_histograms`.
Above it they are counted by whoever asks. A row that cannot be taken out of a sum again exactly is
an exception: it is counted by whoever asks, wherever it is. Triggers in the database take out what
is deleted or changed below the watermark; what is inserted below it nobody sees but `compare`.

A row whose duration is unknown counts as an execution, and in no sum or histogram of durations.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator

from msgspec import Struct

from ggend.database.known_durations import knows_unknown

__all__ = [
    "SOURCES",
    "Progress",
    "advance_executions",
    "advance_stages",
    "bucket_width",
    "clear",
    "compare",
    "durations_of",
    "progress",
]

#: The tables that are rolled up.
SOURCES = ("receipts", "pipeline_metrics")

#: Differences of one kind that are spelled out.
_SPELLED_OUT = 5


class Progress(Struct, frozen=True):
    """How far the rows of one table are counted."""

    #: The id up to which they are, and the newest id.
    watermark: int
    newest: int
    #: Rows above the watermark, if not more than `limit`.
    left: int


def bucket_width(from_ms: int) -> int:
    """Return the width, in ms, of the bucket of a histogram that begins there."""
    if from_ms < 100:
        return 1
    digits = str(from_ms)
    unit = int("1" + "0" * (len(digits) - 3))
    return unit * (2 if digits[0] == "1" else 5 if digits[0] < "5" else 10)


def advance_executions(connection: sqlite3.Connection, after: int, upto: int) -> bool:
    """Count the receipts after the first and up to the second id. The caller saves how far."""
    for statement in (
        _odd("receipts", _ODD_RECEIPT),
        _AGENT_TOTALS,
        _durations("agent", _ODD_RECEIPT),
        _durations("operation", _ODD_RECEIPT),
    ):
        connection.execute(statement, (after, upto))
    return True


def advance_stages(connection: sqlite3.Connection, after: int, upto: int) -> bool:
    """Count the stages after the first and up to the second id. The caller saves how far."""
    for statement in (
        _odd("pipeline_metrics", _ODD_DURATION),
        _STAGE_TOTALS,
        _durations("stage", _ODD_DURATION),
    ):
        connection.execute(statement, (after, upto))
    return True


def clear(connection: sqlite3.Connection) -> None:
    """Forget what was counted, in the open transaction: the hook counts it all again.

    The views stay exact meanwhile, and take as long as the rows above the watermark are many.
    """
    for table in ("agent_totals", "stage_totals", "duration_histograms", "rollup_exceptions"):
        connection.execute(f"DELETE FROM {table}")  # noqa: S608 - ours
    connection.execute("DELETE FROM hook_watermarks WHERE hook = 'rollups'")


def progress(connection: sqlite3.Connection, *, limit: int) -> dict[str, Progress]:
    """Return how far each table is counted; of what is left, `limit` rows are looked at."""
    return {
        source: Progress(*connection.execute(_PROGRESS.format(source=source), (limit,)).fetchone())
        for source in SOURCES
    }


def durations_of(connection: sqlite3.Connection, dimension: str) -> str:
    """Return a SELECT of all durations of a dimension: name, day, from_ms, durations.

    A bucket may come twice, rolled up and not. What is no whole number from 0 to 10^12 is left out,
    and so is what is unknown.
    """
    name, source = _DIMENSIONS[dimension]
    left_out = f"NOT {_ODD_DURATION}"
    if knows_unknown(connection, source):
        left_out += f"\n      AND {_MEASURED}"
    mark = f"""ifnull((SELECT row_id FROM hook_watermarks
                   WHERE hook = 'rollups' AND source = '{source}'), 0)"""  # noqa: S608 - ours
    live = f"SELECT {name}, substr(timestamp, 1, 10), {_BUCKET}, COUNT(*)"
    return f"""
    SELECT name, day, from_ms, durations
    FROM duration_histograms
    WHERE dimension = '{dimension}'
    UNION ALL
    {live}
    FROM {source} NOT INDEXED
    WHERE id > {mark}
      AND {left_out}
    GROUP BY 1, 2, 3
    UNION ALL
    {live}
    FROM {source}
    WHERE id IN (SELECT row_id FROM rollup_exceptions WHERE source = '{source}')
      AND id <= {mark}
      AND {left_out}
    GROUP BY 1, 2, 3"""  # noqa: S608 - ours


def compare(connection: sqlite3.Connection, tell: Callable[[str], None]) -> Iterator[str]:
    """Yield the differences between the rollups and the rows, which are all read, in the snapshot.

    `tell` receives the name of each comparison.
    """
    for what, (stored, counted) in _compared(knows_unknown(connection, "receipts")).items():
        tell(f"recomputing {what}")
        for words, one, other in (
            ("superfluous or wrong in", stored, counted),
            ("missing or wrong in", counted, stored),
        ):
            rows = connection.execute(f"{one} EXCEPT {other} LIMIT {_SPELLED_OUT}")
            told = [", ".join(map(str, row)) for row in rows]
            if told:
                yield f"{words} {what}: {'; '.join(told)}"


#: What a histogram is of: the column that names it, and its table.
_DIMENSIONS = {
    "agent": ("agent_id", "receipts"),
    "operation": ("operation", "receipts"),
    "stage": ("stage", "pipeline_metrics"),
}


def _odd(source: str, odd: str) -> str:
    return f"""
    INSERT OR IGNORE INTO rollup_exceptions (source, row_id)
    SELECT '{source}', id
    FROM {source} NOT INDEXED
    WHERE id > ?1
      AND id <= ?2
      AND {odd}"""  # noqa: S608 - ours


def _durations(dimension: str, odd: str) -> str:
    name, source = _DIMENSIONS[dimension]
    return f"""
    INSERT INTO duration_histograms (dimension, name, day, from_ms, durations)
    SELECT '{dimension}', {name}, substr(timestamp, 1, 10), {_BUCKET}, COUNT(*)
    FROM {source} NOT INDEXED
    WHERE id > ?1
      AND id <= ?2
      AND NOT {odd}
      AND {_MEASURED}
    GROUP BY 2, 3, 4
    ON CONFLICT (dimension, name, day, from_ms) DO UPDATE
    SET durations = durations + excluded.durations"""  # noqa: S608 - ours


#: The first millisecond of the bucket that a duration is in; the trigger duration_removals_insert
#: says the same, and `bucket_width` of what comes out.
_BUCKET = """duration_ms - duration_ms % CASE
        WHEN duration_ms < 100 THEN 1
        ELSE CAST(substr('10000000000', 1, length(duration_ms) - 2) AS INTEGER)
             * CASE
                 WHEN substr(duration_ms, 1, 1) = '1' THEN 2
                 WHEN substr(duration_ms, 1, 1) < '5' THEN 5
                 ELSE 10
               END
        END"""
_MEASURED = "duration_source IS NULL"
#: What plain SQL can write and ggend does not: it stays out of the sums, which would not be exact.
_ODD_DURATION = "(typeof(duration_ms) <> 'integer' OR duration_ms NOT BETWEEN 0 AND 1000000000000)"
_ODD_RECEIPT = f"""({_ODD_DURATION}
           OR typeof(files_generated) NOT IN ('integer', 'null')
           OR ifnull(files_generated, 0) NOT BETWEEN 0 AND 1000000000000)"""

_STATUS_COUNTS = """
        COUNT(*),
        COUNT(*) FILTER (WHERE status = 'passed'),
        COUNT(*) FILTER (WHERE status = 'failed'),"""
_FILES = """
        COUNT(files_generated),
        ifnull(SUM(files_generated), 0)"""
_KNOWN_DURATIONS = f"""
        COUNT(*) FILTER (WHERE {_MEASURED}),
        ifnull(SUM(duration_ms) FILTER (WHERE {_MEASURED}), 0)"""
#: Until version 5 all were known.
_ALL_DURATIONS = """
        SUM(duration_ms)"""
_AGENT_TOTALS = f"""
    INSERT INTO agent_totals (
        agent_id, executions, passed, failed, durations, duration_ms, files_known, files_generated)
    SELECT
        agent_id, {_STATUS_COUNTS} {_KNOWN_DURATIONS}, {_FILES}
    FROM receipts NOT INDEXED
    WHERE id > ?1
      AND id <= ?2
      AND NOT {_ODD_RECEIPT}
    GROUP BY agent_id
    ON CONFLICT (agent_id) DO UPDATE
    SET executions = executions + excluded.executions,
        passed = passed + excluded.passed,
        failed = failed + excluded.failed,
        durations = durations + excluded.durations,
        duration_ms = duration_ms + excluded.duration_ms,
        files_known = files_known + excluded.files_known,
        files_generated = files_generated + excluded.files_generated"""  # noqa: S608 - ours
_STAGE_TOTALS = f"""
    INSERT INTO stage_totals (stage, executions, passed, failed, durations, duration_ms)
    SELECT
        stage, {_STATUS_COUNTS} {_KNOWN_DURATIONS}
    FROM pipeline_metrics NOT INDEXED
    WHERE id > ?1
      AND id <= ?2
      AND NOT {_ODD_DURATION}
    GROUP BY stage
    ON CONFLICT (stage) DO UPDATE
    SET executions = executions + excluded.executions,
        passed = passed + excluded.passed,
        failed = failed + excluded.failed,
        durations = durations + excluded.durations,
        duration_ms = duration_ms + excluded.duration_ms"""  # noqa: S608 - ours


_PROGRESS = """
    WITH mark AS (
        SELECT ifnull((SELECT row_id FROM hook_watermarks
                       WHERE hook = 'rollups' AND source = '{source}'), 0) AS row_id
    )
    SELECT
        row_id,
        ifnull((SELECT max(id) FROM {source}), 0),
        (SELECT COUNT(*)
         FROM (SELECT 1 FROM {source} NOT INDEXED WHERE id > (SELECT row_id FROM mark) LIMIT ?))
    FROM mark"""


def _below(source: str) -> str:
    return f"""
    FROM {source} NOT INDEXED
    WHERE id <= (SELECT row_id FROM hook_watermarks
                 WHERE hook = 'rollups' AND source = '{source}')
      AND NOT EXISTS (SELECT 1 FROM rollup_exceptions
                      WHERE source = '{source}' AND row_id = {source}.id)"""  # noqa: S608 - ours


def _histogram(dimension: str, and_measured: str) -> tuple[str, str]:
    name, source = _DIMENSIONS[dimension]
    return (
        f"SELECT name, day, from_ms, durations FROM duration_histograms "  # noqa: S608 - ours
        f"WHERE dimension = '{dimension}'",
        f"SELECT {name}, substr(timestamp, 1, 10), {_BUCKET}, COUNT(*) "
        f"{_below(source)} {and_measured} GROUP BY 1, 2, 3",
    )


def _compared(with_unknown: bool) -> dict[str, tuple[str, str]]:  # noqa: FBT001 - of a private one
    """Return what is stored, and the same counted from the rows."""
    column, counts = ("durations, ", _KNOWN_DURATIONS) if with_unknown else ("", _ALL_DURATIONS)
    and_measured = f"AND {_MEASURED}" if with_unknown else ""
    return {
        "agent_totals": (
            f"SELECT agent_id, executions, passed, failed, {column}duration_ms, files_known, "  # noqa: S608 - ours
            "files_generated FROM agent_totals",
            f"SELECT agent_id, {_STATUS_COUNTS} {counts}, {_FILES} "
            f"{_below('receipts')} GROUP BY agent_id",
        ),
        "stage_totals": (
            f"SELECT stage, executions, passed, failed, {column}duration_ms FROM stage_totals",  # noqa: S608 - ours
            f"SELECT stage, {_STATUS_COUNTS} {counts} {_below('pipeline_metrics')} GROUP BY stage",
        ),
        "duration_histograms of agents": _histogram("agent", and_measured),
        "duration_histograms of operations": _histogram("operation", and_measured),
        "duration_histograms of stages": _histogram("stage", and_measured),
    }
