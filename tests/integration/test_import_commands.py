"""`ggend import` against a running daemon: everything that can be imported, and imported again."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import IO

import pytest

from ggend.cli.commands.import_events import _derived_producer, _lines
from ggend.cli.commands.import_receipts import _Import
from ggend.errors import UsageMistake
from ggend.importers.delivery import LineDelivery, numbered_line
from ggend.importers.json_texts import values_of
from ggend.importers.receipt_documents import read_document
from ggend_schema import limits
from ggend_schema.messages import Hello, Welcome
from support.daemon_process import Daemon
from support.framed_peer import Peer, new_producer
from support.patience import PATIENCE_SECONDS, wait_until
from support.processes import command_of, run_ggend, start_ggend
from support.version_1 import make_version_1

LOGS = Path(__file__).parents[3] / "shared" / "data" / "ggen-receipt-logs"
ROOT_LOG = LOGS / "ggen-root.jsonl"


def environ(daemon: Daemon) -> dict[str, str]:
    """The environment in which commands find this daemon."""
    return {
        **os.environ,
        "GGEND_SOCKET": os.fspath(daemon.socket),
        "GGEND_DATABASE": os.fspath(daemon.database),
    }


class Importing:
    """An import that runs. What it says goes to files."""

    def __init__(self, daemon: Daemon, *arguments: str | Path) -> None:
        with contextlib.ExitStack() as files:
            self._printed = files.enter_context(tempfile.TemporaryFile())
            self._said = files.enter_context(tempfile.TemporaryFile())
            self._files = files.pop_all()
        self.process = start_ggend(
            "import",
            *map(str, arguments),
            environ=environ(daemon),
            stdout=self._printed,
            stderr=self._said,
        )

    def __enter__(self) -> Importing:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.process.wait(PATIENCE_SECONDS)
        finally:
            self.process.kill()
            self._files.close()

    def said(self) -> str:
        """What it has said until now on standard error."""
        return _content(self._said)

    def end(self) -> tuple[int, str, str]:
        """Wait for its end; return its status, what it printed, and what it said."""
        status = self.process.wait(PATIENCE_SECONDS)
        return status, _content(self._printed), self.said()


def _content(file: IO[bytes]) -> str:
    # The place in the file is also the writer's: it must not be moved.
    return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode()


def run(
    daemon: Daemon, *arguments: str | Path, status: int = 0, stdin: bytes = b""
) -> tuple[list[dict[str, object]], str]:
    """Import; return the rows of the report, and what was said."""
    ran = run_ggend("import", *arguments, "--format", "json", environ=environ(daemon), stdin=stdin)
    assert ran.returncode == status, ran.stderr
    return (json.loads(ran.stdout) if ran.stdout else []), ran.stderr


def kill_when(daemon: Daemon, sql: str, *arguments: str | Path) -> None:
    """Begin to import, and kill it when something is stored."""
    with Importing(daemon, *arguments) as killed:
        wait_until(lambda: daemon.query(sql) == [(1,)])
        killed.process.kill()
        assert killed.end()[0] == -signal.SIGKILL


def rows_of_all_tables(daemon: Daemon) -> dict[object, object]:
    """How many rows each table has, ggend's own too, once everything is judged."""
    daemon.wait_for_hooks()
    return {
        table: daemon.query(f'SELECT count(*) FROM "{table}"')[0][0]
        for (table,) in daemon.query("SELECT name FROM sqlite_schema WHERE type = 'table'")
    }


def receipts_and_audits(daemon: Daemon) -> tuple[object, ...]:
    return daemon.query("SELECT (SELECT count(*) FROM receipts), (SELECT count(*) FROM audit_log)")[
        0
    ]


def log_line(
    name: str, previous: str | None = None, *, decisions: Sequence[str] = ("a.rs",), pad: int = 0
) -> bytes:
    """A line of a log: a receipt, and an audit entry for each decision."""
    content = {
        "record": {
            "chain_hash_hex": name.encode().hex().rjust(64, "0"),
            "prev_chain_hash_hex": (previous or "").encode().hex().rjust(64, "0"),
            "payload_hash_hex": "ab" * 32,
            "andon": "Green",
        },
        "payload": {
            "outputs": dict.fromkeys(decisions, "ef"),
            "decisions": dict.fromkeys(decisions, "written"),
            "packs": {"pad": "x" * pad},
        },
    }
    return json.dumps(content).encode() + b"\n"


