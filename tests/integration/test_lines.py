"""The NDJSON dialogue: `printf … | socat` and its like, answered with what became of each line."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ggend_schema import limits
from support.daemon_process import Daemon, free_place
from support.framed_peer import audit, line_of, new_producer, receipt, stage, unbalanced_accounts
from support.patience import PATIENCE_SECONDS
from support.tools import need

_OUTCOMES = ("stored", "replayed", "duplicate", "superseded", "rejected", "refused")


@pytest.fixture(scope="module")
def shared() -> Iterator[Daemon]:
    """One daemon for the tests that look only at their own agent."""
    with free_place() as name, Daemon(Path(name)) as running:
        yield running
        assert unbalanced_accounts(running) == []


@pytest.fixture
def agent() -> str:
    """A name that nobody else has."""
    return new_producer().hex()


def _tell(daemon: Daemon, sent: bytes) -> dict[str, Any]:
    """Send lines, finish, and return the answer, whose counts add up."""
    return _checked(daemon.exchange(sent))


def _checked(answer: bytes) -> dict[str, Any]:
    assert answer.endswith(b"\n")
    assert answer.count(b"\n") == 1
    told: dict[str, Any] = json.loads(answer)
    assert told["lines"] == sum(told[outcome] for outcome in _OUTCOMES)
    assert told["parked"] <= told["stored"]
    assert len(told["errors"]) + told["errors_omitted"] == told["rejected"] + told["refused"]
    return told


def _counts(answer: dict[str, Any]) -> dict[str, int]:
    """The counts that are not zero."""
    return {key: answer[key] for key in ("lines", *_OUTCOMES, "parked") if answer[key]}


def _errors(answer: dict[str, Any]) -> list[tuple[int, str]]:
    return [(error["line"], error["code"]) for error in answer["errors"]]


def _operations(daemon: Daemon, agent: str) -> list[object]:
    sql = "SELECT operation FROM audit_log WHERE agent_id = ? ORDER BY id"
    return [row[0] for row in daemon.query(sql, agent)]


def _numbered(agent: str, producer: bytes, *numbers: int) -> bytes:
    return b"".join(
        line_of(audit(agent, operation=str(number), producer=producer.hex(), sequence=number))
        for number in numbers
    )


# The answer


def test_each_line_ends_in_one_count(shared: Daemon, agent: str) -> None:
    """Stored, parked, duplicate, superseded and rejected lines add up to the lines."""
    memory = {"type": "memory_saved", "agent_id": agent, "memory": 1}
    answer = _tell(
        shared,
        line_of(audit(agent))
        + line_of(stage(agent))
        + line_of(stage(f"{agent} never"))
        + line_of(receipt(agent))
        + line_of(receipt(agent))
        + line_of({**memory, "timestamp": "2026-02-02T00:00:00Z"})
        + line_of({**memory, "timestamp": "2026-02-01T00:00:00Z"})
        + line_of(audit(agent, status="done"))
        + line_of(receipt(agent, status="failed")),
    )
    assert _counts(answer) == {
        "lines": 9,
        "stored": 5,
        "parked": 1,
        "duplicate": 1,
        "superseded": 1,
        "rejected": 2,
    }
    assert _errors(answer) == [(8, "invalid"), (9, "conflict")]


def test_stage_lines_before_their_receipt_are_told_as_parked(shared: Daemon, agent: str) -> None:
    """They are durable, and so stored; the answer says how many of them wait."""
    first = _tell(shared, line_of(stage(agent)) + line_of(stage(agent, "emit")))
    assert _counts(first) == {"lines": 2, "stored": 2, "parked": 2}
    second = _tell(shared, line_of(receipt(agent)))
    assert _counts(second) == {"lines": 1, "stored": 1}
    assert shared.query(
        "SELECT stage FROM pipeline_metrics WHERE execution_id = ? ORDER BY id", agent
    ) == [("μ₂_extract",), ("μ₃_emit",)]


def test_what_is_answered_as_stored_is_visible(shared: Daemon, agent: str) -> None:
    """The answer comes after the commit."""
    _tell(shared, line_of(audit(agent)))
    assert _operations(shared, agent) == ["write"]


def test_lines_without_a_timestamp_get_the_time_of_arrival(shared: Daemon, agent: str) -> None:
    """The row's timestamp lies in the same minute as its created_at."""
    _tell(shared, line_of(audit(agent)))
    assert shared.query(
        "SELECT abs(julianday(timestamp) - julianday(created_at)) * 86400 < 60"
        " FROM audit_log WHERE agent_id = ?",
        agent,
    ) == [(1,)]


