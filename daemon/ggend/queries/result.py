"""Result: the columns and rows of one query."""

from __future__ import annotations

import msgspec

__all__ = ["Result"]


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of one query. `has_more`: there are more; `next_page`: how to get the next page."""

    columns: list[str]
    rows: list[tuple[object, ...]]
    has_more: bool = False
    next_page: str = ""
