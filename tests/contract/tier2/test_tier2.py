"""The data contract holds, in a fresh database, an upgraded one, and one from schema.sql.

Point it at another with `./dev contract PATH`, or `pytest tests/contract/tier2 --target PATH`: a
database, which is only read, or a file of SQL. Of a database of version 1.0.0, which is told by
its header or by `--contract-version=1.0.0`, it checks what that version promised.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from contract.tier2.check import Check
from contract.tier2.replica import Absent, Replica, TargetUnreadable
from contract.tier2.suite import VERSIONS, checks_of, version_of
from support.patience import PATIENCE_SECONDS
from version1 import make_version_1

_SCHEMA = Path(__file__).parents[3] / "schema" / "schema.sql"

#: What is checked when no target is named: one test for each check of the first, one for all
#: checks of each other.
_MADE = "fresh"
_ALSO_MADE = ("upgraded", "schema.sql")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test for each check and each target."""
    named = metafunc.config.getoption("target")
    if "also_made" in metafunc.fixturenames:
        metafunc.parametrize("also_made", () if named else _ALSO_MADE)
        return
    metafunc.parametrize("copied", named or [_MADE], scope="module", indirect=True)
    if "check" in metafunc.fixturenames:
        checks = checks_of(VERSIONS[-1])
        metafunc.parametrize("check", checks, ids=[check.name for check in checks])


@pytest.fixture(scope="module")
def copied(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Replica | str]:
    """An empty copy of the target, in memory; or why there is none."""
    name: str = request.param
    try:
        if request.config.getoption("target"):
            path = Path(name)
        else:
            path = tmp_path_factory.mktemp("target") / "tier2.db"
            _make(name, path)
        replica = Replica.read(path)
    except (TargetUnreadable, subprocess.SubprocessError) as error:
        yield f"cannot be read: {error} {getattr(error, 'stderr', '')}"
        return
    with closing(replica):
        yield replica


@pytest.fixture(autouse=True)
def named(request: pytest.FixtureRequest) -> None:
    """The report says of which target it is."""
    target = request.node.callspec.params.get("copied", "")
    request.node.user_properties.append(("target", target))


def test_the_target_can_be_read(copied: Replica | str) -> None:
    """Everything else is skipped if not."""
    if isinstance(copied, str):
        pytest.fail(copied, pytrace=False)


def test_the_contract_holds(
    copied: Replica | str, check: Check, pytestconfig: pytest.Config
) -> None:
    """One promise, kept by one target."""
    if isinstance(copied, str):
        pytest.skip("the target cannot be read")
    version = pytestconfig.getoption("contract_version") or version_of(copied)
    if check.added and version == "1.0.0":
        pytest.skip("not promised by version 1.0.0")
    try:
        check.run(copied)
    except Absent as error:
        pytest.skip(str(error))


def test_the_contract_holds_in_what_else_is_made(also_made: str, tmp_path: Path) -> None:
    """All promises, kept by one target that differs from the first in how it was made."""
    path = tmp_path / "tier2.db"
    _make(also_made, path)
    broken = {}
    with closing(Replica.read(path)) as replica:
        for check in checks_of(VERSIONS[-1]):
            try:
                check.run(replica)
            except (AssertionError, Absent) as error:
                broken[check.name] = str(error)
    assert broken == {}


def _make(name: str, path: Path) -> None:
    if name == "schema.sql":
        _load(path)
        return
    if name == "upgraded":
        make_version_1(path)
    _run(sys.executable, "-m", "ggend", "init", os.fspath(path))


def _load(path: Path) -> None:
    """As the contract says it: `sqlite3 new.db < schema/schema.sql`."""
    if shutil.which("sqlite3"):
        _run("sqlite3", os.fspath(path), script=_SCHEMA.read_text(encoding="utf-8"))
        return
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(_SCHEMA.read_text(encoding="utf-8"))


def _run(*command: str, script: str = "") -> None:
    subprocess.run(
        command, input=script, check=True, capture_output=True, text=True, timeout=PATIENCE_SECONDS
    )