def receipt(name: str, **fields: object) -> dict[str, object]:
    """A receipt document with five stages."""
    names = ("μ₁_normalize", "μ₂_extract", "μ₃_emit", "μ₄_canonicalize", "μ₅_receipt")
    return {
        "execution_id": name,
        "agent_id": "agent-1",
        "operation": "error-recovery",
        "status": "success",
        "timestamp": "2026-01-02T03:04:05Z",
        "pipeline_stages": {stage: {"status": "completed", "duration_ms": 10} for stage in names},
        "total_duration_ms": 50,
        **fields,
    }


def receipts_and_stages(daemon: Daemon) -> tuple[object, ...]:
    return daemon.query(
        "SELECT (SELECT count(*) FROM receipts), (SELECT count(*) FROM pipeline_metrics)"
    )[0]


def chain(*names: str) -> list[bytes]:
    return [log_line(name, before) for before, name in zip((None, *names), names, strict=False)]


@pytest.mark.skipif(not ROOT_LOG.exists(), reason="the real receipt logs are not on this machine")
def test_a_real_log_goes_in_once_and_then_only_its_new_lines(daemon: Daemon, place: Path) -> None:
    """168 receipts and 202 audit rows; again nothing; touched and grown, what is new."""
    log = place / "receipt-log.jsonl"
    shutil.copyfile(ROOT_LOG, log)
    (report,), _ = run(daemon, "ggen-log", log)
    assert receipts_and_audits(daemon) == (168, 202)
    assert (report["new"], report["already there"]) == (370, 0)
    before = rows_of_all_tables(daemon)
    (report,), _ = run(daemon, "ggen-log", log)
    assert (report["new"], report["already there"]) == (0, 370)
    assert rows_of_all_tables(daemon) == before
    last = json.loads(log.read_bytes().splitlines()[-1])["record"]["chain_hash_hex"]
    added = log_line("new").replace(b"0" * 64, last.encode())
    with log.open("ab") as grown:
        grown.write(added)
    os.utime(log, (1_000_000_000, 1_000_000_000))
    (report,), said = run(daemon, "ggen-log", log)
    assert (report["new"], report["already there"], report["chain breaks"]) == (2, 370, 0)
    assert receipts_and_audits(daemon) == (169, 203)
    assert "not verified: payload hashes (BLAKE3), signatures" in said


def test_logs_that_begin_alike_and_then_differ_go_in_whole(daemon: Daemon, place: Path) -> None:
    """Two branches of one repository: what they share is there once."""
    logs = [place / "main.jsonl", place / "branch.jsonl"]
    logs[0].write_bytes(b"".join(chain("1", "2", "3", "4")))
    logs[1].write_bytes(b"".join(chain("1", "2", "b3", "b4", "b5")))
    (main, branch), _ = run(daemon, "ggen-log", *logs)
    assert (main["new"], branch["new"], branch["already there"]) == (8, 6, 4)
    assert receipts_and_audits(daemon) == (7, 7)


def test_a_log_that_was_repaired_and_reordered_brings_the_repaired_line(
    daemon: Daemon, place: Path
) -> None:
    log = place / "receipt-log.jsonl"
    lines = chain("1", "2", "3")
    log.write_bytes(lines[0] + lines[1][:40] + b"\n" + lines[2])
    (report,), said = run(daemon, "ggen-log", log, status=os.EX_DATAERR)
    assert (report["new"], report["unreadable"], report["lines"]) == (4, 1, 3)
    assert "line 2: not a receipt" in said
    log.write_bytes(lines[2] + lines[0] + lines[1])
    (report,), _ = run(daemon, "ggen-log", log)
    assert (report["new"], report["already there"]) == (2, 4)
    assert receipts_and_audits(daemon) == (3, 3)


def test_what_is_wrong_with_a_log_is_reported_by_line_and_the_rest_goes_in(
    daemon: Daemon, place: Path
) -> None:
    log = place / "receipt-log.jsonl"
    log.write_bytes(
        log_line("1")
        + log_line("3", "2")
        + b'{"record": {"chain_ha\n'
        + b"\n"
        + b"x" * (limits.EVENT_BYTES + 1)
        + b"\n"
        + log_line("4", "3")
        + log_line("5", "4")[:-30]
    )
    (report,), said = run(daemon, "ggen-log", log, status=os.EX_DATAERR)
    assert (report["receipts"], report["chain breaks"], report["unreadable"]) == (3, 1, 3)
    for expected in ("line 2: the chain is broken", "line 3: ", "line 5: ", "line 7: "):
        assert expected in said
    assert receipts_and_audits(daemon) == (3, 3)


