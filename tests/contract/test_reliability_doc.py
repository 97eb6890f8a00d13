"""docs/RELIABILITY.md says of each result code what the daemon does: the same as its table."""

from __future__ import annotations

from pathlib import Path

from ggend.database.sqlite_errors import OTHER, TABLE, Action, Response

_DOCUMENT = Path(__file__).parents[2] / "docs" / "RELIABILITY.md"


def _said(action: Action) -> str:
    return action if isinstance(action, str) else f"`{action.code}`"


def _row(name: str, response: Response) -> str:
    said = _said(response.statement), _said(response.commit)
    return f"| {name} | {said[0]} | {said[1]} | {response.why} |"


def test_the_document_has_the_table_that_the_writer_follows() -> None:
    text = _DOCUMENT.read_text(encoding="utf-8")
    section = text.split("## What the disk may do")[1].split("\n## ")[0]
    found = [line for line in section.splitlines() if line.startswith(("| `SQLITE_", "| any"))]
    wanted = [_row(f"`{name}`", response) for name, response in TABLE.items()]
    assert found == [*wanted, _row("any other", OTHER)]


def test_the_document_names_each_end_and_its_status() -> None:
    text = _DOCUMENT.read_text(encoding="utf-8")
    ends = {
        action
        for response in (*TABLE.values(), OTHER)
        for action in (response.statement, response.commit)
        if not isinstance(action, str)
    }
    for end in ends:
        assert f"| {end.exit_status} | `{end.code}` |" in text
