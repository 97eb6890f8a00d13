"""`ggend emit` when something is wrong, and `ggend spool`, as a script uses them."""

from __future__ import annotations

import json
import os
import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest

from ggend_client import Audit
from ggend_client.pairs import pair_of
from ggend_client.spool.directory import lock_path
from ggend_client.spool.lock import SpoolLock
from ggend_client.spool.spool import EXPIRY_NS, Spool
from support.daemon_process import Daemon
from support.framed_peer import Peer, audit, batch
from support.patience import PATIENCE_SECONDS
from support.processes import run_ggend

AUDIT = ("audit", "agent_id=me", "operation=x", "status=completed")
LINE = '{"type":"audit","agent_id":"me","operation":"%d","status":"completed"}\n'


def ggend(
    place: Path, *arguments: str, stdin: str = "", **environ: str
) -> subprocess.CompletedProcess[str]:
    """Run a command as a user whose daemon and spool are at this place."""
    return run_ggend(
        *arguments,
        environ={
            "GGEND_SOCKET": os.fspath(place / "g.sock"),
            "GGEND_SPOOL_DIR": os.fspath(place / "spool"),
            **environ,
        },
        stdin=stdin.encode(),
    )


def operations(daemon: Daemon) -> list[object]:
    return [row[0] for row in daemon.query("SELECT operation FROM audit_log ORDER BY id")]


def test_without_a_daemon_emit_keeps_the_event_and_says_so(place: Path) -> None:
    ran = ggend(place, "emit", *AUDIT)
    assert ran.returncode == 0
    assert "1 of 1 events spooled on disk" in ran.stderr
    assert ran.stdout == ""
    with Daemon(place) as daemon:
        ran = ggend(place, "spool", "replay")
        assert (ran.returncode, ran.stdout.split(" from ")[0]) == (
            0,
            "1 event of 1 producer delivered",
        )
        assert operations(daemon) == ["x"]
    assert list((place / "spool").iterdir()) == []


def test_what_waits_is_brought_by_the_next_emit_too(place: Path) -> None:
    ggend(place, "emit", "--stdin", stdin="".join(LINE % n for n in range(100)))
    with Daemon(place) as daemon:
        ggend(place, "emit", "--timeout", str(PATIENCE_SECONDS), *AUDIT)
        assert sorted(operations(daemon), key=str) == sorted([*map(str, range(100)), "x"])


def test_strict_emit_fails_without_a_daemon_and_keeps_nothing(place: Path) -> None:
    ran = ggend(place, "emit", "--strict", *AUDIT)
    assert ran.returncode == os.EX_UNAVAILABLE
    assert "Traceback" not in ran.stderr
    assert not (place / "spool").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("audit", "agent_id=me", "operation=x", "status=none"), "status"),
        (("nonsense",), "there is no event type"),
        (("audit", "agent_id=me", "operation=x", "status=completed", "colour=red"), "colour"),
    ],
)
def test_emit_of_what_is_wrong_says_so_and_lets_the_script_go_on(
    daemon: Daemon, arguments: tuple[str, ...], said: str
) -> None:
    ran = ggend(daemon.place, "emit", *arguments)
    assert ran.returncode == 0
    assert said in ran.stderr
    assert operations(daemon) == []


def test_emit_names_the_broken_line_and_sends_the_others(daemon: Daemon) -> None:
    ran = ggend(daemon.place, "emit", "--stdin", stdin=LINE % 1 + "{\n" + LINE % 3)
    assert ran.returncode == 0
    assert ran.stderr.startswith("ggend: line 2: ")
    assert operations(daemon) == ["1", "3"]


def test_emit_takes_ids_that_are_not_given_from_the_environment(daemon: Daemon) -> None:
    ran = ggend(
        daemon.place,
        "emit",
        "audit",
        "operation=x",
        "status=completed",
        GGEND_AGENT="a7",
        GGEND_EXECUTION="e7",
        GGEND_SESSION="",
    )
    assert ran.stderr == ""
    assert daemon.query("SELECT agent_id FROM audit_log") == [("a7",)]


