"""Reading a database: the named queries, what is refused, and files that cannot be read."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from importlib.resources import files
from pathlib import Path

import pytest

from ggend.database import readonly
from ggend.errors import DatabaseUnusable, TookTooLong, UsageMistake
from ggend.queries import run as run_module
from ggend.queries.result import Result
from ggend.queries.run import NAMED, open_readonly, run

RECEIPT = (
    "INSERT INTO receipts (execution_id, agent_id, operation, status, timestamp, duration_ms) "
    "VALUES (?, 'a', 'generation', ?, '2026-01-29T12:00:00.000Z', ?)"
)


def build(path: Path) -> Path:
    """Make a database from the migrations, with three receipts of one agent."""
    migrations = sorted(
        (file for file in files("ggend_schema").joinpath("sql").iterdir()), key=lambda f: f.name
    )
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA journal_mode = WAL")
        for migration in migrations:
            connection.executescript(migration.read_text(encoding="utf-8"))
        connection.executemany(RECEIPT, [("e1", "passed", 5), ("e2", "failed", 7)])
        connection.execute(RECEIPT, ("e3", "passed", 9))
    return path


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return build(tmp_path / "tier2.db")


@pytest.fixture
def reader(database: Path) -> Iterator[sqlite3.Connection]:
    with closing(open_readonly(database)) as connection:
        yield connection


@pytest.mark.parametrize("name", NAMED)
def test_every_named_query_runs(name: str, reader: sqlite3.Connection) -> None:
    assert run(reader, NAMED[name], 10).columns


def test_recent_is_newest_first_and_stops_at_the_limit(reader: sqlite3.Connection) -> None:
    result = run(reader, NAMED["recent"], 2)
    assert [row[0] for row in result.rows] == ["e3", "e2"]
    assert result.has_more
    assert not run(reader, NAMED["recent"], 3).has_more


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM receipts",
        "INSERT INTO audit_log (timestamp) VALUES ('x')",
        "CREATE TABLE more (x)",
        "CREATE TEMP TABLE more (x)",
        "PRAGMA user_version = 9",
        "PRAGMA query_only = OFF",
        "PRAGMA journal_mode = DELETE",
        "PRAGMA wal_checkpoint(TRUNCATE)",
        "ATTACH 'elsewhere.db' AS elsewhere",
        "VACUUM INTO 'elsewhere.db'",
        "REINDEX",
    ],
)
def test_a_statement_that_writes_is_refused(
    sql: str, reader: sqlite3.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageMistake, match="this command can only read"):
        run(reader, sql, 10)
    assert not (tmp_path / "elsewhere.db").exists()


@pytest.mark.parametrize(
    "sql",
    [
        "PRAGMA user_version",
        "PRAGMA table_info(receipts)",
        "SELECT name FROM pragma_table_info('receipts')",
        "EXPLAIN QUERY PLAN SELECT * FROM receipts",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 3) SELECT i FROM n",
        "SELECT value FROM json_each('[1, 2]')",
    ],
)
def test_a_statement_that_only_looks_is_not(sql: str, reader: sqlite3.Connection) -> None:
    assert run(reader, sql, 10).rows


@pytest.mark.parametrize("sql", ["SELEC 1", "SELECT * FROM nowhere", "SELECT 1; SELECT 2"])
def test_a_statement_that_sqlite_does_not_take_is_a_mistake(
    sql: str, reader: sqlite3.Connection
) -> None:
    with pytest.raises(UsageMistake, match="SQLite refused the query"):
        run(reader, sql, 10)


@pytest.mark.parametrize(
    ("typed", "said"), [("\udcff", "is not UTF-8 text"), (2**70, "too large for SQLite")]
)
def test_what_sqlite_cannot_take_is_a_mistake(
    typed: object, said: str, reader: sqlite3.Connection
) -> None:
    with pytest.raises(UsageMistake, match=said):
        run(reader, "SELECT :typed", 10, {"typed": typed})


def test_an_empty_statement_gives_an_empty_result(reader: sqlite3.Connection) -> None:
    assert run(reader, "-- nothing", 10) == Result(columns=[], rows=[])


def test_text_that_is_not_utf8_is_shown_escaped(reader: sqlite3.Connection) -> None:
    assert run(reader, "SELECT CAST(x'61ff62' AS TEXT)", 1).rows == [("a\\xffb",)]


@pytest.mark.parametrize("name", ["100%.db", "what?.db", "a#b.db", "a b&mode=rwc.db", "μ.db"])
def test_any_file_name_is_opened(name: str, tmp_path: Path) -> None:
    with closing(open_readonly(build(tmp_path / name))) as connection:
        assert len(run(connection, NAMED["recent"], 10).rows) == 3


def test_rows_still_in_the_wal_of_a_writer_are_seen(database: Path) -> None:
    with closing(sqlite3.connect(database)) as writer:
        with writer:
            writer.execute(RECEIPT, ("e4", "passed", 1))
        with closing(open_readonly(database)) as connection:
            assert run(connection, NAMED["recent"], 1).rows[0][0] == "e4"


def test_a_missing_file_is_named_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnusable, match="there is no database at") as caught:
        open_readonly(tmp_path / "absent.db")
    assert "ggend init" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_directory_is_not_a_database(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnusable, match="is not a file"):
        open_readonly(tmp_path)


def test_a_file_of_another_kind_is_not_a_database(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("dear diary " * 100)
    with pytest.raises(DatabaseUnusable, match="is not an SQLite database"):
        open_readonly(tmp_path / "notes.txt")


def test_another_sqlite_file_is_not_a_tier_2_database(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "other.db")) as other:
        other.execute("CREATE TABLE mine (id)")
    with pytest.raises(DatabaseUnusable, match="it has no table `receipts`"):
        open_readonly(tmp_path / "other.db")
    (tmp_path / "empty.db").touch()
    with pytest.raises(DatabaseUnusable, match="is empty"):
        open_readonly(tmp_path / "empty.db")


@pytest.fixture
def only_immutable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory in which SQLite cannot make the -shm (root may write anywhere)."""
    connect = readonly._connect

    def unwritable(path: Path, mode: str) -> sqlite3.Connection:
        if mode == "mode=ro":
            error = sqlite3.OperationalError("unable to open database file")
            error.sqlite_errorcode = sqlite3.SQLITE_CANTOPEN
            raise error
        return connect(path, mode)

    monkeypatch.setattr(readonly, "_connect", unwritable)


