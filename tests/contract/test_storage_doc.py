"""docs/STORAGE.md names everything that is in a database, nothing else, and its queries run."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from bench.filled import fill

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "STORAGE.md").read_text(encoding="utf-8")

#: Executions in the database that the queries run on.
EXECUTIONS = 200


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    path = tmp_path_factory.mktemp("filled") / "tier2.db"
    fill(path, receipts=EXECUTIONS, report=lambda _: None)
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        yield connection


def _statements() -> list[str]:
    found = []
    for block in re.findall(r"^```sql\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL):
        statement = ""
        for line in block.splitlines(keepends=True):
            statement += line
            if sqlite3.complete_statement(statement):
                found.append(statement.strip())
                statement = ""
        assert not statement.strip(), "the last statement of a block has no semicolon"
    return found


def _columns(connection: sqlite3.Connection) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for table, column in connection.execute(
        "SELECT t.name, c.name FROM sqlite_schema AS t JOIN pragma_table_info(t.name) AS c "
        "WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite~_%' ESCAPE '~' ORDER BY c.cid"
    ):
        found.setdefault(table, []).append(column)
    return found


def _described() -> dict[str, list[tuple[str, str]]]:
    """Return the columns and types of each table that has a heading of its own."""
    found = {}
    for name, section in re.findall(r"^### (\w+)\n(.*?)(?=^##|\Z)", TEXT, re.MULTILINE | re.DOTALL):
        rows = re.findall(r"^\| (\w+) \| ([^|]+) \|", section, re.MULTILINE)
        found[name] = [row for row in rows if row != ("column", "type")]
    return found


@pytest.mark.parametrize("statement", _statements())
def test_a_query_of_the_reference_runs(filled: sqlite3.Connection, statement: str) -> None:
    assert filled.execute(statement).description is not None


def test_every_table_is_described_with_its_columns_in_their_order(
    filled: sqlite3.Connection,
) -> None:
    described = {table: [name for name, _ in rows] for table, rows in _described().items()}
    assert described == _columns(filled)


def test_the_types_are_those_of_the_schema(filled: sqlite3.Connection) -> None:
    for table, rows in _described().items():
        types = {
            row[1]: (row[2], bool(row[3])) for row in filled.execute(f"PRAGMA table_info({table})")
        }
        for name, described in rows:
            kind, is_required = types[name]
            assert described.split()[0].rstrip(",") == kind, f"{table}.{name}"
            may_be_null = not is_required and not re.search("default|primary", described)
            if name != "id" and "default" not in described:
                assert ("NULL" in described) == may_be_null, f"{table}.{name}"


def test_every_index_is_listed_with_its_columns(filled: sqlite3.Connection) -> None:
    described = dict(re.findall(r"^\| (idx_\w+) \| ([^|]+) \|", TEXT, re.MULTILINE))
    stored = {
        name: ", ".join(
            column + (" DESC" if is_descending else "")
            for _, _, column, is_descending, _, is_key in filled.execute(
                f"PRAGMA index_xinfo({name})"
            )
            if is_key
        )
        for (name,) in filled.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'index' AND name LIKE 'idx~_%' ESCAPE '~'"
        )
    }
    assert {name: columns.split(", where")[0] for name, columns in described.items()} == stored


def test_every_view_is_listed_with_its_columns(filled: sqlite3.Connection) -> None:
    for (view,) in filled.execute("SELECT name FROM sqlite_schema WHERE type = 'view'"):
        columns = [row[1] for row in filled.execute(f"PRAGMA table_info({view})")]
        assert f"| {view} | {', '.join(columns)} |" in TEXT