def test_a_spool_that_cannot_be_used_loses_the_event_and_says_so(place: Path) -> None:
    (place / "spool").write_text("not a directory")
    # Nothing can come of waiting. GGEND_STRICT is for programs.
    ran = ggend(place, "emit", "--timeout", "0.2", *AUDIT, GGEND_STRICT="1")
    assert ran.returncode == 0
    assert ran.stderr.startswith("ggend: 1 of 1 events lost: ")
    assert len(ran.stderr.splitlines()) == 1


def test_list_shows_what_waits_and_what_was_set_aside(place: Path) -> None:
    ggend(place, "emit", "--stdin", stdin="".join(LINE % n for n in range(7)))
    [path] = (place / "spool").glob("*.segment")
    path.with_name(f"{path.name}.corrupt").write_bytes(b"?")
    (listed,) = json.loads(ggend(place, "spool", "list", "--format", "json").stdout)
    assert (listed["producer"], listed["owner"]) == (path.name[:32], "ended")
    assert (listed["events"], listed["set_aside"]) == (7, 1)
    assert listed["meant_for"] == str(place / "g.sock")


def test_list_of_nothing_is_empty(place: Path) -> None:
    ran = ggend(place, "spool", "list")
    assert (ran.returncode, ran.stderr) == (0, "")


def test_replay_without_a_daemon_leaves_everything_where_it_is(place: Path) -> None:
    ggend(place, "emit", *AUDIT)
    ran = ggend(place, "spool", "replay")
    assert ran.returncode == os.EX_UNAVAILABLE
    assert len(list((place / "spool").glob("*.segment"))) == 1


def test_replay_to_another_daemon_must_be_asked_for(place: Path) -> None:
    ggend(place, "emit", *AUDIT, GGEND_SOCKET="/nowhere/g.sock")
    with Daemon(place) as daemon:
        ran = ggend(place, "spool", "replay")
        assert ran.returncode == os.EX_UNAVAILABLE
        assert ran.stdout.startswith("0 events")
        assert "1 event addressed to other sockets: /nowhere/g.sock" in ran.stderr
        assert "--socket" in ran.stderr
        ran = ggend(place, "spool", "list")
        assert ran.returncode == os.EX_UNAVAILABLE
        assert "1 event addressed to other sockets: /nowhere/g.sock" in ran.stderr
        assert operations(daemon) == []
        assert ggend(place, "spool", "replay", "--all-sockets").stdout.startswith("1 event ")
        assert operations(daemon) == ["x"]


def test_the_former_name_of_all_sockets_still_works(place: Path) -> None:
    ggend(place, "emit", *AUDIT, GGEND_SOCKET="/nowhere/g.sock")
    with Daemon(place) as daemon:
        assert ggend(place, "spool", "replay", "--whomever").stdout.startswith("1 event ")
        assert operations(daemon) == ["x"]
    assert "--whomever" not in ggend(place, "spool", "replay", "--help").stdout


def test_without_a_spool_the_commands_say_that_there_is_none(place: Path) -> None:
    ran = ggend(place, "spool", "list", GGEND_SPOOL_DIR="")
    assert ran.returncode == os.EX_USAGE
    assert "GGEND_SPOOL_DIR is empty" in ran.stderr


def test_programs_that_find_the_user_s_daemon_by_other_paths_share_its_spool(place: Path) -> None:
    """Cron has no XDG_RUNTIME_DIR; what it left is for the daemon of the login session."""
    home = {"HOME": os.fspath(place), "GGEND_SOCKET": "", "GGEND_SPOOL_DIR": ""}
    spool = {"GGEND_SPOOL_DIR": os.fspath(place / "spool")}
    runtime = {"XDG_RUNTIME_DIR": os.fspath(place / "run")}
    cron = ggend(place, "emit", *AUDIT, **{**home, **spool, "XDG_RUNTIME_DIR": ""})
    assert "1 of 1 events spooled on disk" in cron.stderr
    (place / "run" / "ggend").mkdir(parents=True)
    with Daemon(place) as daemon:
        (place / "run" / "ggend" / "ggend.sock").symlink_to(daemon.socket)
        listed = ggend(place, "spool", "list", "-f", "json", **{**home, **spool, **runtime})
        assert [one["meant_for"] for one in json.loads(listed.stdout)] == ["default"]
        assert listed.returncode == os.EX_UNAVAILABLE
        ran = ggend(place, "spool", "replay", **{**home, **spool, **runtime})
        assert (ran.returncode, ran.stderr) == (0, "")
        assert operations(daemon) == ["x"]
    ran = ggend(place, "spool", "list", **{**home, **spool})
    assert (ran.returncode, ran.stderr) == (0, "")


