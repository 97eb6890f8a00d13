"""Clock: whether it may be trusted. Rows that are stored with a wrong time stay so."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from ggend.doctor.database_file import Contents
from ggend.doctor.diagnosis import Diagnosis, ok, warning

__all__ = ["is_synchronized", "look_at_clock"]

_SUBJECT = "clock"

#: A row may be this much younger than now: nobody looks at two clocks at once.
_TOLERANCE = timedelta(seconds=60)

_SHOWN = "%Y-%m-%d %H:%M:%S"

#: Older than ggend: what a clock without a battery shows after a boot.
_EARLIEST = datetime(2026, 1, 1, tzinfo=UTC)

#: What adjtimex(2) returns for a clock that nobody keeps right.
_TIME_ERROR = 5

#: Bytes of `struct timex`, and more.
_TIMEX_BYTES = 512


def look_at_clock(
    contents: Contents | None, now: datetime, *, synchronized: bool | None
) -> Diagnosis:
    """Say how the clock compares with the newest row, and whether something keeps it right."""
    detail = f"{now:{_SHOWN}} UTC"
    newest = _moment(contents.newest) if contents is not None and contents.newest else None
    if newest is not None and newest - now > _TOLERANCE:
        ahead = timedelta(seconds=int((newest - now).total_seconds()))
        return warning(
            _SUBJECT,
            f"{detail}; the newest receipt is {ahead} ahead of it ({newest:{_SHOWN}})",
            "this clock is slow, or was fast then: `timedatectl` shows it",
        )
    if now < _EARLIEST:
        hint = "set the clock before events are stored: their times are not corrected later"
        return warning(_SUBJECT, f"{detail}, which is in the past", hint)
    if synchronized is False:
        return warning(
            _SUBJECT,
            f"{detail}; the kernel says it is not synchronized",
            "run systemd-timesyncd or chrony, if events of several hosts are compared",
        )
    if synchronized:
        detail += ", synchronized"
    if newest is not None:
        detail += f"; newest receipt {newest:{_SHOWN}}"
    return ok(_SUBJECT, detail)


def is_synchronized() -> bool | None:
    """Return whether the kernel believes that something keeps the clock right; None: not known."""
    try:
        import ctypes  # late: only this command needs it

        # Zeros ask, and change nothing.
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    except (ImportError, OSError, AttributeError):
        return None
    return None if state < 0 else state != _TIME_ERROR


def _moment(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
