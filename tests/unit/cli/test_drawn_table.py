"""Drawn table: what is made narrower, in which order, and that nothing is lost."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from ggend.cli.render.drawn_table import draw, shortened
from ggend.cli.render.output import chosen
from ggend.errors import UsageMistake
from ggend.queries.result import Result

ID = "34b5700b6643c19ae7f0d62b8a90c3d447b4"
TIME = "2026-11-29T01:35:33.145Z"
SENTENCE = "Stage μ₅_receipt took 953 ms, over the warning limit of 400 ms."


def drawn(result: Result, width: int, kept: Iterable[str] | None = None) -> list[str]:
    """Return the lines of a table on a terminal without colours."""
    console = Console(width=width, color_system=None, force_terminal=False)
    with console.capture() as captured:
        draw(console, result, kept=kept, width=width)
    return captured.get().splitlines()


ROW = Result(
    columns=["timestamp", "execution_id", "duration_ms", "description", "session_id"],
    rows=[(TIME, ID, 953.0, SENTENCE, "s-1")],
)
KEPT = ("timestamp", "execution_id", "duration_ms", "description")


def test_what_fits_is_whole() -> None:
    assert drawn(ROW, 160)[2] == f"{TIME}  {ID}          953  {SENTENCE}  s-1"


def test_times_and_ids_are_shortened_first() -> None:
    (line,) = drawn(ROW, 124, KEPT)[2:]
    assert line == f"2026-11-29 01:35:33  34b5700b…47b4          953  {SENTENCE}  s-1"


def test_a_sentence_is_wrapped_where_there_is_room_for_it() -> None:
    heading, _, *lines = drawn(ROW, 90, KEPT)
    assert lines[0].startswith("2026-11-29 01:35:33  34b5700b…47b4          953  Stage")
    begin, end = heading.index("description"), heading.index("session_id")
    assert " ".join(line[begin:end].strip() for line in lines) == SENTENCE


def test_what_must_be_kept_is_shown_under_its_row() -> None:
    lines = drawn(ROW, 40, KEPT)
    assert lines[0].split() == ["timestamp", "execution_id"]
    assert "11-29 01:35:33" in lines[2]
    text = " ".join(" ".join(lines[3:]).split())
    left_out = "not shown: session_id (--columns chooses)"
    assert text == f"duration_ms 953 {SENTENCE} {left_out}"


def test_without_a_choice_no_column_is_left_out() -> None:
    lines = drawn(ROW, 40)
    assert lines[0].startswith("row 1 ─")
    assert f"execution_id {ID}" in "\n".join(lines)
    assert "session_id   s-1" in "\n".join(lines)


def test_an_empty_column_takes_no_room_where_there_is_little() -> None:
    result = Result(columns=["a", "error_message"], rows=[("x" * 20, None)])
    assert "error_message" in drawn(result, 80)[0]
    assert "error_message" not in "".join(drawn(result, 30, ("a",)))


def test_headings_of_narrow_columns_are_broken() -> None:
    result = Result(columns=["successful_executions", "other"], rows=[(35, "y" * 20)])
    assert drawn(result, 34, ("other",))[:2] == ["successful_  other", " executions"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [("short", "short"), ("x" * 20, "x" * 20), (ID, "34b5700b…47b4")],
)
def test_a_long_id_is_shortened_in_its_middle(text: str, shown: str) -> None:
    assert shortened(text) == shown


CELL = st.one_of(
    st.none(),
    st.integers(-(2**40), 2**40),
    st.floats(allow_nan=False),
    st.text(max_size=40),
    st.just(ID),
    st.just(TIME),
    st.just(SENTENCE),
)


@given(
    st.lists(st.tuples(CELL, CELL, CELL, CELL, CELL), min_size=1, max_size=4),
    st.integers(20, 160),
    st.sets(st.sampled_from(["a_id", "b", "c_ms", "timestamp", "description"])),
)
def test_a_line_is_never_wider_than_the_terminal(
    rows: list[tuple[object, ...]], width: int, kept: set[str]
) -> None:
    columns = ["a_id", "b", "c_ms", "timestamp", "description"]
    result = Result(columns=columns, rows=rows)
    lines = drawn(result, width, kept)
    # Only a column that stands alone may be wider.
    assert max(map(cell_len, lines)) <= width or not re.search(r"\S  +\S", lines[0])
    printed = "".join("".join(lines).split())
    for name in kept:
        for row in rows:
            value = row[columns.index(name)]
            if isinstance(value, int):
                assert str(value) in printed


def test_columns_are_chosen_in_their_order() -> None:
    found = chosen(ROW, "session_id, timestamp")
    assert (found.columns, found.rows) == (["session_id", "timestamp"], [("s-1", TIME)])
    with pytest.raises(UsageMistake, match=r"no column `sesion_id` \(did you mean `session_id`"):
        chosen(ROW, "timestamp,sesion_id")
    with pytest.raises(UsageMistake, match="no column ` `"):
        chosen(ROW, " ")


def test_a_terminal_without_unicode_gets_no_other_characters(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    lines = drawn(ROW, 124, KEPT)
    assert set(lines[1]) == {"-"}
    assert "34b5700b...47b4" in lines[2]