def test_a_spool_of_an_earlier_version_is_for_the_user_s_daemon_too(place: Path) -> None:
    """It named the path."""
    runtime = {"XDG_RUNTIME_DIR": os.fspath(place / "run"), "GGEND_SOCKET": ""}
    ggend(place, "emit", *AUDIT, **runtime)
    [lock] = (place / "spool").glob("*.lock")
    assert lock.read_text().startswith("default\0")
    lock.write_text(os.fspath(place / "run" / "ggend" / "ggend.sock"))
    (listed,) = json.loads(ggend(place, "spool", "list", "-f", "json", **runtime).stdout)
    assert listed["meant_for"] == "default"


def leave_old(place: Path, producer: bytes, *operations: str) -> Path:
    """Leave a spool of over thirty days; return its one segment."""
    old = time.time_ns() - EXPIRY_NS - 10**9
    spool = Spool(place / "spool", producer, now_ns=lambda: old, boot_id=lambda: "before")
    with closing(spool):
        for number, operation in enumerate(operations, 1):
            event = Audit(agent_id="a", operation=operation, status="completed")
            spool.append(number, [pair_of(event)])
    [path] = (place / "spool").glob(f"{producer.hex()}-*.segment")
    os.utime(path, ns=(old, old))
    return path


def note_offer(place: Path, producer: bytes) -> None:
    """As if one of its events had been sent."""
    lock = SpoolLock(lock_path(place / "spool", producer))
    assert lock.take()
    lock.write(lock.destination, lock.boot_id, is_offered=True)
    lock.release()


def test_replay_says_what_is_too_old_to_be_sent(place: Path) -> None:
    path = leave_old(place, b"p" * 16, "old")
    with Daemon(place) as daemon:
        ran = ggend(place, "spool", "replay")
        assert "1 events are over 30 days old and were set aside" in ran.stderr
        assert "`ggend spool replay --expired`" in ran.stderr
        assert path.with_name(f"{path.name}.expired").exists()
        assert operations(daemon) == []
        ggend(place, "spool", "replay")  # there is nothing to do
        ran = ggend(place, "spool", "replay", "--expired")
        assert "1 event of 1 producer delivered" in ran.stdout
        assert operations(daemon) == ["old"]
        assert list((place / "spool").iterdir()) == []


def test_replay_sends_old_events_only_where_none_can_be_stored_twice(place: Path) -> None:
    known, unknown = b"k" * 16, b"u" * 16
    with Daemon(place) as daemon:
        with Peer(daemon.socket) as peer:
            peer.hello(known)
            peer.send(batch(1, audit("a", operation="known-1")))
            peer.read_to_ack(1)
        leave_old(place, known, "known-1", "known-2")
        leave_old(place, unknown, "unknown")
        for producer in (known, unknown):
            note_offer(place, producer)
        ran = ggend(place, "spool", "replay", "--expired")
        assert ran.returncode == 69
        assert f"their producers: {unknown.hex()}" in ran.stderr
        assert "--accept-duplicates sends them" in ran.stderr
        assert operations(daemon) == ["known-1", "known-2"]
        ggend(place, "spool", "replay", "--expired", "--accept-duplicates")
        assert operations(daemon) == ["known-1", "known-2", "unknown"]
        assert list((place / "spool").iterdir()) == []


def test_old_events_of_which_the_lock_is_gone_may_be_stored_already(place: Path) -> None:
    """Nobody knows whether any was sent."""
    leave_old(place, b"p" * 16, "old")
    lock_path(place / "spool", b"p" * 16).unlink()
    with Daemon(place) as daemon:
        ggend(place, "spool", "replay")  # sets it aside
        ran = ggend(place, "spool", "replay", "--expired")
        assert ran.returncode == 69
        assert "--accept-duplicates" in ran.stderr
        assert operations(daemon) == []