@pytest.mark.usefixtures("only_immutable")
def test_an_unwritable_directory_is_read_while_nobody_writes(database: Path) -> None:
    database.with_name("tier2.db.lock").touch()
    with closing(open_readonly(database)) as connection:
        assert len(run(connection, NAMED["recent"], 10).rows) == 3
        with pytest.raises(UsageMistake, match="can only read"):
            run(connection, "DELETE FROM receipts", 1)


@pytest.mark.usefixtures("only_immutable")
def test_an_unwritable_directory_is_refused_while_a_daemon_holds_the_lock(database: Path) -> None:
    with database.with_name("tier2.db.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(DatabaseUnusable, match="in use by a daemon"):
            open_readonly(database)


@pytest.mark.usefixtures("only_immutable")
def test_an_unwritable_directory_is_refused_while_rows_are_in_the_wal(database: Path) -> None:
    database.with_name("tier2.db-wal").write_bytes(b"committed")
    with pytest.raises(DatabaseUnusable, match="holds committed rows"):
        open_readonly(database)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_of_another_user_is_named(database: Path) -> None:
    database.chmod(0)
    with pytest.raises(DatabaseUnusable, match="this user may not read"):
        open_readonly(database)


def test_a_name_that_no_file_can_have_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnusable, match="cannot be accessed"):
        open_readonly(tmp_path / ("x" * 300))


ENDLESS = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"


def test_a_query_without_an_end_is_ended_and_lets_the_wal_start_over(database: Path) -> None:
    with (
        closing(sqlite3.connect(database)) as writer,
        closing(open_readonly(database)) as reader,
    ):
        with pytest.raises(TookTooLong, match=r"stopped after 0\.2 s") as caught:
            run(reader, f"SELECT * FROM receipts, ({ENDLESS})", 10, seconds=0.2)
        assert "--timeout" in str(caught.value.hint)
        writer.execute(RECEIPT, ("e9", "passed", 9))
        writer.commit()
        assert writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
        assert run(reader, "SELECT COUNT(*) FROM receipts", 1).rows == [(4,)]


def test_ctrl_c_is_no_timeout(reader: sqlite3.Connection) -> None:
    timer = threading.Timer(0.2, reader.interrupt)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        run(reader, ENDLESS, 1, seconds=30)
    timer.join()


@pytest.mark.parametrize(
    "bomb",
    [
        "SELECT zeroblob(1000000000)",
        "SELECT group_concat(hex(randomblob(1000000))) FROM json_each('[1,2,3,4,5,6,7,8,9,10,11,12,"
        "13,14,15,16,17,18,19,20]')",
    ],
)
def test_a_value_larger_than_any_that_is_stored_is_refused(
    bomb: str, reader: sqlite3.Connection
) -> None:
    with pytest.raises(UsageMistake, match="too big"):
        run(reader, bomb, 1)


def test_a_result_larger_than_memory_is_refused(
    reader: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "RESULT_BYTES", 1_000_000)
    many = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT {} FROM n"
    with pytest.raises(TookTooLong, match="first 11 rows"):
        run(reader, many.format("zeroblob(100000)"), 100)
    assert len(run(reader, many.format("i"), 100).rows) == 100


def test_what_is_shown_is_not_being_read_any_more(database: Path) -> None:
    """A pager may be open for hours."""
    with (
        closing(sqlite3.connect(database)) as writer,
        closing(open_readonly(database)) as reader,
    ):
        assert run(reader, "SELECT * FROM receipts", 1).has_more
        writer.execute(RECEIPT, ("e9", "passed", 9))
        writer.commit()
        assert writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
