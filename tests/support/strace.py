"""Strace: strace on a running daemon, to make one of its system calls fail or wait."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.daemon_process import Daemon
from support.patience import PATIENCE_SECONDS, wait_until
from support.tools import need

__all__ = ["traced"]


@contextlib.contextmanager
def traced(daemon: Daemon, *options: str) -> Iterator[None]:
    """Attach strace with these options to every thread; skip the test where that cannot be."""
    need("strace")
    assert daemon.process is not None
    command = ["strace", "-f", "-qq", "-o", os.devnull, *options, "-p", str(daemon.process.pid)]
    strace = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert strace.stderr is not None
    try:
        pid = daemon.process.pid
        wait_until(lambda: strace.poll() is not None or _is_traced(pid), "strace does not attach")
        if strace.poll() is not None:
            pytest.skip(f"strace cannot attach here: {strace.stderr.read().strip()}")
        yield
    finally:
        strace.terminate()
        strace.wait(PATIENCE_SECONDS)
        strace.stderr.close()


def _is_traced(pid: int) -> bool:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return all("TracerPid:\t0\n" not in (task / "status").read_text() for task in tasks)
