"""`ggend rejected`, `parked` and `accounts` as a person or a script uses them, beside a daemon."""

from __future__ import annotations

import json
import os
import pty
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from ggend.cli.app import app
from ggend.errors import (
    AlreadyRunning,
    DatabaseUnusable,
    GgendError,
    NotAllowed,
    UsageMistake,
)
from ggend_client import ask
from support.daemon_process import Daemon, free_place
from support.framed_peer import STAMP_NS, Peer, audit, batch, line_of, receipt, stage
from support.patience import PATIENCE_SECONDS
from support.version_1 import make_version_1

PRODUCER = bytes(range(16))

#: What a terminal acts on, in the places where an event may have it.
HOSTILE = "\x1b[31m\x9b\r\u202e"

NONSENSE = {"type": f"nonsense{HOSTILE}", "text": HOSTILE}
CONFLICT = receipt("e1", agent_id="another", error_message=HOSTILE)
ENDED = {"type": "session_ended", "session_id": "s\u202e", "status": "completed"}

FORMS = ("table", "json", "ndjson", "csv", "markdown")


def fill(daemon: Daemon) -> None:
    """1 stored, 3 parked for two parents, 4 rejected: 1 nonsense, 2 broken, 3 conflict, 4 line."""
    with Peer(daemon.socket) as peer:
        peer.hello(PRODUCER)
        peer.send(batch(1, receipt("e1"), stage("early"), stage("early", "emit"), ENDED))
        peer.read_to_ack(4)
        peer.send(batch(5, NONSENSE))
        peer.read_to_ack(5)
        peer.send(batch(6, b"\xa1\xff"))
        peer.read_to_ack(6)
        peer.send(batch(7, CONFLICT))
        peer.read_to_ack(7)
    daemon.exchange(line_of(audit("a", duration_ms=-1)))


@pytest.fixture(scope="module")
def filled() -> Iterator[Daemon]:
    """A daemon with parked and rejected events, for tests that only look."""
    with free_place() as place, Daemon(Path(place)) as daemon:
        fill(daemon)
        yield daemon


def run(daemon: Daemon, *arguments: str) -> Result:
    """Run `ggend …` in this process. Raises the error that ends it, with its message and hint."""
    environ = {"GGEND_DATABASE": str(daemon.database), "GGEND_SOCKET": str(daemon.socket)}
    ran = CliRunner().invoke(app, arguments, env=environ)
    if isinstance(ran.exception, GgendError):
        raise ran.exception
    assert ran.exception is None or isinstance(ran.exception, SystemExit), ran.exception
    return ran


def objects(daemon: Daemon, *arguments: str) -> list[dict[str, object]]:
    return [
        json.loads(line) for line in run(daemon, *arguments, "-f", "ndjson").stdout.splitlines()
    ]


def totals(daemon: Daemon) -> dict[str, int]:
    found: dict[str, int] = json.loads(run(daemon, "accounts", "-f", "json").stdout)["total"]
    return found


def take_its_rival_away(daemon: Daemon) -> None:
    """Delete the receipt that event 3 conflicts with: then it can be taken in."""
    with closing(sqlite3.connect(daemon.database)) as connection, connection:
        connection.execute("DELETE FROM receipts")


def test_rejected_events_are_listed_the_newest_first(filled: Daemon) -> None:
    rows = objects(filled, "rejected", "list")
    assert [row["id"] for row in rows] == [4, 3, 2, 1]
    assert [row["code"] for row in rows] == ["invalid", "conflict", "invalid", "unknown_type"]
    assert [row["event_type"] for row in rows] == [
        "audit",
        "receipt_emitted",
        None,
        f"nonsense{HOSTILE}",
    ]
    assert (rows[1]["producer"], rows[1]["sequence"], rows[1]["client"]) == (
        PRODUCER.hex(),
        7,
        "test",
    )
    assert (rows[0]["producer"], rows[0]["uid"], rows[0]["kept"]) == (None, os.geteuid(), 1)


def test_rejected_events_are_chosen_by_code_and_time(filled: Daemon) -> None:
    invalid = objects(filled, "rejected", "list", "--code", "invalid", "--since", "1h")
    assert [row["id"] for row in invalid] == [4, 2]
    assert objects(filled, "rejected", "list", "--until", "1h") == []
    ran = run(filled, "rejected", "list", "--code", "no_such_code")
    assert ran.exit_code == 2
    assert "parked_full" in ran.stderr


