"""What is done about each result code, and that a real database gets it."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from ggend.database.readonly import primary_code
from ggend.database.sqlite_errors import OTHER, TABLE, TryAgain, judge, response_to
from ggend.errors import CommitUnknown, DatabaseCorrupt, DiskFailed, GgendError, WriterStopped
from ggend.ingest.settle import ROW_ERRORS


def _error(name: str) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("made up")
    error.sqlite_errorcode = getattr(sqlite3, name)
    error.sqlite_errorname = name
    return error


@pytest.mark.parametrize("name", TABLE)
def test_a_code_is_judged_as_its_row_says(name: str) -> None:
    for committing, action in ((False, TABLE[name].statement), (True, TABLE[name].commit)):
        judged = judge(_error(name), committing=committing)
        match action:
            case "retry":
                assert isinstance(judged, TryAgain)
            case "refuse":
                assert judged is None
            case _:
                assert type(judged) is action
                assert judged.hint
                assert name in judged.message


@pytest.mark.parametrize("name", ["SQLITE_IOERR_READ", "SQLITE_IOERR_CLOSE", "SQLITE_IOERR_LOCK"])
def test_an_extended_code_is_judged_as_its_primary_one(name: str) -> None:
    assert type(judge(_error(name), committing=False)) is DiskFailed
    assert type(judge(_error(name), committing=True)) is CommitUnknown


def test_what_is_not_in_the_table_ends_the_daemon() -> None:
    assert response_to(sqlite3.SQLITE_INTERNAL) is OTHER
    assert type(judge(sqlite3.OperationalError("by the binding"), committing=False)) is (
        WriterStopped
    )


def test_nothing_is_tried_again_after_a_sync_that_failed() -> None:
    """The kernel may have dropped the pages: a second sync would lie."""
    for name in ("SQLITE_IOERR_FSYNC", "SQLITE_IOERR_DIR_FSYNC", "SQLITE_IOERR"):
        assert issubclass(TABLE[name].statement, GgendError)  # type: ignore[arg-type]
        assert issubclass(TABLE[name].commit, GgendError)  # type: ignore[arg-type]


def test_of_a_commit_only_what_is_known_not_to_have_happened_is_tried_again() -> None:
    """The transaction is still open, or the frame that commits was not written."""
    assert {name for name, row in TABLE.items() if row.commit == "retry"} == {
        "SQLITE_BUSY",
        "SQLITE_LOCKED",
        "SQLITE_FULL",
    }


def test_no_memory_is_a_result_code_too() -> None:
    """The binding makes MemoryError of it."""
    assert isinstance(judge(MemoryError(), committing=False), TryAgain)
    assert isinstance(judge(MemoryError(), committing=True), CommitUnknown)


def test_a_mistake_in_the_program_is_not_the_databases() -> None:
    for error in (KeyError("x"), sqlite3.ProgrammingError("closed"), OverflowError()):
        assert judge(error, committing=False) is None


def test_the_first_error_tells_not_the_cleaning_up_after_it() -> None:
    """A full disk takes the whole transaction back, and with it the savepoint."""
    with closing(sqlite3.connect(":memory:")) as connection:

        def fail_twice() -> None:
            try:
                raise _error("SQLITE_FULL")
            finally:
                connection.execute("RELEASE gone")

        with pytest.raises(sqlite3.OperationalError, match="no such savepoint") as caught:
            fail_twice()
        assert isinstance(judge(caught.value, committing=False), TryAgain)


def test_what_is_refused_row_by_row_is_what_settle_takes_for_a_row(tmp_path: Path) -> None:
    """Both lists say the same: too long, of a wrong type, against a constraint."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT CHECK (x <> 'bad'))")
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 1000)
        seen = set()
        for statement, value in (
            ("INSERT INTO t (x) VALUES (?)", "bad"),
            ("INSERT INTO t (id) VALUES (?)", "text"),
            ("INSERT INTO t (x) VALUES (?)", "x" * 2000),
        ):
            with pytest.raises(ROW_ERRORS) as caught:
                connection.execute(statement, (value,))
            assert judge(caught.value, committing=False) is None
            seen.add(primary_code(caught.value))
    assert seen == {sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG}
    refused = {name for name, row in TABLE.items() if row.statement == "refuse"}
    assert refused == {
        "SQLITE_CONSTRAINT",
        "SQLITE_MISMATCH",
        "SQLITE_TOOBIG",
        "SQLITE_MISUSE",
        "SQLITE_RANGE",
    }


def test_a_page_that_is_broken_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE t (x)")
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(4096))
    with (
        closing(sqlite3.connect(path)) as connection,
        pytest.raises(sqlite3.DatabaseError) as caught,
    ):
        connection.execute("INSERT INTO t VALUES (1)")
    assert isinstance(judge(caught.value, committing=False), DatabaseCorrupt)


def test_every_end_has_a_status_of_its_own() -> None:
    ends = {
        action
        for row in (*TABLE.values(), OTHER)
        for action in (row.statement, row.commit)
        if not isinstance(action, str)
    }
    assert len({end.exit_status for end in ends}) == len({end.code for end in ends}) == len(ends)
