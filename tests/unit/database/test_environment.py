"""The place of a database, looked at before it is opened."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from ggend.database.check import environment as module
from ggend.database.check.environment import check_environment
from ggend.database.findings import Verdict


def verdicts(path: Path) -> dict[str, Verdict]:
    return {finding.what: finding.verdict for finding in check_environment(path)}


def test_an_ordinary_directory_is_fine(tmp_path: Path) -> None:
    found = verdicts(tmp_path / "tier2.db")
    assert found["directory"] is found["permissions"] is found["SQLite"] is Verdict.OK


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    assert verdicts(tmp_path / "no" / "tier2.db")["directory"] is Verdict.FAILED


def test_a_file_that_others_may_write_to_is_worth_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "tier2.db"
    path.touch()
    path.chmod(0o666)
    assert verdicts(path)["permissions"] is Verdict.WARNING


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_without_leave_to_write_fails(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert verdicts(tmp_path / "tier2.db")["directory"] is Verdict.FAILED
    tmp_path.chmod(0o700)


@pytest.mark.parametrize(
    ("kind", "verdict"), [("nfs4", Verdict.FAILED), ("tmpfs", Verdict.WARNING), ("xfs", Verdict.OK)]
)
def test_the_file_system_decides_whether_wal_can_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, verdict: Verdict
) -> None:
    monkeypatch.setattr(module, "_mounted", lambda _: kind)
    assert verdicts(tmp_path / "tier2.db")["file system"] is verdict


@pytest.mark.parametrize(
    ("version", "verdict"),
    [
        ((3, 40, 1), Verdict.WARNING),
        ((3, 44, 5), Verdict.WARNING),
        ((3, 44, 6), Verdict.OK),
        ((3, 45, 9), Verdict.WARNING),
        ((3, 50, 6), Verdict.WARNING),
        ((3, 50, 7), Verdict.OK),
        ((3, 51, 2), Verdict.WARNING),
        ((3, 51, 3), Verdict.OK),
        ((3, 52, 0), Verdict.OK),
    ],
)
def test_the_wal_reset_bug_is_known_by_version(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    version: tuple[int, int, int],
    verdict: Verdict,
) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", version)
    assert verdicts(tmp_path / "tier2.db")["WAL-reset bug"] is verdict


def test_an_old_sqlite_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    assert verdicts(tmp_path / "tier2.db")["SQLite"] is Verdict.FAILED