# How lines are written


def test_the_last_newline_is_optional(shared: Daemon, agent: str) -> None:
    """`printf` without a newline at the end is as good."""
    answer = _tell(shared, line_of(audit(agent)) + line_of(audit(agent))[:-1])
    assert _counts(answer) == {"lines": 2, "stored": 2}


def test_a_broken_last_line_without_newline_is_rejected(shared: Daemon, agent: str) -> None:
    """Whoever closes the sending side has said all; what is half then is bad input."""
    answer = _tell(shared, line_of(audit(agent)) + line_of(audit(agent))[:-20])
    assert _counts(answer) == {"lines": 2, "stored": 1, "rejected": 1}
    assert _errors(answer) == [(2, "malformed")]


@pytest.mark.parametrize(
    "blank", [b"\n", b"\r\n", b" \t \n", b"\n\n\n"], ids=["LF", "CRLF", "spaces", "three"]
)
def test_blank_lines_are_no_events(shared: Daemon, agent: str, blank: bytes) -> None:
    """Before, between and behind the lines, they are skipped and not counted."""
    line = line_of(audit(agent))
    answer = _tell(shared, blank + line + blank + blank + line + blank)
    assert _counts(answer) == {"lines": 2, "stored": 2}


@pytest.mark.parametrize("sent", [b"\n", b"  ", b"\r\n\r\n"], ids=["LF", "spaces", "CRLF"])
def test_blank_lines_alone_are_answered(shared: Daemon, sent: bytes) -> None:
    """Nothing came, and the answer says so."""
    assert _counts(_tell(shared, sent)) == {}


def test_lines_may_end_with_cr_lf(shared: Daemon, agent: str) -> None:
    """CR before LF is white space, also on the way line by line."""
    line = line_of(audit(agent)).replace(b"\n", b"\r\n")
    assert _counts(_tell(shared, line + line)) == {"lines": 2, "stored": 2}
    mixed = _tell(shared, line + b"broken\r\n" + line)
    assert _counts(mixed) == {"lines": 3, "stored": 2, "rejected": 1}
    assert _errors(mixed) == [(2, "malformed")]


def test_white_space_around_an_event_is_allowed(shared: Daemon, agent: str) -> None:
    """Also as the first byte of the connection."""
    answer = _tell(shared, b"  \t" + line_of(audit(agent))[:-1] + b"  \n")
    assert _counts(answer) == {"lines": 1, "stored": 1}


def test_byte_order_marks_and_nuls_before_a_line_are_skipped(shared: Daemon, agent: str) -> None:
    """Also as the first bytes of the connection, and where files were joined."""
    mark, line = b"\xef\xbb\xbf", line_of(audit(agent))
    sent = mark + line + bytes(9) + line + mark + line + mark + b"\r\n" + mark + line[:-1]
    assert _counts(_tell(shared, sent)) == {"lines": 4, "stored": 4}
    assert _counts(_tell(shared, mark + b"\n" + _numbered(agent, new_producer(), 1))) == {
        "lines": 1,
        "stored": 1,
    }


def test_an_event_over_several_lines_is_not_one_line(shared: Daemon, agent: str) -> None:
    """Pretty-printed JSON is not NDJSON: it is rejected whatever the network cuts it into."""
    pretty = json.dumps(audit(agent), indent=1).encode() + b"\n"
    answer = _tell(shared, pretty)
    assert answer["stored"] == 0
    assert answer["rejected"] == pretty.count(b"\n")


