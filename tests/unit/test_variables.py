"""Environment variables: which are known, and what is said of one that nobody reads."""

from __future__ import annotations

import pytest

from ggend.variables import KNOWN_VARIABLES, unknown_variables


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("GGEND_DATBASE", "GGEND_DATABASE"),
        ("GGEND_SPOOLDIR", "GGEND_SPOOL_DIR"),
        ("GGEND_AGENT_ID", "GGEND_AGENT"),
        ("GGEND_LOGLEVEL", "GGEND_LOG_LEVEL"),
        ("GGEND_log_level", "GGEND_LOG_LEVEL"),
        ("GGEND_DISABLE", "GGEND_DISABLED"),
    ],
)
def test_a_misspelt_variable_names_the_nearest(name: str, meant: str) -> None:
    assert unknown_variables({name: "secret"}) == {name: f"did you mean `{meant}`?"}


def test_a_variable_that_is_like_none_is_named_too() -> None:
    (hint,) = unknown_variables({"GGEND_QQQQ": "1"}).values()
    assert "`ggend config show`" in hint


def test_known_variables_and_those_of_others_are_not_named() -> None:
    known = dict.fromkeys(KNOWN_VARIABLES, "1")
    assert unknown_variables({**known, "HOME": "/", "GGENDX": "1", "XGGEND_A": "1"}) == {}


def test_an_empty_variable_counts_as_not_set() -> None:
    assert unknown_variables({"GGEND_DATBASE": ""}) == {}
