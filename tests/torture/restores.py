"""Restores: anything done to the files of a database, under load, after a kill and after a stop.

Each event says its number, so that what a file holds is told by the numbers in it. After a deed the
daemon may refuse to start; then a person chooses (`ggend restore`). If it starts by itself, it must
hold what that person put there, or everything that was acked: nothing between the two, and no ack
may have come for what was sent after a deed that took the file away.
"""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Literal, TypeAlias

from msgspec import Struct

from ggend_schema.messages import Ack
from support.daemon_process import Daemon, DidNotStart, free_place
from support.framed_peer import Peer, audit, batch, new_producer
from support.processes import run_ggend

__all__ = ["RestoreRound", "restore_round"]

#: What a deed is to what was acked: nothing, another content that somebody wants there, or its end.
Kind: TypeAlias = Literal["harmless", "restore", "destroy"]

_BATCH_EVENTS = 40

#: Bytes of a page, and of a frame's header before its page in a WAL.
_PAGE_BYTES, _FRAME_HEADER_BYTES = 4_096, 24


class RestoreRound(Struct, kw_only=True):
    """What became of the deeds. `problems` is empty when every promise held."""

    deeds: int = 0
    #: How often the daemon started by itself, was refused, or ended by name under a deed.
    started: int = 0
    refused: int = 0
    ended: int = 0
    acked: int = 0
    seconds: float = 0.0
    problems: list[str] = []


class _Case:
    """One database, what is known of it, and copies of it from other times."""

    def __init__(self, place: Path, rng: random.Random, done: RestoreRound) -> None:
        self.rng = rng
        self.done = done
        self.daemon = Daemon(place, checkpoint_events=rng.choice([50, 400, 10**7]))
        self.producer = new_producer()
        self.sent = self.acked = 0
        #: Copies that are databases by themselves, and how many numbers each has.
        self.copies: list[tuple[Path, int]] = []

    @property
    def database(self) -> Path:
        """The file."""
        return self.daemon.database

    def file(self, suffix: str) -> Path:
        """One of its companions."""
        return Path(f"{self.database}{suffix}")

    def send(self, batches: int, deed: Callable[[], None] | None = None) -> int:
        """Send, do something in the middle, and send on; return how many acks came after it."""
        after = 0
        with suppress(ConnectionError, FileNotFoundError), Peer(self.daemon.socket) as peer:
            self.sent = peer.hello(self.producer).last_sequence
            for number in range(batches):
                if deed is not None and number == batches // 2:
                    deed()
                    deed = None
                    after = 0
                first = self.sent + 1
                self.sent += _BATCH_EVENTS
                events = (
                    audit("a", operation=f"{n}", context={"x": "y" * 120})
                    for n in range(first, self.sent + 1)
                )
                peer.send(batch(first, *events))
                answer = peer.read()
                if not isinstance(answer, Ack):
                    return after
                self.acked = answer.sequence
                self.done.acked += _BATCH_EVENTS
                after += 1
        if deed is not None:
            deed()
        return after

    def back_up(self) -> None:
        """Keep a copy, made as SQLite makes it, or of the file alone where its WAL is empty."""
        copy = self.database.with_name(f"copy-{len(self.copies)}.db")
        is_alone = not self.file("-wal").exists() or not self.file("-wal").stat().st_size
        if is_alone and self.rng.random() < 0.7:
            shutil.copy2(self.database, copy)
        else:
            with (
                closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as source,
                closing(sqlite3.connect(copy)) as target,
            ):
                if self.rng.random() < 0.5:
                    source.backup(target)
                else:
                    source.execute("VACUUM INTO ?", (os.fspath(copy) + ".new",))
            if (made := Path(f"{copy}.new")).exists():
                made.replace(copy)
        self.copies.append((copy, _last_number(copy)))


def restore_round(
    *, count: int, seed: int, tell: Callable[[int], None] = lambda _: None
) -> RestoreRound:
    """Do so many deeds, each to a database of its own."""
    begin = time.monotonic()
    done = RestoreRound()
    for number in range(count):
        rng = random.Random(f"{seed}:{number}")
        with free_place() as name:
            case = _Case(Path(name), rng, done)
            words: list[str] = []
            try:
                _play(case, words)
            except (AssertionError, OSError, sqlite3.Error) as error:
                done.problems.append(
                    f"{number}: {', '.join(words)}: {type(error).__name__} {error}"
                )
            finally:
                process = case.daemon.process
                if process is not None and process.poll() is None:
                    case.daemon.kill()
        tell(number + 1)
    done.seconds = time.monotonic() - begin
    return done


