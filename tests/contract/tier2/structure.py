"""Structure: what SQLite's catalogue says about tables, columns, keys, indexes and views.

Nothing is inserted here: what the structure does is checked in `effects`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial

from contract.tier2.check import Check, expect
from contract.tier2.promise import (
    FOREIGN_KEYS,
    INDEXES,
    OWN_TABLES,
    TABLES,
    UNIQUE,
    VIEWS,
    Column,
    ForeignKey,
    Index,
)
from contract.tier2.replica import Absent, Replica

__all__ = ["APPLICATION_ID", "checks"]

#: What ggend writes into the header of its databases: "ggnd" in ASCII.
APPLICATION_ID = 0x67676E64


def checks() -> Iterator[Check]:
    """All checks of the structure."""
    for table, columns in TABLES.items():
        yield Check(f"{table} is a table", partial(_is_a, "table", table))
        yield Check(f"{table} is an ordinary table", partial(_is_ordinary, table))
        yield Check(f"{table}.id", partial(_has_id, table))
        yield Check(f"{table}: order of columns", partial(_has_order, table, added=False))
        yield Check(f"{table}: added columns", partial(_has_order, table, added=True), added=True)
        yield Check(f"{table}: other columns", partial(_others_are_nullable, table))
        yield Check(f"{table}: foreign keys", partial(_has_foreign_keys, table))
        yield Check(f"{table}: unique keys", partial(_has_unique_keys, table))
        for column in columns:
            for what, claim in (
                ("type", _has_type),
                ("NOT NULL", _has_not_null),
                ("default", _has_default),
                ("plain", _is_plain),
            ):
                name = f"{table}.{column.name} {what}"
                yield Check(name, partial(claim, table, column), added=column.added)
    for index in INDEXES:
        name = index.name or f"index on {index.table} ({', '.join(index.columns)})"
        yield Check(name, partial(_has_index, index), added=index.name is None)
    for view, names in VIEWS.items():
        yield Check(f"{view} is a view", partial(_is_a, "view", view))
        yield Check(f"{view}: columns", partial(_has_view_columns, view, names))
    for table, needed in OWN_TABLES.items():
        yield Check(f"{table} is a table", partial(_is_a, "table", table), added=True)
        yield Check(f"{table}: columns", partial(_has_own_columns, table, needed), added=True)
    yield Check("application_id", _has_application_id, added=True)
    yield Check("user_version", _has_user_version, added=True)
    yield Check("database_identity: one id", _has_one_identity, added=True)


def _is_a(kind: str, name: str, replica: Replica) -> None:
    expect((kind, name) in replica.schema, f"{name}: the {kind} is missing")


def _sql(replica: Replica, kind: str, name: str) -> str:
    if (kind, name) not in replica.schema:
        raise Absent(f"{name} is missing")
    return replica.schema[kind, name][1]


def _is_ordinary(table: str, replica: Replica) -> None:
    """Neither WITHOUT ROWID nor STRICT: both change what an INSERT of old programs does."""
    options = _sql(replica, "table", table).rpartition(")")[2].upper()
    for option in ("WITHOUT ROWID", "STRICT"):
        found = option in " ".join(options.split())
        expect(not found, f"{table}: is {option}, the contract says an ordinary table")
    virtual = _sql(replica, "table", table).upper().startswith("CREATE VIRTUAL")
    expect(not virtual, f"{table}: is virtual, the contract says an ordinary table")


def _has_id(table: str, replica: Replica) -> None:
    columns = replica.columns(table)
    expect("id" in columns, f"{table}.id: is missing")
    position, kind, _, _, key, _ = columns["id"]
    expect(position == 0, f"{table}.id: is column {position + 1}, the contract says the first")
    expect(kind.upper() == "INTEGER", f"{table}.id: type is {kind}, the contract says INTEGER")
    in_key = [name for name, column in columns.items() if column[4]]
    expect(
        key == 1 and in_key == ["id"],
        f"{table}.id: the primary key is ({', '.join(in_key)}), the contract says (id)",
    )
    expect(
        re.search(r"\bAUTOINCREMENT\b", _sql(replica, "table", table), re.IGNORECASE) is not None,
        f"{table}.id: AUTOINCREMENT is missing",
    )


def _has_order(table: str, replica: Replica, *, added: bool) -> None:
    wanted = ["id", *(column.name for column in TABLES[table] if added or not column.added)]
    found = list(replica.columns(table))
    missing = [name for name in wanted if name not in found]
    expect(not missing, f"{table}: columns are missing: {', '.join(missing)}")
    first = next((pair for pair in zip(found, wanted, strict=False) if pair[0] != pair[1]), None)
    if first is not None:
        place = found.index(first[0]) + 1
        raise AssertionError(f"{table}: column {place} is {first[0]}, the contract says {first[1]}")


def _others_are_nullable(table: str, replica: Replica) -> None:
    """What is added on top may not stop programs that do not know it."""
    known = {"id", *(column.name for column in TABLES[table])}
    for name, (_, _, not_null, default, _, _) in replica.columns(table).items():
        if name not in known:
            expect(
                not not_null or default is not None,
                f"{table}.{name}: an added column is NOT NULL, the contract says nullable",
            )


def _column(
    table: str, column: Column, replica: Replica
) -> tuple[int, str, bool, str | None, int, int]:
    found = replica.columns(table).get(column.name)
    if found is None:
        raise AssertionError(f"{table}.{column.name}: the column is missing")
    return found


def _has_type(table: str, column: Column, replica: Replica) -> None:
    kind = _column(table, column, replica)[1]
    expect(
        kind.upper() == column.type,
        f"{table}.{column.name}: type is {kind or 'none'}, the contract says {column.type}",
    )


def _has_not_null(table: str, column: Column, replica: Replica) -> None:
    names = {True: "NOT NULL", False: "nullable"}
    found = _column(table, column, replica)[2]
    expect(
        found == column.not_null,
        f"{table}.{column.name}: is {names[found]}, the contract says {names[column.not_null]}",
    )


def _has_default(table: str, column: Column, replica: Replica) -> None:
    found = _column(table, column, replica)[3]
    same = (found or "").strip("()").upper() == (column.default or "").upper()
    expect(
        same,
        f"{table}.{column.name}: default is {found or 'none'}, "
        f"the contract says {column.default or 'none'}",
    )


def _is_plain(table: str, column: Column, replica: Replica) -> None:
    hidden = _column(table, column, replica)[5]
    expect(
        hidden == 0, f"{table}.{column.name}: is hidden or generated, the contract says ordinary"
    )


def _has_foreign_keys(table: str, replica: Replica) -> None:
    replica.columns(table)
    wanted = {key for key in FOREIGN_KEYS if key.table == table}
    found = set()
    for _, _, parent, column, to, on_update, on_delete, _ in replica.rows(
        "SELECT * FROM pragma_foreign_key_list(?)", table
    ):
        found.add(ForeignKey(table, column, parent, to))
        for event, action in (("UPDATE", on_update), ("DELETE", on_delete)):
            expect(
                action in ("NO ACTION", "RESTRICT"),
                f"{table}.{column}: foreign key has ON {event} {action}, the contract says none",
            )
    for key in wanted ^ found:
        name = f"{table}.{key.column}: foreign key to {key.parent}({key.parent_column})"
        problem = "is missing" if key in wanted else "is not in the contract"
        raise AssertionError(f"{name} {problem}")


def _has_unique_keys(table: str, replica: Replica) -> None:
    """A key too many stops rows that the contract lets in, one too few lets doubles in."""
    replica.columns(table)
    wanted = {(column,) for owner, column in UNIQUE if owner == table}
    found = set()
    for _, index, is_unique, _, partial_ in replica.rows(
        "SELECT * FROM pragma_index_list(?)", table
    ):
        names = tuple(row[2] for row in replica.rows("SELECT * FROM pragma_index_info(?)", index))
        if not is_unique:
            continue
        expect(
            names in wanted and not partial_,
            f"{table}: is UNIQUE by ({', '.join(map(str, names))}), the contract says it is not",
        )
        found.add(names)
    for names in wanted - found:
        raise AssertionError(f"{table}.{names[0]}: UNIQUE is missing")


def _index_columns(replica: Replica, name: str) -> tuple[str, ...]:
    return tuple(
        f"{column if number >= 0 else '(an expression)'}{' DESC' if descending else ''}"
        + (f" COLLATE {collation}" if collation != "BINARY" else "")
        for _, number, column, descending, collation, is_key in replica.rows(
            "SELECT * FROM pragma_index_xinfo(?)", name
        )
        if is_key
    )


def _condition(replica: Replica, name: str) -> str | None:
    sql = replica.schema["index", name][1]
    found = re.search(r"\)\s*WHERE\s+(.*)$", sql, re.IGNORECASE | re.DOTALL)
    return " ".join(found[1].split()) if found else None


def _has_index(index: Index, replica: Replica) -> None:
    replica.columns(index.table)
    if index.name is None:
        _has_unnamed_index(index, replica)
        return
    name = index.name
    expect(("index", name) in replica.schema, f"{name}: the index is missing")
    table = replica.schema["index", name][0]
    expect(table == index.table, f"{name}: is on {table}, the contract says {index.table}")
    found = _index_columns(replica, name)
    expect(
        found == index.columns,
        f"{name}: columns are ({', '.join(found)}), the contract says ({', '.join(index.columns)})",
    )
    where = _condition(replica, name)
    expect(where is None, f"{name}: covers only WHERE {where}, the contract says all rows")


def _has_unnamed_index(index: Index, replica: Replica) -> None:
    what = f"index on {index.table} ({', '.join(index.columns)})"
    alike = [
        name
        for (kind, name), (table, _) in replica.schema.items()
        if kind == "index"
        and table == index.table
        and _index_columns(replica, name) == index.columns
    ]
    expect(bool(alike), f"{what}: is missing")
    conditions = [_condition(replica, name) for name in alike]
    expect(
        any((condition or "").lower() == (index.where or "").lower() for condition in conditions),
        f"{what}: covers {conditions[0] or 'all rows'}, the contract says WHERE {index.where}",
    )


def _has_view_columns(view: str, names: tuple[str, ...], replica: Replica) -> None:
    if ("view", view) not in replica.schema:
        raise Absent(f"{view} is missing")
    found = tuple(replica.columns(view))
    for place, name in enumerate(names):
        has = found[place] if place < len(found) else "missing"
        expect(has == name, f"{view}: column {place + 1} is {has}, the contract says {name}")
    extra = ", ".join(found[len(names) :])
    expect(not extra, f"{view}: has columns that the contract does not name: {extra}")


def _has_own_columns(table: str, needed: tuple[str, ...], replica: Replica) -> None:
    found = replica.columns(table)
    missing = [name for name in needed if name not in found]
    expect(not missing, f"{table}: columns are missing: {', '.join(missing)}")


def _has_application_id(replica: Replica) -> None:
    found = replica.pragma("application_id")
    expect(
        found == APPLICATION_ID,
        f"application_id: is {found}, the contract says {APPLICATION_ID}",
    )


def _has_user_version(replica: Replica) -> None:
    found = replica.pragma("user_version")
    expect(found >= 1, f"user_version: is {found}, which is version 1.0.0's")


def _has_one_identity(replica: Replica) -> None:
    found = replica.identities
    expect(found == 1, f"database_identity: holds {found} ids, the contract says one")
