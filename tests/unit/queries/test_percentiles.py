"""Percentiles from histograms: as near to the exact ones as they say, however rows are spread."""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ggend.database.migrate import create
from ggend.hooks import runner
from ggend.hooks.rollups import rollup_hooks
from ggend.queries.percentiles import Dimension, percentiles_of
from ggend.queries.summaries import percentile
from support.examples import share_of_examples

#: What the help and STORAGE.md promise.
_SHARE = 0.0125
#: Of the last bucket, whose beginning is told.
_LAST_SHARE = 0.025

_COLUMNS = {
    Dimension.AGENT: ("receipts", "agent_id"),
    Dimension.OPERATION: ("receipts", "operation"),
    Dimension.STAGE: ("pipeline_metrics", "stage"),
}

rows = st.lists(
    st.tuples(
        st.sampled_from(["a", "b"]),
        st.sampled_from(["watch", "dry_run"]),
        st.sampled_from(["μ₁_normalize", "μ₃_emit"]),
        st.sampled_from(["2026-01-29", "2026-01-30"]),
        st.one_of(st.integers(0, 5_000), st.integers(0, 10**12)),
    ),
    max_size=60,
)


def _store(connection: sqlite3.Connection, found: list[tuple[object, ...]]) -> None:
    for number, (agent, operation, stage, day, took) in enumerate(found, 1):
        moment = f"{day}T00:00:00.000Z"
        connection.execute(
            "INSERT INTO receipts (execution_id, agent_id, operation, status, timestamp, "
            "duration_ms) VALUES (?, ?, ?, 'passed', ?, ?)",
            (str(number), agent, operation, moment, took),
        )
        connection.execute(
            "INSERT INTO pipeline_metrics (execution_id, stage, status, timestamp, duration_ms) "
            "VALUES (?, ?, 'passed', ?, ?)",
            (str(number), stage, moment, took),
        )


def _exact(
    connection: sqlite3.Connection, dimension: Dimension, *, by_day: bool
) -> dict[tuple[object, ...], Counter[int]]:
    source, name = _COLUMNS[dimension]
    found: dict[tuple[object, ...], Counter[int]] = {}
    for whose, day, took in connection.execute(
        f"SELECT {name}, substr(timestamp, 1, 10), duration_ms FROM {source}"
    ):
        key = (whose, day) if by_day else (whose,)
        found.setdefault(key, Counter())[took] += 1
    return found


@settings(max_examples=share_of_examples(0.6))
@given(rows, st.integers(0, 60), st.integers(1, 9), st.booleans())
def test_they_are_within_the_promised_share(
    found: list[tuple[object, ...]], counted: int, changed: int, by_day: bool
) -> None:
    """Rolled up, not yet, and changed by hand: all of it counts."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        create(connection)
        _store(connection, found)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(runner, "SLICE_ROWS", max(1, counted))
            for hook in rollup_hooks():
                hook.turn(connection)
        for source in ("receipts", "pipeline_metrics"):
            connection.execute(
                f"UPDATE {source} SET duration_ms = 4321 WHERE id % ? = 0", (changed,)
            )
        for dimension in Dimension:
            exact = _exact(connection, dimension, by_day=by_day)
            result = percentiles_of(connection, dimension, by_day=by_day)
            told = {row[:-5]: row[-5:] for row in result.rows}
            assert told.keys() == exact.keys()
            for key, counts in exact.items():
                assert told[key][0] == counts.total()
                for said, percent in zip(told[key][1:], (50, 90, 95, 99), strict=True):
                    right = percentile(counts, percent)
                    value = int(str(said))
                    assert value <= max(counts)
                    share = _SHARE if value > right else _LAST_SHARE
                    assert abs(value - right) <= share * right
                    assert right >= 100 or said == right


def test_days_and_names_are_chosen() -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        create(connection)
        _store(
            connection,
            [
                ("a", "watch", "μ₃_emit", "2026-01-29", 10),
                ("b", "watch", "μ₃_emit", "2026-01-30", 20),
                ("b", "watch", "μ₃_emit", "2026-01-31", 30),
            ],
        )
        chosen = percentiles_of(connection, Dimension.AGENT, since="2026-01-30", by_day=True)
        assert chosen.columns == ["agent", "day", "runs", "p50_ms", "p90_ms", "p95_ms", "p99_ms"]
        assert chosen.rows == [
            ("b", "2026-01-30", 1, 20, 20, 20, 20),
            ("b", "2026-01-31", 1, 30, 30, 30, 30),
        ]
        until = percentiles_of(connection, Dimension.OPERATION, until="2026-01-30")
        assert until.rows == [("watch", 2, 10, 20, 20, 20)]
        assert percentiles_of(connection, Dimension.AGENT, name="a").rows == [
            ("a", 1, 10, 10, 10, 10)
        ]


def test_what_is_no_duration_is_left_out() -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        create(connection)
        odd: list[tuple[object, ...]] = [
            ("a", "watch", "μ₃_emit", "2026-01-29", took) for took in (0.5, "soon", -1, 7)
        ]
        _store(connection, odd)
        assert percentiles_of(connection, Dimension.AGENT).rows == [("a", 1, 7, 7, 7, 7)]
