"""Effects: what the constraints and defaults of the seven tables do to rows.

A schema can look right and act wrong, and the other way round: here rows are inserted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial

from contract.tier2.check import Check, expect, refused
from contract.tier2.promise import TABLES, UNIQUE, WORDS, Column
from contract.tier2.replica import Replica

__all__ = ["checks"]

_NOW = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")

#: Days that a default may lie behind the clock: a minute.
_SOON = 60 / 86400


def checks() -> Iterator[Check]:
    """All checks of what NOT NULL, UNIQUE, types and defaults do."""
    for table, columns in TABLES.items():
        yield Check(f"{table}: ids are never used again", partial(_ids_grow, table))
        yield Check(f"{table}: equal rows", partial(_accepts_equal_rows, table))
        for definition in columns:
            yield from _checks_of_column(table, definition)
    yield Check("ids in sqlite_sequence", _sequence_is_kept)


def _checks_of_column(table: str, column: Column) -> Iterator[Check]:
    name = f"{table}.{column.name}"
    kinds = {"TEXT": _keeps_text, "INTEGER": _keeps_integer, "REAL": _keeps_real}
    if column.not_null:
        yield Check(f"{name} refuses NULL", partial(_refuses_null, table, column.name))
    else:
        claim = partial(_accepts_null, table, column.name)
        yield Check(f"{name} accepts NULL", claim, added=column.added)
    if column.not_null and column.default is None:
        yield Check(f"{name} is demanded", partial(_is_demanded, table, column.name))
    elif column.default is None:
        claim = partial(_is_null_if_left_out, table, column.name)
        yield Check(f"{name} left out", claim, added=column.added)
    if column.default == "0":
        yield Check(f"{name} is 0 if left out", partial(_defaults_to_zero, table, column.name))
    elif column.default is not None:
        yield Check(f"{name} is now if left out", partial(_defaults_to_now, table, column.name))
    if (table, column.name) in UNIQUE:
        yield Check(f"{name} is unique", partial(_is_unique, table, column.name))
        yield Check(f"{name} tells case apart", partial(_tells_case_apart, table, column.name))
    if (table, column.name) not in WORDS and column.type in kinds:
        claim = partial(kinds[column.type], table, column.name)
        yield Check(f"{name} keeps its value", claim, added=column.added)
    elif column.type == "TIMESTAMP":
        yield Check(f"{name} keeps a moment", partial(_keeps_text, table, column.name))


def _refuses_null(table: str, column: str, replica: Replica) -> None:
    with (
        replica.probe() as probe,
        refused(f"{table}.{column}: accepts NULL, the contract says NOT NULL"),
    ):
        probe.insert(table, **{column: None})


def _accepts_null(table: str, column: str, replica: Replica) -> None:
    with replica.probe() as probe:
        try:
            probe.insert(table, **{column: None})
        except probe.connection.IntegrityError as error:
            raise AssertionError(
                f"{table}.{column}: refuses NULL, the contract says nullable"
            ) from error


def _is_demanded(table: str, column: str, replica: Replica) -> None:
    with replica.probe() as probe:
        row = probe.valid_row(table)
        del row[column]
        with refused(f"{table}.{column}: may be left out, the contract says it may not"):
            probe.insert_exactly(table, row)


def _is_null_if_left_out(table: str, column: str, replica: Replica) -> None:
    with replica.probe() as probe:
        row = probe.insert(table)
        found = probe.value(f"SELECT {column} FROM {table} WHERE id = ?", row)
        expect(found is None, f"{table}.{column}: is {found!r} if left out, the contract says NULL")


def _defaults_to_zero(table: str, column: str, replica: Replica) -> None:
    with replica.probe() as probe:
        row = probe.insert(table)
        found = probe.value(f"SELECT {column} FROM {table} WHERE id = ?", row)
        expect(found == 0, f"{table}.{column}: is {found!r} if left out, the contract says 0")


def _defaults_to_now(table: str, column: str, replica: Replica) -> None:
    with replica.probe() as probe:
        row = probe.insert(table)
        found, ago = probe.rows(
            f"SELECT {column}, julianday('now') - julianday({column}) FROM {table} WHERE id = ?",
            row,
        )[0]
        expect(
            isinstance(found, str)
            and _NOW.fullmatch(found) is not None
            and 0 <= (ago or 0) < _SOON,
            f"{table}.{column}: is {found!r} if left out, "
            "the contract says the time of now as YYYY-MM-DD HH:MM:SS in UTC",
        )


def _is_unique(table: str, column: str, replica: Replica) -> None:
    with replica.probe() as probe:
        probe.insert(table, **{column: "one"})
        with refused(f"{table}.{column}: the same value is accepted twice, the contract: UNIQUE"):
            probe.insert(table, **{column: "one"})


def _tells_case_apart(table: str, column: str, replica: Replica) -> None:
    with replica.probe() as probe:
        for value in ("one", "ONE", "one ", " one", "öne", "ÖNE"):
            try:
                probe.insert(table, **{column: value})
            except probe.connection.IntegrityError as error:
                raise AssertionError(
                    f"{table}.{column}: {value!r} equals another text, the contract tells them "
                    "apart (collation)"
                ) from error


def _accepts_equal_rows(table: str, replica: Replica) -> None:
    """Nothing is unique but what the contract names."""
    with replica.probe() as probe:
        row = probe.valid_row(table)
        for number in range(2):
            for column in (column for owner, column in UNIQUE if owner == table):
                row[column] = f"different-{number}"
            try:
                probe.insert_exactly(table, row)
            except probe.connection.IntegrityError as error:
                raise AssertionError(f"{table}: two rows alike are refused: {error}") from error


def _keeps_text(table: str, column: str, replica: Replica) -> None:
    """A text stays what it is, and is compared letter by letter."""
    text = "2026-01-29T12:34:56.789Z"
    with replica.probe() as probe:
        row = probe.insert(table, **{column: text})
        found = probe.value(f"SELECT {column} FROM {table} WHERE id = ?", row)
        expect(found == text, f"{table}.{column}: {text!r} is stored as {found!r}")
        for other in (text.lower(), f"{text} "):
            alike = probe.value(f"SELECT count(*) FROM {table} WHERE {column} = ?", other)
            expect(
                not alike,
                f"{table}.{column}: {text!r} equals {other!r}, the contract tells them apart "
                "(collation)",
            )


def _keeps_integer(table: str, column: str, replica: Replica) -> None:
    with replica.probe() as probe:
        for value, stored in ((10**12, 10**12), ("12", 12), (0, 0)):
            row = probe.insert(table, **{column: value})
            found = probe.value(f"SELECT {column} FROM {table} WHERE id = ?", row)
            expect(
                found == stored and isinstance(found, int),
                f"{table}.{column}: {value!r} is stored as {found!r}, as INTEGER it is {stored!r}",
            )


def _keeps_real(table: str, column: str, replica: Replica) -> None:
    with replica.probe() as probe:
        for value, stored in ((0.25, 0.25), (5000, 5000.0), ("1.5", 1.5)):
            row = probe.insert(table, **{column: value})
            found = probe.value(f"SELECT {column} FROM {table} WHERE id = ?", row)
            expect(
                found == stored and isinstance(found, float),
                f"{table}.{column}: {value!r} is stored as {found!r}, as REAL it is {stored!r}",
            )


def _ids_grow(table: str, replica: Replica) -> None:
    with replica.probe() as probe:
        first, second = probe.insert(table), probe.insert(table)
        expect(first < second, f"{table}.id: {second} follows {first}")
        probe.connection.execute(f"DELETE FROM {table}")
        third = probe.insert(table)
        expect(
            third > second,
            f"{table}.id: {third} is used again after a DELETE, the contract says AUTOINCREMENT",
        )


def _sequence_is_kept(replica: Replica) -> None:
    for table in TABLES:
        with replica.probe() as probe:
            row = probe.insert(table)
            found = probe.rows("SELECT seq FROM sqlite_sequence WHERE name = ?", table)
            expect(
                found == [(row,)],
                f"{table}.id: sqlite_sequence does not hold its last id, the contract says "
                "AUTOINCREMENT",
            )