def test_the_fate_of_a_line_does_not_depend_on_its_neighbours(shared: Daemon, agent: str) -> None:
    """Two events on one line are refused alone, and beside a numbered line."""
    double = line_of(audit(agent))[:-1] + b" " + line_of(audit(agent))
    numbered = _numbered(agent, new_producer(), 1)
    assert [_tell(shared, double)["rejected"], _tell(shared, double + numbered)["rejected"]] == [
        1,
        1,
    ]


def test_lines_cut_anywhere_are_the_same_lines(shared: Daemon, agent: str) -> None:
    """Sent byte by byte, with characters of several bytes, they are stored as they are."""
    sent = line_of(audit(agent, operation="μ₁ → ü")) * 2 + b"\n" + line_of(audit(agent))[:-1]
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(PATIENCE_SECONDS)
        peer.connect(os.fspath(shared.socket))
        for offset in range(len(sent)):
            peer.sendall(sent[offset : offset + 1])
        peer.shutdown(socket.SHUT_WR)
        answer = _checked(peer.recv(65536))
    assert _counts(answer) == {"lines": 3, "stored": 3}
    assert _operations(shared, agent) == ["μ₁ → ü", "μ₁ → ü", "write"]


# Errors


def test_errors_name_the_line_as_an_editor_counts_it(shared: Daemon, agent: str) -> None:
    """Blank lines count, whichever way the lines were decoded and whoever found the error."""
    good, bad = line_of(audit(agent)), b"broken\n"
    conflict = line_of(receipt(agent)) + line_of(receipt(agent, status="failed"))
    assert _errors(_tell(shared, b"\n\n" + good + b"\n" + bad + good + b" \n" + bad)) == [
        (5, "malformed"),
        (8, "malformed"),
    ]
    assert _errors(_tell(shared, b"\n\r\n" + good + b"\n" + conflict)) == [(6, "conflict")]


def test_line_numbers_are_right_over_many_chunks(shared: Daemon, agent: str) -> None:
    """Megabytes of lines, blank ones among them, and an error now and then: each is found."""
    good = line_of(audit(agent, context="c" * 2_000))
    lines: list[bytes] = []
    expected: list[tuple[int, str]] = []
    for number in range(1, 1_201):
        if number % 100 == 7:
            expected.append((number, "invalid"))
            lines.append(line_of(audit(agent, status="done", context="c" * 2_000)))
        elif number % 100 == 50:
            expected.append((number, "malformed"))
            lines.append(b"broken\n")
        else:
            lines.append(b"\n" if number % 10 == 0 else good)
    answer = _tell(shared, b"".join(lines))
    assert _errors(answer) == expected
    assert answer["stored"] == sum(line == good for line in lines)


def test_line_numbers_are_right_behind_an_overlong_line(shared: Daemon, agent: str) -> None:
    """The line that is too long is one line; those behind it are counted on."""
    good = line_of(audit(agent))
    overlong = b"{" + b" " * limits.EVENT_BYTES + b"}\n"
    answer = _tell(shared, good + b"\n" + overlong + good + b"broken\n" + overlong + b"broken")
    assert _errors(answer) == [
        (3, "too_large"),
        (5, "malformed"),
        (6, "too_large"),
        (7, "malformed"),
    ]
    assert answer["stored"] == 2


def test_errors_are_capped_and_counted(shared: Daemon, agent: str) -> None:
    """The first hundred are spelled out, the others are a number, the good lines are stored."""
    answer = _tell(shared, b"{}\n" * 250 + line_of(audit(agent)))
    assert _counts(answer) == {"lines": 251, "stored": 1, "rejected": 250}
    assert [error["line"] for error in answer["errors"]] == list(
        range(1, limits.REPORTED_ERRORS + 1)
    )
    assert answer["errors_omitted"] == 250 - limits.REPORTED_ERRORS


# Numbered lines


def test_numbered_lines_are_stored_once_however_often_they_are_sent(
    shared: Daemon, agent: str
) -> None:
    """With producer and sequence a script may simply send its file again."""
    producer = new_producer()
    sent = _numbered(agent, producer, 1, 2, 3)
    assert _counts(_tell(shared, sent)) == {"lines": 3, "stored": 3}
    assert _counts(_tell(shared, sent)) == {"lines": 3, "replayed": 3}
    longer = sent + _numbered(agent, producer, 4, 5)
    assert _counts(_tell(shared, longer)) == {"lines": 5, "stored": 2, "replayed": 3}
    assert _operations(shared, agent) == ["1", "2", "3", "4", "5"]
    assert shared.query(
        "SELECT last_sequence, stored, replayed FROM producers WHERE producer = ?", producer
    ) == [(5, 5, 6)]


