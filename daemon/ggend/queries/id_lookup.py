"""Id lookup: the id that a person means by its beginning, or as a table shows it: `34b5700b…47b4`.

Never writes. Ids are found by steps through an index, from one to the next.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping
from typing import Literal, TypeAlias

from ggend.errors import UsageMistake
from ggend.queries.run import columns_of, run

__all__ = ["Kind", "ids_like", "values_like", "whole_id"]

Kind: TypeAlias = Literal["execution", "agent", "session"]

#: Where the ids of a kind are: columns that begin an index.
_PLACES: Mapping[Kind, tuple[tuple[str, str], ...]] = {
    "execution": (("receipts", "execution_id"),),
    "agent": (
        *(("receipts", "agent_id"), ("audit_log", "agent_id"), ("agent_memory", "agent_id")),
        ("collision_detection", "agent_id_1"),
    ),
    "session": (("workflow_sessions", "session_id"), ("collision_detection", "session_id")),
}

#: Ids that an error names at most.
_NAMED = 5

#: What stands for the middle of an id; three dots where a terminal has no ellipsis.
_ELLIPSIS = re.compile("…|\\.\\.\\.")


def whole_id(connection: sqlite3.Connection, kind: Kind, text: str) -> str:
    """Return the one id that is meant; the text itself where no id is like it.

    Raises UsageMistake if several are, and none of them is the text itself.
    """
    found = ids_like(connection, kind, text, _NAMED + 1)
    if not found or text in found:
        return text
    if len(found) > 1:
        more = " and more" if len(found) > _NAMED else ""
        raise UsageMistake(
            f"{text!r} may mean several {kind}s",
            hint=f"give one of {', '.join(found[:_NAMED])}{more}",
        )
    return found[0]


def parts_of(text: str) -> tuple[str, str]:
    """Return the beginning of a shortened id, and its end; the end of a whole one is empty."""
    beginning, *more = _ELLIPSIS.split(text.strip(), maxsplit=1)
    return beginning, more[0] if more else ""


def ids_like(connection: sqlite3.Connection, kind: Kind, text: str, limit: int) -> list[str]:
    """Return up to `limit` ids that are the text, or begin and end so; the exact one alone."""
    found: set[str] = set()
    for table, column in _PLACES[kind]:
        found.update(values_like(connection, table, column, text, limit))
    beginning, end = parts_of(text)
    if not end and beginning in found:
        return [beginning]
    return sorted(found)[:limit]


def values_like(
    connection: sqlite3.Connection, table: str, column: str, text: str, limit: int
) -> list[str]:
    """Return up to `limit` values of a column, which begins an index, that begin and end so."""
    if column not in columns_of(connection, table):
        return []
    beginning, end = parts_of(text)
    parameters = {"beginning": beginning, "end": end, "most": limit}
    rows = run(connection, _IDS.format(table=table, column=column), limit, parameters).rows
    return [str(row[0]) for row in rows]


_IDS = """
WITH RECURSIVE ids (id) AS (
    SELECT MIN({column}) FROM {table} WHERE {column} >= :beginning
    UNION ALL
    SELECT (SELECT MIN(t.{column}) FROM {table} AS t WHERE t.{column} > ids.id)
    FROM ids
    WHERE ids.id < :beginning || char(0x10FFFF)
)
SELECT id
FROM ids
WHERE id < :beginning || char(0x10FFFF)
  AND substr(id, length(id) - length(:end) + 1) = :end
LIMIT :most"""
