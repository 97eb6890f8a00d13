"""Receipt documents as events: their shapes, their words, their places, and the real ones."""

from __future__ import annotations

import copy
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from ggend.importers.json_texts import canonical_json, values_of
from ggend.importers.receipt_documents import Document, UnreadableDocument, read_document
from ggend.importers.receipt_words import nearest_operation
from ggend_schema import limits
from ggend_schema.events import STAGES, ReceiptEmitted, StageCompleted

REAL = Path(__file__).resolve().parents[4] / "shared/data/simulator-receipts"
#: 2026-01-29T12:34:56.789Z
MODIFIED_NS = 1_769_690_096_789_000_000
NAMES = list(dict.fromkeys(STAGES.values()))
RECEIPT: dict[str, Any] = {
    "execution_id": "exec-1",
    "agent_id": "agent-1",
    "operation": "generation",
    "status": "success",
    "timestamp": "2026-01-02T03:04:05Z",
    "hashes": {"manifest": "ab12", "ontology": "cd34"},
    "files_generated": 3,
    "files_modified": 1,
}
PIPELINE = {
    name: {"status": "completed", "duration_ms": 10 * number}
    for number, name in enumerate(NAMES, 1)
}
WHOLE = {**RECEIPT, "pipeline_stages": PIPELINE, "total_duration_ms": 150}


def read(value: Any, *, agent: str = "ggen") -> Document:
    return read_document(value, agent=agent, modified_ns=MODIFIED_NS)


def changed(**fields: Any) -> dict[str, Any]:
    """The receipt with other fields; None takes one away."""
    return {key: value for key, value in {**WHOLE, **fields}.items() if value is not None}


def problem(value: Any) -> str:
    with pytest.raises(UnreadableDocument) as raised:
        read(value)
    return str(raised.value)


def test_a_document_is_a_receipt_and_its_stages() -> None:
    found = read({"receipt": WHOLE})
    assert found.receipt == ReceiptEmitted(
        execution_id="exec-1",
        agent_id="agent-1",
        operation="generation",
        status="passed",
        duration_ms=150,
        timestamp="2026-01-02T03:04:05Z",
        manifest_hash="ab12",
        ontology_hash="cd34",
        files_generated=3,
        files_modified=1,
        receipt=WHOLE,
    )
    starts = ["05.000", "05.010", "05.030", "05.060", "05.100"]
    assert found.stages == [
        StageCompleted(
            execution_id="exec-1",
            stage=stage.stage,
            duration_ms=10 * number,
            status="passed",
            timestamp=f"2026-01-02T03:04:{start}Z",
        )
        for number, (stage, start) in enumerate(zip(found.stages, starts, strict=True), 1)
    ]
    assert [stage.stage for stage in found.stages] == NAMES
    assert found.notes == []


@pytest.mark.parametrize(
    "value",
    [
        WHOLE,
        {"receipt": WHOLE},
        {"receipt": RECEIPT, "pipeline": PIPELINE, "total_duration_ms": 150},
        {"receipt": RECEIPT, "pipeline_stages": PIPELINE, "metrics": {"total_duration_ms": 150}},
        {"receipt": RECEIPT, "metadata": {"stages": PIPELINE, "total_duration_ms": 150}},
        {**RECEIPT, "pipeline": {"stages": PIPELINE, "total_duration_ms": 150}},
        {**RECEIPT, "pipeline": {**PIPELINE, "total_duration_ms": 150}},
        {**RECEIPT, "metadata": {"duration_ms": 149.6}, "stages": PIPELINE},
        {
            **RECEIPT,
            "duration_ms": 150.0,
            "stages": [{"name": name, **stage} for name, stage in reversed(PIPELINE.items())],
        },
        {
            **RECEIPT,
            "duration_ms": 150,
            "stages": {name: stage["duration_ms"] for name, stage in PIPELINE.items()},
        },
        {
            **RECEIPT,
            "duration_ms": 150,
            "stages": {name.partition("_")[2]: stage for name, stage in PIPELINE.items()},
        },
        {
            **RECEIPT,
            "duration_ms": 150,
            "stages": {name.replace("μ", "µ"): stage for name, stage in PIPELINE.items()},
        },
    ],
)
def test_stages_and_durations_are_found_where_they_may_stand(value: Any) -> None:
    found, expected = read(value), read(WHOLE)
    assert found.receipt.duration_ms == 150
    assert found.stages == expected.stages
    assert found.receipt.manifest_hash == "ab12"
    assert found.notes == []


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("completed", "passed"),
        ("success", "passed"),
        ("PASSED", "passed"),
        ("dry-run", "passed"),
        ("failure", "failed"),
        ("error", "failed"),
        ("canceled", "cancelled"),
        ("cancelled", "cancelled"),
        ("partial", "partial"),
    ],
)
def test_words_for_a_status_are_translated(word: str, status: str) -> None:
    found = read(changed(status=word))
    assert found.receipt.status == status
    assert found.receipt.receipt["status"] == word


