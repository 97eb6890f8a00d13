"""Run: the long forms of the fault tests, `./dev torture`."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script, not installed

from torture.kills import kill_round

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, add_completion=False, help="ggend's long fault tests.")

#: Kills before everything is checked and thrown away: a round of this size leaves some 1.5 GB.
_ROUND_KILLS = 25


@app.callback()
def _group() -> None:
    """Run one of the long fault tests."""
    # Ended from outside, it ends the processes that it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


@app.command()
def kills(
    *,
    count: Annotated[int, typer.Option(min=1, help="Kills in all.")] = 100,
    producers: Annotated[int, typer.Option(min=1, help="Producing processes.")] = 4,
    seed: Annotated[int, typer.Option(help="Moments and ids follow from it.")] = 1,
) -> None:
    """Kill the daemon at random moments under full load, and compare the tables with the offers.

    Exit status: 0 every promise held, 1 not; the seed of the round is printed.
    """
    console = Console()
    events, seconds, failed = 0, 0.0, 0
    with Progress(
        TextColumn("kills"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    ) as bar:
        task = bar.add_task("", total=count)
        for first in range(0, count, _ROUND_KILLS):
            done = kill_round(
                kills=min(_ROUND_KILLS, count - first),
                producers=producers,
                seed=seed + first,
                tell=lambda number, first=first: bar.update(task, completed=first + number),  # type: ignore[misc]
            )
            events, seconds = events + done.events, seconds + done.seconds
            for problem in done.problems:
                failed += 1
                console.print(f"round with seed {seed + first}: {problem}", style="red")
    console.print(
        f"{count} kills, {events:,} events from {producers} producers, {seconds / 60:.1f} minutes: "
        f"{failed or 'no'} broken promise{'s' * (failed > 1)}",
        highlight=False,
    )
    raise typer.Exit(min(failed, 1))


if __name__ == "__main__":
    app()
