"""Error text: what went wrong, as text that an event can carry. Never raises."""

from __future__ import annotations

from ggend_schema.limits import ERROR_CHARS
from ggend_schema.portable import portable_text

__all__ = ["error_text", "fitting"]


def error_text(error: BaseException) -> str:
    """Return `ValueError: its message`; the message is made by the host's object."""
    kind = type(error).__name__
    try:
        message = str(error)
        return fitting(f"{kind}: {message}" if message else kind)
    except Exception:
        return kind


def fitting(text: str) -> str:
    """Return the text within the limit of an event's error text.

    Half of a surrogate pair, as file names that are not UTF-8 have them, is spelled out: no
    event can carry it as it is.
    """
    return portable_text(text[:ERROR_CHARS])[:ERROR_CHARS]
