"""Sections: a report of several tables under one heading, for a terminal or as Markdown."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from ggend.cli.render.output import Format, show, show_line, show_text
from ggend.queries.result import Result

__all__ = ["ReportForm", "show_sections"]


class ReportForm(StrEnum):
    """How a report is printed."""

    TABLE = "table"
    JSON = "json"
    MARKDOWN = "markdown"


def show_sections(
    heading: str, sections: Iterable[tuple[str, Result]], *, form: ReportForm
) -> None:
    """Print the heading and each section that has rows."""
    is_markdown = form is ReportForm.MARKDOWN
    show_line(f"{'# ' if is_markdown else ''}{heading}")
    for title, result in sections:
        if result.rows:
            show_text(f"\n{'## ' if is_markdown else ''}{title}\n\n")
            show(result, form=Format(form))
