"""What commands print: three forms, and nothing that a terminal would act on."""

from __future__ import annotations

import csv
import io
import json

import pytest

from ggend.cli.output import Format, complain, escape, progress, show, show_json
from ggend.queries import Result

HOSTILE = "\x1b[31mred\x9b0m\r\x07\x7f\u202eevil\u2028"
RESULT = Result(
    columns=["name", "count", "name"],
    rows=[("a", 1, None), ("[bold]μ₁", 1234, b"\x00\xff"), (HOSTILE, None, "x\ny\tz")],
)


def test_escape_shows_what_a_terminal_would_act_on() -> None:
    assert escape("a\x1b[0m\n") == "a\\x1b[0m\\n"
    assert escape("μ₁ ünïcode 漢") == "μ₁ ünïcode 漢"


@pytest.mark.parametrize("form", Format)
@pytest.mark.parametrize("terminal", [False, True])
def test_no_stored_text_reaches_the_terminal_as_it_is(
    form: Format,
    terminal: bool,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal)
    monkeypatch.setenv("TERM", "dumb")
    show(RESULT, form=form)
    printed = capsys.readouterr().out
    assert not set(printed) & set(HOSTILE) - set("[31mred0mevil")
    assert "red" in printed


def test_a_table_in_a_pipe_is_aligned_and_numbers_stand_right(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show(Result(columns=["name", "count"], rows=[("a", 1), ("long", 1234)]))
    assert capsys.readouterr().out == "name  count\na         1\nlong   1234\n"


def test_a_table_without_rows_has_its_header(capsys: pytest.CaptureFixture[str]) -> None:
    show(Result(columns=["name"], rows=[]))
    assert capsys.readouterr().out == "name\n"
    show(Result(columns=[], rows=[]))
    assert capsys.readouterr().out.strip() == ""


def test_a_table_wider_than_the_terminal_is_shown_row_by_row(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("TERM", "dumb")
    # A dumb terminal has 80 columns.
    show(Result(columns=["execution_id", "status"], rows=[("a" * 64, "passed")]))
    assert f"{'a' * 64}   passed" in capsys.readouterr().out
    show(Result(columns=["execution_id", "status"], rows=[("a" * 100, "passed")]))
    printed = capsys.readouterr().out
    assert printed.startswith("row 1 ")
    assert f"execution_id {'a' * 100}\nstatus       passed\n" in printed


def test_json_keeps_columns_of_one_name_apart(capsys: pytest.CaptureFixture[str]) -> None:
    show(RESULT, form=Format.JSON)
    rows = json.loads(capsys.readouterr().out)
    assert rows[1] == {"name": "[bold]μ₁", "count": 1234, "name_2": "00ff"}
    assert rows[2]["name"] == HOSTILE


def test_csv_is_read_back_with_its_line_breaks(capsys: pytest.CaptureFixture[str]) -> None:
    show(RESULT, form=Format.CSV)
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert rows[0] == ["name", "count", "name"]
    assert rows[3][2] == "x\ny\tz"


def test_more_rows_than_the_limit_are_mentioned_beside_the_output(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show(Result(columns=["n"], rows=[(1,)], has_more=True), form=Format.CSV)
    printed = capsys.readouterr()
    assert printed.out == "n\n1\n"
    assert "--limit shows more" in printed.err


def test_errors_go_to_standard_error_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    complain("bad \x1b[2J", hint="do\nthis")
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == "ggend: bad \\x1b[2J\n  hint: do\\nthis\n"


def test_json_of_any_value_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    show_json({"a": [1, None, 2.5, "\x9b"]})
    assert json.loads(capsys.readouterr().out) == {"a": [1, None, 2.5, "\x9b"]}


def test_there_is_no_progress_bar_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    with progress() as bar:
        bar.add_task("file", total=10)
    assert capsys.readouterr().err == ""
