"""What happens to the files in the middle of a checkpoint is told from what SQLite does itself."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ggend.database.wal_keeper import WalKeeper, keep_wal
from ggend.errors import DatabaseReplaced


class Connection(sqlite3.Connection):
    """Does something before a statement that begins in a certain way."""

    when = ""
    deed: Callable[[], object] = bool

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        """Run it."""
        if self.when and sql.startswith(self.when):
            self.when = ""
            self.deed()
        return super().execute(sql, *parameters)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tier2.db"


@pytest.fixture
def kept(path: Path) -> Iterator[tuple[WalKeeper, Connection]]:
    with keep_wal(path) as keeper:
        keeper.attach("0" * 32)
        with closing(sqlite3.connect(path, isolation_level=None, factory=Connection)) as connection:
            connection.execute("PRAGMA journal_mode = WAL").fetchall()
            connection.execute("CREATE TABLE notes (text)")
            keeper.checkpoint(connection)
            connection.execute("INSERT INTO notes VALUES ('old')")
            yield keeper, connection


def another(path: Path, *statements: str) -> None:
    """As another program, with SQLite."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement).fetchall()


@pytest.mark.parametrize("when", ["PRAGMA wal_checkpoint", "PRAGMA schema_version"])
@pytest.mark.parametrize("suffix", ["-wal", "-shm"])
@pytest.mark.parametrize("deed", ["removed", "replaced"])
def test_a_wal_that_goes_in_the_middle_is_missed(
    path: Path, kept: tuple[WalKeeper, Connection], when: str, suffix: str, deed: str
) -> None:
    keeper, connection = kept
    file = Path(f"{path}{suffix}")

    def touch() -> None:
        shutil.copyfile(file, f"{file}.copy")
        file.unlink()
        if deed == "replaced":
            Path(f"{file}.copy").rename(file)

    connection.when, connection.deed = when, touch
    with pytest.raises(DatabaseReplaced, match=deed):
        keeper.checkpoint(connection)


@pytest.mark.parametrize("when", ["PRAGMA wal_checkpoint", "PRAGMA schema_version = "])
@pytest.mark.parametrize(
    "statements",
    [
        ("CREATE INDEX theirs ON notes (text)",),
        ("CREATE INDEX theirs ON notes (text)", "PRAGMA wal_checkpoint(TRUNCATE)"),
        ("PRAGMA wal_checkpoint(TRUNCATE)",),
    ],
)
def test_what_another_program_does_in_the_middle_is_no_fault(
    path: Path, kept: tuple[WalKeeper, Connection], when: str, statements: tuple[str, ...]
) -> None:
    keeper, connection = kept
    connection.when, connection.deed = when, lambda: another(path, *statements)
    keeper.checkpoint(connection)
    keeper.look()
    connection.execute("INSERT INTO notes VALUES ('new')")
    keeper.look()
    keeper.checkpoint(connection)


def test_a_checkpoint_of_another_program_after_its_commit_was_seen_is_no_fault(
    path: Path, kept: tuple[WalKeeper, Connection]
) -> None:
    """It holds the checkpoint lock, so that ours does nothing, and has emptied the WAL."""
    keeper, connection = kept
    another(path, "CREATE INDEX theirs ON notes (text)")
    keeper.look()
    connection.when = "PRAGMA wal_checkpoint"
    connection.deed = lambda: another(path, "PRAGMA wal_checkpoint(TRUNCATE)")
    keeper.checkpoint(connection)
    keeper.look()


def test_a_wal_of_which_only_the_header_had_room_is_begun_again(tmp_path: Path) -> None:
    path = tmp_path / "tier2.db"
    with keep_wal(path) as keeper:
        keeper.attach("0" * 32)
        with closing(sqlite3.connect(path, isolation_level=None, factory=Connection)) as connection:
            connection.execute("PRAGMA journal_mode = WAL").fetchall()
            connection.execute("CREATE TABLE notes (text)")
            wal = Path(f"{path}-wal")
            header = wal.read_bytes()[:32]

            def fail() -> None:
                wal.write_bytes(header)
                raise sqlite3.OperationalError("database or disk is full")

            connection.when, connection.deed = "PRAGMA schema_version = ", fail
            with pytest.raises(sqlite3.OperationalError):
                keeper.checkpoint(connection, "TRUNCATE")
            keeper.look()
            connection.execute("INSERT INTO notes VALUES ('new')")
            keeper.look()
            keeper.checkpoint(connection)
