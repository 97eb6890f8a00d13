"""Upgrading a database of version 1.0.0: what changes, what stays, and what is refused."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ggend.database.check.run import verify
from ggend.database.migrate import State, apply
from ggend.database.readonly import open_readonly
from ggend.database.schema import differences, promised, structure_of
from ggend.database.upgrade import Step, prepare_database
from ggend.errors import DatabaseUnusable
from ggend_schema.migrations import APPLICATION_ID, migrations, schema_version
from support.version_1 import SCHEMA, TABLES, VIEWS, make_version_1


def columns_of_version_1() -> dict[str, str]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(SCHEMA)
        return {
            table: ", ".join(row[1] for row in connection.execute(f"PRAGMA table_info({table})"))
            for table in TABLES
        }


_COLUMNS = columns_of_version_1()


def rows(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of the seven tables with its id, in the columns of version 1.0.0, and its types."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        connection.text_factory = bytes
        found = {
            table: connection.execute(f"SELECT {names} FROM {table} ORDER BY id").fetchall()
            for table, names in _COLUMNS.items()
        }
        found["sqlite_sequence"] = [
            row
            for row in connection.execute("SELECT name, seq FROM sqlite_sequence ORDER BY name")
            if row[0].decode() in TABLES
        ]
        return found


def views(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """What the three views show, the audit entries apart: version 1.0.0 counts none."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        shown = {view: connection.execute(f"SELECT * FROM {view}").fetchall() for view in VIEWS}
    recent = [row[:8] + row[9:] for row in shown.pop("recent_executions")]
    return {"recent_executions": recent, **{view: sorted(found) for view, found in shown.items()}}


def run(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement).fetchall()


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "tier2.db"
    make_version_1(path, executions=150)
    return path


@pytest.mark.parametrize("wal", [True, False], ids=["wal", "rollback journal"])
def test_every_row_and_view_is_as_it_was(tmp_path: Path, wal: bool) -> None:
    path = tmp_path / "tier2.db"
    make_version_1(path, executions=150, wal=wal)
    before, shown = rows(path), views(path)
    prepared = prepare_database(path)
    assert prepared.was is State.VERSION_1
    assert rows(path) == before
    assert views(path) == shown
    assert prepared.rows == {table: len(before[table]) for table in TABLES}


def test_the_upgraded_schema_is_the_one_of_a_fresh_database(old: Path) -> None:
    """Names, types, order of columns, keys, indexes and views."""
    prepare_database(old)
    with closing(sqlite3.connect(old)) as connection:
        assert differences(structure_of(connection), promised(schema_version())) == []
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)


def test_an_upgraded_database_fails_no_verification(old: Path) -> None:
    prepare_database(old)
    with closing(open_readonly(old)) as connection:
        findings = list(verify(connection, lambda _: None, pages=True))
    assert [finding for finding in findings if finding.verdict == "failed"] == []


def test_the_audit_entries_of_old_executions_are_counted(old: Path) -> None:
    prepare_database(old)
    with closing(sqlite3.connect(old)) as connection:
        counted = connection.execute("SELECT max(audit_entries) FROM recent_executions").fetchone()
    assert counted[0] >= 3