def test_a_last_line_without_its_line_break_goes_in_once(daemon: Daemon, place: Path) -> None:
    log = place / "receipt-log.jsonl"
    log.write_bytes(log_line("1")[:-1])
    run(daemon, "ggen-log", log)
    log.write_bytes(b"".join(chain("1", "2")))
    (report,), _ = run(daemon, "ggen-log", log)
    assert (report["new"], report["already there"]) == (2, 2)


def test_a_receipt_without_a_duration_is_marked_and_in_no_average(
    daemon: Daemon, place: Path
) -> None:
    """A record that has one, and says where it ran, is taken at its word."""
    first, second = chain("1", "2")
    timed = json.loads(second)
    timed["record"] |= {"duration_ms": 1_500, "origin": "ci"}
    log = place / "receipt-log.jsonl"
    log.write_bytes(first + json.dumps(timed).encode() + b"\n")
    run(daemon, "ggen-log", log)
    assert daemon.query(
        "SELECT duration_ms, duration_source, environment FROM receipts ORDER BY id"
    ) == [(0, "unknown", None), (1_500, None, "ci")]
    figures = "total_executions, avg_duration_ms, min_duration_ms"
    assert daemon.query(f"SELECT {figures} FROM agent_performance_summary") == [(2, 1_500.0, 1_500)]


def test_a_line_that_conflicts_with_a_stored_receipt_is_reported(
    daemon: Daemon, place: Path
) -> None:
    log = place / "receipt-log.jsonl"
    log.write_bytes(log_line("1"))
    run(daemon, "ggen-log", log)
    (report,), said = run(daemon, "ggen-log", log, "--agent", "other", status=os.EX_DATAERR)
    assert report["rejected"] == 1
    assert "line 1: conflict: " in said


def test_an_import_that_was_killed_is_completed_by_the_next(daemon: Daemon, place: Path) -> None:
    log = place / "receipt-log.jsonl"
    log.write_bytes(b"".join(log_line(str(number), pad=8_000) for number in range(1500)))
    kill_when(daemon, "SELECT count(*) > 0 FROM receipts", "ggen-log", log)
    (report,), _ = run(daemon, "ggen-log", log)
    assert report["new"] != 0
    assert report["already there"] != 0
    assert receipts_and_audits(daemon) == (1500, 1500)


def test_importers_are_permanent(daemon: Daemon, place: Path) -> None:
    log, lines = place / "receipt-log.jsonl", place / "events.ndjson"
    log.write_bytes(log_line("1"))
    lines.write_bytes(AUDIT)
    run(daemon, "ggen-log", log)
    run(daemon, "events", lines)
    assert (
        daemon.query("SELECT kind, permanent, client FROM producers")
        == [("producer", 1, "ndjson")] * 2
    )


def test_following_survives_rotation_and_a_restart_of_the_daemon(place: Path) -> None:
    daemon = Daemon(place)
    log = place / "receipt-log.jsonl"
    count = "SELECT count(*) FROM receipts"
    with daemon:
        with Importing(daemon, "ggen-log", "--follow", log, "--format", "json") as following:
            try:
                log.write_bytes(b"".join(chain("1", "2")))
                wait_until(lambda: daemon.query(count) == [(2,)])
                log.rename(place / "old")
                log.write_bytes(log_line("3", "2"))
                wait_until(lambda: daemon.query(count) == [(3,)])
                daemon.stop()
                with log.open("ab") as grown:
                    grown.write(log_line("4", "3"))
                wait_until(lambda: "waiting for the daemon" in following.said())
                daemon.start()
                wait_until(lambda: daemon.query(count) == [(4,)])
            finally:
                following.process.terminate()
            status, told, _ = following.end()
        assert status == 0
        (report,) = json.loads(told)
        assert (report["receipts"], report["new"], report["chain breaks"]) == (4, 8, 0)


AUDIT = b'{"type":"audit","agent_id":"me","operation":"x","status":"completed"}\n'


