"""What commands print: five forms, a pager, and nothing that a terminal would act on."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ggend.cli.render.formats import pieces
from ggend.cli.render.output import Format, complain, escape, progress, show, show_json
from ggend.queries.result import Result

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
    assert f"{'a' * 64}  passed" in capsys.readouterr().out
    show(Result(columns=["note", "status"], rows=[("a" * 100, "passed")]))
    printed = capsys.readouterr().out
    assert printed.startswith("row 1 ")
    assert f"note   {'a' * 100}\nstatus passed\n" in printed


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


#: What may not be in any output, whatever was stored.
UNSAFE = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


@given(
    text=st.text(
        st.one_of(
            st.characters(),
            st.sampled_from('\x00\x1b\x9b\r\n\t\x7f|\\`\u202e\u2066\u200f\ufeff\ud800\udcff",'),
        )
    )
)
def test_any_text_is_harmless_in_any_form(text: str) -> None:
    for form in Format:
        printed = "".join(pieces(["n", text], [(1, text)], form))
        harmless = printed.replace("\t", "") if form is Format.CSV else printed
        assert not UNSAFE.search(harmless), form
        printed.encode()  # no lone surrogate is left
        if form in (Format.TABLE, Format.MARKDOWN, Format.NDJSON):
            lines = 1 if form is Format.NDJSON else 3 if form is Format.MARKDOWN else 2
            assert printed.count("\n") == lines


@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_json_and_ndjson_are_read_back_as_they_were(text: str) -> None:
    row = {"n": 1, "text": text}
    assert json.loads("".join(pieces(["n", "text"], [(1, text)], Format.JSON))) == [row]
    assert json.loads("".join(pieces(["n", "text"], [(1, text)], Format.NDJSON))) == row


def test_ndjson_is_one_object_a_line_and_nothing_without_rows() -> None:
    rows = [(1, "a"), (2, None)]
    assert list(pieces(["n", "t"], rows, Format.NDJSON)) == [
        '{"n":1,"t":"a"}\n',
        '{"n":2,"t":null}\n',
    ]
    assert list(pieces(["n"], [], Format.NDJSON)) == []


def test_rows_are_printed_as_they_come_in_all_forms_but_the_table() -> None:
    for form in (Format.JSON, Format.NDJSON, Format.CSV, Format.MARKDOWN):
        rows = iter([(1,), (2,)])
        first = pieces(["n"], rows, form)
        while "1" not in next(first):
            pass
        assert next(rows) == (2,), form


def test_no_rows_are_an_empty_array(capsys: pytest.CaptureFixture[str]) -> None:
    show(Result(columns=["n"], rows=[]), form=Format.JSON)
    assert capsys.readouterr().out == "[]\n"


def test_markdown_is_a_table_that_no_cell_breaks(capsys: pytest.CaptureFixture[str]) -> None:
    show(
        Result(columns=["name", "n"], rows=[("a|b\\|c\nd", 1), ("<b>[x](y)`", None)]),
        form=Format.MARKDOWN,
    )
    assert capsys.readouterr().out.splitlines() == [
        "| name | n |",
        "| --- | --- |",
        r"| a\|b\\\|c\\nd | 1 |",
        r"| \<b\>\[x\](y)\` | - |",
    ]


def test_json_of_a_name_that_is_not_utf8_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    show_json({"path": Path("a\udcff")})
    assert capsys.readouterr().out == '{\n  "path": "a\\\\udcff"\n}\n'


@pytest.fixture
def paged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ten lines of eighty columns, and a pager that writes what it gets to this file."""
    file = tmp_path / "paged"
    keeper = tmp_path / "keeper"
    keeper.write_text(f'#!/bin/sh\necho "$LESS" > {file}\ncat >> {file}\n')
    keeper.chmod(0o755)
    for name, value in {"TERM": "xterm", "LINES": "10", "COLUMNS": "80"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("LESS", raising=False)
    monkeypatch.setenv("GGEND_PAGER", f"{keeper} an-option")
    return file


TALL = Result(columns=["n"], rows=[(n,) for n in range(1000, 1010)])


@pytest.mark.parametrize("form", Format)
def test_what_is_taller_than_the_terminal_goes_through_the_pager(
    paged: Path,
    form: Format,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    show(TALL, form=form)
    assert "1009" not in capsys.readouterr().out
    written = paged.read_text()
    assert "1009" in written
    assert written.startswith("FRX\n")


def test_what_fits_is_printed(
    paged: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    show(Result(columns=["n"], rows=TALL.rows[:5]))
    assert "1004" in capsys.readouterr().out
    assert not paged.exists()


def test_a_pipe_has_no_pager(paged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show(TALL)
    assert "1009" in capsys.readouterr().out
    assert not paged.exists()


@pytest.mark.parametrize("pager", ["", "cat", "/nowhere/at/all", "'"])
def test_no_pager_is_wanted_or_there(
    pager: str, paged: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("GGEND_PAGER", pager)
    show(TALL)
    assert "1009" in capsys.readouterr().out


def test_a_pager_that_is_left_early_is_no_error(
    paged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("GGEND_PAGER", f"{sys.executable} -c pass")
    show(Result(columns=["n"], rows=[("x" * 1000,)] * 1000), form=Format.CSV)


STORED = Result(
    columns=["receipt_json", "context_json", "created_at", "timestamp"],
    rows=[('{"a": 1.10}', "not JSON", "2026-01-29 12:34:56", "2026-01-29T12:34:56.789Z")],
)


def test_json_columns_are_json_and_sqlites_times_have_their_zone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show(STORED, form=Format.NDJSON)
    assert capsys.readouterr().out == (
        '{"receipt_json":{"a":1.10},"context_json":"not JSON",'
        '"created_at":"2026-01-29T12:34:56Z","timestamp":"2026-01-29T12:34:56.789Z"}\n'
    )
    show(STORED, form=Format.CSV)
    assert '"{""a"": 1.10}",not JSON,2026-01-29T12:34:56Z,' in capsys.readouterr().out


def test_times_are_shown_in_the_zone_of_the_person(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    odd = Result(columns=["t"], rows=[("2026-02-31T00:00:00Z",), ("0001-01-01 00:00:00",), (5,)])
    try:
        show(STORED, columns="created_at,timestamp", local=True, form=Format.CSV)
        show(odd, local=True)
    finally:
        monkeypatch.undo()
        time.tzset()
    printed = capsys.readouterr().out
    assert "2026-01-29T18:04:56+05:30,2026-01-29T18:04:56.789+05:30" in printed
    assert "2026-02-31T00:00:00Z" in printed


def test_csv_on_a_terminal_is_escaped_like_a_table(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    result = Result(columns=["text"], rows=[("a\nb\tc",)])
    show(result, form=Format.CSV)
    assert capsys.readouterr().out == 'text\n"a\nb\tc"\n'
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("TERM", "dumb")
    show(result, form=Format.CSV)
    assert capsys.readouterr().out == 'text\n"a\\nb\\tc"\n'


@pytest.mark.parametrize("hidden", ["\u200b", "\u2060", "\u00ad", "\U000e0041", "\u202d"])
@pytest.mark.parametrize("form", Format)
def test_what_has_no_width_is_made_visible(
    hidden: str, form: Format, capsys: pytest.CaptureFixture[str]
) -> None:
    show(Result(columns=["name"], rows=[(f"a{hidden}b",)]), form=form)
    printed = capsys.readouterr().out
    assert hidden not in printed
    if form in (Format.JSON, Format.NDJSON):
        found = json.loads(printed)
        assert (found[0] if form is Format.JSON else found)["name"] == f"a{hidden}b"
