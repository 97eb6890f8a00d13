"""The data contract holds in a fresh database; `test_tier2_made` has the other ways to make one.

Point it at another with `./dev contract PATH`, or `pytest tests/contract/tier2 --target PATH`: a
database, which is only read, or a file of SQL. Of a database of version 1.0.0, which is told by
its header or by `--contract-version=1.0.0`, it checks what that version promised.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from contract.tier2.check import Check
from contract.tier2.made import make
from contract.tier2.replica import Absent, Replica, TargetUnreadable
from contract.tier2.suite import VERSIONS, checks_of, version_of


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test for each check and each target."""
    targets = metafunc.config.getoption("target") or ["fresh"]
    metafunc.parametrize("copied", targets, scope="module", indirect=True)
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
            make(name, path)
        replica = Replica.read(path)
    except (TargetUnreadable, subprocess.SubprocessError) as error:
        yield f"cannot be read: {error} {getattr(error, 'stderr', '')}"
        return
    with closing(replica):
        yield replica


@pytest.fixture(autouse=True)
def named(request: pytest.FixtureRequest) -> None:
    """The report says of which target it is."""
    target = request.node.callspec.params["copied"]
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
