"""Id lookup: a beginning, an id as a table shows it, and what may mean several."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ggend.errors import UsageMistake
from ggend.queries.id_lookup import ids_like, whole_id

AGENTS = ["agent-1", "agent-10", "agent-2", "normaliser-of-the-east", "normaliser-of-the-west"]


@pytest.fixture(scope="module")
def connection() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:")) as made:
        made.execute("CREATE TABLE receipts (agent_id TEXT, execution_id TEXT)")
        made.execute("CREATE TABLE audit_log (agent_id TEXT)")
        made.executemany("INSERT INTO receipts VALUES (?, NULL)", [(one,) for one in AGENTS[:4]])
        made.executemany("INSERT INTO audit_log VALUES (?)", [(one,) for one in AGENTS[1:]])
        yield made


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("agent-1", "agent-1"),  # itself, though another begins so
        ("agent-2", "agent-2"),
        ("agent-10", "agent-10"),
        ("normalis…west", "normaliser-of-the-west"),
        ("normaliser-of-the-e", "normaliser-of-the-east"),
        ("normaliser-of-the-e…", "normaliser-of-the-east"),
        ("…west", "normaliser-of-the-west"),
        ("normalis...west", "normaliser-of-the-west"),
        ("nobody", "nobody"),
    ],
)
def test_one_id_is_meant(text: str, meant: str, connection: sqlite3.Connection) -> None:
    assert whole_id(connection, "agent", text) == meant


def test_several_are_named(connection: sqlite3.Connection) -> None:
    with pytest.raises(UsageMistake, match="'normal' may mean several agents") as caught:
        whole_id(connection, "agent", "normal")
    assert caught.value.hint == "give one of normaliser-of-the-east, normaliser-of-the-west"
    with pytest.raises(UsageMistake) as caught:
        whole_id(connection, "agent", "a…")
    assert "agent-1, agent-10, agent-2" in caught.value.hint


NAMES = st.text("ab", min_size=1, max_size=4)


@given(st.sets(NAMES, max_size=8), NAMES, st.one_of(st.just(""), NAMES), st.integers(1, 6))
def test_what_is_found_begins_and_ends_so(
    ids: set[str], beginning: str, end: str, limit: int
) -> None:
    with closing(sqlite3.connect(":memory:")) as made:
        made.execute("CREATE TABLE receipts (execution_id TEXT)")
        made.executemany("INSERT INTO receipts VALUES (?)", [(one,) for one in ids])
        found = ids_like(made, "execution", f"{beginning}…{end}", limit)
    expected = sorted(one for one in ids if one.startswith(beginning) and one.endswith(end))
    if not end and beginning in expected:
        expected = [beginning]
    assert found == expected[:limit]
