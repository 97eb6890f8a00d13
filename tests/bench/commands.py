"""Commands: how long a command of `ggend` takes, beside an interpreter that does nothing.

Each round starts `python -c pass` and then every command once, so that all meet the same machine.
The files are in the cache after a first round that is not counted.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct
from rich.table import Table

from bench.mix import streams
from bench.producers import blast, feed_of_frames
from support.daemon_process import Daemon, free_place

__all__ = ["AIMS", "Command", "measure", "table_of"]

#: The commands, and what each may take at most as a multiple of `python -c pass`; None: no aim.
AIMS: Mapping[tuple[str, ...], float | None] = {
    ("--version",): 5,
    ("--help",): None,
    ("emit", "audit", "agent_id=a1", "operation=plan", "status=completed"): 7,
    ("emit", "--strict", "audit", "agent_id=a1", "operation=plan", "status=completed"): None,
    ("status",): 9,
    ("spool", "list"): 12,
    ("config", "show"): 12,
    ("stats",): 12,
    ("accounts",): 12,
    ("query", "executions"): 12,
    ("query", "agents"): 12,
    ("query", "sql", "SELECT COUNT(*) FROM receipts"): 12,
}

#: Events in the database that the commands read: 200 executions and what belongs to them.
_EVENTS = 2_000

#: An interpreter that does nothing.
_NOTHING = (sys.executable, "-c", "pass")


class Command(Struct, frozen=True):
    """Seconds of one command, and of the interpreter before it, round by round."""

    arguments: tuple[str, ...]
    seconds: list[float]
    nothing: list[float]

    @property
    def ratio(self) -> float:
        """Its median as a multiple of the interpreter's median."""
        return statistics.median(self.seconds) / statistics.median(self.nothing)


def measure(*, rounds: int) -> list[Command]:
    """Run every command so many times beside a daemon with a small database."""
    script = Path(sys.executable).with_name("ggend")
    with free_place() as name:
        place = Path(name)
        environ = {
            "HOME": name,
            "PATH": os.environ["PATH"],
            "GGEND_SOCKET": str(place / "g.sock"),
            "GGEND_DATABASE": str(place / "tier2.db"),
            **{key: os.environ[key] for key in ("PYTHONPYCACHEPREFIX",) if key in os.environ},
        }
        daemon = Daemon(place)
        daemon.start()
        try:
            sent = streams("standard", events=_EVENTS, producers=1)
            blast(daemon.socket, [feed_of_frames(stream, 128) for stream in sent])
            taken: dict[tuple[str, ...], list[float]] = {arguments: [] for arguments in AIMS}
            nothing: list[float] = []
            for number in range(rounds + 1):
                passed = _seconds(_NOTHING, environ)
                for arguments, seconds in taken.items():
                    took = _seconds((str(script), *arguments), environ)
                    if number:
                        seconds.append(took)
                if number:
                    nothing.append(passed)
        finally:
            daemon.stop()
    return [Command(arguments, seconds, nothing) for arguments, seconds in taken.items()]


def table_of(results: list[Command]) -> Table:
    """Return the table that a person reads."""
    nothing = results[0].nothing
    table = Table(
        title=f"{len(nothing)} rounds; `python -c pass` takes {_ms(nothing)} ms at the median"
    )
    table.add_column("command")
    for heading in ("median ms", "best ms", "ratio", "aim"):
        table.add_column(heading, justify="right")
    for command in results:
        aim = AIMS[command.arguments]
        table.add_row(
            " ".join(("ggend", *command.arguments[:2])),
            _ms(command.seconds),
            f"{min(command.seconds) * 1e3:.0f}",
            f"{command.ratio:.1f}",
            "" if aim is None else f"{aim:g}",
        )
    return table


def _seconds(arguments: Sequence[str], environ: Mapping[str, str]) -> float:
    began = time.perf_counter()
    subprocess.run(
        arguments,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=True,
    )
    return time.perf_counter() - began


def _ms(seconds: Sequence[float]) -> str:
    return f"{statistics.median(seconds) * 1e3:.0f}"