def _play(case: _Case, words: list[str]) -> None:
    """Write and copy for a while, do one deed, and see what the next start makes of it."""
    rng, daemon = case.rng, case.daemon
    daemon.start()
    for _ in range(rng.randint(1, 3)):
        case.send(rng.randint(1, 8))
        if rng.random() < 0.5:
            daemon.stop() if rng.random() < 0.5 else daemon.kill()
            if rng.random() < 0.5 and not case.file("-wal").exists():
                case.back_up()
            daemon.start()
        case.back_up()
    case.send(rng.randint(1, 20))
    when = rng.choice(["under load", "after a kill", "after a stop"])
    name = rng.choice(sorted(_DEEDS))
    kind = _DEEDS[name][0]
    words += [when, name]
    case.done.deeds += 1
    held: dict[str, int] = {}

    def deed() -> None:
        held["numbers"] = _DEEDS[name][1](case)

    if when == "under load":
        after = case.send(rng.randint(4, 16), deed)
        assert kind == "harmless" or after <= 1, f"{after} acks after it"
        assert daemon.process is not None
        if daemon.process.poll() is None and rng.random() < 0.5:
            daemon.kill()
        else:
            daemon.stop()
        case.done.ended += daemon.process.returncode == os.EX_OSFILE
    else:
        daemon.kill() if when == "after a kill" else daemon.stop()
        deed()
    wanted = held["numbers"] if kind == "restore" else case.acked
    _start_again(case, words, kind, wanted)


def _start_again(case: _Case, words: list[str], kind: Kind, wanted: int) -> None:
    daemon = case.daemon
    before = {suffix: _content(case.file(suffix)) for suffix in ("", "-wal")}
    try:
        daemon.start()
    except DidNotStart:
        words.append("refused")
        case.done.refused += 1
        assert before == {suffix: _content(case.file(suffix)) for suffix in ("", "-wal")}, "touched"
        wanted = _choose(case, words)
        daemon.start()
    else:
        words.append("started")
        case.done.started += 1
        if kind == "destroy" and not _was_there(before):
            return  # whoever removes everything begins anew
    found = _numbers(daemon)
    if kind == "harmless" and "refused" not in words:
        assert found >= wanted, f"{found} of {wanted} are there"
    else:
        assert found == wanted, f"{found} are there, not {wanted}"
    case.send(5)
    assert _numbers(daemon) == case.acked, "what was acked last is not there"
    assert daemon.query("PRAGMA integrity_check") == [("ok",)]
    assert daemon.stop() == 0, daemon.log.read_text()[-2_000:]
    assert daemon.query("PRAGMA integrity_check") == [("ok",)]


def _was_there(files: dict[str, bytes | None]) -> bool:
    return any(files.values())


def _choose(case: _Case, words: list[str]) -> int:
    """Do what a person would, in the order that he would try it; return what is there then."""
    choices = [["--with-wal"], ["--without-wal"]]
    case.rng.shuffle(choices)
    copy, numbers = case.rng.choice(case.copies)
    for arguments in choices:
        expected = _look_at(case, with_wal=arguments == ["--with-wal"])
        done = run_ggend("restore", "-d", case.database, *arguments)
        if done.returncode == 0:
            words.append(arguments[0])
            assert expected is not None, "it took what is not sound"
            return expected
    for path in case.database.parent.glob("tier2.db.before-*"):
        raise AssertionError(f"{path} was made and nothing came of it")
    words.append("FILE")
    done = run_ggend("restore", "-d", case.database, copy)
    assert done.returncode == 0, done.stderr
    return numbers


def _look_at(case: _Case, *, with_wal: bool) -> int | None:
    """How many numbers the file has, with its WAL or without; None: it is not sound."""
    aside = case.database.with_name("looked-at.db")
    for suffix in ("", "-wal", "-shm"):
        Path(f"{aside}{suffix}").unlink(missing_ok=True)
    if not case.database.exists():
        return None
    for suffix in ("", "-wal") if with_wal else ("",):
        if case.file(suffix).exists():
            shutil.copyfile(case.file(suffix), f"{aside}{suffix}")
    return _sound_number(aside)


