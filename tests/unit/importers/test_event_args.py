"""Events spelled out by hand: what is built, and which key is named when it is wrong."""

from __future__ import annotations

import pytest

from ggend.importers.event_args import BadEvent, check_line, event_of, unread_json
from ggend_schema.errors import InvalidEvent
from ggend_schema.events import Audit, MemorySaved

AUDIT = ["agent_id=a1", "operation=plan", "status=completed"]


def test_text_numbers_and_json_are_told_apart() -> None:
    event = event_of("audit", ["agent_id=7", *AUDIT[1:], "duration_ms=12", 'context:={"n": [1]}'])
    assert event == Audit(
        agent_id="7", operation="plan", status="completed", duration_ms=12, context={"n": [1]}
    )


def test_a_value_may_hold_equals_signs_and_colons() -> None:
    event = event_of("audit", [*AUDIT, "error_message=a:=b=c"])
    assert isinstance(event, Audit)
    assert event.error_message == "a:=b=c"


def test_text_for_a_json_field_stays_text() -> None:
    assert event_of("memory_saved", ["agent_id=a", "memory=5"]) == MemorySaved(
        agent_id="a", memory="5"
    )


@pytest.mark.parametrize(
    ("assignment", "is_unread"),
    [
        ('context={"a":1}', True),
        ("context= [1, 2]", True),
        ('context:={"a":1}', False),
        ('context:="{}"', False),
        ("context=5", False),
        ("context={a}", False),
        ("context=[info] ready", False),
        ('error_message={"a":1}', False),
        ('operation={"a":1}', False),
    ],
)
def test_json_given_as_text_is_noticed_where_the_field_may_hold_json(
    assignment: str, is_unread: bool
) -> None:
    key, _, text = assignment.partition("=")
    assert unread_json("audit", [*AUDIT, assignment]) == ({key: text} if is_unread else {})


@pytest.mark.parametrize(
    ("assignments", "named"),
    [
        (AUDIT[1:], "it needs `agent_id`"),
        (
            [*AUDIT, "duration_ms=long"],
            'audit.duration_ms is "long", a string; it must be a whole number from 0 to ',
        ),
        (
            [*AUDIT, "duration_ms=-1"],
            'audit.duration_ms is "-1"; it must be a whole number from 0 to ',
        ),
        ([*AUDIT, "status=completed"], "`status` is given twice"),
        ([*AUDIT, "agent=a1"], "`agent`"),
        ([*AUDIT, "context:={"], "`context` is not JSON"),
        ([*AUDIT, "context:=" + "[" * 100 + "]" * 100], "`context` is nested deeper"),
        ([*AUDIT, "execution_id=a\x1bb"], "audit.execution_id is "),
        ([*AUDIT, "timestamp=yesterday"], "'yesterday' is not ISO 8601"),
        ([*AUDIT, "loose"], "'loose' is neither"),
        ([*AUDIT, "=x"], "'=x' is neither"),
        ([*AUDIT, "context:=1e999"], "`context`"),
        ([*AUDIT[:-1], "status=done"], 'audit.status is "done"; allowed are started, '),
    ],
    ids=range(13),
)
def test_what_is_wrong_is_named(assignments: list[str], named: str) -> None:
    with pytest.raises(BadEvent) as caught:
        event_of("audit", assignments)
    assert named in caught.value.message
    assert caught.value.hint


def test_an_unknown_type_names_the_nearest() -> None:
    with pytest.raises(BadEvent) as caught:
        event_of("receipt_emited", [])
    assert "did you mean `receipt_emitted`?" in caught.value.hint


def test_a_line_is_checked_as_the_daemon_checks_it() -> None:
    line = b'{"type":"audit","agent_id":"a","operation":"o","status":"failed","new_field":1}'
    assert check_line(line) == Audit(agent_id="a", operation="o", status="failed")
    with pytest.raises(InvalidEvent, match="control character"):
        check_line(line.replace(b'"a"', b'"a\\u0007"'))
    long = check_line(line.replace(b'"new_field":1', b'"context":' + b"9" * 25))
    assert long == Audit(agent_id="a", operation="o", status="failed", context="9" * 25)
