"""Result: the rows of one question, without anything that asked it."""

from __future__ import annotations

import msgspec

__all__ = ["Result"]


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of one query. `has_more`: there were more than the limit; `next_page`: how to go on."""

    columns: list[str]
    rows: list[tuple[object, ...]]
    has_more: bool = False
    next_page: str = ""
