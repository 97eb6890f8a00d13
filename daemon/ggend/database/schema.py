"""Schema: the structure of a database, and its differences from the structure of a version.

Tables, columns in their order, keys and indexes as SQLite itself reports them, so that the notation
of a CREATE statement does not matter; views and triggers are compared as text. What a CHECK
accepts is tried out in `check.constraints`. Reads the schema, never a row.
"""

from __future__ import annotations

import functools
import re
import sqlite3
from collections.abc import Collection
from contextlib import closing

from msgspec import Struct

from ggend_schema.migrations import migrations, schema_version

__all__ = [
    "Column",
    "Difference",
    "Index",
    "Structure",
    "differences",
    "is_name_of_ours",
    "likeliest",
    "promised",
    "structure_of",
]


class Column(Struct, frozen=True):
    """One column as PRAGMA table_xinfo shows it."""

    name: str
    type: str
    not_null: bool
    default: str | None
    primary_key: int
    hidden: int

    @property
    def is_demanded(self) -> bool:
        """Whether a row without it is refused."""
        return self.not_null and self.default is None and not self.hidden

    def __str__(self) -> str:
        parts = [self.type or "no type"]
        parts += ["NOT NULL"] * self.not_null
        parts += [f"DEFAULT {self.default}"] * (self.default is not None)
        parts += ["PRIMARY KEY"] * bool(self.primary_key)
        parts += ["generated or hidden"] * bool(self.hidden)
        return " ".join(parts)


class Index(Struct, frozen=True):
    """One index or UNIQUE constraint."""

    table: str
    columns: tuple[str, ...]
    unique: bool
    #: The WHERE of a partial index.
    where: str = ""

    def __str__(self) -> str:
        unique = "unique, " * self.unique
        return f"{unique}on {self.table} ({', '.join(self.columns)}) {self.where}".rstrip()


class Structure(Struct, frozen=True):
    """A whole schema. Keys are names; a UNIQUE constraint has no name and is a key of its table."""

    tables: dict[str, dict[str, Column]]
    #: Such as `WITHOUT ROWID, AUTOINCREMENT`, by table.
    kinds: dict[str, str]
    #: UNIQUE constraints and foreign keys, by table, each in words.
    keys: dict[str, frozenset[str]]
    indexes: dict[str, Index]
    views: dict[str, str]
    triggers: dict[str, str]
    #: The table or view of each trigger.
    trigger_tables: dict[str, str]


class Difference(Struct, frozen=True):
    """Something that is not as promised."""

    #: `tables`, `columns`, `keys`, `indexes`, `views` or `triggers`.
    area: str
    #: The table, index or view.
    name: str
    text: str
    #: It is there in addition, and harms nobody who reads by name.
    is_extra: bool = False
    #: It is there in addition and may refuse rows that ggend writes; `text` says so.
    is_risky: bool = False


@functools.cache
def promised(version: int) -> Structure:
    """Return the structure of a database of this version."""
    with closing(sqlite3.connect(":memory:")) as connection:
        for migration in migrations():
            if migration.version <= version:
                connection.executescript(migration.sql)
        return structure_of(connection)


def structure_of(connection: sqlite3.Connection) -> Structure:
    """Read the structure of an open database. Raises sqlite3.DatabaseError."""
    schema = connection.execute(_SCHEMA).fetchall()
    without_rowid = dict(connection.execute(_TABLE_LIST).fetchall())
    tables: dict[str, dict[str, Column]] = {}
    kinds: dict[str, str] = {}
    keys: dict[str, frozenset[str]] = {}
    for what, name, _, sql in schema:
        if what == "table" and sql.upper().startswith("CREATE VIRTUAL"):
            # A stranger's. It can be read only where its module is there.
            tables[name], kinds[name], keys[name] = {}, "a virtual table", frozenset()
        elif what == "table":
            tables[name] = {
                column: Column(column, kind, bool(not_null), default, primary_key, hidden)
                for column, kind, not_null, default, primary_key, hidden in connection.execute(
                    _COLUMNS, (name,)
                )
            }
            kinds[name] = _kind(sql, without_rowid.get(name, ""))
            keys[name] = frozenset((*_uniques(connection, name), *_references(connection, name)))
    return Structure(
        tables=tables,
        kinds=kinds,
        keys=keys,
        indexes={
            name: _index(connection, name, table, sql)
            for kind, name, table, sql in schema
            if kind == "index" and sql is not None
        },
        views={name: _normal(sql) for kind, name, _, sql in schema if kind == "view"},
        triggers={name: _normal(sql) for kind, name, _, sql in schema if kind == "trigger"},
        trigger_tables={name: table for kind, name, table, _ in schema if kind == "trigger"},
    )


