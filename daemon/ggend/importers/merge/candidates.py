"""Candidates: the rows here that could be the same as rows of another database.

Never writes. Found through indexes, for many rows at a time; whether they are the same is decided
in `equality`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from ggend.importers.merge.equality import Reading, normal_timestamp
from ggend.importers.merge.row_to_event import COLUMNS
from ggend.importers.merge.scratch import Scratch
from ggend_schema.events import Audit, Collision, Event, ReceiptEmitted, StageCompleted
from ggend_schema.rows import Row

__all__ = ["Counterparts", "is_text"]


class Counterparts:
    """The database that is merged into, open for reading."""

    __slots__ = ("_knows_notations", "_own", "_scratch")

    def __init__(self, own: sqlite3.Connection, scratch: Scratch) -> None:
        self._own = own
        self._scratch = scratch
        self._knows_notations = False

    def of(self, table: str, keys: Iterable[object]) -> Iterator[Row]:
        """Return the rows of a table, or of its parents, by the id that they are found by."""
        return self._by_key(_BY_KEY[table], keys)

    def present(self, table: str, keys: Iterable[object]) -> set[object]:
        """Return those of the ids of receipts or sessions that are here."""
        return {row[0] for row in self._by_key(_IDS[table], keys)}

    def audits(self, read: Sequence[Reading]) -> Iterator[Row]:
        """Return the audit rows that could be the same as these, and some more."""
        yield from self._by_key(_AUDITS_OF_EXECUTIONS, {one.row[7] for one in read})
        loose = [one for one in read if one.row[7] is None]
        if not loose:
            return
        self._learn_notations()
        normal = {(one.row[1], one.row[0]) for one in loose if one.event is not None}
        pairs = {(one.stored[1], one.stored[0]) for one in loose}
        pairs |= normal | set(self._scratch.notations(normal))
        operations = {one.row[2] for one in loose}
        for row in self._by_key(_AUDITS_AT, pairs):
            if row[2] in operations:  # many entries may share agent and moment
                yield row

    def _by_key(self, sql: str, keys: Iterable[object]) -> Iterator[Row]:
        return self._own.execute(sql, (_json_list(keys),))

    def _learn_notations(self) -> None:
        """Find the audit rows whose timestamp an older writer wrote in its own way."""
        if self._knows_notations:
            return
        self._knows_notations = True
        self._scratch.add_notations(
            (agent, normal, odd)
            for agent, odd in self._own.execute(_ODD_AUDITS)
            if is_text(agent) and (normal := normal_timestamp(odd)) is not None
        )


def is_text(value: object) -> bool:
    """Whether SQLite can be asked for it: a text, without NUL and what is not UTF-8."""
    if not isinstance(value, str) or "\0" in value:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _json_list(keys: Iterable[object]) -> str:
    return msgspec.json.encode(
        [key for key in keys if is_text(key) or (isinstance(key, tuple) and all(map(is_text, key)))]
    ).decode()


def _select(kind: type[Event], table: str, where: str) -> str:
    return f"SELECT {', '.join(COLUMNS[kind])} FROM {table} WHERE {where}"  # noqa: S608 - constants


_AMONG = " IN (SELECT value FROM json_each(?))"
_RECEIPTS = _select(ReceiptEmitted, "receipts", "execution_id" + _AMONG)
_STAGES = _select(StageCompleted, "pipeline_metrics", "execution_id" + _AMONG)
_COLLISIONS = _select(Collision, "collision_detection", "session_id" + _AMONG)
_AUDITS_OF_EXECUTIONS = _select(Audit, "audit_log", "execution_id" + _AMONG)
_AUDITS_AT = """
    SELECT
        a.timestamp, a.agent_id, a.operation, a.status, a.duration_ms, a.error_message,
        a.context_json, a.execution_id, a.session_id
    FROM json_each(?) AS pair
    CROSS JOIN audit_log AS a INDEXED BY idx_audit_log_agent_id
    WHERE a.agent_id = json_extract(pair.value, '$[0]')
      AND a.timestamp = json_extract(pair.value, '$[1]')
      AND a.execution_id IS NULL"""
_ODD_AUDITS = """
    SELECT DISTINCT agent_id, timestamp
    FROM audit_log INDEXED BY idx_audit_log_agent_id
    WHERE timestamp NOT GLOB '????-??-??T??:??:??.???Z'"""
_RECEIPT_IDS = """
    SELECT execution_id
    FROM receipts
    WHERE execution_id IN (SELECT value FROM json_each(?))"""
_SESSION_IDS = """
    SELECT session_id
    FROM workflow_sessions
    WHERE session_id IN (SELECT value FROM json_each(?))"""
_SESSIONS = """
    SELECT
        session_id, start_time, agent_count, context_json, end_time, status, total_duration_ms,
        successful_operations, failed_operations
    FROM workflow_sessions
    WHERE session_id IN (SELECT value FROM json_each(?))"""
_MEMORIES = """
    SELECT
        m.agent_id, m.memory_json, m.collision_history, m.retry_count, m.last_error, m.updated_at,
        o.timestamp_us
    FROM agent_memory AS m
    LEFT JOIN memory_order AS o USING (agent_id)
    WHERE m.agent_id IN (SELECT value FROM json_each(?))"""
_BY_KEY = {
    "receipts": _RECEIPTS,
    "pipeline_metrics": _STAGES,
    "collision_detection": _COLLISIONS,
    "workflow_sessions": _SESSIONS,
    "agent_memory": _MEMORIES,
}
_IDS = {"receipts": _RECEIPT_IDS, "workflow_sessions": _SESSION_IDS}
