"""What users add to a database: `check` names it, and what refuses rows is a warning."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from ggend.database.check.run import self_test, verify
from ggend.database.findings import Finding, Verdict
from ggend.database.readonly import open_readonly
from ggend.database.rollups import compare
from ggend.database.upgrade import prepare_database
from support.version_1 import make_version_1


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A fresh database."""
    made = tmp_path / "tier2.db"
    prepare_database(made)
    return made


def run(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def verified(path: Path) -> dict[str, Finding]:
    with closing(open_readonly(path)) as connection:
        return {one.what: one for one in verify(connection, lambda _: None, pages=True)}


def trigger(what: str, on: str = "BEFORE INSERT ON audit_log") -> str:
    return f"CREATE TRIGGER mine {on} BEGIN SELECT {what}; END"


HARMLESS = [
    ("columns", "ALTER TABLE receipts ADD COLUMN team TEXT"),
    ("columns", "ALTER TABLE receipts ADD COLUMN team TEXT NOT NULL DEFAULT 'x'"),
    ("columns", "ALTER TABLE receipts ADD COLUMN team REAL AS (duration_ms / 1000.0)"),
    ("columns", "ALTER TABLE agent_totals ADD COLUMN team TEXT"),
    ("indexes", "CREATE INDEX team ON receipts (environment)"),
    ("views", "CREATE VIEW team AS SELECT * FROM receipts"),
    ("tables", "CREATE TABLE team (id INTEGER)"),
    ("triggers", "CREATE TRIGGER team AFTER INSERT ON receipts BEGIN SELECT 1; END"),
]


@pytest.mark.parametrize(("area", "statement"), HARMLESS)
def test_what_was_added_is_named_and_no_failure(path: Path, area: str, statement: str) -> None:
    run(path, statement)
    found = verified(path)
    assert "team" in found[area].detail
    assert {one.what for one in found.values() if one.verdict is not Verdict.OK} == set()
    with closing(open_readonly(path)) as connection:
        assert list(compare(connection, lambda _: None)) == []


REFUSING = [
    ("triggers", trigger("RAISE(ABORT, 'no')"), "the trigger mine on audit_log may refuse rows"),
    ("triggers", trigger("RAISE(ROLLBACK, 'no')"), "the trigger mine on audit_log may refuse rows"),
    ("triggers", trigger("RAISE(IGNORE)"), "the trigger mine on audit_log may refuse rows"),
    (
        "triggers",
        trigger("raise ( fail, 'no')", "BEFORE DELETE ON AUDIT_LOG"),
        "the trigger mine on AUDIT_LOG may refuse rows",
    ),
    (
        "indexes",
        "CREATE UNIQUE INDEX mine ON audit_log (operation)",
        "the unique index mine on audit_log may refuse rows",
    ),
]


@pytest.mark.parametrize(("area", "statement", "says"), REFUSING)
def test_what_may_refuse_rows_is_a_warning_that_names_it(
    path: Path, area: str, statement: str, says: str
) -> None:
    run(path, statement)
    found = verified(path)
    assert found[area].verdict is Verdict.WARNING
    assert says in found[area].detail
    assert not [one for one in found.values() if one.verdict is Verdict.FAILED]


def test_a_demanded_column_without_a_default_is_a_warning(path: Path) -> None:
    run(
        path,
        "PRAGMA writable_schema = ON",
        "UPDATE sqlite_schema SET sql = replace(sql, 'operation TEXT NOT NULL,', "
        "'operation TEXT NOT NULL, team TEXT NOT NULL,') WHERE name = 'audit_log'",
    )
    found = verified(path)
    assert found["columns"].verdict is Verdict.WARNING
    assert "audit_log.team is NOT NULL without a default" in found["columns"].detail
    assert not [one for one in found.values() if one.verdict is Verdict.FAILED]


def test_a_trigger_that_cannot_run_is_a_failure_that_says_so(path: Path) -> None:
    """The daemon could store nothing in that table, and would end."""
    run(path, "CREATE TABLE gone (id INTEGER)", trigger("count(*) FROM gone"), "DROP TABLE gone")
    found = verified(path)
    assert found["rows"].verdict is Verdict.FAILED
    assert "audit_log accepts no row" in found["rows"].detail
    assert "gone" in found["rows"].detail


def test_the_self_test_of_a_table_with_a_refusing_trigger_is_a_warning(path: Path) -> None:
    run(path, trigger("RAISE(ROLLBACK, 'not today')", "BEFORE INSERT ON receipts"))
    assert self_test(path) == Finding("self test", Verdict.WARNING, "a row was refused: not today")


def test_what_ggend_has_and_the_file_has_not_stays_a_failure(path: Path) -> None:
    run(path, "ALTER TABLE receipts ADD COLUMN team TEXT", "DROP INDEX idx_receipts_session_id")
    found = verified(path)
    assert found["indexes"].verdict is Verdict.FAILED


def test_a_column_added_to_version_1_stays_through_the_upgrade(tmp_path: Path) -> None:
    old = tmp_path / "tier2.db"
    make_version_1(old)
    run(old, "ALTER TABLE receipts ADD COLUMN team TEXT")
    prepare_database(old)
    found = verified(old)
    assert "receipts.team" in found["columns"].detail
    assert found["columns"].verdict is Verdict.OK


def test_a_version_that_its_own_tables_belie_is_a_failure(path: Path) -> None:
    """They are no additions of a user: the upgrade could not make them."""
    run(path, "PRAGMA user_version = 3")
    found = verified(path)
    assert found["columns"].verdict is Verdict.FAILED
    assert "producers.seen_s exists, but belongs to a later version" in found["columns"].detail