@pytest.mark.parametrize(
    ("word", "operation"),
    [
        ("generation", "generation"),
        ("dry-run", "dry_run"),
        ("Dry Run", "dry_run"),
        ("validate", "validation"),
        ("schema-validation", "validation"),
        ("ggen-sync", "generation"),
        ("error-recovery", "generation"),
        ("re-canonicalize", "canonicalization"),
        ("remission", "generation"),
    ],
)
def test_an_operation_is_the_nearest_that_is_known(word: str, operation: str) -> None:
    assert nearest_operation(word) == operation


def test_an_operation_that_is_not_known_is_noted_and_kept() -> None:
    found = read(changed(operation="error-recovery"))
    assert found.receipt.operation == "generation"
    assert found.receipt.receipt["operation"] == "error-recovery"
    assert found.notes == [
        'operation "error-recovery" is stored as generation; receipt_json keeps the original'
    ]
    assert read(changed(operation="dry-run")).notes == []
    assert read(changed(operation=None, status="dry-run")).receipt.operation == "dry_run"


def test_what_is_missing_has_a_value() -> None:
    bare = {"status": "passed"}
    found = read(bare, agent="me")
    assert found.receipt == ReceiptEmitted(
        execution_id=hashlib.sha256(b'{"status":"passed"}').hexdigest(),
        agent_id="me",
        operation="generation",
        status="passed",
        duration_ms=0,
        duration_source="unknown",
        timestamp="2026-01-29T12:34:56.789Z",
        receipt=bare,
    )
    assert found.stages == []
    assert found.notes == ["no operation: generation is stored"]


def test_a_hash_loses_its_algorithm_and_what_is_none_is_left_out() -> None:
    found = read(changed(hashes={"manifest": "sha256:ab12", "ontology": "ab12..."}))
    assert (found.receipt.manifest_hash, found.receipt.ontology_hash) == ("ab12", None)
    assert found.notes == ["the ontology hash is not hexadecimal; only receipt_json keeps it"]


def test_stages_may_be_fewer_or_skipped_or_others() -> None:
    stages = {
        "emit": {"status": "skipped"},
        "normalize": {"status": "error", "error": {"code": 3}},
        "deploy": {"status": "completed"},
    }
    found = read(changed(pipeline_stages=stages))
    (stage,) = found.stages
    assert (stage.stage, stage.status) == (NAMES[0], "failed")
    assert (stage.duration_ms, stage.duration_source) == (0, "unknown")
    assert stage.error_message == '{"code":3}'
    assert len(found.notes) == 2


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (7, "a JSON object, not a number"),
        ([WHOLE], "a JSON object, not an array"),
        ({}, "it has no `status`"),
        ({"receipt": []}, "`receipt` must be an object, not an array"),
        ({"type": "audit"}, "`ggend import events`"),
        ({"record": {}, "payload": {}}, "`ggend import ggen-log`"),
        (changed(status="splendid"), 'unknown status "splendid"; the known ones are passed, '),
        (changed(pipeline_stages={"emit": {"status": "odd"}}), 'μ₃_emit: unknown status "odd"'),
        (changed(status="failed", stages={"emit": 3}, pipeline_stages=None), "has no status"),
        (changed(stages={"emit": 3, "μ₃_emit": 3}, pipeline_stages=None), "occurs twice"),
        (changed(total_duration_ms="2 s"), "`total_duration_ms` must be a number, not a text"),
        (changed(total_duration_ms=10**30), "must be from 0 to"),
        (changed(total_duration_ms=1e300), "must be from 0 to"),
        (changed(files_generated=1.5), "must be a whole number"),
        ({"type": []}, "it has no `status`"),
        (changed(total_duration_ms=-1), "must be from 0 to"),
        (changed(total_duration_ms=True), "not true or false"),
        (changed(timestamp="yesterday"), "is not ISO 8601"),
        (changed(agent_id="a\nb"), "control character in a name"),
        (changed(execution_id="x" * (limits.NAME_CHARS + 1)), "$.execution_id"),
        (changed(agent_id={}), "`agent_id` must be text, not an object"),
    ],
)
def test_what_cannot_be_read_is_said_in_words(value: Any, words: str) -> None:
    assert words in problem(value)


