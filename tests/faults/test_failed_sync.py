"""A sync that fails ends the daemon by name: the kernel may say that the next one is fine."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

import pytest

from support.daemon_process import Daemon, free_place
from support.framed_peer import Peer, audit, batch, new_producer
from support.patience import PATIENCE_SECONDS
from support.strace import traced


@pytest.mark.parametrize(
    ("file", "checkpoint_events", "status"),
    [
        ("tier2.db-wal", 10**7, os.EX_UNAVAILABLE),
        ("tier2.db", 1, os.EX_IOERR),
        ("tier2.db.wal-record", 1, os.EX_IOERR),
    ],
    ids=["a commit", "a checkpoint", "the record of the WAL"],
)
def test_it_ends_and_what_was_acked_is_there(
    file: str, checkpoint_events: int, status: int
) -> None:
    """Nothing is tried again in the same process; the next one has every event once."""
    producer = new_producer()
    acked = sent = 0
    with free_place() as name:
        daemon = Daemon(place := Path(name), checkpoint_events=checkpoint_events)
        daemon.start()
        assert daemon.process is not None
        inject = "inject=fsync,fdatasync:error=EIO"
        with (
            traced(daemon, "-P", str(place / file), "-e", "trace=fsync,fdatasync", "-e", inject),
            suppress(AssertionError, OSError),
            Peer(daemon.socket) as peer,
        ):
            peer.hello(producer)
            deadline = time.monotonic() + PATIENCE_SECONDS
            while time.monotonic() < deadline:
                sent += 1
                peer.send(batch(sent, audit("a", operation=f"{sent}")))
                peer.read_to_ack(sent)
                acked = sent
        assert daemon.process.wait(PATIENCE_SECONDS) == status
        said = daemon.log.read_text()
        assert "SQLITE_IOERR_FSYNC" in said or "Input/output error" in said
        assert "Traceback" not in daemon.log.read_text()
        with daemon, Peer(daemon.socket) as peer:
            stored = peer.hello(producer).last_sequence
            assert acked <= stored <= sent
            assert daemon.query("SELECT count(*) FROM audit_log") == [(stored,)]
