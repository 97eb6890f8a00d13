"""A damaged database is refused at the start, or set aside where that is wanted.

Damage that is met while the daemon runs ends it by name, and the next start refuses the file.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from ggend.database.corruption import mark_suspect
from ggend.database.upgrade import prepare_database
from ggend.errors import DatabaseCorrupt, DatabaseUnusable
from ggend.ingest.open_store import open_store
from ggend.storage.writer_state import Bounds
from support.daemon_process import Daemon, DidNotStart, free_place
from support.framed_peer import audit, line_of
from support.patience import PATIENCE_SECONDS
from support.processes import run_ggend

_PAGE = 4096

_BOUNDS = Bounds(
    parked_events=10,
    parked_bytes=10_000,
    rejected_events=10,
    rejected_bytes=10_000,
    undecodable_bytes=100,
)


@pytest.fixture(scope="module")
def sound() -> Iterator[Path]:
    """A database with an event in it, and no daemon."""
    with free_place() as name:
        with Daemon(Path(name)) as daemon:
            daemon.exchange(line_of(audit("before")))
        yield daemon.database


def _overwrite(database: Path, offset: int, content: bytes) -> None:
    with database.open("r+b") as file:
        file.seek(offset)
        file.write(content)


def _header(database: Path) -> None:
    _overwrite(database, 0, os.urandom(100))


def _first_page(database: Path) -> None:
    _overwrite(database, 0, os.urandom(_PAGE))


def _zeros(database: Path) -> None:
    database.write_bytes(bytes(database.stat().st_size))


def _page_of_the_schema(database: Path) -> None:
    """The pages that the first page of sqlite_schema leads to."""
    content = database.read_bytes()
    pages = [
        place
        for place in range(_PAGE, len(content), _PAGE)
        if b"CREATE TABLE receipts" in content[place : place + _PAGE]
    ]
    _overwrite(database, pages[0], os.urandom(_PAGE))


def _truncated(database: Path) -> None:
    os.truncate(database, database.stat().st_size // 2 // _PAGE * _PAGE)


def _page_of(table: str) -> Callable[[Path], None]:
    """The first page of a table: what is found when it is first read."""

    def damage(database: Path) -> None:
        with closing(sqlite3.connect(database)) as connection:
            ((page,),) = connection.execute(_ROOT, (table,)).fetchall()
        _overwrite(database, (page - 1) * _PAGE, os.urandom(_PAGE))

    return damage


_KINDS = [_header, _first_page, _zeros, _page_of_the_schema, _truncated, _page_of("parked_events")]


def _damaged(sound: Path, place: Path, damage: Callable[[Path], None]) -> Path:
    database = place / sound.name
    shutil.copy(sound, database)
    damage(database)
    return database


def _refusal(daemon: Daemon) -> tuple[int, str]:
    """Start a daemon that must not start; return its exit status and what it says."""
    with pytest.raises(DidNotStart):
        daemon.start()
    assert daemon.process is not None
    return daemon.process.returncode, " ".join(daemon.log.read_text().split())


def _opened(database: Path) -> int:
    """Open a store that may set aside; return how many audits are in it."""

    async def audits() -> int:
        async with open_store(
            database, set_aside_corrupt=True, page_cache_mib=1, bounds=_BOUNDS
        ) as store:
            return await store.run(
                lambda connection: int(connection.execute(_AUDITS).fetchone()[0])
            )

    return anyio.run(audits)


def test_a_damaged_database_is_refused_and_kept_as_it_is(sound: Path, place: Path) -> None:
    """Status 65, one line with what helps, no byte changed."""
    database = _damaged(sound, place, _truncated)
    content = database.read_bytes()
    status, said = _refusal(Daemon(place))
    assert status == os.EX_DATAERR
    assert "restore a backup" in said
    assert "set_aside_corrupt" in said
    assert "Traceback" not in said
    assert database.read_bytes() == content
    assert not list(place.glob("*.corrupt-*"))


@pytest.mark.parametrize("damage", _KINDS)
def test_every_kind_of_damage_is_told_from_other_mistakes(
    sound: Path, place: Path, damage: Callable[[Path], None]
) -> None:
    database = _damaged(sound, place, damage)
    mark_suspect(database, "so that every page is looked at")
    with pytest.raises(DatabaseCorrupt):
        prepare_database(database)


@pytest.mark.parametrize("damage", _KINDS)
def test_it_is_set_aside_where_that_is_configured(
    sound: Path, place: Path, damage: Callable[[Path], None]
) -> None:
    """Under a new name, byte for byte, and a new database is begun."""
    database = _damaged(sound, place, damage)
    content = database.read_bytes()
    mark_suspect(database, "so that every page is looked at")
    assert _opened(database) == 0
    (aside,) = place.glob("tier2.db.corrupt-*")
    assert aside.read_bytes() == content
    assert not database.with_name("tier2.db.suspect").exists()


def test_two_may_be_set_aside_in_one_second(sound: Path, place: Path) -> None:
    for _ in range(2):
        assert _opened(_damaged(sound, place, _header)) == 0
    assert len(list(place.glob("tier2.db.corrupt-*"))) == 2


def test_what_is_sound_is_not_set_aside_for_a_suspicion(sound: Path, place: Path) -> None:
    """A restored backup is found sound, and the mark goes."""
    database = _damaged(sound, place, lambda _: None)
    mark_suspect(database, "before the backup was restored")
    assert _opened(database) == 1
    assert not database.with_name("tier2.db.suspect").exists()


def test_a_daemon_sets_aside_with_the_wal_and_takes_what_comes(sound: Path, place: Path) -> None:
    """Committed rows may be in the WAL alone: `.recover` finds it beside the file."""
    database = _damaged(sound, place, _page_of_the_schema)
    database.with_name("tier2.db-wal").write_bytes(b"a WAL")
    with Daemon(place, set_aside_corrupt="true") as daemon:
        daemon.exchange(line_of(audit("after")))
        assert daemon.query("SELECT agent_id FROM audit_log") == [("after",)]
    assert "level=error" in daemon.log.read_text()
    aside, wal = sorted(place.glob("tier2.db.corrupt-*"))
    assert wal.name == f"{aside.name}-wal"
    assert wal.read_bytes() == b"a WAL"


_OTHERS = {
    "a text": b"Dear diary,\n" + b"CREATE TABLE receipts; CREATE TABLE pipeline_metrics\n" * 200,
    "a picture": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(range(256)) * 64,
    "somebody's database": b"SQLite format 3\0"
    + b"\x10\0\x01\x01\0\x40\x20\x20" * 6
    + b"\0\0\0\0\x0f\x05\x51\x12"
    + bytes(_PAGE),
}


@pytest.mark.parametrize("what", _OTHERS)
def test_what_was_never_ours_is_never_set_aside(place: Path, what: str) -> None:
    """A mistake in a path must not rename somebody's file, whatever is configured."""
    database = place / "tier2.db"
    database.write_bytes(_OTHERS[what])
    with pytest.raises(DatabaseUnusable):
        _opened(database)
    assert database.read_bytes() == _OTHERS[what]