def test_the_same_events_again_add_nothing(daemon: Daemon, place: Path) -> None:
    """Equal lines are events of their own; the same file is not."""
    lines = place / "events.ndjson"
    lines.write_bytes(AUDIT * 3 + b'{"producer":"%b","sequence":1,' % (b"ab" * 16) + AUDIT[1:])
    (report,), _ = run(daemon, "events", lines)
    assert (report["lines"], report["new"]) == (4, 4)
    before = rows_of_all_tables(daemon)
    for again in ((lines, b""), ("-", lines.read_bytes())):
        (report,), _ = run(daemon, "events", again[0], stdin=again[1])
        assert (report["new"], report["already there"]) == (0, 4)
    assert rows_of_all_tables(daemon) == before


def test_what_stands_before_a_line_and_is_none_of_it_is_skipped(
    daemon: Daemon, place: Path
) -> None:
    """Byte order marks, also where files were joined, and the hole of a truncated log."""
    mark, hole = b"\xef\xbb\xbf", bytes(limits.EVENT_BYTES + 1)
    lines, log = place / "events.ndjson", place / "receipt-log.jsonl"
    lines.write_bytes(hole + mark + AUDIT.replace(b"\n", b"\r\n") + mark + AUDIT)
    (report,), said = run(daemon, "events", lines)
    assert (report["lines"], report["new"], said) == (2, 2, "")
    log.write_bytes(mark + chain("1")[0] + hole + mark + log_line("2", "1"))
    (report,), _ = run(daemon, "ggen-log", log)
    assert (report["lines"], report["receipts"], report["chain breaks"]) == (2, 2, 0)


@pytest.mark.parametrize("kind", ["events", "ggen-log", "receipts"])
def test_utf_16_is_refused_as_a_whole(daemon: Daemon, place: Path, kind: str) -> None:
    file = place / "from-powershell"
    file.write_text(AUDIT.decode() * 9, encoding="utf-16")
    _, said = run(daemon, kind, file, status=os.EX_DATAERR)
    assert said.count("ggend: ") == 1
    assert "is UTF-16, not UTF-8" in said
    assert "iconv -f UTF-16 -t UTF-8" in said
    assert daemon.query("SELECT count(*) FROM rejected_events") == [(0,)]


def test_bad_events_are_reported_by_line_each_time_and_shift_nothing(
    daemon: Daemon, place: Path
) -> None:
    lines = place / "events.ndjson"
    lines.write_bytes(
        AUDIT
        + b"{}\n"
        + b"no JSON\n"
        + b"\n"
        + AUDIT.replace(b"completed", b"nonsense")
        + b"x" * (limits.EVENT_BYTES + 1)
        + b"\n"
        + b'{"a":' * 3000
        + b"\n"
        + AUDIT
    )
    (report,), said = run(daemon, "events", lines, status=os.EX_DATAERR)
    assert (report["lines"], report["new"], report["rejected"]) == (7, 2, 5)
    for number in (2, 3, 5, 6, 7):
        assert f"line {number}: " in said
    before = rows_of_all_tables(daemon)
    assert before["rejected_events"] == 5
    (report,), again = run(daemon, "events", lines, status=os.EX_DATAERR)
    assert (report["new"], report["already there"], report["rejected"]) == (0, 2, 5)
    assert again == said
    assert rows_of_all_tables(daemon) == before


def test_an_import_of_events_that_was_killed_is_completed(daemon: Daemon, place: Path) -> None:
    lines = place / "events.ndjson"
    lines.write_bytes(AUDIT * 30_000)
    kill_when(daemon, "SELECT count(*) > 0 FROM audit_log", "events", lines)
    run(daemon, "events", lines)
    assert daemon.query("SELECT count(*) FROM audit_log") == [(30_000,)]


def test_an_import_outlives_a_restart_of_the_daemon(daemon: Daemon, place: Path) -> None:
    """The stopping daemon says how far it got; the rest waits for the next one."""
    lines = place / "events.ndjson"
    lines.write_bytes(AUDIT * 30_000)
    with Importing(daemon, "events", lines, "--format", "json") as importing:
        wait_until(lambda: daemon.query("SELECT count(*) > 0 FROM audit_log") == [(1,)])
        daemon.stop()
        daemon.start()
        status, told, said = importing.end()
    assert status == 0, said
    assert daemon.query("SELECT count(*) FROM audit_log") == [(30_000,)]
    assert json.loads(told)[0]["rejected"] == 0


