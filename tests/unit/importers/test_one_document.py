"""Documents that are not lines are told from lines that are torn."""

from __future__ import annotations

import json

import pytest

from ggend.importers.one_document import LOOK_BYTES, NotLines, check_lines

EVENT = {"type": "audit", "agent_id": "me", "operation": "x", "context": {"a": [1, 2]}}
LINE = json.dumps(EVENT).encode()
RECEIPT = {"receipt": {"execution_id": "e", "status": "passed", "pipeline_stages": {}}}
PRETTY = json.dumps(EVENT, indent=2).encode()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\n\n",
        LINE,
        LINE + b"\n",
        LINE + b"\n" + PRETTY,
        b"\xef\xbb\xbf" + LINE + b"\n",
        b"{}\n{}\n",
        b"no JSON\n{\n",
        b"12\n",
    ],
)
def test_lines_are_no_document(text: bytes) -> None:
    check_lines(text, "f")


@pytest.mark.parametrize("cut", range(1, len(LINE)))
def test_a_torn_first_line_is_no_document(cut: int) -> None:
    check_lines(LINE[:cut], "f")
    for lines in (1, 2, 3):
        check_lines(LINE[:cut] + b"\n" + (LINE + b"\n") * lines, "f")
        check_lines(LINE[cut:] + b"\n" + (LINE + b"\n") * lines, "f")
    check_lines((LINE[:cut] + b"\n" + LINE + b"\n") * (LOOK_BYTES // len(LINE)), "f")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (PRETTY, "one JSON document over several lines"),
        (b"\xef\xbb\xbf\n" + PRETTY.replace(b"\n", b"\r\n"), "one JSON document"),
        (PRETTY + b"\n" + PRETTY, "one JSON document"),
        (PRETTY + b"\n" + LINE, "one JSON document"),
        (b"{\n" + LINE[1:], "one JSON document"),
        (json.dumps([EVENT, EVENT], indent=1).encode(), "a JSON array"),
        (b"[\n" + LINE + b",\n" + LINE + b"\n]\n", "a JSON array"),
        (b"[" + LINE + b"," + LINE + b"]\n", "a JSON array"),
        (PRETTY[: PRETTY.index(b"1,")], "one JSON document"),
        (json.dumps([EVENT] * 20_000, indent=1).encode(), "a JSON array"),
    ],
)
def test_a_document_is_told_with_what_makes_lines_of_it(text: bytes, kind: str) -> None:
    with pytest.raises(NotLines, match=f"^f is {kind}") as raised:
        check_lines(text[:LOOK_BYTES], "f")
    assert "jq -c" in raised.value.hint


@pytest.mark.parametrize(
    "value", [RECEIPT, [RECEIPT], RECEIPT["receipt"], [RECEIPT["receipt"]] * 20_000]
)
def test_a_document_of_receipts_is_told_with_its_command(value: object) -> None:
    with pytest.raises(NotLines) as raised:
        check_lines(json.dumps(value, indent=2).encode()[:LOOK_BYTES], "f.json")
    assert "ggend import receipts f.json" in raised.value.hint
