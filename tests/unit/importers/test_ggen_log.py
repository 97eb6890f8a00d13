"""Logs of ggen as events: the mapping, the chain, the numbering, and the real logs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ggend.importers.ggen_log import LogLine, LogReader, line_producer
from ggend_schema import limits
from ggend_schema.events import Audit, Event, ReceiptEmitted

REAL = Path(__file__).resolve().parents[4] / "shared/data/ggen-receipt-logs"
#: 2026-01-29T12:34:56.789Z
MODIFIED_NS = 1_769_690_096_789_000_000
NONE = "0" * 64


def line(
    number: int,
    *,
    previous: str | None = None,
    decisions: dict[str, str] | None = None,
    **record: Any,
) -> bytes:
    content = {
        "record": {
            "activity": "ggen.sync",
            "chain_hash_hex": f"{number:064x}",
            "prev_chain_hash_hex": previous or f"{number - 1:064x}",
            "payload_hash_hex": "ab" * 32,
            "andon": "Green",
            "ts_ns": 0,
            **record,
        },
        "payload": {
            "graph_hash": "cd" * 32,
            "outputs": dict.fromkeys(decisions or {}, "ef" * 32),
            "decisions": decisions or {},
        },
    }
    return json.dumps(content).encode() + b"\n"


def with_fields(where: str, **fields: object) -> bytes:
    content = json.loads(line(1))
    content[where] |= fields
    return json.dumps(content).encode()


def reader() -> LogReader:
    return LogReader(agent="ggen-sync", modified_ns=MODIFIED_NS)


def read(*lines: bytes) -> list[LogLine]:
    log = reader()
    return [*log.feed(b"".join(lines)), *log.finish()]


def events(text: bytes) -> list[Event]:
    (found,) = read(text)
    assert found.problem is None
    return found.events


def receipt(text: bytes) -> ReceiptEmitted:
    first = events(text)[0]
    assert isinstance(first, ReceiptEmitted)
    return first


def test_a_line_is_a_receipt_and_an_audit_for_each_file_that_was_changed() -> None:
    text = line(
        1,
        decisions={"a.rs": "written", "b.rs": "skipped: unchanged", "Cargo.toml": "injected: deps"},
    )
    first, *audits = events(text)
    assert first == ReceiptEmitted(
        execution_id=f"{1:064x}",
        agent_id="ggen-sync",
        operation="generation",
        status="passed",
        duration_ms=0,
        duration_source="unknown",
        timestamp="2026-01-29T12:34:56.789Z",
        manifest_hash="ab" * 32,
        ontology_hash="cd" * 32,
        files_generated=1,
        files_modified=1,
        receipt=json.loads(text),
    )
    assert audits == [
        Audit(
            agent_id="ggen-sync",
            operation=operation,
            status="completed",
            context={"path": path, "decision": decision, "hash": "ef" * 32},
            execution_id=f"{1:064x}",
            timestamp="2026-01-29T12:34:56.789Z",
        )
        for operation, path, decision in [
            ("write a.rs", "a.rs", "written"),
            ("inject Cargo.toml", "Cargo.toml", "injected: deps"),
        ]
    ]


@pytest.mark.parametrize("where", ["record", "payload"])
@pytest.mark.parametrize("duration_ms", [0, 1_234, 10**12])
def test_a_duration_that_is_recorded_is_taken(where: str, duration_ms: int) -> None:
    found = receipt(with_fields(where, duration_ms=duration_ms))
    assert (found.duration_ms, found.duration_source) == (duration_ms, None)


@pytest.mark.parametrize("duration_ms", [None, -1, 1.5, True, "7", 10**12 + 1, 10**30, {"ms": 7}])
def test_what_is_no_duration_is_unknown(duration_ms: object) -> None:
    found = receipt(with_fields("record", duration_ms=duration_ms))
    assert (found.duration_ms, found.duration_source) == (0, "unknown")


def test_an_unknown_andon_is_said_with_the_known_ones() -> None:
    content = json.loads(line(1))
    content["record"]["andon"] = "green"
    (found,) = read(json.dumps(content).encode())
    assert found.problem
    assert (
        'andon is "green" (did you mean `Green`?); allowed are Green, Overridden, Halted - at `$.'
        in found.problem
    )


def test_a_line_of_the_wrong_types_is_said_in_the_words_of_json() -> None:
    content = json.loads(line(1))
    content["record"]["chain_hash_hex"] = 5
    (found,) = read(json.dumps(content).encode())
    assert found.problem
    assert "not a receipt: expected a string, got a number - at `$.record." in found.problem


def test_the_record_goes_before_the_payload() -> None:
    content = json.loads(line(1, duration_ms=7, origin="ci"))
    content["payload"] |= {"duration_ms": 8, "origin": "laptop"}
    found = receipt(json.dumps(content).encode())
    assert (found.duration_ms, found.environment) == (7, "ci")


@pytest.mark.parametrize(
    ("origin", "environment"),
    [("ci", "ci"), (None, None), ("", None), ("a\nb", None), ("x" * 201, None), (["ci"], None)],
)
@pytest.mark.parametrize("where", ["record", "payload"])
def test_an_origin_that_can_be_a_name_is_the_environment(
    where: str, origin: object, environment: str | None
) -> None:
    assert receipt(with_fields(where, origin=origin)).environment == environment


def test_the_producer_of_a_line_does_not_depend_on_its_duration() -> None:
    """What an earlier version imported, which read no duration, is recognised."""
    (plain,) = read(line(1))
    (timed,) = read(line(1, duration_ms=7, origin="ci"))
    assert plain.producer == timed.producer == line_producer(f"{1:064x}", "ggen-sync")
    assert plain.producer.hex() == "e4057184bb0aa75916b36945d6e88a50"


@pytest.mark.parametrize(
    ("andon", "status"),
    [("Green", "passed"), ({"Overridden": {"by": "x"}}, "partial"), ({"Halted": "y"}, "failed")],
)
def test_the_andon_is_the_status(andon: object, status: str) -> None:
    assert receipt(line(1, andon=andon)).status == status


def test_the_time_of_the_record_wins_over_the_files() -> None:
    assert receipt(line(1, ts_ns=1_500_000_000)).timestamp == "1970-01-01T00:00:01.500Z"


def test_a_long_path_is_cut_in_the_operation_and_whole_in_the_context() -> None:
    path = "d/" * limits.OPERATION_CHARS
    audit = events(line(1, decisions={path: "written"}))[1]
    assert isinstance(audit, Audit)
    assert len(audit.operation) == limits.OPERATION_CHARS
    assert audit.context["path"] == path


def test_an_unbroken_chain_has_no_breaks() -> None:
    assert [found.chain_break for found in read(line(1), line(2), line(3))] == [None] * 3


def test_a_break_is_reported_at_its_line_and_the_rest_goes_in() -> None:
    found = read(line(1), line(3), line(4))
    assert [bool(one.chain_break) for one in found] == [False, True, False]
    assert [len(one.events) for one in found] == [1, 1, 1]


def test_a_log_whose_beginning_is_missing_is_broken_at_its_first_line() -> None:
    assert [bool(one.chain_break) for one in read(line(5), line(6))] == [True, False]


@pytest.mark.parametrize(
    "broken",
    [
        b'{"record": {"chain_hash\n',
        b"[]\n",
        b'{"record": {}, "payload": {}}\n',
        b'"\xff"\n',
        line(2, chain_hash_hex="short"),
        line(2, andon="Purple"),
        line(2, andon={}),
        line(2, ts_ns=-1),
        line(2, ts_ns=10**30),
        line(2, payload_hash_hex="not hex"),
        line(2, long="x" * limits.JSON_BYTES),
        line(2).replace(b'"Green"', b'"Green", "deep": ' + b"[" * 70 + b"]" * 70),
        b"[" * 100_000 + b"\n",
        b" " * limits.EVENT_BYTES + b"{}\n",
    ],
    ids=range(14),
)
def test_a_broken_line_is_reported_by_number_and_the_rest_goes_in(broken: bytes) -> None:
    first, second, third = read(line(1), broken, line(3))
    assert (second.number, second.events) == (2, [])
    assert second.problem
    assert len(second.problem) < 300
    assert first.problem is third.problem is None
    assert third.chain_break is None, "nothing is known of the line before it"


def test_blank_lines_say_nothing_and_are_counted() -> None:
    assert [found.number for found in read(b"\n", line(1), b"  \r\n", line(2))] == [2, 4]


def test_chunks_of_any_size_give_the_same_lines() -> None:
    text = line(1, decisions={"a": "written"}) + b"\nbroken\n" + line(2) + line(3)[:-1]
    whole = read(text)
    assert [found.number for found in whole] == [1, 3, 4, 5]
    for size in (1, 7, 100, len(text)):
        log = reader()
        chunks = [text[start : start + size] for start in range(0, len(text), size)]
        assert [found for chunk in chunks for found in log.feed(chunk)] + [*log.finish()] == whole
        assert log.lines == 5


def test_each_line_is_a_producer_of_its_own() -> None:
    """Whatever stands around it: two logs that begin alike have nothing in common after that."""
    alone = [found.producer for found in [*read(line(1)), *read(line(2)), *read(line(3))]]
    assert len(set(alone)) == 3
    assert [found.producer for found in read(line(3), b"broken\n", line(1))] == [
        alone[2],
        b"",
        alone[0],
    ]
    assert [found.producer for found in read(line(2, ts_ns=5))] == [alone[1]]


def test_the_producer_depends_on_the_chain_hash_and_the_agent_alone() -> None:
    producer = line_producer(f"{1:064x}", "ggen-sync")
    assert read(line(1))[0].producer == producer
    assert len(producer) == limits.PRODUCER_BYTES
    assert producer != line_producer(f"{2:064x}", "ggen-sync")
    assert producer != line_producer(f"{1:064x}", "other")
    assert producer.hex() == "e4057184bb0aa75916b36945d6e88a50", "frozen: databases hold it"


def test_a_log_that_took_the_place_of_another_may_continue_its_chain() -> None:
    old = reader()
    assert list(old.feed(line(1) + line(2)))
    new = LogReader(agent="ggen-sync", modified_ns=MODIFIED_NS, continues=old.last_hash)
    assert [found.chain_break for found in new.feed(line(3) + line(4))] == [None, None]


@pytest.mark.skipif(not REAL.is_dir(), reason="the real logs are not here")
def test_the_real_logs_are_read_whole() -> None:
    receipts, audits = {}, {}
    for file in sorted(REAL.glob("*.jsonl")):
        found = read(file.read_bytes())
        assert not [one for one in found if one.problem or one.chain_break]
        all_events = [event for one in found for event in one.events]
        receipts[file.stem] = sum(isinstance(event, ReceiptEmitted) for event in all_events)
        audits[file.stem] = len(all_events) - receipts[file.stem]
    assert sum(receipts.values()) == 177
    assert (receipts["ggen-root"], audits["ggen-root"]) == (168, 202)