def test_a_document_is_known_by_its_content() -> None:
    """Not by key order, white space, the wrapper, or 150.0 for 150; but by anything it says."""
    turned = dict(reversed(copy.deepcopy(WHOLE).items()))
    turned["total_duration_ms"] = 150.0
    same = {read(value).producer for value in (WHOLE, {"receipt": WHOLE}, turned)}
    assert len(same) == 1
    others = {read(changed(files_modified=2)).producer, read({"receipt": WHOLE, "a": 1}).producer}
    assert len(others | same) == 3
    assert read({"status": "ok"}).producer != read({"status": "ok"}, agent="me").producer


def test_equal_values_have_equal_bytes() -> None:
    assert canonical_json({"b": [1.0, 2.5], "a": True}) == b'{"a":true,"b":[1,2.5]}'


def test_a_file_may_hold_many_values_in_many_ways() -> None:
    pretty, line = json.dumps(WHOLE, indent=2), json.dumps(WHOLE)
    text = f"\ufeff{pretty}\n{line}\n[{line},\n {line}]{line}\r\n\n{pretty}".encode()
    found = list(values_of(text))
    assert [one.value for one in found] == [WHOLE] * 6
    height = pretty.count("\n")
    assert [one.line for one in found] == [1, *[height + 2 + n for n in (0, 1, 1, 2, 4)]]
    assert [one.position for one in found] == [0, 0, 1, 2, 0, 0]


def test_what_is_not_json_is_told_by_its_line_and_the_next_document_is_read() -> None:
    pretty = json.dumps(WHOLE, indent=2)
    torn = pretty[: pretty.index('"status"')]
    text = f'{torn}\n{pretty}\nnonsense\n{{"a": NaN}}\n{pretty}\n{{"a": [\n'.encode()
    found = list(values_of(text))
    assert [one.value for one in found if one.problem is None] == [WHOLE, WHOLE]
    problems = [one.problem or "" for one in found if one.problem is not None]
    assert len(problems) == 4
    assert all(one.startswith("not JSON: ") for one in problems)
    (deep,) = values_of(b"[" * 100_000)
    assert "nested too deep" in (deep.problem or "")


def test_texts_that_are_not_utf_8_are_read() -> None:
    (found,) = values_of(b'{"a": "\xe9 \\ud83d", "b": 123456789012345678901234567890}')
    assert found.value["a"] == "\\xe9 \\ud83d"
    big = read({**found.value, "status": "ok"}).receipt.receipt["b"]
    assert big == "123456789012345678901234567890"


@pytest.mark.skipif(not REAL.exists(), reason="the real receipts are not on this machine")
@pytest.mark.parametrize(("name", "notes"), [("generation.json", 0), ("error-recovery.json", 1)])
def test_a_real_receipt_is_read(name: str, notes: int) -> None:
    (found,) = values_of((REAL / name).read_bytes())
    document = read(found.value)
    assert document.receipt.duration_ms == 2000
    assert [stage.duration_ms for stage in document.stages] == [400, 500, 600, 300, 200]
    assert {stage.status for stage in document.stages} == {"passed"}
    assert len(document.notes) == notes


def test_a_stage_that_is_null_did_not_run() -> None:
    assert read(changed(stages={"emit": None, "extract": 3}, pipeline_stages=None)).stages == [
        stage
        for stage in read(changed(stages={"extract": 3}, pipeline_stages=None)).stages
        if stage.duration_ms == 3
    ]


@pytest.mark.parametrize("line", [b"[2026-01-29 12:00:00] INFO text\n", b"[\n"])
def test_a_file_that_is_no_json_is_given_up(line: bytes) -> None:
    *problems, last = values_of(line * 10_000)
    assert last.problem == "the rest is not read: too much is not JSON"
    assert len(problems) <= 100
