"""Local time: moments of rows in the time zone of the person who looks."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from ggend.queries.result import Result

__all__ = ["in_local_time"]

#: A moment in UTC, as events and as SQLite write it.
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\d(\.\d{1,6})?Z| \d\d:\d\d:\d\d(\.\d{1,6})?)")


def in_local_time(result: Result) -> Result:
    """Return the rows with their moments in local time, which end in its offset from UTC."""
    return msgspec.structs.replace(result, rows=[tuple(map(_local, row)) for row in result.rows])


def _local(value: object) -> object:
    if not isinstance(value, str) or _MOMENT.fullmatch(value) is None:
        return value
    try:
        moment = datetime.fromisoformat(value.removesuffix("Z")).replace(tzinfo=UTC)
        local = moment.astimezone()
    except (ValueError, OverflowError, OSError):  # no such day, or a year that no zone knows
        return value
    return local.isoformat(timespec="milliseconds" if "." in value else "seconds")