def test_a_line_repeated_within_one_file_is_replayed(shared: Daemon, agent: str) -> None:
    """The second copy of a number is recognised in the same transaction, too."""
    producer = new_producer()
    answer = _tell(shared, _numbered(agent, producer, 1, 1, 2, 2, 1, 3))
    assert _counts(answer) == {"lines": 6, "stored": 3, "replayed": 3}
    assert _operations(shared, agent) == ["1", "2", "3"]


def test_a_line_that_would_leave_a_gap_is_refused(shared: Daemon, agent: str) -> None:
    """It is not settled: sent again in order it is stored."""
    producer = new_producer()
    answer = _tell(shared, _numbered(agent, producer, 1, 3, 4))
    assert _counts(answer) == {"lines": 3, "stored": 1, "refused": 2}
    assert _errors(answer) == [(2, "gap"), (3, "gap")]
    assert "after 1" in answer["errors"][0]["message"]
    again = _tell(shared, _numbered(agent, producer, 2, 3, 4))
    assert _counts(again) == {"lines": 3, "stored": 3}
    assert _operations(shared, agent) == ["1", "2", "3", "4"]


def test_a_late_number_closes_the_gap_for_those_behind_it(shared: Daemon, agent: str) -> None:
    """3, 1, 2, 3: the first 3 is refused, the second one is in order."""
    producer = new_producer()
    answer = _tell(shared, _numbered(agent, producer, 3, 1, 2, 3))
    assert _counts(answer) == {"lines": 4, "stored": 3, "refused": 1}
    assert _errors(answer) == [(1, "gap")]


def test_a_bad_numbered_line_settles_its_number(shared: Daemon, agent: str) -> None:
    """It is rejected and kept; the next number is no gap, and a replay does not reject again."""
    producer = new_producer()
    bad = line_of(audit(agent, status="done", producer=producer.hex(), sequence=2))
    sent = _numbered(agent, producer, 1) + bad + _numbered(agent, producer, 3)
    assert _counts(_tell(shared, sent)) == {"lines": 3, "stored": 2, "rejected": 1}
    assert _counts(_tell(shared, sent)) == {"lines": 3, "replayed": 3}
    assert shared.query("SELECT sequence FROM rejected_events WHERE producer = ?", producer) == [
        (2,)
    ]


def test_an_unreadable_line_settles_no_number(shared: Daemon, agent: str) -> None:
    """Nobody can tell which number it had; the next one is refused until that one comes."""
    producer = new_producer()
    sent = _numbered(agent, producer, 1, 2, 3)
    broken = sent.replace(b'"sequence":2}', b'"sequence":2')
    answer = _tell(shared, broken)
    assert _counts(answer) == {"lines": 3, "stored": 1, "rejected": 1, "refused": 1}
    assert _errors(answer) == [(2, "malformed"), (3, "gap")]
    assert _counts(_tell(shared, sent)) == {"lines": 3, "stored": 2, "replayed": 1}


@pytest.mark.parametrize("field", ["producer", "sequence"])
def test_half_a_numbering_is_refused(shared: Daemon, agent: str, field: str) -> None:
    """One without the other would look like exactly-once and not be it."""
    half = {"producer": "ab" * 16} if field == "producer" else {"sequence": 1}
    answer = _tell(shared, line_of(audit(agent, **half)))
    assert _errors(answer) == [(1, "invalid")]
    assert "go together" in answer["errors"][0]["message"]
    assert _operations(shared, agent) == []


