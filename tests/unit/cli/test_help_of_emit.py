"""The help of `ggend emit TYPE` names each field with what it takes."""

from __future__ import annotations

import msgspec
import pytest
from click.testing import CliRunner

from ggend.cli.app import app
from ggend_schema.events import EVENT_TYPES


@pytest.mark.parametrize("kind", EVENT_TYPES)
@pytest.mark.parametrize("words", [["{}", "--help"], ["-h", "{}"], ["--strict", "{}", "a=b", "-h"]])
def test_each_field_of_a_type_is_in_its_help(kind: str, words: list[str]) -> None:
    shown = CliRunner().invoke(app, ["emit", *(word.format(kind) for word in words)])
    assert shown.exit_code == 0
    assert shown.output.startswith(f"Usage: ggend emit {kind} KEY=VALUE...")
    names = {line.split()[0] for line in shown.output.splitlines() if line.startswith("  ")}
    assert set(EVENT_TYPES[kind].__struct_fields__) <= names
    assert max(map(len, shown.output.splitlines())) <= 80


def test_what_is_required_and_allowed_is_said() -> None:
    shown = " ".join(CliRunner().invoke(app, ["emit", "audit", "--help"]).output.split())
    assert "agent_id a string of 1 to 200 characters (required unless GGEND_AGENT is set)" in shown
    assert "status one of started, completed, failed, skipped (required)" in shown
    assert "session_id a string of 1 to 200 characters (default: GGEND_SESSION)" in shown
    assert "context any JSON value" in shown


@pytest.mark.parametrize("words", [["--help"], ["nonsense", "--help"]])
def test_without_a_type_it_is_the_help_of_the_command(words: list[str]) -> None:
    assert "--stdin" in CliRunner().invoke(app, ["emit", *words]).output


def test_every_type_is_named_as_it_is_typed() -> None:
    assert all(EVENT_TYPES[kind].__struct_config__.tag == kind for kind in EVENT_TYPES)
    assert issubclass(EVENT_TYPES["audit"], msgspec.Struct)