def test_a_list_that_is_cut_says_how_many_there_are_by_code(filled: Daemon) -> None:
    beside = run(filled, "rejected", "list", "--limit", "2").stderr
    assert "--before 3 shows the next page" in beside
    assert "4 rejected events match: 2 invalid, 1 conflict, 1 unknown_type" in beside
    rest = objects(filled, "rejected", "list", "--limit", "2", "--before", "3")
    assert [row["id"] for row in rest] == [2, 1]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("command", [("rejected", "list"), ("parked", "list"), ("accounts",)])
def test_nothing_that_a_terminal_acts_on_is_printed(
    command: tuple[str, ...], form: str, filled: Daemon
) -> None:
    printed = run(filled, *command, "--format", form).stdout
    assert printed.count("\n") > 1
    assert not set(printed) & set(HOSTILE.replace("[31m", ""))


@pytest.mark.parametrize("more", [[], ["--json"]])
@pytest.mark.parametrize("rejected_id", ["1", "2", "3", "4"])
def test_what_is_shown_is_nothing_that_a_terminal_acts_on(
    rejected_id: str, more: list[str], filled: Daemon
) -> None:
    printed = run(filled, "rejected", "show", rejected_id, *more).stdout
    assert not set(printed) & set(HOSTILE.replace("[31m", ""))


def test_one_rejected_event_is_shown_with_its_content(filled: Daemon) -> None:
    shown = run(filled, "rejected", "show", "3").stdout
    assert "already in receipts with different content" in shown
    assert PRODUCER.hex() in shown
    assert '"agent_id": "another"' in shown
    whole = json.loads(run(filled, "rejected", "show", "3", "--json").stdout)
    assert whole["event"] == CONFLICT
    assert (whole["stamp_ns"], whole["event_hex"]) == (STAMP_NS, None)


def test_bytes_that_cannot_be_read_are_dumped(filled: Daemon) -> None:
    assert "0000  a1 ff" in run(filled, "rejected", "show", "2").stdout
    whole = json.loads(run(filled, "rejected", "show", "2", "--json").stdout)
    assert (whole["event"], whole["event_hex"]) == (None, "a1ff")


def test_the_bytes_are_printed_as_they_came(filled: Daemon) -> None:
    assert run(filled, "rejected", "show", "2", "--raw").stdout_bytes == b"\xa1\xff"
    with pytest.raises(UsageMistake, match="there is no rejected event 99"):
        run(filled, "rejected", "show", "99")


def test_a_terminal_gets_no_raw_bytes(filled: Daemon) -> None:
    leader, terminal = pty.openpty()
    try:
        ran = subprocess.run(
            [sys.executable, "-m", "ggend", "rejected", "show", "1", "--raw"],
            env={**os.environ, "GGEND_DATABASE": os.fspath(filled.database)},
            stdout=terminal,
            stderr=subprocess.PIPE,
            timeout=PATIENCE_SECONDS,
        )
    finally:
        os.close(leader)
        os.close(terminal)
    assert ran.returncode == os.EX_USAGE
    assert b"refusing to write raw bytes to a terminal" in ran.stderr


def test_what_was_not_kept_is_shown_by_hash_and_length(place: Path) -> None:
    with Daemon(place, undecodable_max_bytes=0) as daemon:
        daemon.exchange(b"{broken\n")
        assert "only the hash and length were kept" in run(daemon, "rejected", "show", "1").stdout
        with pytest.raises(UsageMistake, match="only the hash and length"):
            run(daemon, "rejected", "show", "1", "--raw")
        ran = run(daemon, "rejected", "requeue", "1")
        assert ran.exit_code == os.EX_DATAERR
        assert "not_kept" in ran.stdout


def test_what_waits_is_listed_by_parent(filled: Daemon) -> None:
    waiting = {row["parent_id"]: row for row in objects(filled, "parked", "list")}
    assert set(waiting) == {"early", "s\u202e"}
    early = waiting["early"]
    assert (early["waits_for"], early["events"]) == ("receipt", 2)
    assert early["types"] == {"stage_completed": 2}
    assert (early["clients"], early["producers"]) == (["test"], [PRODUCER.hex()])
    assert "2 stage_completed" in run(filled, "parked", "list").stdout


def test_what_waits_is_chosen_by_parent_and_age(filled: Daemon) -> None:
    sessions = objects(filled, "parked", "list", "--parent", "session")
    assert [row["types"] for row in sessions] == [{"session_ended": 1}]
    assert objects(filled, "parked", "list", "--older-than", "1h") == []
    assert len(objects(filled, "parked", "list", "--older-than", "0s")) == 2
    beside = run(filled, "parked", "list", "--limit", "1").stderr
    assert "the first 1 of 2 missing parents are shown; 3 events are parked in all" in beside


