"""`ggend reset`: everything of ggend goes, nothing else does, and only when its name was typed."""

from __future__ import annotations

import os
import pty
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from ggend.database.migrate import State, recognise
from ggend.database.reset import reset_file, rows_of
from ggend.database.upgrade import prepare_database
from ggend.errors import DatabaseUnusable
from ggend_client import Client
from ggend_schema import Audit
from ggend_schema.migrations import schema_version
from support.daemon_process import Daemon
from support.processes import run_ggend
from support.version_1 import make_version_1

AUDIT = "INSERT INTO audit_log (timestamp, agent_id, operation, status) VALUES ('', 'a', 'o', ?)"


def ggend(
    place: Path, *arguments: str, stdin: bytes | int = b""
) -> subprocess.CompletedProcess[str]:
    return run_ggend(*arguments, directory=place, stdin=stdin)


@pytest.fixture
def database(place: Path) -> Path:
    """A database with audit entries."""
    path = place / "tier2.db"
    prepare_database(path)
    change(path, *[AUDIT.replace("?", "'completed'")] * 300)
    return path


def change(path: Path, *sql: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in sql:
            connection.execute(statement)


def read(path: Path, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


def schema_of(path: Path) -> list[tuple[object, ...]]:
    return read(path, "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name")


def test_it_says_what_is_lost_and_leaves_a_database_as_if_new(database: Path) -> None:
    before = read(database, "SELECT id FROM database_identity")
    ran = ggend(database.parent, "reset", "tier2.db", "--confirm", "tier2.db")
    assert ran.returncode == 0, ran.stderr
    assert re.search("audit_log +300", ran.stdout)
    assert read(database, "SELECT id FROM database_identity") != before
    fresh = database.with_name("fresh.db")
    prepare_database(fresh)
    assert rows_of(database) == rows_of(fresh)
    assert schema_of(database) == schema_of(fresh)
    # VACUUM may pack the schema itself into a page less.
    assert database.stat().st_size <= fresh.stat().st_size
    assert recognise(database) is State.CURRENT
    change(database, AUDIT.replace("?", "'completed'"))
    assert read(database, "SELECT id FROM audit_log") == [(1,)]


@pytest.mark.parametrize("arguments", [["--confirm", "other.db"], ["--confirm", "./tier2.db"], []])
def test_without_the_name_of_the_file_nothing_happens(database: Path, arguments: list[str]) -> None:
    ran = ggend(database.parent, "reset", "tier2.db", *arguments)
    assert ran.returncode == os.EX_USAGE
    assert len(read(database, "SELECT * FROM audit_log")) == 300


@pytest.mark.parametrize(("typed", "left"), [("tier2.db", 0), ("yes", 300)])
def test_on_a_terminal_the_name_is_typed(database: Path, typed: str, left: int) -> None:
    leader, terminal = pty.openpty()
    try:
        os.write(leader, f"{typed}\n".encode())
        ran = ggend(database.parent, "reset", "tier2.db", stdin=terminal)
    finally:
        os.close(leader)
        os.close(terminal)
    assert "Type tier2.db to continue" in ran.stderr
    assert len(read(database, "SELECT * FROM audit_log")) == left


def test_while_a_daemon_runs_it_is_refused(daemon: Daemon) -> None:
    ran = ggend(daemon.place, "reset", "tier2.db", "--confirm", "tier2.db")
    assert ran.returncode == os.EX_TEMPFAIL
    assert "stop it" in ran.stderr


def test_what_others_added_stays(database: Path) -> None:
    change(
        database,
        "CREATE TABLE notes (audit INTEGER REFERENCES audit_log (id), text)",
        "INSERT INTO notes VALUES (7, 'mine')",
        "CREATE VIEW failures AS SELECT * FROM audit_log JOIN notes ON audit = audit_log.id",
        "CREATE VIEW producers_seen AS SELECT uid FROM producers",
        "CREATE INDEX my_index ON receipts (environment, session_id)",
        "CREATE TRIGGER my_trigger AFTER INSERT ON audit_log "
        "BEGIN INSERT INTO notes VALUES (NEW.id, 'seen'); END",
    )
    before = schema_of(database)
    assert reset_file(database).lost == []
    assert schema_of(database) == before
    change(database, AUDIT.replace("?", "'completed'"))
    assert read(database, "SELECT * FROM notes") == [(7, "mine"), (1, "seen")]
    assert read(database, "SELECT text FROM failures") == [("seen",)]


def test_an_index_on_a_column_that_somebody_added_is_named_as_lost(database: Path) -> None:
    change(
        database,
        "ALTER TABLE receipts ADD COLUMN mine TEXT",
        "CREATE INDEX by_mine ON receipts (mine)",
    )
    assert reset_file(database).lost == ["by_mine"]


def test_what_is_not_of_this_version_is_refused_and_not_touched(place: Path) -> None:
    make_version_1(place / "old.db", executions=1)
    prepare_database(place / "newer.db")
    change(place / "newer.db", f"PRAGMA user_version = {schema_version() + 1}")
    change(place / "foreign.db", "CREATE TABLE t (x)", "PRAGMA application_id = 7")
    (place / "text.db").write_text("dear diary " * 100)
    names = ["old.db", "newer.db", "foreign.db", "text.db", "missing.db"]
    before = {path.name: path.read_bytes() for path in place.iterdir()}
    for name in names:
        with pytest.raises(DatabaseUnusable):
            rows_of(place / name)
    ran = ggend(place, "reset", "old.db", "--confirm", "old.db")
    assert ran.returncode == os.EX_DATAERR
    assert {name: (place / name).read_bytes() for name in before} == before
    assert not (place / "old.db.lock").exists()


#: Resets a database, and dies before its so-many-th statement.
DIE = """
import os, sqlite3, sys
from pathlib import Path
import ggend.database.reset

class Dying(sqlite3.Connection):
    left = int(sys.argv[2])
    def execute(self, *arguments):
        Dying.left -= 1
        if not Dying.left:
            os._exit(9)
        return super().execute(*arguments)

connect = sqlite3.connect
sqlite3.connect = lambda path, **options: connect(path, **options, factory=Dying)
ggend.database.reset.reset_file(Path(sys.argv[1]))
print(1000 - Dying.left)
"""


def test_killed_before_any_statement_it_is_the_old_one_or_the_empty_one(database: Path) -> None:
    """And run again, it is the empty one."""
    whole = database.read_bytes()
    reset = [sys.executable, "-c", DIE, os.fspath(database)]
    ran = subprocess.run([*reset, "1000"], capture_output=True, check=True)
    statements = int(ran.stdout)
    assert statements > 60
    left = []
    for dies in [2, 5, 6, statements // 3, statements // 2, *range(statements - 3, statements + 1)]:
        database.write_bytes(whole)
        assert subprocess.run([*reset, str(dies)]).returncode == 9
        assert recognise(database) is State.CURRENT
        assert read(database, "PRAGMA integrity_check") == [("ok",)]
        left += read(database, "SELECT COUNT(*), (SELECT COUNT(*) FROM producers) FROM audit_log")
    assert left == [(300, 0)] * 6 + [(0, 0)] * 3
    reset_file(database)
    assert read(database, "SELECT COUNT(*) FROM audit_log") == [(0,)]


def test_a_client_that_runs_on_delivers_to_the_empty_database(place: Path) -> None:
    """What was acknowledged before is gone; what was not arrives, and the accounts say so."""
    daemon = Daemon(place)

    def audit(number: int) -> Audit:
        return Audit(agent_id="a", operation=f"step {number}", status="completed")

    with daemon, Client(daemon.socket) as client:
        client.emit(audit(1))
        assert client.flush(15)
        assert daemon.stop() == 0
        reset_file(daemon.database)
        client.emit(audit(2))
        with daemon:
            client.emit(audit(3))
            assert client.flush(15)
            assert daemon.query("SELECT operation FROM audit_log ORDER BY id") == [
                ("step 2",),
                ("step 3",),
            ]
            assert daemon.query("SELECT last_sequence, stored, lost FROM producers") == [(3, 2, 1)]


def test_a_reader_that_keeps_the_file_large_is_told_of(database: Path) -> None:
    with closing(sqlite3.connect(database, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT COUNT(*) FROM audit_log").fetchone()
        done = reset_file(database, busy_ms=1)
    assert done.kept_its_size is not None
    assert rows_of(database)["audit_log"] == 0


def test_a_damaged_database_is_refused(database: Path) -> None:
    damage(database)
    with pytest.raises(DatabaseUnusable, match="malformed"):
        rows_of(database)


def damage(path: Path) -> None:
    """Overwrite all but the schema."""
    content = path.read_bytes()
    kept = read(path, "PRAGMA page_size")[0][0]
    assert isinstance(kept, int)
    kept *= 30  # the schema is in the first pages
    path.write_bytes(content[:kept] + b"\xab" * (len(content) - kept))
