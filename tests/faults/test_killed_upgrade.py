"""An upgrade that is killed, at any moment, leaves the old database or the new one."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from ggend_schema.migrations import schema_version
from support.examples import share_of_examples
from support.version_1 import TABLES, make_version_1

#: Says when it begins, so that no kill is wasted on the start of the interpreter, and how often it
#: was told a step.
_UPGRADE = """
import os, signal, sys
from pathlib import Path
from ggend.database.upgrade import prepare_database
left = int(sys.argv[2])
def tell(step):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
print("begin", flush=True)
prepare_database(Path(sys.argv[1]), tell=tell)
print(-left, flush=True)
"""


#: How many version 1.0.0 has, where ggend has added some.
_COLUMNS = {"receipts": 15, "audit_log": 9, "pipeline_metrics": 10}


def _content(path: Path) -> tuple[int, dict[str, list[tuple[object, ...]]]]:
    """The version, and every row in the columns of version 1.0.0."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        return version, {
            table: [
                row[: _COLUMNS.get(table)]
                for row in connection.execute(f"SELECT * FROM {table} ORDER BY id")
            ]
            for table in TABLES
        }


def _start(path: Path, die_at_step: int = 0) -> subprocess.Popen[bytes]:
    child = subprocess.Popen(
        [sys.executable, "-c", _UPGRADE, os.fspath(path), str(die_at_step)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"begin\n"
    return child


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("old") / "tier2.db"
    make_version_1(path, executions=3_000)
    return path


@pytest.mark.scaled
def test_killed_at_random_moments_it_is_the_old_database_or_the_new_one(
    old: Path, tmp_path: Path
) -> None:
    """Half of the kills at a step of the work, half at a moment; another try follows each."""
    rng = random.Random(7)
    _, rows = _content(old)
    path = tmp_path / "tier2.db"
    shutil.copy(old, path)
    begin = time.monotonic()
    with _start(path) as whole:
        steps = int(whole.communicate()[0])
    seconds = time.monotonic() - begin
    versions: list[int] = []
    for number in range(share_of_examples(0.2)):
        if not versions or versions[-1] != 0:
            for file in tmp_path.iterdir():
                file.unlink()
            shutil.copy(old, path)
        with _start(path, die_at_step=rng.randint(1, steps) if number % 2 else 0) as child:
            if number % 2 == 0:
                time.sleep(rng.uniform(0, seconds))  # any moment
                child.send_signal(signal.SIGKILL)
            child.communicate()
        version, found = _content(path)
        versions.append(version)
        assert version in (0, schema_version())
        assert found == rows
    assert 0 in versions
    with _start(path) as last:
        last.communicate()
        assert last.returncode == 0
    assert _content(path) == (schema_version(), rows)
    assert not list(tmp_path.glob("*.partial*"))
