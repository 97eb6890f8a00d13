"""What commands show on terminals of 80 and 140 columns: golden text, looked at by a person.

`python tests/support/screens.py` writes it anew.
"""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from ggend.queries.list_definitions import LISTINGS
from support.screens import COMMANDS, SCREENS, WIDTHS, screen

#: Lines that the terminal wraps by itself, so that text copied from them has no line breaks.
_WRAPPED = (
    *("error        SHACL", "session      session-", "  SHACL validation", "message        there"),
    "  row        receipts",
)


@pytest.mark.parametrize("width", WIDTHS)
def test_screens_are_as_they_were_looked_at(width: int) -> None:
    shown = screen(width)
    assert shown == SCREENS.joinpath(f"{width}.txt").read_text(encoding="utf-8")
    for line in shown.splitlines():
        assert cell_len(line.rstrip()) <= width or line.startswith(_WRAPPED), line


def test_every_listing_has_a_screen() -> None:
    assert {f"query {name}" for name in LISTINGS} <= set(COMMANDS)