def test_a_database_of_version_1_0_0_is_merged_once_and_not_changed(
    daemon: Daemon, place: Path
) -> None:
    other = place / "other.db"
    make_version_1(other, executions=60)
    bytes_before = other.read_bytes()
    tables, said = run(daemon, "database", other, status=os.EX_DATAERR)
    assert {str(table["table"]): table["new"] for table in tables} == {
        "workflow_sessions": 6,
        "receipts": 60,
        "pipeline_metrics": 300,
        "collision_detection": 6,
        "audit_log": 182,
        "agent_memory": 7,
    }
    assert "audit_log, id 181: " in said
    assert "violations are not copied" in said
    assert daemon.query("SELECT count(*) FROM parked_events") == [(0,)]
    before = rows_of_all_tables(daemon)
    tables, _ = run(daemon, "database", other, status=os.EX_DATAERR)
    assert [table["new"] for table in tables] == [0] * 6
    assert rows_of_all_tables(daemon) == before
    assert other.read_bytes() == bytes_before


def test_databases_that_overlap_are_merged_and_conflicts_reported(
    daemon: Daemon, place: Path
) -> None:
    make_version_1(place / "one.db", executions=20, odd=False)
    make_version_1(place / "two.db", executions=20, first=10, odd=False)
    run(daemon, "database", place / "one.db")
    tables, said = run(daemon, "database", place / "two.db", status=os.EX_DATAERR)
    assert "workflow_sessions" in said, "the session that overlaps goes on in one of them"
    counts = {str(table["table"]): table for table in tables}
    assert (counts["receipts"]["new"], counts["receipts"]["already there"]) == (10, 10)


def test_a_merge_that_was_killed_is_completed_by_the_next(daemon: Daemon, place: Path) -> None:
    other = place / "other.db"
    make_version_1(other, executions=4_000, odd=False)
    kill_when(daemon, "SELECT count(*) > 0 FROM pipeline_metrics", "database", other)
    tables, _ = run(daemon, "database", other)
    assert tables[1]["already there"] == 4_000
    assert daemon.query(
        "SELECT (SELECT count(*) FROM receipts), (SELECT count(*) FROM pipeline_metrics), "
        "(SELECT count(*) FROM audit_log), (SELECT count(*) FROM collision_detection), "
        "(SELECT count(*) FROM parked_events), (SELECT count(*) FROM rejected_events)"
    ) == [(4_000, 20_000, 12_000, 400, 0, 0)]


def test_of_two_merges_at_once_one_is_refused(daemon: Daemon, place: Path) -> None:
    """Also into one database from two others, which may have the same rows."""
    make_version_1(place / "one.db", executions=1_500, odd=False)
    shutil.copy(place / "one.db", place / "two.db")
    with (
        Importing(daemon, "database", place / "one.db") as one,
        Importing(daemon, "database", place / "two.db") as two,
    ):
        ends = [one.end(), two.end()]
    statuses = [status for status, _, _ in ends]
    if os.EX_TEMPFAIL in statuses:  # they did overlap
        assert sorted(statuses) == [0, os.EX_TEMPFAIL]
        assert "another import is using" in ends[statuses.index(os.EX_TEMPFAIL)][2]
    with (
        Importing(daemon, "database", place / "one.db") as merging,
        (place / "one.db").open() as held,
    ):
        merging.end()
        fcntl.flock(held, fcntl.LOCK_EX)
        _, told = run(daemon, "database", place / "one.db", status=os.EX_TEMPFAIL)
        assert "another import is using" in told
    assert daemon.query("SELECT count(*) FROM pipeline_metrics") == [(7_500,)]
    assert daemon.query("SELECT count(*) FROM audit_log") == [(4_500,)]


def connections(daemon: Daemon) -> int:
    """How many there have been, this question's among them."""
    total = daemon.status()["connections_total"]
    assert isinstance(total, int)
    return total


def test_a_merge_waits_for_what_an_earlier_one_has_sent(daemon: Daemon, place: Path) -> None:
    """It compares with what is stored: what is still on its way would go in twice."""
    make_version_1(place / "one.db", executions=1, odd=False)
    with contextlib.ExitStack() as stack:
        with Peer(daemon.socket) as earlier:
            earlier.send(Hello(protocol=1, producer=new_producer(), client="ggend import database"))
            assert isinstance(earlier.read(), Welcome)
            asked_here = itertools.count(connections(daemon) + 1)
            merging = stack.enter_context(Importing(daemon, "database", place / "one.db"))
            # It asks on a connection of its own each time: the status, and then again and again.
            wait_until(lambda: connections(daemon) - next(asked_here) >= 4)
            assert daemon.query("SELECT count(*) FROM receipts") == [(0,)]
        status, _, said = merging.end()
    assert status == 0, said
    assert daemon.query("SELECT count(*) FROM receipts") == [(1,)]


