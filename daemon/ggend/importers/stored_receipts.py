"""Stored receipts: which of some receipts are in the database, and which with other content.

Never writes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

import msgspec

from ggend.importers.merge.equality import differing_columns
from ggend.importers.merge.row_to_event import COLUMNS
from ggend_schema.events import ReceiptEmitted
from ggend_schema.rows import row_of

__all__ = ["absent_receipts", "differing_receipts"]

_STORED = (
    f"SELECT {', '.join(COLUMNS[ReceiptEmitted])} FROM receipts "  # noqa: S608 - constants
    "WHERE execution_id IN (SELECT value FROM json_each(?))"
)


def absent_receipts(connection: sqlite3.Connection, receipts: Iterable[ReceiptEmitted]) -> set[int]:
    """Return the places in `receipts` of those whose execution has no receipt stored."""
    wanted = list(receipts)
    stored = {row[0] for row in connection.execute(_STORED, (_ids(wanted),))}
    return {place for place, receipt in enumerate(wanted) if receipt.execution_id not in stored}


def differing_receipts(
    connection: sqlite3.Connection, receipts: Iterable[ReceiptEmitted]
) -> dict[int, list[str]]:
    """Return the columns in which receipts differ from what is stored, by place in `receipts`."""
    wanted = list(receipts)
    stored = {row[0]: row for row in connection.execute(_STORED, (_ids(wanted),))}
    differing: dict[int, list[str]] = {}
    for place, receipt in enumerate(wanted):
        row = stored.get(receipt.execution_id)
        if row is not None and (
            columns := differing_columns(row_of(receipt, 0), row, has_session=True)
        ):
            differing[place] = columns
    return differing


def _ids(receipts: Iterable[ReceiptEmitted]) -> str:
    return msgspec.json.encode(sorted({receipt.execution_id for receipt in receipts})).decode()
