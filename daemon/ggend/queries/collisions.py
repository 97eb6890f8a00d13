"""Collisions: counts by type, pair of agents, hot spot and day. Never writes."""

from __future__ import annotations

import sqlite3
from collections import Counter
from typing import TypeVar

from msgspec import Struct

from ggend.queries.time_filters import MOMENT

__all__ = ["CollisionReport", "Hotspot", "Kind", "Pair", "TrendDay", "report_collisions"]

K = TypeVar("K")

#: Pairs of agents and hot spots that are named; the report says how many there are.
NAMED = 10


class Kind(Struct, frozen=True):
    """Collisions of one type and severity."""

    type: str
    severity: str
    collisions: int
    resolved: int


class Pair(Struct, frozen=True):
    """Two agents, whichever was named first."""

    agent: str
    other: str
    collisions: int
    critical: int


class Hotspot(Struct, frozen=True):
    """Collisions with the same description."""

    description: str
    collisions: int
    sessions: int


class TrendDay(Struct, frozen=True):
    """One day (UTC)."""

    day: str
    collisions: int
    critical: int


class CollisionReport(Struct, frozen=True):
    """All of it. `resolved` are those with a resolution that is not empty."""

    collisions: int
    resolved: int
    sessions: int
    pairs_total: int
    hotspots_total: int
    kinds: list[Kind]
    pairs: list[Pair]
    hotspots: list[Hotspot]
    trend: list[TrendDay]

    @property
    def resolution_rate(self) -> float | None:
        """The share that was resolved; None where nothing collided."""
        return self.resolved / self.collisions if self.collisions else None


def report_collisions(
    connection: sqlite3.Connection,
    *,
    session: str | None = None,
    since: str | None = None,
    until: str | None = None,
) -> CollisionReport:
    """Count the collisions of a session, from a moment on, before a moment; or all.

    `since` and `until` are timestamps as they are stored.
    """
    kinds: Counter[tuple[str, str]] = Counter()
    resolved: Counter[tuple[str, str]] = Counter()
    pairs: Counter[tuple[str, str]] = Counter()
    critical_pairs: Counter[tuple[str, str]] = Counter()
    days: Counter[str] = Counter()
    critical_days: Counter[str] = Counter()
    spots: Counter[str] = Counter()
    sessions_of: dict[str, set[str]] = {}
    rows = connection.execute(
        _COLLISIONS if session is None else _OF_SESSION,
        {"session": session, "since": since, "until": until},
    )
    for whose, one, other, kind, severity, description, is_resolved, day in rows:
        kinds[kind, severity] += 1
        resolved[kind, severity] += is_resolved
        pair = (min(one, other), max(one, other))
        pairs[pair] += 1
        days[day] += 1
        spots[description] += 1
        sessions_of.setdefault(description, set()).add(whose)
        if severity == "critical":
            critical_pairs[pair] += 1
            critical_days[day] += 1
    return CollisionReport(
        collisions=kinds.total(),
        resolved=resolved.total(),
        sessions=len(set().union(*sessions_of.values())),
        pairs_total=len(pairs),
        hotspots_total=len(spots),
        kinds=[Kind(*key, number, resolved[key]) for key, number in _most(kinds)],
        pairs=[Pair(*key, number, critical_pairs[key]) for key, number in _most(pairs)[:NAMED]],
        hotspots=[
            Hotspot(key, number, len(sessions_of[key])) for key, number in _most(spots)[:NAMED]
        ],
        trend=[TrendDay(day, days[day], critical_days[day]) for day in sorted(days)],
    )


def _most(counts: Counter[K]) -> list[tuple[K, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))


_MOMENT = MOMENT.format(time="timestamp")
_SELECT = f"""
    SELECT
        session_id, agent_id_1, agent_id_2, collision_type, severity, description,
        coalesce(resolution, '') <> '', substr(timestamp, 1, 10)
    FROM collision_detection
    WHERE (:since IS NULL
           OR (timestamp LIKE '____-__-__%' AND {_MOMENT} >= julianday(:since)))
      AND (:until IS NULL
           OR (timestamp LIKE '____-__-__%' AND {_MOMENT} < julianday(:until)))"""  # noqa: S608
_COLLISIONS = _SELECT + "\n    ORDER BY id"
_OF_SESSION = _SELECT + "\n      AND session_id = :session"