def test_the_backup_holds_the_database_as_it_was(old: Path) -> None:
    old.chmod(0o640)
    before = rows(old)
    backup = prepare_database(old).backup
    assert backup is not None
    assert rows(backup) == before
    assert backup.stat().st_mode & 0o777 == 0o640
    with closing(sqlite3.connect(f"file:{backup}?immutable=1", uri=True)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("PRAGMA user_version").fetchone() == (0,)


def test_an_earlier_backup_is_kept(old: Path) -> None:
    earlier = old.with_name("tier2.db.1.0.0.backup")
    earlier.write_text("precious")
    assert prepare_database(old).backup == old.with_name("tier2.db.1.0.0.backup1")
    assert earlier.read_text() == "precious"


def test_what_a_killed_upgrade_left_is_taken_away(old: Path) -> None:
    partial = old.with_name("tier2.db.1.0.0.backup.partial")
    partial.write_bytes(b"half a copy")
    partial.with_name(partial.name + "-journal").write_bytes(b"its journal")
    prepare_database(old)
    assert sorted(path.name for path in old.parent.iterdir()) == [
        "tier2.db",
        "tier2.db.1.0.0.backup",
    ]


def test_a_second_time_nothing_changes(old: Path) -> None:
    first = prepare_database(old)
    content = old.read_bytes()
    again = prepare_database(old)
    assert again.was is State.CURRENT
    assert again.database_id == first.database_id
    assert old.read_bytes() == content


def test_orphans_and_odd_times_are_reported(old: Path) -> None:
    told = {str(oddity) for oddity in prepare_database(old).oddities}
    assert {
        "pipeline_metrics: 2 rows without a parent in receipts",
        "slo_violations: 3 rows without a parent in receipts",
        "collision_detection: 1 rows without a parent in workflow_sessions",
        "audit_log: 1 invalid timestamps",
        "audit_log: 1 contexts with invalid JSON",
        "pipeline_metrics: 1 invalid timestamps",
    } <= told
    assert any("another format" in text for text in told)


def test_the_hooks_begin_at_the_newest_row(old: Path) -> None:
    """Old executions were judged by those who wrote them."""
    prepare_database(old)
    with closing(sqlite3.connect(old)) as connection:
        marks = connection.execute("SELECT source, row_id FROM hook_watermarks").fetchall()
        assert dict(marks) == {
            table: connection.execute(f"SELECT max(id) FROM {table}").fetchone()[0]
            for table in ("receipts", "pipeline_metrics")
        }


def test_a_missing_or_wrong_index_is_made_again(old: Path) -> None:
    run(
        old,
        "DROP INDEX idx_receipts_status",
        "DROP INDEX idx_audit_log_timestamp",
        "CREATE INDEX idx_audit_log_timestamp ON audit_log (agent_id)",
    )
    assert set(prepare_database(old).mended) == {"idx_receipts_status", "idx_audit_log_timestamp"}
    with closing(sqlite3.connect(old)) as connection:
        assert differences(structure_of(connection), promised(schema_version())) == []


def test_what_users_added_stays(old: Path) -> None:
    run(
        old,
        "CREATE TABLE notes (text)",
        "CREATE VIEW slow AS SELECT * FROM receipts WHERE duration_ms > 1000",
        "CREATE INDEX mine ON receipts (environment)",
    )
    prepare_database(old)
    with closing(sqlite3.connect(old)) as connection:
        extra = differences(structure_of(connection), promised(schema_version()))
    assert {one.name for one in extra} == {"notes", "slow", "mine"}
    assert all(one.is_extra for one in extra)


def test_each_step_is_told_and_copying_comes_to_its_end(old: Path) -> None:
    told: list[Step] = []
    prepare_database(old, tell=told.append)
    assert [*dict.fromkeys(step.what for step in told)][:4] == [
        "checking the pages",
        "counting rows",
        "copying",
        "checking the copy",
    ]
    assert Step("copying", 1.0) in told


def test_without_leave_nothing_is_upgraded(old: Path) -> None:
    content = old.read_bytes()
    with pytest.raises(DatabaseUnusable, match="upgrades are turned off"):
        prepare_database(old, upgrade=False)
    assert old.read_bytes() == content


def _strange_column(path: Path) -> None:
    run(path, "ALTER TABLE receipts ADD COLUMN session_id TEXT")


def _lost_table(path: Path) -> None:
    run(path, "DROP TABLE agent_memory")


def _other_type(path: Path) -> None:
    run(
        path,
        "PRAGMA writable_schema = ON",
        "UPDATE sqlite_schema SET sql = replace(sql, 'duration_ms INTEGER', 'duration_ms TEXT') "
        "WHERE name = 'receipts'",
    )


def _damaged(path: Path) -> None:
    """Zero a page in the middle of the data, as a failing disk does."""
    content = bytearray(path.read_bytes())
    content[4096 * 20 : 4096 * 22] = bytes(2 * 4096)
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_strange_column, "receipts.session_id is not a column of this version"),
        (_lost_table, "the table agent_memory is missing"),
        (_other_type, "receipts.duration_ms is TEXT NOT NULL, not INTEGER NOT NULL"),
        (_damaged, "is damaged"),
    ],
)
def test_what_is_not_quite_version_1_is_refused_untouched(
    old: Path, change: Callable[[Path], None], said: str
) -> None:
    change(old)
    content = old.read_bytes()
    with pytest.raises(DatabaseUnusable, match=said):
        prepare_database(old)
    assert old.read_bytes() == content
    assert [path.name for path in old.parent.iterdir() if "backup" in path.name] == []