def test_an_empty_file_with_a_wal_is_no_new_database(place: Path) -> None:
    """SQLite would begin a new one, and delete the WAL with all that is in it."""
    wal = place / "tier2.db-wal"
    (place / "tier2.db").touch()
    wal.write_bytes(b"rows")
    with pytest.raises(DatabaseCorrupt, match="its WAL is not"):
        _opened(place / "tier2.db")
    assert wal.read_bytes() == b"rows"


def test_damage_met_while_running_ends_it_and_the_next_start_too(sound: Path, place: Path) -> None:
    """By name, without an answer, and not again with every batch for ever."""
    _damaged(sound, place, _page_of("audit_log"))
    daemon = Daemon(place)
    daemon.start()
    assert daemon.process is not None
    assert daemon.exchange(line_of(audit("after"))) == b""
    assert daemon.process.wait(PATIENCE_SECONDS) == os.EX_DATAERR
    said = daemon.log.read_text()
    assert "SQLITE_CORRUPT" in said
    assert "Traceback" not in said
    status, said = _refusal(daemon)
    assert status == os.EX_DATAERR
    assert "is damaged" in said


def test_damage_met_by_a_hook_ends_it_too(sound: Path, place: Path) -> None:
    """It would meet it again in every turn, and nobody would know."""
    _damaged(sound, place, _page_of("hook_watermarks"))
    daemon = Daemon(place)
    daemon.start()
    assert daemon.process is not None
    assert daemon.process.wait(PATIENCE_SECONDS) == os.EX_DATAERR
    assert "SQLITE_CORRUPT" in daemon.log.read_text()


def test_the_named_command_says_what_is_broken(sound: Path, place: Path) -> None:
    database = _damaged(sound, place, _page_of("producers"))
    ran = run_ggend("check", database)
    assert ran.returncode == os.EX_DATAERR
    assert "malformed" in ran.stdout


_AUDITS = """
    SELECT COUNT(*)
    FROM audit_log"""
_ROOT = """
    SELECT rootpage
    FROM sqlite_schema
    WHERE name = ?"""
