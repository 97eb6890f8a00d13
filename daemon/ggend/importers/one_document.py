"""One document: recognises JSON over several lines where one object a line is expected.

Never opens a file. A line that is torn is not taken for a document: either the first value of the
text ends on a later line than it began, or the text is too long to see its end, the part that is
there is the beginning of one value, and none of its lines is an object by itself.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator

from ggend.errors import GgendError
from ggend_schema.framing import bare_line

__all__ = ["LOOK_BYTES", "NotLines", "check_lines", "lines_checked"]

#: Bytes of a text that are looked at: a document of this size is read in some 10 ms.
LOOK_BYTES = 1024 * 1024

#: Lines that the beginning of a value must have, where its end is not seen: two may be torn.
_UNFINISHED_LINES = 3

_RECEIPT = re.compile(r'"(?:receipt|pipeline_stages)"\s*:\s*\{')
_decoder = json.JSONDecoder()


class NotLines(GgendError):
    """A file is a single JSON document instead of one object per line."""

    code = "one_document"
    exit_status = os.EX_DATAERR

    def __init__(self, name: str, *, is_array: bool, has_receipts: bool) -> None:
        kind = "a JSON array" if is_array else "one JSON document over several lines"
        if has_receipts:
            hint = f"it seems to hold receipts of ggen: use `ggend import receipts {name}`"
        else:
            jq = "jq -c '.[]'" if is_array else "jq -c ."
            hint = f"convert it with `{jq} FILE > LINES`, then import LINES"
        super().__init__(f"{name} is {kind}, not one object per line; nothing was sent", hint=hint)


def lines_checked(chunks: Iterable[bytes], name: str) -> Iterator[bytes]:
    """Hand on the chunks of a text. Raises NotLines before the first."""
    is_first = True
    for chunk in chunks:
        if is_first:
            check_lines(chunk, name)
            is_first = False
        yield chunk


def check_lines(beginning: bytes, name: str) -> None:
    """Raise NotLines if this beginning of a text is that of one document."""
    # A hole of NULs may stand before the text.
    head = bare_line(beginning[:LOOK_BYTES]).strip()
    if not head.startswith((b"{", b"[")):
        return
    first, _, rest = head.partition(b"\n")
    if _is_object(first) or (rest and _value_of(first)):
        return
    if len(beginning) >= LOOK_BYTES:
        head = head.rpartition(b"\n")[0].rstrip()
    text = head.decode(errors="replace")
    is_array = text.startswith("[")
    try:
        value, end = _decoder.raw_decode(text)
    except RecursionError:
        return
    except json.JSONDecodeError as error:
        lines = head.split(b"\n")
        # What is wrong with the beginning of a value is that it ends.
        if error.pos < len(text) - 1 or len(lines) < _UNFINISHED_LINES:
            return
        if any(map(_is_object, lines)):
            return
        has_receipts = _RECEIPT.search(text) is not None
    except ValueError:
        return  # a number of too many digits
    else:
        if "\n" not in text[:end] and text[end:].strip():
            return  # the rest of a line that was torn
        has_receipts = _looks_like_receipt(value[0] if is_array and value else value)
    raise NotLines(name, is_array=is_array, has_receipts=has_receipts)


def _is_object(line: bytes) -> bool:
    line = line.strip()
    return line.startswith(b"{") and line.endswith(b"}") and _value_of(line)


def _value_of(line: bytes) -> bool:
    try:
        json.loads(line.decode(errors="replace"))
    except (ValueError, RecursionError):
        return False
    return True


def _looks_like_receipt(value: object) -> bool:
    if not isinstance(value, dict) or "type" in value:
        return False
    return isinstance(value.get("receipt"), dict) or (
        "status" in value and not value.keys().isdisjoint(("pipeline_stages", "pipeline", "stages"))
    )
