"""What the contract suite may be pointed at, and that it leaves it alone."""

from __future__ import annotations

import ast
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from contract.tier2.replica import Replica, TargetUnreadable
from contract.tier2.suite import VERSIONS, differences, version_of
from support.patience import PATIENCE_SECONDS
from support.version_1 import make_version_1

pytestmark = pytest.mark.slow

_SUITE = Path(__file__).parent / "tier2"
_ROOT = Path(__file__).parents[2]


def _contents(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in directory.iterdir()}


@pytest.mark.parametrize("wal", [True, False])
def test_a_target_is_left_as_it_is(tmp_path: Path, wal: bool) -> None:
    """Not even a lock file is left beside it."""
    make_version_1(tmp_path / "old.db", wal=wal)
    before = _contents(tmp_path)
    with closing(Replica.read(tmp_path / "old.db")) as replica:
        list(differences(replica, VERSIONS[0]))
    assert _contents(tmp_path) == before


def test_a_change_that_is_only_in_the_wal_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    make_version_1(path)
    with closing(sqlite3.connect(path)) as writer:
        writer.execute("DROP VIEW recent_executions")
        with closing(Replica.read(path)) as replica:
            found = list(differences(replica, VERSIONS[0]))
    assert found == ["recent_executions: the view is missing"]


def test_a_database_of_version_1_is_told_by_its_header_and_keeps_what_it_promised(
    tmp_path: Path,
) -> None:
    make_version_1(tmp_path / "old.db")
    with closing(Replica.read(tmp_path / "old.db")) as replica:
        assert version_of(replica) == "1.0.0"
        assert list(differences(replica, "1.0.0")) == []


def test_a_database_of_version_1_does_not_keep_what_was_added(tmp_path: Path) -> None:
    make_version_1(tmp_path / "old.db")
    with closing(Replica.read(tmp_path / "old.db")) as replica:
        found = "\n".join(differences(replica, VERSIONS[-1]))
    for added in ("receipts.session_id", "audit_log.execution_id", "audit_entries", "producers"):
        assert added in found


@pytest.mark.parametrize(
    "content",
    [b"hello", b"\xff\xfe", b"SQLite format 3\0" + b"x" * 4096, b"SELECT * FROM nothing;"],
)
def test_a_file_that_is_neither_database_nor_sql_is_refused(tmp_path: Path, content: bytes) -> None:
    target = tmp_path / "target"
    target.write_bytes(content)
    with pytest.raises(TargetUnreadable):
        Replica.read(target)


def test_a_missing_target_is_refused_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(TargetUnreadable):
        Replica.read(tmp_path / "missing.db")
    assert not (tmp_path / "missing.db").exists()


def test_a_person_gets_one_line_for_each_difference(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.sql"
    schema = (_ROOT / "schema" / "schema.sql").read_text(encoding="utf-8")
    damaged.write_text(schema.replace("last_error TEXT", "last_error BLOB"), encoding="utf-8")
    # As `./dev contract` does, which would first install what is there.
    command = [
        "pytest",
        "tests/contract/tier2",
        "-q",
        "--no-header",
        "--tb=no",
        "-rN",
        f"--target={damaged}",
    ]
    ran = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    assert ran.returncode == 1, ran.stderr
    assert ran.stdout.splitlines()[2:-1] == [
        "agent_memory.last_error: type is BLOB, the contract says TEXT"
    ]


def test_the_suite_is_a_second_opinion() -> None:
    """It would agree with every mistake of ggend if it asked ggend."""
    imported = set()
    for file in _SUITE.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {name.name.partition(".")[0] for name in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(str(node.module).partition(".")[0])
    assert not {name for name in imported if name.startswith("ggend")}
