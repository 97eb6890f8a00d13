"""Memories: the last save of each agent wins, whatever order the saves arrive in.

Later means: later timestamp, then larger producer id, then larger sequence. The key of the save
that won is in `memory_order`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import TypeAlias

from ggend.storage.tables import any_text, json_list
from ggend_schema.errors import InvalidEvent
from ggend_schema.rows import Row
from ggend_schema.timestamps import parse_us

__all__ = ["OrderKey", "load_memory", "order_keys", "save_memories"]

#: Microseconds since 1970, producer id (empty for anonymous lines), sequence.
OrderKey: TypeAlias = tuple[int, bytes, int]


def order_keys(connection: sqlite3.Connection, agent_ids: Iterable[str]) -> dict[str, OrderKey]:
    """Return the keys of the stored memories of these agents."""
    keys: dict[str, OrderKey] = {}
    with any_text(connection):
        rows = connection.execute(_ORDER, (json_list(agent_ids),)).fetchall()
    for agent_id, updated_at, microseconds, producer, sequence in rows:
        if microseconds is None:
            keys[agent_id] = (_foreign_us(updated_at), b"", 0)
        else:
            keys[agent_id] = (microseconds, producer, sequence)
    return keys


def _foreign_us(updated_at: object) -> int:
    """Read the time of a row that ggend did not write; what is no time is older than anything."""
    try:
        return parse_us(updated_at) if isinstance(updated_at, str) else -1
    except InvalidEvent:
        return -1


def save_memories(connection: sqlite3.Connection, winners: Iterable[tuple[OrderKey, Row]]) -> None:
    """Replace the memories of the agents in these rows."""
    for (microseconds, producer, sequence), row in winners:
        connection.execute(_SAVE, row[:6])
        connection.execute(_SAVE_ORDER, (row[0], microseconds, producer, sequence))


def load_memory(connection: sqlite3.Connection, agent_id: str) -> dict[str, object] | None:
    """Return an agent's memory as JSON texts and plain values, or None."""
    with any_text(connection):
        row = connection.execute(_LOAD, (agent_id,)).fetchone()
    if row is None:
        return None
    names = ("memory_json", "collision_history", "retry_count", "last_error", "updated_at")
    return dict(zip(names, row, strict=True))


_ORDER = """
    SELECT m.agent_id, m.updated_at, o.timestamp_us, o.producer, o.sequence
    FROM agent_memory AS m
    LEFT JOIN memory_order AS o USING (agent_id)
    WHERE m.agent_id IN (SELECT value FROM json_each(?))"""
_SAVE = """
    INSERT INTO agent_memory (
        agent_id, memory_json, collision_history, retry_count, last_error, updated_at)
    VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (agent_id) DO UPDATE
    SET memory_json = excluded.memory_json,
        collision_history = excluded.collision_history,
        retry_count = excluded.retry_count,
        last_error = excluded.last_error,
        updated_at = excluded.updated_at"""
_SAVE_ORDER = """
    INSERT INTO memory_order (agent_id, timestamp_us, producer, sequence)
    VALUES (?, ?, ?, ?)
    ON CONFLICT (agent_id) DO UPDATE
    SET timestamp_us = excluded.timestamp_us,
        producer = excluded.producer,
        sequence = excluded.sequence"""
_LOAD = """
    SELECT memory_json, collision_history, retry_count, last_error, updated_at
    FROM agent_memory
    WHERE agent_id = ?"""