def test_what_cannot_be_merged_is_refused(daemon: Daemon, place: Path) -> None:
    def refused(*arguments: str | Path, status: int) -> str:
        return run(daemon, "database", *arguments, status=status)[1]

    assert "own database" in refused(daemon.database, status=os.EX_USAGE)
    assert "no database" in refused(place / "nothing.db", status=os.EX_DATAERR)
    text = place / "text.db"
    text.write_text("not SQLite, and long enough to have a header" * 100)
    refused(text, status=os.EX_DATAERR)
    make_version_1(place / "v1.db", executions=1, odd=False)
    make_version_1(place / "v2.db", executions=1, odd=False)
    assert "not the database that the daemon writes to" in refused(
        place / "v1.db", "--database", place / "v2.db", status=os.EX_DATAERR
    )
    with closing(sqlite3.connect(place / "v1.db")) as newer:
        newer.execute("PRAGMA user_version = 999")
    assert "upgrade ggend" in refused(place / "v1.db", status=os.EX_DATAERR)
    with closing(sqlite3.connect(place / "v2.db")) as strange, strange:
        strange.execute("DROP TABLE audit_log")
        strange.execute("CREATE VIEW audit_log AS SELECT 1 AS id")
    assert "no table audit_log" in refused(place / "v2.db", status=os.EX_DATAERR)


def test_a_missing_log_is_refused_before_anything_is_sent(daemon: Daemon, place: Path) -> None:
    log = place / "receipt-log.jsonl"
    log.write_bytes(log_line("1"))
    _, said = run(daemon, "ggen-log", log, place / "nothing", status=os.EX_USAGE)
    assert "--follow" in said
    assert receipts_and_audits(daemon) == (0, 0)
    run(daemon, "events", place / "nothing", status=os.EX_USAGE)


def test_without_a_daemon_every_import_exits_69(place: Path) -> None:
    daemon = Daemon(place)
    (place / "file").write_bytes(log_line("1"))
    make_version_1(place / "other.db", executions=1)
    (place / "r.json").write_text(json.dumps(receipt("e1")))
    for what, file in (
        ("ggen-log", "file"),
        ("events", "file"),
        ("receipts", "r.json"),
        ("database", "other.db"),
    ):
        run(daemon, what, place / file, status=os.EX_UNAVAILABLE)


def test_a_log_that_cannot_be_looked_at_is_refused_in_words(daemon: Daemon) -> None:
    _, said = run(daemon, "ggen-log", "a" * 300, status=os.EX_USAGE)
    assert "File name too long" in said


@pytest.mark.parametrize("kind", ["events", "receipts"])
def test_standard_input_that_is_closed_is_refused(daemon: Daemon, kind: str) -> None:
    ran = subprocess.run(
        ["sh", "-c", 'exec "$@" <&-', "sh", *command_of("import", kind, "-")],
        env=environ(daemon),
        capture_output=True,
        timeout=PATIENCE_SECONDS,
    )
    assert (ran.returncode, ran.stdout) == (os.EX_USAGE, b"")
    assert b"- cannot be read: Bad file descriptor" in ran.stderr


def test_a_line_that_denies_it_makes_no_importer_forgotten(daemon: Daemon, place: Path) -> None:
    event = {"type": "audit", "agent_id": "a", "operation": "o", "status": "completed"}
    (place / "e.ndjson").write_text(json.dumps({**event, "permanent": False}))
    run(daemon, "events", place / "e.ndjson")
    assert daemon.query("SELECT permanent, stored FROM producers") == [(1, 1)]


def test_a_file_that_is_rewritten_while_it_is_read_is_no_success(place: Path) -> None:
    """The first reading gave its lines their numbers."""
    path = place / "e.ndjson"
    path.write_bytes(b"{}\n" * 3)
    with path.open("rb") as stream:
        producer, size = _derived_producer(stream, "the file")
        assert list(_lines(stream, producer, size, lambda _: None)) == [b"{}"] * 3 + [b""]
        path.write_bytes(b"[]\n" * 3)
        stream.seek(0)
        with pytest.raises(UsageMistake, match="changed"):
            list(_lines(stream, producer, size, lambda _: None))


