"""Made: the databases that ggend makes, each in another way."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from support.patience import PATIENCE_SECONDS
from support.version_1 import make_version_1

__all__ = ["make"]

_SCHEMA = Path(__file__).parents[3] / "schema" / "schema.sql"


def make(name: str, path: Path) -> None:
    """Make a `fresh` database, an `upgraded` one, or one from `schema.sql`."""
    if name == "schema.sql":
        _load(path)
        return
    if name == "upgraded":
        make_version_1(path)
    _run(sys.executable, "-m", "ggend", "init", os.fspath(path))


def _load(path: Path) -> None:
    """As the contract says it: `sqlite3 new.db < schema/schema.sql`."""
    if shutil.which("sqlite3"):
        _run("sqlite3", os.fspath(path), script=_SCHEMA.read_text(encoding="utf-8"))
        return
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(_SCHEMA.read_text(encoding="utf-8"))


def _run(*command: str, script: str = "") -> None:
    subprocess.run(
        command, input=script, check=True, capture_output=True, text=True, timeout=PATIENCE_SECONDS
    )
