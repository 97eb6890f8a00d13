"""Imports: what `import ggend_client` adds to a program that has msgspec already.

Each interpreter imports msgspec first and says how long both imports took.
"""

from __future__ import annotations

import statistics
import subprocess
import sys

from msgspec import Struct
from rich.table import Table

__all__ = ["Imported", "measure", "table_of"]

#: What `import ggend_client` may take, as a share of what `import msgspec` takes.
AIM = 1.0

_PROGRAM = """
from time import perf_counter
began = perf_counter()
import msgspec
between = perf_counter()
import ggend_client
print(between - began, perf_counter() - between)
"""


class Imported(Struct, frozen=True):
    """Seconds of one interpreter."""

    msgspec: float
    client: float


def measure(*, repetitions: int) -> list[Imported]:
    """Start so many interpreters."""
    results = []
    for _ in range(repetitions):
        ran = subprocess.run(
            [sys.executable, "-c", _PROGRAM], check=True, capture_output=True, text=True
        )
        results.append(Imported(*map(float, ran.stdout.split())))
    return results


def table_of(results: list[Imported]) -> Table:
    """Return medians and the best, in milliseconds, and their ratio."""
    table = Table("import", "median ms", "best ms", title=f"{len(results)} interpreters")
    for name in ("msgspec", "client"):
        seconds = [getattr(one, name) for one in results]
        shown = "ggend_client" if name == "client" else name
        table.add_row(shown, f"{statistics.median(seconds) * 1e3:.1f}", f"{min(seconds) * 1e3:.1f}")
    ratio = statistics.median(one.client / one.msgspec for one in results)
    table.caption = f"ggend_client takes {ratio:.2f} times what msgspec takes (aim: at most {AIM})"
    return table