@pytest.mark.parametrize("kind", ["events", "ggen-log"])
def test_one_document_is_refused_as_a_whole(daemon: Daemon, place: Path, kind: str) -> None:
    """It was one error a line, and one row in quarantine each."""
    document = json.dumps([{"type": "audit", "agent_id": "me"}] * 3, indent=2).encode()
    (place / "d.json").write_bytes(document)
    (place / "r.json").write_bytes(b'{\n"receipt": {\n"status": "passed"\n}\n}\n')
    (place / "log").write_bytes(log_line("1"))
    first = [place / "log"] if kind == "ggen-log" else []
    before = rows_of_all_tables(daemon)
    for file, stdin in ((place / "d.json", b""), ("-" if kind == "events" else "/dev/stdin", b"d")):
        files = (*first, file) if not stdin else (file,)
        _, said = run(daemon, kind, *files, status=os.EX_DATAERR, stdin=document if stdin else b"")
        assert said.count("ggend: ") == 1
        assert f"{file} is a JSON array, not one object per line" in said
        assert "jq -c '.[]'" in said
    _, said = run(daemon, kind, place / "r.json", status=os.EX_DATAERR)
    assert "ggend import receipts" in said
    assert rows_of_all_tables(daemon) == before


def test_receipts_go_in_once_however_they_are_printed(daemon: Daemon, place: Path) -> None:
    """Wrapped or bare, pretty-printed or a line each, in other files and in another order."""
    first, second = receipt("e1"), receipt("e2")
    a, b = place / "a.json", place / "b.json"
    a.write_text(json.dumps({"receipt": first}, indent=2))
    b.write_text(json.dumps({"receipt": second}) + "\n" + json.dumps(first, indent=4))
    (of_a, of_b), said = run(daemon, "receipts", a, b)
    assert (of_a["documents"], of_a["receipts"], of_a["stages"], of_a["new"]) == (1, 1, 5, 6)
    assert (of_b["documents"], of_b["new"], of_b["already there"]) == (2, 6, 6)
    assert f'{a}: operation "error-recovery" is stored as generation' in said
    assert receipts_and_stages(daemon) == (2, 10)
    assert daemon.query("SELECT DISTINCT operation, status, duration_ms FROM receipts") == [
        ("generation", "passed", 50)
    ]
    kept = "json_extract(receipt_json, '$.operation')"
    assert daemon.query(f"SELECT DISTINCT {kept} FROM receipts") == [("error-recovery",)]
    before = rows_of_all_tables(daemon)
    turned = [dict(reversed(document.items())) for document in (second, first)]
    (report,), _ = run(daemon, "receipts", "-", stdin=json.dumps(turned).encode())
    assert (report["documents"], report["new"], report["already there"]) == (2, 0, 12)
    run(daemon, "receipts", a, b)
    (_, empty), _ = run(daemon, "receipts", "-", "-", stdin=a.read_bytes())
    assert empty["documents"] == 0
    assert rows_of_all_tables(daemon) == before


def test_many_receipts_go_in_and_what_is_no_receipt_is_told_by_its_place(
    daemon: Daemon, place: Path
) -> None:
    file = place / "r.jsonl"
    lines = [json.dumps(receipt(f"e{number}")) for number in range(250)]
    lines[2] = json.dumps(receipt("e2", status="splendid"))
    lines[4] = '{"status": '
    lines[6] = f"[{lines[6]}, 7]"
    file.write_text("\n".join(lines))
    (report,), said = run(daemon, "receipts", file, status=os.EX_DATAERR)
    assert (report["documents"], report["receipts"], report["unreadable"]) == (251, 248, 3)
    assert receipts_and_stages(daemon) == (248, 5 * 248)
    assert (
        f'{file}, document 3 (line 3): unknown status "splendid"; the known ones are passed' in said
    )
    assert f"{file}, document 5 (line 5): not JSON: Expecting " in said
    assert f"{file}, document 8 (line 7, element 2): a receipt must be a JSON object" in said
    assert "stored as generation; receipt_json keeps the original (248 documents)" in said


