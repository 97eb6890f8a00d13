"""Diagnoses: the report of `ggend doctor`, wrapped so that no line is wider than the terminal."""

from __future__ import annotations

import os
import shutil
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from ggend.cli.render.output import escape, show_text
from ggend.cli.render.styles import STYLES

if TYPE_CHECKING:
    from ggend.doctor.diagnosis import Diagnosis

__all__ = ["report_lines", "show_diagnoses"]

#: Columns of a pipe and of a terminal that does not say: what an e-mail or an issue shows whole.
_COLUMNS = 80

#: Lines longer than this are hard to read, however wide the terminal is.
_COLUMNS_MAXIMUM = 120

#: Columns of a text at least: a narrower terminal wraps by itself.
_TEXT_MINIMUM = 20

_HINT = "hint: "

#: Columns before a hint: under the subject, where there is room for a command.
_HINT_INDENT = 9


def show_diagnoses(diagnoses: Sequence[Diagnosis]) -> None:
    """Print the findings and how many are wrong; in colour on a terminal."""
    is_terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size((_COLUMNS, 24)).columns if is_terminal else _COLUMNS
    has_colour = is_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    lines = report_lines(diagnoses, min(width, _COLUMNS_MAXIMUM), has_colour=has_colour)
    show_text("".join(f"{line}\n" for line in lines))


def report_lines(
    diagnoses: Sequence[Diagnosis], width: int, *, has_colour: bool = False
) -> Iterator[str]:
    """Return the lines of the report, none of them wider than `width`."""
    verdicts = max(len(one.verdict) for one in diagnoses)
    subjects = max(len(one.subject) for one in diagnoses)
    indent = verdicts + subjects + 4
    width = max(width, indent + _TEXT_MINIMUM)
    room = width - indent
    for one in diagnoses:
        verdict: str = one.verdict.ljust(verdicts)
        if has_colour:
            verdict = click.style(verdict, fg=STYLES[one.verdict])
        first, *others = _wrapped(escape(one.detail), room)
        yield f"{verdict}  {one.subject.ljust(subjects)}  {first}"
        for line in others:
            yield " " * indent + line
        if one.hint:
            head, *rest = _wrapped(escape(one.hint), width - _HINT_INDENT - len(_HINT))
            yield " " * _HINT_INDENT + _HINT + head
            for line in rest:
                yield " " * (_HINT_INDENT + len(_HINT)) + line
    yield ""
    yield _summary(diagnoses)


def _summary(diagnoses: Sequence[Diagnosis]) -> str:
    failures = [one.subject for one in diagnoses if one.verdict == "failed"]
    warnings = sum(one.verdict == "warning" for one in diagnoses)
    told = f"{warnings} warning{'s' * (warnings != 1)}"
    if failures:
        return f"{len(failures)} failed, {told}. Begin with the first: {failures[0]}."
    return f"Nothing failed, {told}." if warnings else "Everything is well."


def _wrapped(text: str, room: int) -> list[str]:
    """Return the words in lines of `room` columns; a word that is wider is broken, never cut."""
    lines: list[str] = []
    line, used = "", 0
    for word in text.split(" "):
        size = _columns(word)
        if line and used + 1 + size > room:
            lines.append(line)
            line, used = "", 0
        elif line:
            line, used = f"{line} ", used + 1
        for letter in word if size > room else (word,):
            size = _columns(letter)
            if used + size > room:
                lines.append(line)
                line, used = "", 0
            line, used = line + letter, used + size
    return [*lines, line]


def _columns(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(one) else 1 + (unicodedata.east_asian_width(one) in "FW")
        for one in text
    )
