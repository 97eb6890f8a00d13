"""Time filters: convert a point in time typed by a person to the text format of the tables.

An age such as `24h`, or a date or timestamp in ISO 8601. Never reads a clock.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from ggend.errors import UsageMistake
from ggend_schema.errors import InvalidEvent
from ggend_schema.timestamps import format_ms, parse_us

__all__ = ["MOMENT", "parse_age", "parse_moment", "parse_period"]

#: SQL: a number by which moments are compared, whatever their notation; NULL: it is none. What
#: julianday() takes costs no more than that; it does not take small letters, and the second 60.
MOMENT = "coalesce(julianday({time}), julianday(replace(upper({time}), ':60', ':59')))"

_SECONDS_OF = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
#: Twelve digits are enough for any age, and bound the arithmetic.
_AGE = re.compile(r"([0-9]{1,12})\s*([smhdw])", re.ASCII)


def parse_moment(text: str, *, now: datetime) -> str:
    """Return a moment as `2026-01-29T12:34:56.789Z`.

    `90m`, `24h`, `7d` and `2w` are ages, counted back from `now`; anything else is ISO 8601, where
    no offset means UTC and no time of day means its beginning. Raises UsageMistake.
    """
    wanted = text.strip()
    try:
        if _AGE.fullmatch(wanted):
            milliseconds = int(now.timestamp() * 1000) - parse_age(wanted) * 1000
        else:
            milliseconds = parse_us(wanted) // 1000
        return format_ms(milliseconds)
    except InvalidEvent:
        today = now.astimezone(UTC).strftime("%Y-%m-%d")
        raise UsageMistake(
            f"{text!r} is neither an age nor a time between 1970 and 9999",
            hint=f"give an age such as 90m, 24h, 7d or 2w, or a date or time such as {today} or "
            f"{today}T12:34:56Z (no offset means UTC)",
        ) from None


def parse_period(
    since: str | None, until: str | None, *, now: datetime
) -> tuple[str | None, str | None]:
    """Return both as moments, None where they are not given. Raises UsageMistake."""
    begin = None if since is None else parse_moment(since, now=now)
    end = None if until is None else parse_moment(until, now=now)
    if begin is not None and end is not None and begin >= end:
        raise UsageMistake("the period is empty", hint="--since must be before --until")
    return begin, end


def parse_age(text: str) -> int:
    """Return the seconds of an age such as `90m`, `24h`, `7d` or `2w`. Raises UsageMistake."""
    found = _AGE.fullmatch(text.strip())
    if found is None:
        raise UsageMistake(
            f"{text!r} is not an age",
            hint="give a number and one of s, m, h, d, w, such as 90m, 24h or 7d",
        )
    return int(found[1]) * _SECONDS_OF[found[2]]
