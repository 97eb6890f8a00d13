"""Odd place: a directory with all kinds of files, good and odd, made anew for each command."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sqlite3
import stat
from contextlib import closing, suppress
from pathlib import Path

from ggend_client import Client
from ggend_schema.events import Event
from support.daemon_process import Daemon, place_in_memory
from support.processes import run_ggend
from support.store_harness import audit, collision, memory, receipt, stage, started
from support.version_1 import make_version_1

__all__ = ["OddPlaces", "remove"]

_OBJECTIVES = """
[[objective]]
key = "e1:duration"
metric = "execution.duration_ms"
max = 5000
"""

_LOG = {"record": {"operation": "sync", "chain_hash": "00" * 32}, "payload": {"duration_ms": 3}}


class OddPlaces:
    """Copies of one directory, whose databases are made once."""

    def __init__(self, model: Path) -> None:
        self._model = model
        self._make_databases()
        self._make_texts()

    def make(self, place: Path) -> None:
        """Fill an empty directory. A daemon may run in `d`."""
        shutil.copytree(self._model, place, dirs_exist_ok=True, symlinks=True)
        for name in ("run", "empty-directory", "closed", "d"):
            (place / name).mkdir(mode=0o700)
        shutil.copyfile(place / "good.db", place / "d/tier2.db")
        shutil.copyfile(place / "good.db", place / "closed/in.db")
        (place / "closed").chmod(0)
        (place / "unreadable.db").chmod(0)
        (place / "dangling").symlink_to("nowhere")
        (place / "loop").symlink_to("loop")
        os.mkfifo(place / "fifo")
        with socket.socket(socket.AF_UNIX) as nobody:
            nobody.bind(os.fspath(place / "socket"))
        for name, minor in (("null", 3), ("full", 7)):
            _make_device(place / name, minor)

    def _make_databases(self) -> None:
        good, old = self._model / "good.db", self._model / "old.db"
        with place_in_memory() as name:
            with (
                Daemon(Path(name)) as daemon,
                Client(daemon.socket, spool_dir="", strict=False) as client,
            ):
                for event in _events():
                    client.emit(event)
                client.flush(10)
            with closing(sqlite3.connect(daemon.database)) as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            shutil.copyfile(daemon.database, good)
        make_version_1(old, executions=20, wal=False)
        make_version_1(self._model / "other.db", executions=5, odd=False, wal=False, first=30)
        shutil.copyfile(good, self._model / "unreadable.db")
        shutil.copyfile(good, self._model / "backup.db")
        shutil.copyfile(good, self._model / "wal.db")
        (self._model / "wal.db-wal").write_bytes(b"not a WAL" * 1_000)
        content = good.read_bytes()
        (self._model / "truncated.db").write_bytes(content[: len(content) // 2 + 123])
        (self._model / "empty.db").touch()

    def _make_texts(self) -> None:
        model = self._model
        (model / "text.txt").write_text("This is no database.\n" * 500)
        (model / "binary").write_bytes(bytes(range(256)) * 40)
        event = {"type": "audit", "agent_id": "a1", "operation": "p", "status": "completed"}
        (model / "events.ndjson").write_text(
            "\n".join([json.dumps(event), "", "{", '{"type": 5}', json.dumps(event)])
        )
        (model / "ggen.log").write_text(json.dumps(_LOG) + "\nnonsense\n")
        (model / "receipt.json").write_text(json.dumps({"operation": "sync", "status": "passed"}))
        (model / "objectives.toml").write_text(_OBJECTIVES)
        (model / "config.toml").write_text('log_level = "debug"\n')
        (model / "odd.toml").write_text('log_level = ["\\u202e"]\n[x]\ny = 1e999\n')
        home = model / "home"
        data = home / ".local/share/ggend"
        data.mkdir(parents=True)
        shutil.copyfile(model / "good.db", data / "tier2.db")
        words = ("audit", "agent_id=a1", "operation=spooled", "status=completed")
        run_ggend(
            "emit",
            *words,
            environ={
                "HOME": os.fspath(home),
                "XDG_RUNTIME_DIR": os.fspath(home),
                "GGEND_SPOOL_DIR": os.fspath(home / ".local/state/ggend/spool"),
            },
        )


def _events() -> list[Event]:
    """Some of each type; one is parked, and one rejected."""
    return [
        *(receipt(), started(), collision(), audit(), memory({"a": 1}), stage(), stage("parked")),
        *(receipt(duration_ms=9_000_000), receipt("e2", timestamp="2020-01-01T00:00:00.000Z")),
    ]


def remove(place: Path) -> None:
    """Remove all that is in a directory, also where nobody may look."""
    with suppress(FileNotFoundError):
        (place / "closed").chmod(0o700)
    shutil.rmtree(place)


def _make_device(path: Path, minor: int) -> None:
    """Make a device of our own: what root replaces is not the host's."""
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, minor))
    except PermissionError:
        path.symlink_to(f"/dev/{path.name}")  # only root could replace what it leads to
