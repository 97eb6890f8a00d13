"""Logs: one line for a record, whatever its values hold, and nothing that a terminal acts on."""

from __future__ import annotations

import json
import logging

from hypothesis import given
from hypothesis import strategies as st

from ggend.runtime.logs import _Logfmt


def logged(message: str, **fields: object) -> str:
    """Return the line of a record."""
    record = logging.LogRecord("ggend", logging.INFO, __file__, 0, message, None, None)
    vars(record).update(fields)
    return _Logfmt().format(record)


def test_a_value_is_quoted_where_it_must_be() -> None:
    line = logged("listening", socket="/run/g.sock", database="/a b", n=5)
    assert line.endswith('logger=ggend msg=listening socket=/run/g.sock database="/a b" n=5')


@given(
    st.text(st.sampled_from('a "=\\\n\x1b\x9b\x7f\u202e\u200b\u2028\U000e0041μ')),
)
def test_a_line_is_printable_and_says_the_value(value: str) -> None:
    line = logged("m", value=value)
    assert line.isprintable()
    _, _, told = line.partition(" value=")
    assert (json.loads(told) if told.startswith('"') else told) == value
