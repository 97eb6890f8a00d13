"""The lock of a database: a daemon's is not waited for, a reader's is, for a moment."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

import pytest

from ggend.database.lock import hold_lock, lock_path
from ggend.errors import AlreadyRunning


def _lock(path: Path, kind: int) -> int:
    descriptor = os.open(lock_path(path), os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, kind)
    return descriptor


def test_the_lock_of_a_daemon_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("it waits"))
    held = _lock(tmp_path / "tier2.db", fcntl.LOCK_EX)
    try:
        with (
            pytest.raises(AlreadyRunning, match="another ggend"),
            hold_lock(tmp_path / "tier2.db", what="database"),
        ):
            pass
    finally:
        os.close(held)


def test_the_lock_of_a_reader_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = _lock(tmp_path / "tier2.db", fcntl.LOCK_SH)
    monkeypatch.setattr(time, "sleep", lambda _: fcntl.flock(held, fcntl.LOCK_UN))
    try:
        with hold_lock(tmp_path / "tier2.db", what="database"):
            assert lock_path(tmp_path / "tier2.db").read_text() == f"{os.getpid()}\n"
    finally:
        os.close(held)


def test_a_reader_that_stays_is_in_the_way_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ggend.database.lock._PATIENCE_SECONDS", 0)
    held = _lock(tmp_path / "tier2.db", fcntl.LOCK_SH)
    try:
        with (
            pytest.raises(AlreadyRunning),
            hold_lock(tmp_path / "tier2.db", what="database"),
        ):
            pass
    finally:
        os.close(held)
