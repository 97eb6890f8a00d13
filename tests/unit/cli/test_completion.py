"""What Tab offers: commands, options, and the values of a real database."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from ggend.cli.app import app
from ggend.cli.common.command import leaves
from ggend.cli.common.shells import Shell, answer, script
from ggend.database.upgrade import prepare_database
from ggend.queries.suggestions import (
    _BREACHES,
    _PRODUCERS,
    _REJECTED,
    _SOURCES,
    MOST,
    glance,
)
from support.version_1 import make_version_1

_PRODUCER = "ab12" + "0" * 28


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("completed") / "tier2.db"
    make_version_1(path, executions=70, odd=False)
    prepare_database(path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.executemany(
            "INSERT INTO receipts (execution_id, agent_id, timestamp, operation, status,"
            " duration_ms, receipt_json) VALUES (?, ?, '2026-01-29T00:00:00Z', 'watch', 'passed',"
            " 1, '{}')",
            [("two words", "a b"), ("line\nbreak", "agent-0")],
        )
        connection.execute(
            "INSERT INTO producers"
            " (kind, producer, uid, first_seen, last_seen, last_sequence, rejected)"
            f" VALUES ('producer', x'{_PRODUCER}', 0, 'then', 'now', 5, 5)"
        )
        connection.executemany(
            "INSERT INTO rejected_events (id, account_id, received_at, code, message, encoding,"
            " uid, size_bytes, sha256, schema_version, stamp_ns)"
            " SELECT ?, MAX(id), '2026-01-29T00:00:00Z', 'conflict', 'm', 'json', 0, 1, x'00', 1, 0"
            " FROM producers",
            [(1,), (7,), (10,), (17,), (100,)],
        )
    return path


@pytest.fixture
def database(made_once: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(made_once, tmp_path))


@pytest.fixture(autouse=True)
def _at_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A user who has no database and no configuration."""
    for name in [name for name in os.environ if name.startswith(("GGEND_", "XDG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


def completed(
    line: str, capsys: pytest.CaptureFixture[str], shell: Shell = Shell.FISH
) -> list[str]:
    """Return the values that a shell gets for a line with the cursor at its end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COMP_LINE", line)
        patch.setenv("COMP_WORDBREAKS", " \t\n\"'@><=;|&(:")
        answer(app, f"{shell}_complete")
    said = capsys.readouterr()
    assert said.err == ""
    return [one.partition(",")[2].partition("\t")[0] for one in said.out.splitlines() if one]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("ggend ser", ["serve"]),
        ("/usr/bin/ggend query exe", ["executions", "execution"]),
        ("ggend query executions --lo", ["--local"]),
        ("ggend query executions --format j", ["json"]),
        ("ggend query executions --format=j", ["--format=json"]),
        ("ggend query executions --status ", ["passed", "failed", "partial", "cancelled"]),
        ("ggend query sessions --status r", ["running"]),
        ("ggend query violations --severity ", ["warning", "critical"]),
        ("ggend query collisions --type f", ["file_conflict"]),
        ("ggend query agents --operation dry", ["dry_run"]),
        (
            "ggend query stages --stage ",
            ["normalize", "extract", "emit", "canonicalize", "receipt"],
        ),
        ("ggend query stages --stage μ₃", ["μ₃_emit"]),
        ("ggend query executions --columns timestamp,st", ["timestamp,status"]),
        ("ggend query executions --columns status,st", []),
        ("ggend emit au", ["audit"]),
        ("ggend emit audit st", ["status="]),
        ("ggend emit audit con", ["context:="]),
        ("ggend emit audit status=started st", []),
        ("ggend emit audit status=comp", ["status=completed"]),
        ("ggend emit 'audit' 'status=comp", ["status=completed"]),
        ("ggend emit stage_completed stage=em", ["stage=emit"]),
        ("ggend emit receipt_emitted duration_source=", ["duration_source=unknown"]),
        ("ggend emit audit duration_ms=", []),
        ("ggend emit nonsense st", []),
        ("ggend nonsense ", []),
        ("ggend report collisions --section h", ["hotspots"]),
        ("ggend analytics --section ag", ["agents"]),
        ("ggend serve --log-level w", ["warning"]),
        ("ggend completion z", ["zsh"]),
        ("ggend query percentiles --by operation --name dry", ["dry_run"]),
        ("ggend query executions --database so", ["so"]),
        ("ggend export ", ["all"]),
        ("ggend query execution e", []),
    ],
)
def test_a_line_is_completed(
    line: str, expected: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert completed(line, capsys) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("query executions -d {} --agent agent-3", ["agent-3"]),
        ("query executions --agent agent-3 --database={} --agent agent-4", ["agent-4"]),
        ("query execution -d {} execution-0000012", ["execution-0000012"]),
        ("query execution -d {} line", []),  # no shell could show it
        (
            "query audit -d {} --execution execution-000001",
            [f"execution-{n:07}" for n in range(10, 20)],
        ),
        ("query memory -d {} agent-1", ["agent-1"]),
        ("analytics -d {} --agent a\\ ", ["a b"]),
        ("report collisions -d {} --session session-0", ["session-0"]),
        ("export -d {} rece", ["receipts"]),
        ("purge -d {} --except audit", ["audit_log"]),
        ("rejected show -d {} ", ["100", "17", "10", "7", "1"]),
        ("rejected show -d {} 1", ["100", "17", "10", "1"]),
        ("rejected show -d {} 01", []),
        ("rejected requeue -d {} 17 1", ["100", "10", "1"]),
        ("rejected purge -d {} 7", ["7"]),
        ("accounts -d {} --producer AB", [_PRODUCER]),
        ("accounts -d {} --producer xy", []),
        ("query percentiles -d {} --by agent --name agent-5", ["agent-5"]),
        ("slo explain -d {} nonsense", []),
    ],
)
def test_values_of_the_database_are_completed(
    line: str, expected: list[str], database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert completed(f"ggend {line.format(database)}", capsys) == expected


def test_executions_with_violations_can_be_explained(
    database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with closing(sqlite3.connect(database)) as connection:
        found = connection.execute("SELECT MIN(execution_id) FROM slo_violations").fetchone()
    assert completed(f"ggend slo explain -d {database} ", capsys)[0] == found[0]


def test_emit_completes_ids_of_the_configured_database(
    database: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GGEND_DATABASE", str(database))
    assert completed("ggend emit audit agent_id=agent-2", capsys) == ["agent_id=agent-2"]


@pytest.mark.parametrize("home", ["~", "$HOME", "${HOME}"])
def test_a_path_may_begin_at_home(
    home: str, database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = f"ggend query memory -d {home}/{database.name} agent-1"
    assert completed(line, capsys) == ["agent-1"]


def test_values_are_found_by_index(database: Path) -> None:
    parameters = {"low": 1, "high": 2, "most": 3}
    with glance(database) as connection:
        for sql in (_REJECTED, _BREACHES, _PRODUCERS, _SOURCES):
            plan = connection.execute(f"EXPLAIN QUERY PLAN {sql}", parameters).fetchall()
            assert [row[3].split()[0] for row in plan] == ["SEARCH"], plan


def test_no_more_is_offered_than_a_person_reads(
    database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(completed(f"ggend query execution -d {database} ", capsys)) == MOST


def test_the_database_is_not_touched(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in database.parent.iterdir()}
    assert completed(f"ggend query execution -d {database} execution-0000012", capsys)
    completed(f"ggend query execution -d {database.parent / 'none.db'} e", capsys)
    assert {path: path.read_bytes() for path in database.parent.iterdir()} == before


def test_a_wal_without_its_index_is_not_touched(
    database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    database.with_name(f"{database.name}-wal").write_bytes(b"x" * 100)
    before = {path: path.read_bytes() for path in database.parent.iterdir()}
    completed(f"ggend query execution -d {database} execution-0000012", capsys)
    assert {path: path.read_bytes() for path in database.parent.iterdir()} == before


def test_a_database_of_version_1_has_ids_and_no_rejected_events(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = tmp_path / "old.db"
    make_version_1(old, executions=3, wal=False)
    assert completed(f"ggend query executions -d {old} --agent agent-1", capsys) == ["agent-1"]
    assert completed(f"ggend rejected show -d {old} ", capsys) == []


def test_a_locked_database_is_not_waited_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = tmp_path / "old.db"
    make_version_1(old, executions=3, wal=False)
    with closing(sqlite3.connect(old, isolation_level=None)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        writer.execute("DELETE FROM slo_violations")
        assert completed(f"ggend query executions -d {old} --agent agent-1", capsys) == []


def test_bash_gets_what_it_puts_behind_the_sign(capsys: pytest.CaptureFixture[str]) -> None:
    def bash(line: str) -> list[str]:
        return completed(line, capsys, Shell.BASH)

    assert bash("ggend emit audit status=comp") == ["completed"]
    assert bash("ggend query executions --format=j") == ["json"]


def test_bash_gets_quotes_where_there_are_none(
    database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = f"ggend query executions -d {database} --agent"
    assert completed(f"{line} a\\ ", capsys, Shell.BASH) == ["a\\ b"]
    assert completed(f'{line} "a ', capsys, Shell.BASH) == ["a b"]


#: Commands with --columns that can run on a database alone.
_WITH_COLUMNS = [
    name
    for name, command in leaves(app, "ggend")
    if any(parameter.name == "columns" for parameter in command.params)
    and name != "ggend query sql"
]


@pytest.mark.parametrize("name", _WITH_COLUMNS)
def test_every_column_that_is_offered_is_there(
    name: str, database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    takes_database = name not in ("ggend config show", "ggend spool list")
    chosen = f" -d {database}" if takes_database else ""
    columns = completed(f"{name}{chosen} --columns ", capsys)
    assert columns
    words = f"{name}{chosen} --columns {','.join(columns)}".split()[1:]
    ran = CliRunner().invoke(app, words)
    assert ran.exception is None, ran.exception


@pytest.mark.parametrize("name", ["ggend analytics", "ggend report collisions"])
def test_every_section_that_is_offered_is_there(
    name: str, database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for section in completed(f"{name} --section ", capsys):
        words = f"{name} -d {database} --section {section}".split()[1:]
        ran = CliRunner().invoke(app, words)
        assert ran.exception is None, ran.exception


@pytest.mark.parametrize("shell", list(Shell))
def test_the_command_prints_what_a_shell_sources(
    shell: Shell, capsys: pytest.CaptureFixture[str]
) -> None:
    assert answer(app, f"{shell}_source") == 0
    assert capsys.readouterr().out == script(app, shell)
    assert CliRunner().invoke(app, ["completion", shell]).output == script(app, shell)
