"""Run: the long forms of the fault tests, `./dev torture`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, NoReturn, Protocol, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script, not installed

from bench.machine import describe
from support.daemon_process import free_place
from support.processes import use_fork_server
from torture.commands import run_commands
from torture.faults import Fault, FaultBench, Trial
from torture.fuzz import fuzz as fuzz_for
from torture.interception import why_not
from torture.kills import kill_round
from torture.machine import explore
from torture.power import power_cuts
from torture.programs import program_round
from torture.restores import restore_round
from torture.soak import soak as run_soak
from torture.soak import summary
from torture.trace import why_not_traced

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, add_completion=False, help="ggend's long fault tests.")

#: Kills before everything is checked and thrown away: a round of this size leaves some 1.5 GB.
_ROUND_KILLS = 25

#: Programs before everything is checked and thrown away.
_ROUND_PROGRAMS = 100
_ROUND_DEEDS = 20


class _Round(Protocol):
    """What one round found."""

    @property
    def problems(self) -> list[str]:
        """What was not as it should be, in words."""


_R = TypeVar("_R", bound=_Round)


def _bar(console: Console, what: str) -> Progress:
    return Progress(
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


def _rounds(
    console: Console,
    what: str,
    count: int,
    most: int,
    seed: int,
    run: Callable[[int, int, Callable[[int], None]], _R],
) -> list[_R]:
    """Run so many in rounds of at most `most`, and print what each round found.

    `run` is given the seed of its round, how many there are, and whom to tell how many are done.
    """
    rounds = []
    with _bar(console, what) as bar:
        task = bar.add_task("", total=count)
        for first in range(0, count, most):
            done = run(
                seed + first,
                min(most, count - first),
                lambda number, first=first: bar.update(task, completed=first + number),  # type: ignore[misc]
            )
            rounds.append(done)
            for problem in done.problems:
                console.print(f"round with seed {seed + first}: {problem}", style="red")
    return rounds


def _conclude(console: Console, summary: str, rounds: Sequence[_Round]) -> NoReturn:
    """Print what was done and how many promises were broken, and exit."""
    failed = sum(len(done.problems) for done in rounds)
    console.print(
        f"{summary}: {failed or 'no'} broken promise{'s' * (failed > 1)}", highlight=False
    )
    raise typer.Exit(min(failed, 1))


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
    rounds = _rounds(
        console,
        "kills",
        count,
        _ROUND_KILLS,
        seed,
        lambda first, many, tell: kill_round(
            kills=many, producers=producers, seed=first, tell=tell
        ),
    )
    events, seconds = sum(one.events for one in rounds), sum(one.seconds for one in rounds)
    _conclude(
        console,
        f"{count} kills, {events:,} events from {producers} producers, {seconds / 60:.1f} minutes",
        rounds,
    )


@app.command()
def restore(
    *,
    count: Annotated[int, typer.Option(min=1, help="Deeds in all.")] = 100,
    seed: Annotated[int, typer.Option(help="Deeds and moments follow from it.")] = 1,
) -> None:
    """Move, copy, cut and remove the files of a database, under load and between starts.

    Exit status: 0 no ack into a damaged file and no silent undo, 1 there was one.
    """
    console = Console()
    rounds = _rounds(
        console,
        "deeds",
        count,
        _ROUND_DEEDS,
        seed,
        lambda first, many, tell: restore_round(count=many, seed=first, tell=tell),
    )
    _conclude(
        console,
        f"{count} deeds, {sum(one.acked for one in rounds):,} events acked, "
        f"{sum(one.ended for one in rounds)} ended the daemon by name, "
        f"{sum(one.started for one in rounds)} starts, "
        f"{sum(one.refused for one in rounds)} refused, "
        f"{sum(one.seconds for one in rounds) / 60:.1f} minutes",
        rounds,
    )


@app.command()
def programs(
    *,
    count: Annotated[int, typer.Option(min=1, help="Programs in all.")] = 200,
    seed: Annotated[int, typer.Option(help="Styles, ends and moments follow from it.")] = 1,
) -> None:
    """Run short programs that emit and end in every way, beside a daemon that is killed.

    Exit status: 0 nothing that emit() took is lost or stored twice, 1 something is; the seeds of
    the programs are in the names of the events.
    """
    console = Console()
    rounds = _rounds(
        console,
        "programs",
        count,
        _ROUND_PROGRAMS,
        seed,
        lambda first, many, tell: program_round(count=many, seed=first, tell=tell),
    )
    _conclude(
        console,
        f"{count:,} programs, {sum(one.taken for one in rounds):,} events taken, "
        f"{sum(one.replayed for one in rounds):,} of them brought at the end, "
        f"{sum(one.kills for one in rounds)} kills of the daemon, "
        f"{sum(one.seconds for one in rounds) / 60:.1f} minutes",
        rounds,
    )


@app.command()
def faults(
    *,
    only: Annotated[
        list[str] | None, typer.Option(help="This case, such as fresh:pwrite64:ENOSPC:17+.")
    ] = None,
    count: Annotated[int | None, typer.Option(min=1, help="So many cases, not all.")] = None,
    seed: Annotated[int, typer.Option(help="Which ones, with --count.")] = 1,
    at_a_time: Annotated[int, typer.Option(min=1, help="Cases at the same time.")] = 6,
) -> None:
    """Let every system call of a scripted run fail once, and from there on, one run for each.

    Exit status: 0 every promise held, 1 not; the cases are printed for `--only`.
    """
    console = Console()
    reason = why_not()
    if reason is not None:
        console.print(reason, style="red")
        raise typer.Exit(1)
    try:
        chosen = [Fault.parse(text) for text in only or ()]
    except ValueError as error:
        raise typer.BadParameter(f"no case is called {error}", param_hint="--only") from error
    outcomes: dict[str, Counter[str]] = {}
    failed = 0
    with (
        free_place() as name,
        ThreadPoolExecutor(at_a_time) as pool,
        _bar(console, "faults") as bar,
        ExitStack() as ends,
    ):
        bench = FaultBench(Path(name))
        if not chosen:
            chosen = list(bench.cases()) if count is None else bench.sample(count, seed)
        ends.callback(pool.shutdown, cancel_futures=True)  # ended early, it begins no more cases
        for fault, trial in bar.track(
            zip(chosen, pool.map(bench.run, chosen), strict=True), total=len(chosen)
        ):
            outcomes.setdefault(f"{fault.call} {fault.error}", Counter())[_end(trial)] += 1
            if trial.problems:
                failed += 1
                console.print(f"--only {fault}: {trial.outcome}", style="red", highlight=False)
                console.print(
                    "\n".join(trial.problems), markup=False, highlight=False, soft_wrap=True
                )
    console.print(_outcome_table(outcomes))
    console.print(f"{len(chosen)} cases: {failed or 'no'} broken promise{'s' * (failed > 1)}")
    raise typer.Exit(min(failed, 1))


@app.command()
def fuzz(
    *,
    minutes: Annotated[float, typer.Option(min=0.1, help="How long.")] = 20,
    seed: Annotated[int, typer.Option(help="What is said follows from it.")] = 1,
    clients: Annotated[int, typer.Option(min=1, help="Odd clients at the same time.")] = 8,
) -> None:
    """Talk nonsense to a daemon, in all ways that clients have, beside one that does it right.

    Exit status: 0 every promise held, 1 not; the seed of the conversation is printed.
    """
    console = Console()
    with Progress(
        TextColumn("fuzz"), BarColumn(), TimeRemainingColumn(), console=console, transient=True
    ) as bar:
        task = bar.add_task("", total=minutes * 60)
        done = fuzz_for(
            seconds=minutes * 60,
            seed=seed,
            clients=clients,
            tell=lambda seconds: bar.update(task, completed=seconds),
        )
    for problem in done.problems:
        console.print(problem, style="red", markup=False, highlight=False, soft_wrap=True)
    console.print(
        f"{done.conversations:,} conversations, {done.sent_mib:,.0f} MiB, {done.acked:,} events "
        f"acked and {done.rejected:,} rejected; {done.canary_acks:,} acks of a good client, the "
        f"slowest after {done.canary_worst_ms:,.0f} ms; {done.peak_rss_mib:,.0f} MiB of memory at "
        f"most, {done.last_rss_mib:,.0f} at the end: "
        f"{len(done.problems) or 'no'} broken promise{'s' * (len(done.problems) > 1)}",
        highlight=False,
    )
    raise typer.Exit(bool(done.problems))


@app.command()
def commands(
    *,
    count: Annotated[int, typer.Option(min=1, help="Command lines in all.")] = 5_000,
    seed: Annotated[int, typer.Option(help="What is run follows from it.")] = 1,
    first: Annotated[int, typer.Option(min=0, help="The number of the first one.")] = 0,
) -> None:
    """Run random command lines, on odd files, in odd environments, with and without a daemon.

    Exit status: 0 each ended with a documented status and without a traceback, 1 not; how to run
    such a line again is printed.
    """
    use_fork_server()
    console = Console()
    statuses: Counter[int | None] = Counter()
    failed = 0
    with _bar(console, "commands") as bar:
        trials = run_commands(count=count, seed=seed, first=first)
        for number, trial in enumerate(bar.track(trials, total=count), start=first):
            statuses[trial.status] += 1
            if trial.problems:
                failed += 1
                again = f"commands --seed {seed} --first {number} --count 1"
                console.print(again, style="red", highlight=False)
                console.print(str(trial), markup=False, highlight=False, soft_wrap=True)
    ends = ", ".join(f"{often:,} with {status}" for status, often in statuses.most_common())
    console.print(
        f"{count:,} command lines with seed {seed} ended: {ends}: {failed or 'no'} broken "
        f"promise{'s' * (failed > 1)}",
        highlight=False,
    )
    raise typer.Exit(min(failed, 1))


def _end(trial: Trial) -> str:
    """How the daemon ended first."""
    return trial.outcome.partition(", then ")[0]


def _outcome_table(outcomes: dict[str, Counter[str]]) -> Table:
    table = Table("fault", "outcome", "cases")
    for kind, counted in sorted(outcomes.items()):
        for end, cases in counted.most_common():
            table.add_row(kind, end, str(cases))
        table.add_section()
    return table


@app.command()
def power(
    *,
    executions: Annotated[int, typer.Option(min=20, help="Executions of each producer.")] = 150,
    producers: Annotated[int, typer.Option(min=3, help="Every third one sends lines.")] = 3,
    restarts: Annotated[int, typer.Option(min=1, help="States that a daemon starts on.")] = 50,
    seed: Annotated[int, typer.Option(help="What is sent and what is cut follows from it.")] = 1,
) -> None:
    """Record a run, and recover what a power cut at every sync and every write of it may leave.

    Exit status: 0 every promise held, 1 not; the sync and what was there after it are printed.
    """
    console = Console()
    reason = why_not_traced()
    if reason is not None:
        console.print(reason, style="red")
        raise typer.Exit(1)
    with console.status("recording") as status:
        done = power_cuts(
            executions=executions,
            producers=producers,
            seed=seed,
            restarts=restarts,
            tell=lambda sync, of: status.update(f"recovering: sync {sync} of {of}"),
        )
    for problem in done.problems:
        console.print(problem, style="red", markup=False, highlight=False, soft_wrap=True)
    console.print(
        f"{done.events:,} events, {done.steps:,} changes to the files, {done.syncs:,} syncs, "
        f"{done.wal_restarts} times a new WAL; {done.states:,} states recovered to "
        f"{done.contents:,} contents, {done.restarts} of them by a daemon; "
        f"{done.seconds / 60:.1f} minutes: {len(done.problems) or 'no'} "
        f"broken promise{'s' * (len(done.problems) > 1)}",
        highlight=False,
    )
    raise typer.Exit(min(len(done.problems), 1))


@app.command()
def soak(
    *,
    minutes: Annotated[float, typer.Option(min=0.1, help="How long, about.")] = 30.0,
    producers: Annotated[int, typer.Option(min=1, help="Producing processes.")] = 4,
    seed: Annotated[int, typer.Option(help="Ids follow from it.")] = 1,
) -> None:
    """Run at full rate for long, with purges beside it: memory, WAL and file must stay flat.

    Exit status: 0 every promise held, 1 not.
    """
    console = Console(width=None if sys.stdout.isatty() else 110)
    with console.status("soaking") as status:
        done = run_soak(
            minutes=minutes,
            producers=producers,
            seed=seed,
            tell=lambda seconds: status.update(f"soaking: {seconds / 60:.1f} of {minutes:g} min"),
        )
    console.print(describe(Path(tempfile.gettempdir())), highlight=False)
    console.print(summary(done))
    for problem in done.problems:
        console.print(problem, style="red", markup=False, highlight=False)
    console.print(
        f"{producers} producers: {len(done.problems) or 'no'} "
        f"broken promise{'s' * (len(done.problems) > 1)}"
    )
    raise typer.Exit(min(len(done.problems), 1))


@app.command()
def model(
    *, minutes: Annotated[float, typer.Option(min=0.1, help="How long, about.")] = 10.0
) -> None:
    """Do anything to a store in any order, and compare it with a model after every step.

    Ends with a traceback and the shortest run that breaks a promise, if one does.
    """
    console = Console()
    with console.status("modelling") as status:
        examples = explore(
            minutes=minutes,
            tell=lambda done, left: status.update(f"{done:,} runs, {left / 60:.1f} min to go"),
        )
    console.print(f"{examples:,} runs: no broken promise", highlight=False)


@app.command()
def properties(
    *, seed: Annotated[int, typer.Option(help="Which examples are tried follows from it.")] = 1
) -> None:
    """Run the property tests, and those of many kills, with twenty times the examples.

    Exit status: that of pytest.
    """
    pytest = ("-m", "pytest", "--quiet", "--numprocesses=auto", "--dist=worksteal")
    long = ("--hypothesis-profile=long", f"--hypothesis-seed={seed}")
    environ = {**os.environ, "GGEND_TEST_PATIENCE": os.environ.get("GGEND_TEST_PATIENCE", "20")}
    ran = subprocess.run(
        [sys.executable, *pytest, *long, "-m", "hypothesis or scaled", "tests"], env=environ
    )
    raise typer.Exit(ran.returncode)


if __name__ == "__main__":
    app()