def _last_number(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return _of(connection.execute(_NUMBERS).fetchone())


def _sound_number(path: Path) -> int | None:
    try:
        with closing(sqlite3.connect(path)) as connection:
            if connection.execute("PRAGMA integrity_check").fetchone() == ("ok",):
                return _of(connection.execute(_NUMBERS).fetchone())
    except sqlite3.DatabaseError:
        pass
    return None


def _numbers(daemon: Daemon) -> int:
    return _of(daemon.query(_NUMBERS)[0])


def _of(row: tuple[object, ...]) -> int:
    count, last = row
    assert isinstance(count, int)
    assert count == (last or 0), f"{count} numbers up to {last}"
    return count


def _content(path: Path) -> bytes | None:
    return (path.read_bytes() or None) if path.exists() else None


# Deeds: what somebody does, and how many numbers are in what he put there


def _move_over(case: _Case) -> int:
    copy, numbers = case.rng.choice(case.copies)
    shutil.copy2(copy, case.database.with_name("moved.db"))
    case.database.with_name("moved.db").replace(case.database)
    return numbers


def _copy_over(case: _Case) -> int:
    copy, numbers = case.rng.choice(case.copies)
    shutil.copyfile(copy, case.database)
    return numbers


def _copy_over_with_its_time(case: _Case) -> int:
    copy, numbers = case.rng.choice(case.copies)
    shutil.copy2(copy, case.database)
    return numbers


def _put_there_properly(case: _Case) -> int:
    """As manuals say: also the WAL and the index go."""
    numbers = _copy_over(case)
    for suffix in ("-wal", "-shm"):
        case.file(suffix).unlink(missing_ok=True)
    return numbers


def _remove_and_copy(case: _Case) -> int:
    case.database.unlink()
    return _copy_over(case)


def _cut_file(case: _Case) -> int:
    size = case.database.stat().st_size
    os.truncate(case.database, case.rng.choice([0, 50, size // 2, size - _PAGE_BYTES]))
    return 0


def _cut_wal(case: _Case) -> int:
    wal = case.file("-wal")
    size = wal.stat().st_size if wal.exists() else 0
    frames = max(0, size - 32) // (_PAGE_BYTES + _FRAME_HEADER_BYTES)
    if frames:
        cut = case.rng.randrange(frames)
        os.truncate(wal, case.rng.choice([0, 32 + cut * (_PAGE_BYTES + _FRAME_HEADER_BYTES)]))
    return 0


def _remove(suffix: str) -> Callable[[_Case], int]:
    def remove(case: _Case) -> int:
        case.file(suffix).unlink(missing_ok=True)
        return 0

    return remove


def _cut_index(case: _Case) -> int:
    shm = case.file("-shm")
    if shm.exists():
        os.truncate(shm, 0)
    return 0


def _read_and_close(case: _Case) -> int:
    """Somebody looks at the database; the last one who closes it moves the WAL."""
    with closing(sqlite3.connect(case.database)) as connection:
        connection.execute("SELECT count(*) FROM audit_log").fetchall()
    return 0


_DEEDS: dict[str, tuple[Kind, Callable[[_Case], int]]] = {
    "mv a backup over it": ("restore", _move_over),
    "cp a backup over it": ("restore", _copy_over),
    "cp -p a backup over it": ("restore", _copy_over_with_its_time),
    "rm it, cp a backup": ("restore", _remove_and_copy),
    "cp a backup, rm the WAL and the index": ("restore", _put_there_properly),
    "truncate the file": ("destroy", _cut_file),
    "truncate the WAL": ("destroy", _cut_wal),
    "rm the WAL": ("destroy", _remove("-wal")),
    "rm the file": ("destroy", _remove("")),
    "rm the record": ("harmless", _remove(".wal-record")),
    "rm the index": ("harmless", _remove("-shm")),
    "truncate the index": ("harmless", _cut_index),
    "read it": ("harmless", _read_and_close),
    "nothing": ("harmless", lambda _case: 0),
}

_NUMBERS = "SELECT count(*), max(CAST(operation AS INTEGER)) FROM audit_log"