def test_the_oldest_waits_first_and_its_age_is_shown(place: Path) -> None:
    with Daemon(place) as daemon:
        daemon.exchange(line_of(stage("new")) + line_of(stage("old")))
    with closing(sqlite3.connect(daemon.database)) as connection, connection:
        connection.execute(
            "UPDATE parked_events SET arrival_ns = arrival_ns - 93784000000000 "
            "WHERE parent_id = 'old'"
        )
    lines = run(daemon, "parked", "list").stdout.splitlines()
    assert lines[1].split()[:5] == ["receipt", "old", "1", "1d", "2h"]


def test_the_accounts_are_shown_in_total_and_verified(filled: Daemon) -> None:
    ran = run(filled, "accounts")
    assert ran.exit_code == 0
    assert "total of 2" in ran.stdout
    assert ran.stdout.count("\nverified ") == 4
    whole = json.loads(run(filled, "accounts", "-f", "json").stdout)
    assert whole["total"]["last_sequence"] == 8
    assert {
        row["kind"]: (row["stored"], row["parked"], row["rejected"]) for row in whole["accounts"]
    } == {
        "producer": (1, 3, 3),
        "anonymous": (0, 0, 1),
    }


def test_accounts_are_chosen_by_producer_and_client(filled: Daemon) -> None:
    for chosen in (("--producer", PRODUCER.hex()[:5]), ("--client", "test")):
        (row,) = objects(filled, "accounts", *chosen)
        assert row["producer"] == PRODUCER.hex()
    assert objects(filled, "accounts", "--producer", "ff") == []
    with pytest.raises(UsageMistake, match="not a prefix of a producer id"):
        run(filled, "accounts", "--producer", "me")
    assert "the first 1 of 2 accounts" in run(filled, "accounts", "--limit", "1").stderr


def test_accounts_that_do_not_add_up_are_said_and_fail(place: Path) -> None:
    with Daemon(place) as daemon:
        daemon.exchange(line_of(stage("e")))
    with closing(sqlite3.connect(daemon.database)) as connection, connection:
        connection.execute("DELETE FROM parked_events")
    for form in FORMS:
        ran = run(daemon, "accounts", "--format", form)
        assert ran.exit_code == os.EX_DATAERR, form
        assert "account 1 counts 1 parked events, but 0 are parked" in ran.stderr, form


def test_requeued_by_the_daemon_an_event_becomes_a_row_once(daemon: Daemon) -> None:
    fill(daemon)
    take_its_rival_away(daemon)
    ran = run(daemon, "rejected", "requeue", "3", "-f", "json")
    assert ran.exit_code == 0
    assert json.loads(ran.stdout) == [{"id": 3, "outcome": "stored", "code": None, "message": None}]
    assert daemon.query("SELECT agent_id FROM receipts") == [("another",)]
    assert (totals(daemon)["stored"], totals(daemon)["rejected"]) == (2, 3)
    again = run(daemon, "rejected", "requeue", "3")
    assert again.exit_code == 0
    assert "gone" in again.stdout


def test_what_is_rejected_again_stays_and_fails(daemon: Daemon) -> None:
    fill(daemon)
    ran = run(daemon, "rejected", "requeue", "--all")
    assert ran.exit_code == os.EX_DATAERR
    assert "4 of 4 events stay in quarantine" in ran.stderr
    assert totals(daemon)["rejected"] == len(objects(daemon, "rejected", "list")) == 4


def test_without_a_daemon_the_file_itself_is_requeued_and_purged(place: Path) -> None:
    with Daemon(place) as daemon:
        fill(daemon)
    take_its_rival_away(daemon)
    assert run(daemon, "rejected", "requeue", "--code", "conflict").exit_code == 0
    assert daemon.query("SELECT agent_id FROM receipts") == [("another",)]
    assert run(daemon, "rejected", "purge", "--all", "--yes").stdout == "3 events deleted\n"
    assert (totals(daemon)["rejected"], totals(daemon)["purged"]) == (3, 3)


def test_many_are_requeued_in_parts_and_summed_up(daemon: Daemon) -> None:
    fill(daemon)
    daemon.exchange(line_of(CONFLICT) * 1200)
    take_its_rival_away(daemon)
    ran = run(daemon, "rejected", "requeue", "--code", "conflict")
    assert ran.exit_code == 0
    assert [line.split() for line in ran.stdout.splitlines()[1:]] == [
        ["duplicate", "-", "1200"],
        ["stored", "-", "1"],
    ]
    # A receipt was deleted with plain SQL.
    assert run(daemon, "accounts").exit_code == os.EX_DATAERR


