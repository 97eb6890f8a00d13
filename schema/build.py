"""Build the files that are generated from the contract, or check that they are current.

    python schema/build.py            writes schema.sql and events.schema.json
    python schema/build.py --check    exits 1 when one of them is out of date

schema.sql comes from the migrations, run into an empty database and read back from it;
events.schema.json from the event structs. `sqlite3 new.db < schema/schema.sql` alone gives a
database that works.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from pathlib import Path

import msgspec

from ggend_schema.events import Event
from ggend_schema.migrations import APPLICATION_ID, migrations

__all__ = ["generated"]

_HERE = Path(__file__).parent

_HEAD = """\
-- The schema of a tier-2 database, version {version}. Generated from the migrations in
-- ggend_schema/sql by `python schema/build.py`; do not edit.

PRAGMA journal_mode = WAL;
PRAGMA foreign_keys = ON;
BEGIN;
"""
_TAIL = """
INSERT INTO database_identity (id) VALUES (lower(hex(randomblob(16))));

PRAGMA application_id = {application};
PRAGMA user_version = {version};
COMMIT;
"""


def _schema_sql() -> str:
    connection = sqlite3.connect(":memory:")
    try:
        for migration in migrations():
            connection.executescript(migration.sql)
        statements = [
            f"{sql};\n"
            for (sql,) in connection.execute(
                "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' "
                "ORDER BY rowid"
            )
        ]
    finally:
        connection.close()
    version = migrations()[-1].version
    return (
        _HEAD.format(version=version)
        + "\n"
        + "\n".join(statements)
        + _TAIL.format(version=version, application=APPLICATION_ID)
    )


def _event_schema() -> str:
    (schema,), components = msgspec.json.schema_components([Event], ref_template="#/$defs/{name}")
    document = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "One NDJSON line of ggend",
        "description": "One event. A line may also carry `producer` (32 hex digits) and `sequence` "
        "(from 1) for exactly-once, and `permanent` beside them; unknown keys are ignored.",
        **schema,
        "$defs": components,
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def generated() -> dict[Path, str]:
    """Return the generated files and what should be in them."""
    return {
        _HERE / "schema.sql": _schema_sql(),
        _HERE / "ggend_schema" / "events.schema.json": _event_schema(),
    }


def _main() -> int:
    stale = [
        path
        for path, text in generated().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    if "--check" in sys.argv[1:]:
        for path in stale:
            sys.stderr.write(f"{path} is out of date: run python schema/build.py\n")
        return 1 if stale else 0
    for path in stale:
        path.write_text(generated()[path], encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(_main())