def test_a_receipt_that_was_changed_is_a_conflict_each_time_and_none_of_its_stages_is_stored(
    daemon: Daemon, place: Path
) -> None:
    original, other = place / "original.json", place / "changed.json"
    original.write_text(json.dumps(receipt("e1")))
    document = receipt("e1", files_modified=7)
    other.write_text(json.dumps([document, receipt("e2")]))
    run(daemon, "receipts", original)
    for new in (6, 0):
        (report,), said = run(daemon, "receipts", other, status=os.EX_DATAERR)
        assert (report["new"], report["rejected"]) == (new, 1)
        assert report["already there"] == 6 - new
        assert (
            f"{other}, document 1 (line 1, element 1): conflict: execution e1 is already "
            "stored with different files_modified, receipt_json" in said
        )
        assert receipts_and_stages(daemon) == (2, 10)
        assert daemon.query("SELECT count(*) FROM rejected_events") == [(1,)]


def test_no_stage_of_a_rejected_receipt_is_stored_when_the_other_one_is_gone(
    daemon: Daemon, place: Path
) -> None:
    """The daemon takes the receipt for settled; its stages would wait for a parent for ever."""
    original, other = place / "original.json", place / "changed.json"
    original.write_text(json.dumps(receipt("e1")))
    other.write_text(json.dumps(receipt("e1", files_modified=7)))
    run(daemon, "receipts", original)
    run(daemon, "receipts", other, status=os.EX_DATAERR)
    with closing(sqlite3.connect(daemon.database)) as connection:
        connection.execute("DELETE FROM pipeline_metrics")
        connection.execute("DELETE FROM slo_violations")
        connection.execute("DELETE FROM receipts")
        connection.commit()
    (report,), said = run(daemon, "receipts", other)
    assert (report["new"], report["already there"]) == (0, 1)
    assert "is not stored: it was rejected or has been purged" in said
    assert daemon.query("SELECT count(*) FROM parked_events") == [(0,)]


def test_of_two_receipts_of_one_execution_in_one_file_the_first_stays(
    daemon: Daemon, place: Path
) -> None:
    file = place / "r.json"
    file.write_text(json.dumps([receipt("e1"), receipt("e1", status="failed")]))
    for _ in range(2):
        (report,), said = run(daemon, "receipts", file, status=os.EX_DATAERR)
        assert report["rejected"] == 1
        assert "element 2): conflict: execution e1 is already stored with " in said
        assert receipts_and_stages(daemon) == (1, 5)


def test_a_missing_file_of_receipts_is_refused_before_anything_is_sent(
    daemon: Daemon, place: Path
) -> None:
    (place / "r.json").write_text(json.dumps(receipt("e1")))
    for other in (place / "nothing", place):
        _, said = run(daemon, "receipts", place / "r.json", other, status=os.EX_USAGE)
        assert f"{other} cannot be read" in said
    assert receipts_and_stages(daemon) == (0, 0)


def test_stages_that_a_killed_import_did_not_send_come_with_the_next(
    daemon: Daemon, place: Path
) -> None:
    document = read_document(receipt("e1"), agent="ggen", modified_ns=0)
    daemon.exchange(numbered_line(document.receipt, document.producer, 1))
    (place / "r.json").write_text(json.dumps(receipt("e1")))
    (report,), _ = run(daemon, "receipts", place / "r.json")
    assert (report["new"], report["already there"]) == (5, 1)
    assert receipts_and_stages(daemon) == (1, 5)


def test_no_stage_of_a_receipt_in_conflict_is_stored_by_who_cannot_read_the_database(
    daemon: Daemon,
) -> None:
    """An earlier rejection cannot be seen then."""
    daemon.exchange(
        json.dumps({"type": "receipt_emitted", "duration_ms": 9, **receipt("e1")})
        .replace("error-recovery", "watch")
        .replace('"success"', '"passed"')
        .encode()
    )
    delivery = LineDelivery(
        daemon.socket, timeout_seconds=PATIENCE_SECONDS, patience_seconds=0, notice=print
    )
    rejected = []
    for _ in range(2):
        taken = _Import("r.json", delivery, None)
        for found in values_of(json.dumps(receipt("e1")).encode()):
            taken.take(found, agent="ggen", modified_ns=0)
        taken.end()
        rejected.append(taken.report.rejected)
        assert receipts_and_stages(daemon) == (1, 0)
    assert rejected == [1, 0]
    assert daemon.query("SELECT count(*) FROM rejected_events") == [(6,)]