def test_numbered_and_unnumbered_lines_mix(shared: Daemon, agent: str) -> None:
    """Two producers and nobody, interleaved: each has its own numbers, and order is kept."""
    one, two = new_producer(), new_producer()
    plain = line_of(audit(agent, operation="plain"))
    sent = (
        _numbered(agent, one, 1)
        + plain
        + _numbered(agent, two, 1)
        + _numbered(agent, one, 2)
        + plain
        + _numbered(agent, two, 2, 3)
    )
    assert _counts(_tell(shared, sent)) == {"lines": 7, "stored": 7}
    assert _operations(shared, agent) == ["1", "plain", "1", "2", "plain", "2", "3"]
    assert _counts(_tell(shared, sent)) == {"lines": 7, "stored": 2, "replayed": 5}
    assert [
        shared.query("SELECT last_sequence FROM producers WHERE producer = ?", producer)
        for producer in (one, two)
    ] == [[(2,)], [(3,)]]


def test_numbers_hidden_in_escapes_are_seen(shared: Daemon, agent: str) -> None:
    """JSON may spell `sequence` with escapes; it is the same key."""
    producer = new_producer()
    sent = _numbered(agent, producer, 1).replace(b'"sequence"', b'"s\\u0065quence"')
    sent = sent.replace(b'"producer"', b'"\\u0070roducer"')
    assert _counts(_tell(shared, sent)) == {"lines": 1, "stored": 1}
    assert _counts(_tell(shared, sent)) == {"lines": 1, "replayed": 1}


def test_the_words_inside_a_context_number_nothing(shared: Daemon, agent: str) -> None:
    """Only the line's own fields are its numbering."""
    context = {"producer": "x", "sequence": 1}
    answer = _tell(shared, line_of(audit(agent, context=context)))
    assert _counts(answer) == {"lines": 1, "stored": 1}


def test_anonymous_lines_have_an_account_of_their_uid(daemon: Daemon) -> None:
    """Unnumbered lines are counted by who sent them, over connections."""
    for _ in range(2):
        _tell(daemon, line_of(audit("agent")) + b"broken\n" + line_of(stage("late")))
    assert daemon.query(
        "SELECT kind, uid, last_sequence, stored, rejected, parked FROM producers"
    ) == [("anonymous", os.getuid(), 6, 2, 2, 2)]
    assert unbalanced_accounts(daemon) == []


# The commands that people use


def test_printf_and_socat_are_a_client(shared: Daemon, agent: str) -> None:
    """`printf … | socat -t 5 - UNIX-CONNECT:…` stores its lines and prints the answer."""
    need("socat")
    command = (
        'printf "%s\\n%s" "$LINE" "$LINE" '
        f'| socat -t {PATIENCE_SECONDS} - "UNIX-CONNECT:$GGEND_SOCKET"'
    )
    finished = subprocess.run(
        ["sh", "-c", command],
        env={
            **os.environ,
            "LINE": line_of(audit(agent))[:-1].decode(),
            "GGEND_SOCKET": os.fspath(shared.socket),
        },
        capture_output=True,
        timeout=PATIENCE_SECONDS,
        check=True,
    )
    assert _counts(_checked(finished.stdout)) == {"lines": 2, "stored": 2}
    assert _operations(shared, agent) == ["write", "write"]


def test_netcat_is_a_client(shared: Daemon, agent: str) -> None:
    """`nc -N -U` closes its sending side at the end of its input, and prints the answer."""
    netcat = need("nc")
    finished = subprocess.run(
        [netcat, "-N", "-U", os.fspath(shared.socket)],
        input=line_of(audit(agent)) * 3,
        capture_output=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    if finished.returncode and b"invalid option" in finished.stderr:
        pytest.skip("this nc has no -N or no -U (it is not OpenBSD's)")
    assert _counts(_checked(finished.stdout)) == {"lines": 3, "stored": 3}


def test_a_peer_that_does_not_wait_for_the_answer_is_stored(shared: Daemon, agent: str) -> None:
    """Fire and forget: what was written before the close is taken in, and nobody is harmed."""
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(os.fspath(shared.socket))
        peer.sendall(line_of(audit(agent)) * 5)
    _tell(shared, line_of(audit("behind")))
    assert _counts(_tell(shared, line_of(audit("behind")))) == {"lines": 1, "stored": 1}
    while len(_operations(shared, agent)) < 5:
        assert shared.status()["trouble"] is None
    assert _operations(shared, agent) == ["write"] * 5
