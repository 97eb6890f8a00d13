"""Sections: a report of several tables under one heading.

For people as tables or Markdown; as NDJSON each row names its section. One section alone can be
printed in every format, also as CSV.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ggend.cli.render.output import Format, show, show_line, show_text
from ggend.errors import UsageMistake
from ggend.queries.result import Result
from ggend_schema.spelling import or_nearest

__all__ = ["Section", "show_sections"]

_CHOICE = "--format json shows all"


class Section(msgspec.Struct, frozen=True):
    """One table of a report."""

    #: The word by which it is chosen.
    name: str
    title: str
    result: Result
    #: Columns that a terminal shows however narrow it is; empty: all of them.
    kept: tuple[str, ...] = ()


def show_sections(
    heading: str, sections: Sequence[Section], *, form: Format, chosen: str | None
) -> None:
    """Print the heading and each section that has rows, or the chosen section.

    Raises UsageMistake.
    """
    if chosen is not None:
        section = _section(sections, chosen)
        show(section.result, form=form, kept=section.kept or None, choice=_CHOICE)
        return
    if form is Format.CSV:
        raise UsageMistake(
            "a report of several tables cannot be one CSV text",
            hint=f"--section takes one of {', '.join(section.name for section in sections)}",
        )
    if form is Format.NDJSON:
        for section in sections:
            show(_named(section), form=form)
        return
    is_markdown = form is Format.MARKDOWN
    show_line(f"{'# ' if is_markdown else ''}{heading}")
    for section in sections:
        if section.result.rows:
            show_text(f"\n{'## ' if is_markdown else ''}{section.title}\n\n")
            show(section.result, form=form, kept=section.kept or None, choice=_CHOICE)


def _section(sections: Sequence[Section], name: str) -> Section:
    for section in sections:
        if section.name == name:
            return section
    names = [section.name for section in sections]
    raise UsageMistake(
        f"there is no section `{name}`{or_nearest(name, names)}",
        hint=f"--section takes one of {', '.join(names)}",
    )


def _named(section: Section) -> Result:
    return Result(
        columns=["section", *section.result.columns],
        rows=[(section.name, *row) for row in section.result.rows],
    )
