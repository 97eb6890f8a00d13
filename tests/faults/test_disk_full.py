"""A full disk stops acks, not the daemon; what was sent meanwhile is stored when there is room."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ggend_client import Audit, Client
from running import PATIENCE_SECONDS, Daemon

#: Bytes of the disk, and of the file that fills nearly all of what an empty database leaves.
_DISK_BYTES = 6 * 1024 * 1024
_LEFT_BYTES = 256 * 1024

#: Events that do not fit into what is left.
_EVENTS = 3_000


@pytest.fixture
def small_disk(place: Path) -> Iterator[Path]:
    """A file system of its own that is soon full."""
    disk = place / "disk"
    disk.mkdir()
    options = f"size={_DISK_BYTES}"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "ggend-test", disk], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk_is_waited_out(small_disk: Path) -> None:
    with Daemon(small_disk) as daemon, Client(daemon.socket) as client:
        client.emit(Audit(agent_id="a", operation="first", status="completed"))
        assert client.flush(PATIENCE_SECONDS)
        filler = small_disk / "filler"
        used = sum(file.stat().st_size for file in small_disk.iterdir())
        filler.write_bytes(bytes(_DISK_BYTES - used - _LEFT_BYTES))
        for number in range(_EVENTS):
            assert client.emit(Audit(agent_id="a", operation=f"{number}", status="completed"))
        deadline = time.monotonic() + PATIENCE_SECONDS
        while daemon.status()["health"] == "ok":
            assert time.monotonic() < deadline, "the disk was never full"
            assert not client.flush(0.05)
        assert "full" in str(daemon.status()["trouble"])
        filler.unlink()
        assert client.flush(PATIENCE_SECONDS)
        assert daemon.status()["health"] == "ok"
        assert daemon.query("SELECT count(*), count(DISTINCT operation) FROM audit_log") == [
            (_EVENTS + 1, _EVENTS + 1)
        ]
        assert daemon.stop() == 0
