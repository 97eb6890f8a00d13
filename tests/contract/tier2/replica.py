"""Replica: an empty copy, in memory, of a database or schema file, to be probed and thrown away.

The target itself is only read: a database through a connection that cannot write, a schema file as
text.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from typing import Any, TypeAlias

from contract.tier2.promise import TABLES, VIEWS, WORDS

__all__ = ["Absent", "Replica", "TargetUnreadable"]

#: A value that a row holds.
Value: TypeAlias = str | int | float | bytes | None

_MAGIC = b"SQLite format 3\0"

#: Tables before what refers to them: after ALTER and DROP, text order may be another.
_ORDER = ("table", "index", "view", "trigger")


class TargetUnreadable(Exception):
    """The target is neither a database nor a schema."""


class Absent(Exception):
    """What is to be probed is not there: the check of its existence says so."""


class Replica:
    """The schema of a target in a database of its own. A context manager."""

    def __init__(self, label: str, connection: sqlite3.Connection, identities: int) -> None:
        self.label = label
        self._master = connection
        #: Rows of database_identity that the target has.
        self.identities = identities
        #: The parts of the schema: (type, name) to (table, SQL).
        self.schema: dict[tuple[str, str], tuple[str, str]] = {
            (kind, name): (table, sql)
            for kind, name, table, sql in connection.execute(
                "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE sql IS NOT NULL"
            )
        }
        self._numbers = count(1)

    @classmethod
    def read(cls, target: Path) -> Replica:
        """Copy the schema of a database file, or run a schema file. Raises TargetUnreadable."""
        try:
            with target.open("rb") as file:
                is_database = file.read(len(_MAGIC)) == _MAGIC
            if is_database:
                return _copy(target)
            return cls.from_sql(target.read_text(encoding="utf-8"), label=str(target))
        except (OSError, sqlite3.Error, UnicodeDecodeError) as error:
            raise TargetUnreadable(str(error)) from error

    @classmethod
    def from_sql(cls, script: str, *, label: str = "script") -> Replica:
        """Run a script of SQL."""
        connection = sqlite3.connect(":memory:", isolation_level=None)
        try:
            connection.executescript(script)
            return cls(label, connection, _identities(connection))
        except sqlite3.Error:
            connection.close()
            raise

    def close(self) -> None:
        """Throw it away."""
        self._master.close()

    def pragma(self, name: str) -> int:
        """Return a number that a database states about itself."""
        value: int = self._master.execute(f"PRAGMA {name}").fetchone()[0]
        return value

    def rows(self, sql: str, *parameters: Value) -> list[Any]:
        """Read, without a transaction."""
        return self._master.execute(sql, parameters).fetchall()

    def columns(self, name: str) -> dict[str, tuple[int, str, bool, str | None, int, int]]:
        """Return position, type, NOT NULL, default, place in the key and hidden of each column."""
        found = {
            row[1]: (row[0], row[2], bool(row[3]), row[4], row[5], row[6])
            for row in self.rows("SELECT * FROM pragma_table_xinfo(?)", name)
        }
        if not found:
            raise Absent(f"{name} is missing")
        return found

    @contextmanager
    def probe(self, *, foreign_keys: bool = False) -> Iterator[Probe]:
        """Begin a transaction that is rolled back in the end."""
        self._master.execute(f"PRAGMA foreign_keys = {'ON' if foreign_keys else 'OFF'}")
        self._master.execute("BEGIN")
        try:
            yield Probe(self, self._master)
        finally:
            if self._master.in_transaction:
                self._master.execute("ROLLBACK")

    @contextmanager
    def fresh(self) -> Iterator[Probe]:
        """Make another copy, without a transaction, for checks of transactions themselves."""
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
            self._master.backup(connection)
            connection.execute("PRAGMA foreign_keys = ON")
            yield Probe(self, connection)

    def number(self) -> int:
        """Return a number that was not given before."""
        return next(self._numbers)


class Probe:
    """A connection to a replica that knows how to make valid rows."""

    def __init__(self, replica: Replica, connection: sqlite3.Connection) -> None:
        self._replica = replica
        self.connection = connection

    def insert(self, table: str, /, **values: Value) -> int:
        """Insert a valid row with these values in it; return its id.

        What the target lacks is left out unless it was asked for, so that one missing column is
        one failure.
        """
        present = self._replica.columns(table)
        filled = {key: value for key, value in self.valid_row(table).items() if key in present}
        return self.insert_exactly(table, {**filled, **values})

    def insert_exactly(self, table: str, values: Mapping[str, Value]) -> int:
        """Insert these values and no others; return the id of the row."""
        self._replica.columns(table)
        names = ", ".join(values)
        marks = ", ".join("?" * len(values))
        done = self.connection.execute(
            f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(values.values())
        )
        return done.lastrowid or 0

    def valid_row(self, table: str) -> dict[str, Value]:
        """Return a value for each column that needs one, other ones at each call."""
        number = self._replica.number()
        row: dict[str, Value] = {}
        for column in TABLES[table]:
            if not column.not_null or column.default is not None:
                continue
            if (table, column.name) in WORDS:
                row[column.name] = WORDS[table, column.name][0]
            elif column.type == "INTEGER":
                row[column.name] = number
            elif column.type == "REAL":
                row[column.name] = number + 0.5
            elif column.name in ("timestamp", "start_time"):
                row[column.name] = "2026-01-29T12:34:56.789Z"
            else:
                row[column.name] = f"{column.name}-{number}"
        return row

    def view(self, name: str) -> list[dict[str, Any]]:
        """Return the rows of a view in the order in which it gives them."""
        if ("view", name) not in self._replica.schema:
            raise Absent(f"{name} is missing")
        present = self._replica.columns(name)
        names = [column for column in VIEWS[name] if column in present]
        rows = self.rows(f"SELECT {', '.join(names)} FROM {name}")
        return [dict(zip(names, row, strict=True)) for row in rows]

    def rows(self, sql: str, *parameters: Value) -> list[Any]:
        """Read all rows."""
        return self.connection.execute(sql, parameters).fetchall()

    def value(self, sql: str, *parameters: Value) -> Any:
        """Read one value."""
        return self.connection.execute(sql, parameters).fetchone()[0]


def _copy(target: Path) -> Replica:
    with closing(_open_readonly(target)) as source:
        statements = source.execute(
            "SELECT type, sql FROM sqlite_schema "
            "WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY rowid"
        ).fetchall()
        states = {
            name: source.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("user_version", "application_id")
        }
        identities = _identities(source)
    copy = sqlite3.connect(":memory:", isolation_level=None)
    try:
        for _, sql in sorted(statements, key=lambda statement: _ORDER.index(statement[0])):
            copy.execute(sql)
        for name, state in states.items():
            copy.execute(f"PRAGMA {name} = {state}")
        return Replica(str(target), copy, identities)
    except sqlite3.Error:
        copy.close()
        raise


def _open_readonly(target: Path) -> sqlite3.Connection:
    """A database in WAL mode that nobody has open has no WAL: then no lock file is made either."""
    with target.open("rb") as file:
        in_wal_mode = file.read(20)[18:] == b"\2\2"
    idle = in_wal_mode and not target.with_name(target.name + "-wal").exists()
    mode = "mode=ro&immutable=1" if idle else "mode=ro"
    return sqlite3.connect(f"{target.absolute().as_uri()}?{mode}", uri=True)


def _identities(connection: sqlite3.Connection) -> int:
    try:
        count: int = connection.execute(
            "SELECT count(DISTINCT id) FROM database_identity"
        ).fetchone()[0]
    except sqlite3.OperationalError:
        return 0
    return count
