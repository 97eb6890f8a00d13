"""SQLite library: the versions of SQLite and Python that this ggend runs with."""

from __future__ import annotations

import os
import platform
import sqlite3
from contextlib import closing
from pathlib import Path

from ggend.database.check.environment import check_environment
from ggend.doctor.diagnosis import Diagnosis, Verdict, failed, ok, warning

__all__ = ["look_at_sqlite"]

_SUBJECT = "SQLite"

#: What ggend uses and a build of SQLite may lack.
_NEEDED = frozenset({"OMIT_WAL", "OMIT_JSON", "OMIT_AUTHORIZATION", "THREADSAFE=0"})


def look_at_sqlite() -> Diagnosis:
    """Say which versions these are, and what is known to be wrong with them."""
    detail = f"{sqlite3.sqlite_version}, Python {platform.python_version()}"
    # Of a place that always exists, only what is said of SQLite itself counts.
    found = {one.what: one for one in check_environment(Path("/x"))}
    if found["SQLite"].verdict is not Verdict.OK:
        hint = "install a Python that is linked with a newer SQLite"
        return failed(_SUBJECT, found["SQLite"].detail, hint, os.EX_CONFIG)
    missing = sorted(_compile_options() & _NEEDED)
    if missing:
        detail = f"{detail}: SQLite was built with {', '.join(missing)}; ggend cannot use it"
        hint = "install a Python that is linked with an ordinary build of SQLite"
        return failed(_SUBJECT, detail, hint, os.EX_CONFIG)
    bug = found.get("WAL-reset bug")
    if bug is not None and bug.verdict is not Verdict.OK:
        return warning(
            _SUBJECT,
            f"{detail}; two writers at once can damage a database (WAL-reset bug)",
            "let only the daemon write to the database; SQLite 3.51.3 repairs it",
        )
    return ok(_SUBJECT, detail)


def _compile_options() -> set[str]:
    with closing(sqlite3.connect(":memory:")) as connection:
        return {name for (name,) in connection.execute("PRAGMA compile_options")}
