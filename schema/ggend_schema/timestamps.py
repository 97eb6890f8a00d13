"""Timestamps: wall-clock numbers to the text that the tables hold, and back.

What is stored is ISO 8601 UTC with milliseconds and `Z`, so that text order is time order.
A leap second has no number since 1970: it becomes the last one of the minute that it ends.
Never reads a clock.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from ggend_schema.codes import EventCode
from ggend_schema.errors import InvalidEvent

__all__ = ["format_ms", "format_sql", "parse_us"]

#: 10000-01-01T00:00:00Z in milliseconds: the first moment that needs a fifth digit of the year.
_END_MS = 253_402_300_800_000

#: Seconds whose text is remembered. Events come in order of time, nearly: a few are enough,
#: more would only be memory.
_REMEMBERED_SECONDS = 4_096

#: What RFC 3339 allows and `datetime` does not: small letters, and the second 60.
_RFC_3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:)([0-5]\d|60)(\.\d+)?([Zz]|[+-]\d\d:\d\d)?", re.ASCII
)

_MILLISECONDS = tuple(f".{ms:03d}Z" for ms in range(1000))
_seconds: dict[int, str] = {}


def format_ms(milliseconds: int) -> str:
    """Format milliseconds since 1970 as `2026-01-29T12:34:56.789Z`.

    Raises InvalidEvent outside 1970 to 9999.
    """
    second, ms = divmod(milliseconds, 1000)
    text = _seconds.get(second)
    if text is None:
        if not 0 <= milliseconds < _END_MS:
            raise InvalidEvent(EventCode.INVALID, "the timestamp is outside the years 1970 to 9999")
        if len(_seconds) >= _REMEMBERED_SECONDS:
            _seconds.clear()
        text = _seconds[second] = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return text + _MILLISECONDS[ms]


def format_sql(milliseconds: int) -> str:
    """Format milliseconds since 1970 as `2026-01-29 12:34:56.789`."""
    return format_ms(milliseconds).replace("T", " ")[:-1]


def parse_us(text: str) -> int:
    """Return the microseconds since 1970 of an ISO 8601 or RFC 3339 text; no offset means UTC.

    Raises InvalidEvent for what is not a timestamp or lies outside 1970 to 9999.
    """
    moment: datetime | None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = _by_rfc_3339(text)
    if moment is None:
        raise InvalidEvent(
            EventCode.INVALID,
            f"timestamp {text!r} is not ISO 8601, such as 2026-01-29T12:34:56.789Z",
        )
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    since = moment - _EPOCH
    microseconds = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
    if not 0 <= microseconds < _END_MS * 1000:
        raise InvalidEvent(
            EventCode.INVALID, f"timestamp {text!r} is outside the years 1970 to 9999"
        )
    return microseconds


def _by_rfc_3339(text: str) -> datetime | None:
    """Return the moment of a text that `datetime` does not take; None: it is none."""
    found = _RFC_3339.fullmatch(text)
    if found is None:
        return None
    day, time, second, fraction, offset = found.groups(default="")
    is_leap = second == "60"
    if is_leap:
        second, fraction = "59", ".999999"
    try:
        moment = datetime.fromisoformat(f"{day}T{time}{second}{fraction}{offset.upper() or 'Z'}")
        utc = moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return None if is_leap and (utc.hour, utc.minute) != (23, 59) else moment


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
