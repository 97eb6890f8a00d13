"""Diagnoses: the report of `ggend doctor`, wrapped so that no line is wider than the terminal."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from ggend.cli.render.output import escape, show_text
from ggend.cli.render.sizes import counted
from ggend.cli.render.styles import STYLES
from ggend.cli.render.wrapped import wrapped

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
        first, *others = wrapped(escape(one.detail), room, breaks_words=True)
        yield f"{verdict}  {one.subject.ljust(subjects)}  {first}"
        for line in others:
            yield " " * indent + line
        if one.hint:
            head, *rest = wrapped(
                escape(one.hint), width - _HINT_INDENT - len(_HINT), breaks_words=True
            )
            yield " " * _HINT_INDENT + _HINT + head
            for line in rest:
                yield " " * (_HINT_INDENT + len(_HINT)) + line
    yield ""
    yield _summary(diagnoses)


def _summary(diagnoses: Sequence[Diagnosis]) -> str:
    failures = [one.subject for one in diagnoses if one.verdict == "failed"]
    warnings = sum(one.verdict == "warning" for one in diagnoses)
    told = counted(warnings, "warning")
    if failures:
        return f"{len(failures)} failed, {told}. Begin with the first: {failures[0]}."
    return f"Nothing failed, {told}." if warnings else "Everything is well."