def test_a_writer_that_is_in_the_middle_of_something_is_waited_for(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one that does not end is named as the reason; nothing is changed."""
    monkeypatch.setattr("ggend.database.upgrade._BUSY_MS", 50)
    with closing(sqlite3.connect(old, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseUnusable, match="locked"):
            prepare_database(old)
        other.execute("ROLLBACK")
    assert prepare_database(old).was is State.VERSION_1


def test_a_disk_without_room_for_the_copy_is_named_before_anything_happens(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ggend.database.upgrade._MARGIN_BYTES", 1 << 60)
    content = old.read_bytes()
    with pytest.raises(DatabaseUnusable, match="MiB are free"):
        prepare_database(old)
    assert old.read_bytes() == content


def test_a_rollback_journal_that_a_killed_writer_left_is_no_obstacle(tmp_path: Path) -> None:
    """Old programs wrote without WAL; SQLite takes back their last transaction first."""
    path, copy = tmp_path / "first.db", tmp_path / "tier2.db"
    make_version_1(path, wal=False)
    before, content = rows(path), path.read_bytes()
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("PRAGMA cache_size = 1").fetchall()
        writer.execute("BEGIN")
        writer.execute("UPDATE receipts SET error_message = hex(randomblob(4000))")
        copy.write_bytes(path.read_bytes())
        journal = path.with_name("first.db-journal").read_bytes()
        copy.with_name("tier2.db-journal").write_bytes(journal)
        writer.execute("ROLLBACK")
    assert copy.read_bytes() != content
    assert prepare_database(copy).was is State.VERSION_1
    assert rows(copy) == before


def test_an_upgrade_that_does_not_come_to_its_end_leaves_no_copy(old: Path) -> None:
    """Tried again and again by a service manager, copies would fill the disk."""

    def break_off(step: Step) -> None:
        if step.what == "upgrading":
            raise RuntimeError("the power button")

    before = rows(old)
    with pytest.raises(RuntimeError, match="power button"):
        prepare_database(old, tell=break_off)
    assert rows(old) == before
    assert [path.name for path in old.parent.iterdir() if "backup" in path.name] == []


def test_a_copy_that_cannot_be_made_leaves_the_journal_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "tier2.db"
    make_version_1(path, wal=False)
    path.with_name("tier2.db.1.0.0.backup.partial").mkdir()
    with pytest.raises(DatabaseUnusable, match="before the upgrade failed"):
        prepare_database(path)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)


def test_triggers_on_the_views_stay(old: Path) -> None:
    run(
        old,
        "CREATE TRIGGER noted INSTEAD OF INSERT ON recent_executions BEGIN SELECT 1; END",
        "CREATE VIEW mine AS SELECT * FROM recent_executions",
    )
    prepare_database(old)
    with closing(sqlite3.connect(old)) as connection:
        names = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'")
        assert ("noted",) in names.fetchall()
        assert connection.execute("SELECT COUNT(*) FROM mine").fetchone() == (100,)


def test_virtual_tables_of_others_are_no_obstacle(old: Path) -> None:
    """Also where the module that reads them is not there, and for the look afterwards."""
    run(
        old,
        "CREATE VIRTUAL TABLE notes USING fts5 (body)",
        "PRAGMA writable_schema = ON",
        "INSERT INTO sqlite_schema VALUES "
        "('table', 'map', 'map', 0, 'CREATE VIRTUAL TABLE map USING nowhere (x)')",
    )
    prepare_database(old)
    with closing(open_readonly(old)) as connection:
        findings = list(verify(connection, lambda _: None, pages=True))
    assert [finding for finding in findings if finding.verdict == "failed"] == []


@pytest.mark.parametrize(
    ("taking", "said"),
    [
        ("CREATE TABLE producers (a)", "the table producers"),
        ("CREATE VIEW Database_Identity AS SELECT 1", "the view Database_Identity"),
        ("CREATE INDEX idx_receipts_session_id ON receipts (id)", "the index idx_receipts"),
    ],
)
def test_a_name_that_ggend_needs_is_refused_untouched(old: Path, taking: str, said: str) -> None:
    run(old, taking)
    content = old.read_bytes()
    with pytest.raises(DatabaseUnusable, match=f"{said}.* has a name that ggend needs"):
        prepare_database(old)
    assert old.read_bytes() == content


def test_a_version_that_nobody_writes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tier2.db"
    prepare_database(path)
    run(path, "PRAGMA user_version = -3")
    with pytest.raises(
        DatabaseUnusable, match="schema version -3, which no version of ggend writes"
    ):
        prepare_database(path)
    with closing(open_readonly(path)) as connection:
        first = next(iter(verify(connection, lambda _: None, pages=False)))
    assert first.verdict == "failed"


def test_what_a_killed_writer_did_not_finish_is_not_read(tmp_path: Path) -> None:
    """Its journal says how the pages were; without it, a reader would see half a transaction."""
    path, copy = tmp_path / "first.db", tmp_path / "tier2.db"
    make_version_1(path, wal=False)
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("PRAGMA cache_size = 1").fetchall()
        writer.execute("BEGIN")
        writer.execute("UPDATE receipts SET error_message = hex(randomblob(4000))")
        copy.write_bytes(path.read_bytes())
        copy.with_name("tier2.db-journal").write_bytes(
            path.with_name("first.db-journal").read_bytes()
        )
        writer.execute("ROLLBACK")
    with pytest.raises(DatabaseUnusable, match="killed while it wrote"):
        open_readonly(copy)


@pytest.mark.parametrize(
    ("theirs", "said"),
    [
        ("CREATE TABLE pending_releases (a)", "pending_releases already exists"),
        ("ALTER TABLE receipts ADD COLUMN duration_source TEXT", "duplicate column name"),
        (
            "CREATE TRIGGER no BEFORE UPDATE ON stage_totals BEGIN SELECT RAISE(ABORT, 'no'); END",
            ": no",
        ),
    ],
)
def test_what_of_somebody_stands_in_the_way_of_an_upgrade_is_said(
    tmp_path: Path, theirs: str, said: str
) -> None:
    path = tmp_path / "tier2.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL").fetchall()
        connection.execute("BEGIN")
        apply(connection, [found for found in migrations() if found.version <= 4])
        connection.execute(
            "INSERT INTO stage_totals (stage, executions, passed, failed, duration_ms) "
            "VALUES ('μ₃_emit', 1, 1, 0, 5)"
        )
        connection.execute(theirs)
    with pytest.raises(DatabaseUnusable, match=f"cannot be upgraded.*{said}"):
        prepare_database(path)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (4,)


def test_version_2_gets_the_rollups_and_keeps_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "tier2.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL").fetchall()
        connection.execute("BEGIN")
        apply(connection, [found for found in migrations() if found.version <= 2])
        connection.execute(
            "INSERT INTO receipts (execution_id, agent_id, operation, status, timestamp, "
            "duration_ms) VALUES ('e', 'a', 'watch', 'passed', '2026-01-29T12:00:00.000Z', 7)"
        )
        connection.execute(
            "CREATE TRIGGER noted INSTEAD OF DELETE ON agent_performance_summary "
            "BEGIN SELECT 1; END"
        )
        before = connection.execute("SELECT * FROM agent_performance_summary").fetchall()
    report = prepare_database(path)
    assert report.was is State.OLDER
    assert report.backup is None
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (schema_version(),)
        assert connection.execute("SELECT * FROM agent_performance_summary").fetchall() == before
        found = structure_of(connection)
    assert "noted" in found.triggers
    told = differences(found, promised(schema_version()))
    assert [difference.name for difference in told] == ["noted"]
    assert prepare_database(path).was is State.CURRENT


def dumped(path: Path) -> Path:
    """What `sqlite3 tier2.db .dump | sqlite3 new.db` makes: without the two pragmas."""
    new = path.with_name("new.db")
    with closing(sqlite3.connect(path)) as connection:
        script = "\n".join(connection.iterdump())
    with closing(sqlite3.connect(new)) as connection:
        connection.executescript(script)
    return new


def pragmas(path: Path) -> tuple[int, int]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return (
            connection.execute("PRAGMA user_version").fetchone()[0],
            connection.execute("PRAGMA application_id").fetchone()[0],
        )


def content(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all tables."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
        return {
            table: connection.execute(f"SELECT * FROM {table}").fetchall()
            for (table,) in tables.fetchall()
        }


def made_of_version(path: Path, version: int) -> None:
    """With a row, and things of its users."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        apply(connection, [found for found in migrations() if found.version <= version])
        connection.execute(
            "INSERT INTO receipts (execution_id, agent_id, operation, status, timestamp, "
            "duration_ms) VALUES ('e', 'a', 'watch', 'passed', '2026-01-29T12:00:00.000Z', 7)"
        )
        connection.execute("CREATE TABLE notes (text)")
        connection.execute("ALTER TABLE audit_log ADD COLUMN team TEXT")


SINCE_2 = [found.version for found in migrations() if found.version >= 2]


@pytest.mark.parametrize("version", SINCE_2)
@pytest.mark.parametrize("by_hand", ["", "PRAGMA user_version = 3", "PRAGMA application_id = {id}"])
def test_a_dump_that_was_read_back_gets_its_version_again_and_keeps_every_row(
    tmp_path: Path, version: int, by_hand: str
) -> None:
    path = tmp_path / "tier2.db"
    made_of_version(path, version)
    new = dumped(path)
    if by_hand:
        run(new, by_hand.format(id=APPLICATION_ID))
    before = content(new)
    with closing(open_readonly(new)) as connection:
        first = next(iter(verify(connection, lambda _: None, pages=False)))
    assert first.verdict == "warning"
    assert f"the tables match {version}: `ggend init`" in first.detail
    report = prepare_database(new)
    assert report.was is State.UNMARKED
    assert pragmas(new) == (schema_version(), APPLICATION_ID)
    after = content(new)
    if version == schema_version():
        assert after == before
    was = before["receipts"]
    assert after["receipts"] == [(*row, *[None] * (17 - len(row))) for row in was]
    assert after["database_identity"] == before["database_identity"]
    with closing(open_readonly(new)) as connection:
        findings = list(verify(connection, lambda _: None, pages=True))
    assert [one for one in findings if one.verdict == "failed"] == []
    assert prepare_database(new).was is State.CURRENT


def test_a_dump_of_an_older_version_is_not_upgraded_without_leave(tmp_path: Path) -> None:
    path = tmp_path / "tier2.db"
    made_of_version(path, 2)
    new = dumped(path)
    as_it_was = new.read_bytes()
    with pytest.raises(DatabaseUnusable, match="upgrades are turned off"):
        prepare_database(new, upgrade=False)
    assert new.read_bytes() == as_it_was


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ("DROP INDEX idx_receipts_session_id", "the index idx_receipts_session_id is missing"),
        ("DROP TABLE seen_time", "the table seen_time is missing"),
        ("ALTER TABLE producers DROP COLUMN shed", "producers.shed is missing"),
        ("DELETE FROM database_identity", "database_identity does not have exactly one row"),
    ],
)
def test_a_dump_with_tables_of_no_version_is_refused_untouched(
    tmp_path: Path, damage: str, says: str
) -> None:
    path = tmp_path / "tier2.db"
    prepare_database(path)
    new = dumped(path)
    run(new, damage)
    as_it_was = new.read_bytes()
    with pytest.raises(DatabaseUnusable, match=says) as refused:
        prepare_database(new)
    assert "has lost its version" in str(refused.value)
    assert refused.value.hint.startswith("it was not changed")
    assert new.read_bytes() == as_it_was
