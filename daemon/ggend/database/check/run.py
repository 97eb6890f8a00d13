"""Run: verifies that a database is as its version specifies, as findings for people.

Works on any tier 2 database through a connection that only reads; only `self_test` writes, and
rolls back what it wrote.
"""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from ggend.database.check.accounting import audit_accounts
from ggend.database.check.constraints import probe, refusals
from ggend.database.findings import Finding, Verdict
from ggend.database.legacy_rows import count_legacy_rows
from ggend.database.rollups import compare
from ggend.database.schema import (
    Difference,
    Structure,
    differences,
    is_name_of_ours,
    likeliest,
    promised,
    structure_of,
)
from ggend_schema.migrations import APPLICATION_ID, is_unmarked, schema_version

__all__ = ["self_test", "table_sizes", "verify"]

#: Problems of one kind that are spelled out in a finding.
_SPELLED_OUT = 5

#: The version that brought the rollups.
_ROLLUP_VERSION = 3

#: SQLite instructions between two signs of life: some 10 ms.
_STEPS_BETWEEN_TICKS = 1_000_000

#: What differences are called in the report, in its order.
_AREAS = {
    "tables": "tables",
    "columns": "columns",
    "keys": "keys and foreign keys",
    "indexes": "indexes",
    "views": "views",
    "triggers": "triggers",
}


def verify(
    connection: sqlite3.Connection,
    tell: Callable[[str], None],
    *,
    pages: bool,
    rollups: bool = False,
) -> Iterator[Finding]:
    """Check everything that a version specifies; with `pages` also every page and row.

    With `rollups` the rollups are recomputed and compared.

    `tell` receives the current step, repeatedly while it lasts.
    """
    connection.set_progress_handler(None, 0)
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    found = structure_of(connection)
    if is_unmarked(version, application, found.tables.keys()):
        version, problems = likeliest(found)
        yield _unmarked(version, problems)
    else:
        yield _version(version, application)
    told = differences(found, promised(max(version, 1)))
    for area, name in _AREAS.items():
        if area == "views" and version < 1:
            # Those of version 1.0.0 are spelled in many ways, and replaced by the upgrade.
            missing = promised(2).views.keys() - found.views.keys()
            problems = [f"the view {view} is missing" for view in sorted(missing)]
            yield _of(name, problems, "3 of version 1.0.0; one does not count audit entries")
        else:
            yield _structure(name, area, told, version)
    if any(
        difference.area in ("tables", "columns") and not difference.is_extra for difference in told
    ):
        return  # the next checks need readable tables
    demanded = _demanded(found, promised(schema_version()))
    problems = list(probe(connection, demanded))
    yield _of("CHECKs", problems, "nine enumerations accept their values and no others")
    if refused := refusals(connection, demanded):
        yield _of("rows", refused, "")
    yield _json_functions(connection)
    yield _journal(connection)
    if version > 0:
        yield from audit_accounts(connection)
    if pages:
        yield from _pages(connection, tell)
    if rollups:
        yield _rollups(connection, tell, version)


def self_test(path: Path) -> Finding:
    """Write a session, a receipt and a stage, read them, and roll back. Raises sqlite3.Error.

    If a user's trigger or column refuses a row, that is a warning and not a failure.
    """
    name = f"self-test-{uuid.uuid4().hex}"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in _SELF_TEST:
                connection.execute(statement, {"name": name})
        except sqlite3.IntegrityError as error:
            return Finding("self test", Verdict.WARNING, f"a row was refused: {error}")
        read = connection.execute(_READ_BACK, (name,)).fetchone()
        connection.execute("ROLLBACK")
        left = connection.execute(_READ_BACK, (name,)).fetchone()
    if read != (1, 1, 1):
        return Finding("self test", Verdict.FAILED, f"written rows were not read: {read}")
    if left != (0, 0, 0):
        return Finding("self test", Verdict.FAILED, f"rolled back rows are still there: {left}")
    return Finding("self test", Verdict.OK, "wrote, read and rolled back 3 rows")


def table_sizes(connection: sqlite3.Connection) -> dict[str, int]:
    """Return the rows of each table that this version knows."""
    found = structure_of(connection).tables
    return {
        table: connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0]  # noqa: S608 - ours
        for table in promised(schema_version()).tables
        if table in found
    }


def _version(version: int, application: int) -> Finding:
    if version == application == 0:
        detail = "1.0.0; `ggend init` and `ggend serve` upgrade it"
        return Finding("version", Verdict.WARNING, detail)
    if application != APPLICATION_ID:
        detail = f"application_id is {application}, ggend's is {APPLICATION_ID}"
        return Finding("version", Verdict.FAILED, detail)
    if version < 1:
        detail = f"{version}, which no version of ggend writes"
        return Finding("version", Verdict.FAILED, detail)
    if version != schema_version():
        detail = f"{version}; this ggend writes {schema_version()}"
        return Finding("version", Verdict.WARNING, detail)
    return Finding("version", Verdict.OK, str(version))


def _unmarked(version: int, problems: list[str]) -> Finding:
    lost = "user_version or application_id is lost, as after `.dump` of sqlite3"
    if problems:
        detail = f"{lost}; the tables match no version; the closest is {version}"
        return Finding("version", Verdict.FAILED, detail)
    detail = f"{lost}; the tables match {version}: `ggend init` and `ggend serve` set both again"
    return Finding("version", Verdict.WARNING, detail)


