"""Tracing: strace on a running daemon, to make one of its system calls fail or wait."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from running import PATIENCE_SECONDS, Daemon

__all__ = ["traced"]


@contextlib.contextmanager
def traced(daemon: Daemon, *options: str) -> Iterator[None]:
    """Attach strace with these options to every thread; skip the test where that cannot be."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    assert daemon.process is not None
    command = ["strace", "-f", "-qq", "-o", os.devnull, *options, "-p", str(daemon.process.pid)]
    strace = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert strace.stderr is not None
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not _is_traced(daemon.process.pid):
            if strace.poll() is not None:
                pytest.skip(f"strace cannot attach here: {strace.stderr.read().strip()}")
            assert time.monotonic() < deadline
            time.sleep(0.01)  # polling with a deadline, not hoping
        yield
    finally:
        strace.terminate()
        strace.wait(PATIENCE_SECONDS)
        strace.stderr.close()


def _is_traced(pid: int) -> bool:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return all("TracerPid:\t0\n" not in (task / "status").read_text() for task in tasks)