def differences(found: Structure, wanted: Structure) -> list[Difference]:
    """Return how `found` differs from what is wanted, in words for people."""
    told: list[Difference] = []
    for name, columns in wanted.tables.items():
        if name not in found.tables:
            told.append(Difference("tables", name, f"the table {name} is missing"))
            continue
        told += _column_differences(name, found.tables[name], columns)
        if found.kinds[name] != wanted.kinds[name]:
            told.append(
                Difference(
                    "tables",
                    name,
                    f"{name} is {found.kinds[name] or 'an ordinary table'}, not "
                    f"{wanted.kinds[name] or 'an ordinary table'}",
                )
            )
        told += [
            Difference("keys", name, f"{name} has no {key}")
            for key in sorted(wanted.keys[name] - found.keys[name])
        ]
        told += [
            Difference("keys", name, f"{name} has an unexpected {key}")
            for key in sorted(found.keys[name] - wanted.keys[name])
        ]
    told += _extras("tables", "table", found.tables, wanted.tables)
    for name, index in wanted.indexes.items():
        if name not in found.indexes:
            told.append(Difference("indexes", name, f"the index {name} is missing ({index})"))
        elif found.indexes[name] != index:
            told.append(
                Difference("indexes", name, f"{name} is {found.indexes[name]}, not {index}")
            )
    told += [
        Difference(
            "indexes",
            name,
            f"the unique index {name} on {index.table} may refuse rows",
            is_extra=True,
            is_risky=True,
        )
        if index.unique and index.table in wanted.tables
        else Difference("indexes", name, f"the index {name} is not ggend's", is_extra=True)
        for name, index in found.indexes.items()
        if name not in wanted.indexes
    ]
    for name, sql in wanted.views.items():
        if name not in found.views:
            told.append(Difference("views", name, f"the view {name} is missing"))
        elif found.views[name] != sql:
            told.append(Difference("views", name, f"the view {name} differs from this version"))
    told += _extras("views", "view", found.views, wanted.views)
    for name, sql in wanted.triggers.items():
        if name not in found.triggers:
            told.append(Difference("triggers", name, f"the trigger {name} is missing"))
        elif found.triggers[name] != sql:
            told.append(
                Difference("triggers", name, f"the trigger {name} differs from this version")
            )
    return told + [
        Difference(
            "triggers",
            name,
            f"the trigger {name} on {found.trigger_tables[name]} may refuse rows",
            is_extra=True,
            is_risky=True,
        )
        if _RAISES.search(sql) and found.trigger_tables[name].lower() in wanted.tables
        else Difference("triggers", name, f"the trigger {name} is not ggend's", is_extra=True)
        for name, sql in found.triggers.items()
        if name not in wanted.triggers
    ]


def is_name_of_ours(name: str) -> bool:
    """Whether the newest version has a thing, or a column `table.column`, of this name."""
    newest = promised(schema_version())
    table, _, column = name.partition(".")
    return column in newest.tables.get(table, {}) or any(
        name in things for things in (newest.tables, newest.indexes, newest.views, newest.triggers)
    )


def likeliest(found: Structure) -> tuple[int, list[str]]:
    """Return the version since 2 that a structure is of or most like, and how it differs.

    What others added is no difference, unless it has the name of something of a later version.
    """
    told = {
        version: [
            one.text
            for one in differences(found, promised(version))
            if not one.is_extra or is_name_of_ours(one.name)
        ]
        for version in _versions()
    }
    version = min(told, key=lambda version: len(told[version]))
    return version, told[version]


def _versions() -> list[int]:
    """Since 2, the newest first."""
    return sorted((made.version for made in migrations() if made.version >= 2), reverse=True)


