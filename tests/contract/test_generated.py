"""The generated files are current, and `schema.sql` alone gives a database that works."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from ggend.database.migrate import State
from ggend.database.upgrade import prepare_database

ROOT = Path(__file__).parents[2]


def _structure(path: Path) -> list[tuple[str, ...]]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute(
            "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name"
        ).fetchall()
    finally:
        connection.close()


@pytest.mark.parametrize(
    "program", ["schema/build.py", "docs/reference/build.py", "docs/reference/man.py"]
)
def test_generated_files_are_current(program: str) -> None:
    checked = subprocess.run(
        [sys.executable, ROOT / program, "--check"], capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stderr


def test_schema_sql_gives_the_database_that_migrations_give(tmp_path: Path) -> None:
    migrated, loaded = tmp_path / "migrated.db", tmp_path / "loaded.db"
    prepare_database(migrated)
    connection = sqlite3.connect(loaded)
    connection.executescript((ROOT / "schema" / "schema.sql").read_text(encoding="utf-8"))
    connection.close()
    assert _structure(loaded) == _structure(migrated)


def test_a_database_from_schema_sql_is_accepted_as_current(tmp_path: Path) -> None:
    loaded = tmp_path / "loaded.db"
    connection = sqlite3.connect(loaded)
    connection.executescript((ROOT / "schema" / "schema.sql").read_text(encoding="utf-8"))
    connection.close()
    report = prepare_database(loaded)
    assert report.was is State.CURRENT
    assert len(report.database_id) == 32