def _structure(what: str, area: str, told: list[Difference], version: int) -> Finding:
    problems = [one.text for one in told if one.area == area and not one.is_extra]
    problems += [
        f"{one.name} exists, but belongs to a later version than {version}"
        for one in told
        if one.area == area and one.is_extra and is_name_of_ours(one.name)
    ]
    extras = [one.name for one in told if one.area == area and one.is_extra]
    risks = [one.text for one in told if one.area == area and one.is_risky]
    if problems:
        return _of(what, problems, "")
    wanted = promised(max(version, 1))
    count = {
        "tables": len(wanted.tables),
        "columns": sum(map(len, wanted.tables.values())),
        "keys": sum(map(len, wanted.keys.values())),
        "indexes": len(wanted.indexes),
        "views": len(wanted.views),
        "triggers": len(wanted.triggers),
    }[area]
    more = f", and {len(extras)} added: {', '.join(extras[:_SPELLED_OUT])}" * bool(extras)
    fine = f"{count} as specified{more}"
    if risks:
        told_risks = "; ".join(risks[:_SPELLED_OUT])
        return Finding(what, Verdict.WARNING, f"{fine}; {told_risks}")
    return Finding(what, Verdict.OK, fine)


def _demanded(found: Structure, wanted: Structure) -> dict[str, list[str]]:
    """By table the columns of others without which a row is refused."""
    return {
        table: [
            name
            for name, column in found.tables.get(table, {}).items()
            if name not in columns and column.is_demanded
        ]
        for table, columns in wanted.tables.items()
    }


def _of(what: str, problems: list[str], fine: str) -> Finding:
    if not problems:
        return Finding(what, Verdict.OK, fine)
    hidden = len(problems) - _SPELLED_OUT
    more = f"; and {hidden} more" * (hidden > 0)
    return Finding(what, Verdict.FAILED, "; ".join(problems[:_SPELLED_OUT]) + more)


def _json_functions(connection: sqlite3.Connection) -> Finding:
    try:
        found = connection.execute(_JSON).fetchall()
    except sqlite3.Error as error:
        return Finding("JSON functions", Verdict.FAILED, f"SQLite was built without them: {error}")
    return _of("JSON functions", [] if found == [(7, "b")] else [f"wrong: {found}"], "work")


def _journal(connection: sqlite3.Connection) -> Finding:
    (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    if mode != "wal":
        detail = f"{mode}, not WAL: readers and the writer block each other"
        return Finding("journal", Verdict.WARNING, detail)
    return Finding("journal", Verdict.OK, "WAL")


def _rollups(connection: sqlite3.Connection, tell: Callable[[str], None], version: int) -> Finding:
    if version < _ROLLUP_VERSION:
        return Finding("rollups", Verdict.OK, "none in this version; the views count every row")
    connection.execute("BEGIN")
    problems = list(compare(connection, tell))
    connection.execute("COMMIT")
    if not problems:
        return Finding("rollups", Verdict.OK, "equal to the rows")
    told = "; ".join(problems[:_SPELLED_OUT])
    cure = "`ggend maintain --rebuild-rollups` recomputes them"
    return Finding("rollups", Verdict.FAILED, f"{told}; {cure}")


def _pages(connection: sqlite3.Connection, tell: Callable[[str], None]) -> Iterator[Finding]:
    def watch(what: str) -> None:
        tell(what)
        connection.set_progress_handler(lambda: tell(what), _STEPS_BETWEEN_TICKS)

    watch("integrity check: every page, row and index entry")
    found = [
        line
        for (text,) in connection.execute("PRAGMA integrity_check").fetchall()
        for line in text.splitlines()
        if not line.startswith("***")
    ]
    problems = [] if found == ["ok"] else found
    yield _of("integrity", problems, "every page, row and index entry")
    if problems:
        return
    oddities = count_legacy_rows(connection, watch)
    connection.set_progress_handler(None, 0)
    for oddity in oddities:
        yield Finding("odd rows", Verdict.WARNING, str(oddity))
    if not oddities:
        yield Finding("odd rows", Verdict.OK, "no orphans, no invalid times, no invalid JSON")


_JSON = """
    SELECT json_extract('{"a": [1, {"b": 7}]}', '$.a[1].b'), value
    FROM json_each('["b"]')"""
_SELF_TEST = (
    """
    INSERT INTO workflow_sessions (session_id, start_time, status, agent_count)
    VALUES (:name, '2026-01-29T12:34:56.789Z', 'running', 1)""",
    """
    INSERT INTO receipts (execution_id, agent_id, operation, status, timestamp, duration_ms)
    VALUES (:name, :name, 'dry_run', 'passed', '2026-01-29T12:34:56.789Z', 1)""",
    """
    INSERT INTO pipeline_metrics (execution_id, stage, duration_ms, status, timestamp)
    VALUES (:name, 'μ₃_emit', 1, 'passed', '2026-01-29T12:34:56.789Z')""",
)
_READ_BACK = """
    SELECT
        (SELECT COUNT(*) FROM workflow_sessions WHERE session_id = ?1),
        (SELECT COUNT(*) FROM receipts WHERE execution_id = ?1),
        (SELECT COUNT(*) FROM pipeline_metrics WHERE execution_id = ?1)"""
