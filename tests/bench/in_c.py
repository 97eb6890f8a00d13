"""In C: the yardstick again, as a C program that is compiled on the spot.

What `executemany` itself costs beside SQLite shows in the difference. Without a compiler or the
header of SQLite there is no such figure; the library it links may be another version than Python's.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from bench import yardstick
from ggend.config import Config
from ggend.database.upgrade import prepare_database

__all__ = ["compiled", "store"]

_SOURCE = Path(__file__).with_name("yardstick.c")


def compiled(place: Path) -> Path | None:
    """Compile the program into a directory; None where that cannot be done."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return None
    program = place / "yardstick"
    done = subprocess.run(
        [compiler, "-O2", "-o", program, _SOURCE, "-lsqlite3"], capture_output=True, check=False
    )
    return program if done.returncode == 0 else None


def store(program: Path, source: Path, batches: yardstick.Plan, config: Config) -> float:
    """Store the rows of the batches, read from `source`, in a new database; return seconds."""
    target = source.with_name("yardstick-c.db")
    prepare_database(target)
    plan = source.with_name("plan")
    with yardstick.reading(source) as connection:
        columns = {
            table: ",".join(yardstick.columns_of(connection, table)) for table in yardstick.TABLES
        }
    with plan.open("w", encoding="ascii") as lines:
        for batch in batches:
            for table, rows in batch.items():
                if rows:
                    lines.write(f"{table} {columns[table]} {len(rows)}\n")
            lines.write("commit\n")
    done = subprocess.run(
        [program, source, target, plan, str(config.checkpoint_events)],
        capture_output=True,
        check=True,
        text=True,
    )
    target.unlink()
    return float(done.stdout)