def _column_differences(
    table: str, found: dict[str, Column], wanted: dict[str, Column]
) -> list[Difference]:
    told = [
        Difference("columns", table, f"{table}.{name} is missing ({column})")
        if name not in found
        else Difference("columns", table, f"{table}.{name} is {found[name]}, not {column}")
        for name, column in wanted.items()
        if found.get(name) != column
    ]
    if not told and [name for name in found if name in wanted] != list(wanted):
        told.append(
            Difference(
                "columns",
                table,
                f"the columns of {table} are in another order: {', '.join(found)}",
            )
        )
    for name, column in found.items():
        if name in wanted:
            continue
        text = (
            "is NOT NULL without a default: it refuses rows of ggend"
            if column.is_demanded
            else "is not ggend's"
        )
        told.append(
            Difference(
                "columns",
                f"{table}.{name}",
                f"{table}.{name} {text}",
                is_extra=True,
                is_risky=column.is_demanded,
            )
        )
    return told


def _extras(
    area: str, kind: str, found: Collection[str], wanted: Collection[str]
) -> list[Difference]:
    return [
        Difference(area, name, f"the {kind} {name} is not ggend's", is_extra=True)
        for name in found
        if name not in wanted
    ]


def _kind(sql: str, listed: str) -> str:
    autoincrement = ["AUTOINCREMENT"] if re.search(r"\bAUTOINCREMENT\b", sql, re.IGNORECASE) else []
    return ", ".join(([listed] if listed else []) + autoincrement)


def _uniques(connection: sqlite3.Connection, table: str) -> list[str]:
    return [
        f"UNIQUE ({', '.join(_index_columns(connection, name))})"
        for (name,) in connection.execute(_UNIQUES, (table,)).fetchall()
    ]


def _references(connection: sqlite3.Connection, table: str) -> list[str]:
    return [
        f"foreign key {column} to {parent}({to or 'its primary key'})"
        + f" ON UPDATE {update}" * (update != "NO ACTION")
        + f" ON DELETE {delete}" * (delete != "NO ACTION")
        for column, parent, to, update, delete in connection.execute(_REFERENCES, (table,))
    ]


def _index(connection: sqlite3.Connection, name: str, table: str, sql: str) -> Index:
    normal = _normal(sql)
    where = re.search(r"\bWHERE\b.*", normal, re.IGNORECASE)
    return Index(
        table=table,
        columns=_index_columns(connection, name),
        unique=normal.upper().startswith("CREATE UNIQUE"),
        where=where[0] if where else "",
    )


def _index_columns(connection: sqlite3.Connection, name: str) -> tuple[str, ...]:
    return tuple(
        (column or "an expression")
        + f" COLLATE {collation}" * (collation != "BINARY")
        + " DESC" * descending
        for column, descending, collation in connection.execute(_INDEX_COLUMNS, (name,))
    )


def _normal(sql: str) -> str:
    """White space, comments and IF NOT EXISTS apart."""
    sql = re.sub(r"--[^\n]*", " ", sql)
    return re.sub(r"\bIF NOT EXISTS\b ?", "", " ".join(sql.split()), flags=re.IGNORECASE)


#: What a trigger refuses or leaves out rows with.
_RAISES = re.compile(r"\bRAISE\s*\(|\bOR\s+ROLLBACK\b", re.IGNORECASE)

_SCHEMA = """
    SELECT type, name, tbl_name, sql
    FROM sqlite_schema
    WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'
    ORDER BY rowid"""
_TABLE_LIST = """
    SELECT
        name,
        rtrim(iif(wr, 'WITHOUT ROWID, ', '') || iif(strict, 'STRICT, ', '')
              || iif(type = 'virtual', 'a virtual table', ''), ', ')
    FROM pragma_table_list
    WHERE schema = 'main'"""
_COLUMNS = """
    SELECT name, upper(type), "notnull", dflt_value, pk, hidden
    FROM pragma_table_xinfo(?)
    ORDER BY cid"""
_UNIQUES = """
    SELECT name
    FROM pragma_index_list(?)
    WHERE origin = 'u'"""
_REFERENCES = """
    SELECT "from", "table", "to", on_update, on_delete
    FROM pragma_foreign_key_list(?)
    ORDER BY id, seq"""
_INDEX_COLUMNS = """
    SELECT name, "desc", coll
    FROM pragma_index_xinfo(?)
    WHERE "key"
    ORDER BY seqno"""
