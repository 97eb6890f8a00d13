"""Encodings: files that are not UTF-8, known by the byte order mark at their beginning.

Never converts anything: a file that was taken for what it is not would be stored wrongly.
"""

from __future__ import annotations

import codecs
import os
from collections.abc import Iterable, Iterator

from ggend.errors import GgendError

__all__ = ["WrongEncoding", "checked_chunks", "conversion", "other_encoding"]

#: The mark of UTF-32 begins with that of UTF-16, and so stands before it.
_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)

#: Bytes of the longest mark.
_MARK_BYTES = 4


class WrongEncoding(GgendError):
    """A text is not UTF-8."""

    code = "wrong_encoding"
    exit_status = os.EX_DATAERR

    def __init__(self, name: str, encoding: str) -> None:
        super().__init__(f"{name} is {encoding}, not UTF-8", hint=conversion(encoding))


def other_encoding(beginning: bytes) -> str | None:
    """Return the name of the encoding, if these first bytes say that it is not UTF-8."""
    for mark, encoding in _MARKS:
        if beginning.startswith(mark):
            return encoding
    return None


def conversion(encoding: str) -> str:
    """Return a hint that tells how to convert a file to UTF-8."""
    return f"convert it: iconv -f {encoding} -t UTF-8 FILE > NEW (PowerShell's > writes UTF-16)"


def checked_chunks(chunks: Iterable[bytes], name: str) -> Iterator[bytes]:
    """Hand on the chunks of a text. Raises WrongEncoding before any is taken for a line."""
    beginning = b""
    for chunk in chunks:
        if len(beginning) < _MARK_BYTES:
            beginning += chunk[: _MARK_BYTES - len(beginning)]
            if (encoding := other_encoding(beginning)) is not None:
                raise WrongEncoding(name, encoding)
        yield chunk