def test_rejected_events_are_purged_by_the_daemon_as_chosen(daemon: Daemon) -> None:
    fill(daemon)
    assert run(daemon, "rejected", "purge", "1", "99", "--yes").stdout == "1 events deleted\n"
    older = ("rejected", "purge", "--code", "invalid", "--older-than", "1h", "--yes")
    assert run(daemon, *older).stdout == "0 events deleted\n"
    assert (
        run(daemon, "rejected", "purge", "--code", "invalid", "--yes").stdout
        == "2 events deleted\n"
    )
    assert [row["id"] for row in objects(daemon, "rejected", "list")] == [3]
    assert (totals(daemon)["rejected"], totals(daemon)["purged"]) == (4, 3)
    assert run(daemon, "accounts").exit_code == 0


def test_where_nobody_can_be_asked_nothing_is_purged_without_yes(daemon: Daemon) -> None:
    fill(daemon)
    with pytest.raises(
        UsageMistake, match="delete 4 rejected events without confirmation"
    ) as refused:
        run(daemon, "rejected", "purge", "--all")
    assert "--yes" in refused.value.hint
    assert len(objects(daemon, "rejected", "list")) == 4


def test_on_a_terminal_it_asks_before_it_purges(daemon: Daemon) -> None:
    fill(daemon)
    for answer, left in (("n\n", 4), ("y\n", 0)):
        leader, terminal = pty.openpty()
        try:
            os.write(leader, answer.encode())
            ran = subprocess.run(
                [sys.executable, "-m", "ggend", "rejected", "purge", "--all"],
                env={
                    **os.environ,
                    "GGEND_DATABASE": os.fspath(daemon.database),
                    "GGEND_SOCKET": os.fspath(daemon.socket),
                },
                stdin=terminal,
                capture_output=True,
                text=True,
                timeout=PATIENCE_SECONDS,
            )
        finally:
            os.close(leader)
            os.close(terminal)
        assert "Delete 4 rejected events permanently?" in ran.stderr
        assert len(objects(daemon, "rejected", "list")) == left


@pytest.mark.parametrize("wrong", ["0", "9223372036854775808"])
def test_an_id_that_none_can_be_is_refused(wrong: str, filled: Daemon) -> None:
    with pytest.raises(UsageMistake, match="a positive whole number"):
        run(filled, "rejected", "requeue", wrong)
    with pytest.raises(UsageMistake):
        run(filled, "rejected", "show", "9223372036854775808")


@pytest.mark.parametrize("command", ["requeue", "purge"])
@pytest.mark.parametrize("chosen", [[], ["1", "--all"], ["--all", "--code", "invalid"]])
def test_what_is_meant_is_said_in_one_way(command: str, chosen: list[str], filled: Daemon) -> None:
    with pytest.raises(UsageMistake, match="select the rejected events"):
        run(filled, "rejected", command, *chosen)


def test_the_daemon_of_another_database_is_not_asked(filled: Daemon, daemon: Daemon) -> None:
    with pytest.raises(AlreadyRunning) as refused:
        run(filled, "rejected", "requeue", "1", "--socket", str(daemon.socket))
    assert "--socket" in refused.value.hint


def test_another_user_may_not_requeue(filled: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can be another user")
    filled.place.chmod(0o711)
    filled.socket.chmod(0o666)

    def asked_by_nobody(place: Path, op: str, *more: Any, **named: Any) -> object:
        os.seteuid(65534)
        try:
            return ask(place, op, *more, **named)
        finally:
            os.seteuid(0)

    monkeypatch.setattr("ggend.cli.common.daemon_client.ask", asked_by_nobody)
    with pytest.raises(NotAllowed, match="the daemon's user"):
        run(filled, "rejected", "requeue", "1")


@pytest.mark.parametrize(
    "command", [("rejected", "list"), ("rejected", "show", "1"), ("parked", "list"), ("accounts",)]
)
def test_a_database_of_version_1_is_refused_in_words(command: tuple[str, ...], place: Path) -> None:
    daemon = Daemon(place)
    make_version_1(daemon.database, executions=1)
    with pytest.raises((DatabaseUnusable, UsageMistake)) as refused:
        run(daemon, *command)
    assert "1.0.0" in refused.value.message + refused.value.hint
