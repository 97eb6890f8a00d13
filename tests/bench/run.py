"""Run: the benchmarks' command line, `./dev bench`.

The numbers depend on the machine and its mood: compare ratios, and only within one run.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script, not installed

from bench import batch as batches
from bench import commands as commanding
from bench import emit as emission
from bench import full, machine, pictures
from bench import growth as growing
from bench import hooks as hooking
from bench import imports as importing
from bench import ingest as ingestion
from bench import load as loads
from bench import readers as reading
from bench import report as reports
from bench import shapes as shaping
from bench import starts as starting
from bench import targets as contract

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, add_completion=False, help="ggend's benchmarks.")

Quick = Annotated[bool, typer.Option("--quick", help="Fewer events and repetitions.")]
Place = Annotated[
    Path | None,
    typer.Option(
        "--place", help="Where the databases are made. On a disk: in memory, fsync costs nothing."
    ),
]
Json = Annotated[Path | None, typer.Option("--json", help="File for the raw results.")]

#: Events of a run: half a second and more of work, several checkpoints, and receipts that come
#: 2,000 executions late for most of the run.
EVENTS, QUICK_EVENTS = 120_000, 24_000
REPETITIONS, QUICK_REPETITIONS = 5, 3

#: Repetitions of `emit`, whose cases are many: half a minute each, and ten seconds when quick.
EMIT_REPETITIONS, QUICK_EMIT_REPETITIONS = 3, 1

#: Events that flood, in all, and idle connections: ten seconds of a flood.
FLOOD_EVENTS, QUICK_FLOOD_EVENTS = 500_000, 60_000
IDLE_CONNECTIONS, QUICK_IDLE_CONNECTIONS = 1_000, 100

#: Peers of all sizes that take turns, and for how long.
TURN_PEERS = 200
TURN_SECONDS, QUICK_TURN_SECONDS = 20.0, 5.0

#: Quiet and flooding producers.
SHAPES = ((8, 1), (1, 8))

#: Events that a database grows to, and in how many steps it is looked at.
GROWTH_EVENTS, QUICK_GROWTH_EVENTS = 10_000_000, 500_000
GROWTH_SEGMENTS = 10

#: Pairs of runs with and without objectives.
HOOK_PAIRS, QUICK_HOOK_PAIRS = 10, 3

#: Interpreters that import the client.
IMPORTS, QUICK_IMPORTS = 60, 10

#: Rounds in which every command runs once.
COMMAND_ROUNDS, QUICK_COMMAND_ROUNDS = 15, 5

#: Events that are as long as each load lasts.
LOAD_EVENTS, QUICK_LOAD_EVENTS = 300_000, 120_000

#: Receipts that heavy readers read.
READ_RECEIPTS = 200_000

#: Receipts at which the contract's targets hold.
RECEIPTS = 1_000_000


@app.command()
def everything(
    *,
    out: Annotated[
        Path, typer.Option("--out", help="Directory for report.json, report.md and pictures.")
    ],
    quick: Quick = False,
    place: Place = None,
) -> None:
    """All figures in one run, with their aims: an hour and 12 GiB of disk; quick: two minutes."""
    console = _console(place)
    with console.status("begins") as status:
        report = full.measure(quick=quick, parent=place, tell=status.update)
    out.mkdir(parents=True, exist_ok=True)
    drawn = pictures.draw(report.curves, out)
    (out / "report.json").write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    (out / "report.md").write_text(reports.markdown(report, drawn), encoding="utf-8")
    reached = [figure.is_reached for figure in report.figures if figure.aim is not None]
    console.print(f"{sum(map(bool, reached))} of {len(reached)} aims reached; {out / 'report.md'}")
    if not drawn:
        console.print("no pictures: matplotlib is not installed (pip install 'ggend\\[bench]')")


@app.command()
def compare(before: Path, after: Path) -> None:
    """What changed between two runs of `everything`, and what is noise: their report.json."""
    console = Console(width=None if sys.stdout.isatty() else 110)
    try:
        found = reports.changes(reports.read(before), reports.read(after))
    except (OSError, msgspec.MsgspecError) as error:
        raise typer.BadParameter(f"not a report of `everything`: {error}") from error
    console.print(reports.changes_table_of(found))


@app.command()
def load(*, quick: Quick = False, place: Place = None, json: Json = None) -> None:
    """Latency of one event while others keep the daemon busy to 0, 50 and 90 %."""
    console = _console(place)
    results = loads.measure(events=QUICK_LOAD_EVENTS if quick else LOAD_EVENTS, parent=place)
    console.print(loads.table_of(results))
    _write(json, place, results)


@app.command()
def hooks(*, quick: Quick = False, place: Place = None, json: Json = None) -> None:
    """What judging costs: ten pairs of runs with and without objectives."""
    console = _console(place)
    results = hooking.measure(
        events=QUICK_EVENTS if quick else EVENTS,
        pairs=QUICK_HOOK_PAIRS if quick else HOOK_PAIRS,
        parent=place,
    )
    console.print(hooking.table_of(results))
    _write(json, place, results)


@app.command()
def starts(
    *,
    receipts: Annotated[int, typer.Option(min=1, help="Receipts in the database.")] = RECEIPTS,
    place: Place = None,
    json: Json = None,
) -> None:
    """Seconds to READY on a large database, also after a kill with a full WAL."""
    console = _console(place)
    with console.status("building") as status:
        found = starting.measure(
            receipts=receipts,
            parent=place,
            report=lambda done: status.update(f"building: {done:,} receipts"),
        )
    console.print(starting.table_of(found))
    _write(json, place, found)


@app.command()
def ingest(
    *,
    events: Annotated[int | None, typer.Option(help="Events in one run.")] = None,
    repetitions: Annotated[int | None, typer.Option(help="Runs of each case.")] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Only these cases, such as tight-128-1p or 'standard-*'."),
    ] = None,
    quick: Quick = False,
    place: Place = None,
    json: Json = None,
) -> None:
    """Acked events a second over the socket, beside plain executemany of the same rows."""
    console = _console(place)
    cases = ingestion.cases(only or [])
    if not cases:
        known = ", ".join(case.name for case in ingestion.cases([]))
        raise typer.BadParameter(f"no case matches; there are {known}", param_hint="--only")
    results: list[ingestion.Result] = []
    for case in cases:
        result = ingestion.measure(
            case,
            events=events or (QUICK_EVENTS if quick else EVENTS),
            repetitions=repetitions or (QUICK_REPETITIONS if quick else REPETITIONS),
            parent=place,
        )
        results.append(result)
        ratios = " ".join(f"{repetition.ratio:.2f}" for repetition in result.repetitions)
        console.print(f"{case.name}: {ratios}", style="dim", highlight=False)
    console.print(ingestion.table_of(results))
    _write(json, place, results)


@app.command()
def batch(*, quick: Quick = False, place: Place = None, json: Json = None) -> None:
    """Latency of durable batches of 1, 100 and 1,000 events."""
    console = _console(place)
    results = batches.measure(divisor=5 if quick else 1, parent=place)
    with tempfile.TemporaryDirectory(prefix="ggend-", dir=place) as name:
        sync_ms = machine.sync_ms(Path(name))
    console.print(batches.table_of(results, sync_ms))
    _write(json, place, results)


@app.command()
def emit(*, quick: Quick = False, place: Place = None, json: Json = None) -> None:
    """What an event costs the program that says it, beside `logging` with a QueueHandler."""
    console = _console(place)
    with console.status("begins") as status:
        results = emission.measure(
            repetitions=QUICK_EMIT_REPETITIONS if quick else EMIT_REPETITIONS,
            is_quick=quick,
            parent=place,
            report=status.update,
        )
    console.print(emission.emit_table_of(results))
    console.print(emission.others_table_of(results))
    _write(json, place, results)


@app.command()
def imports(*, quick: Quick = False, json: Json = None) -> None:
    """What `import ggend_client` takes, beside `import msgspec`."""
    console = _console(None)
    results = importing.measure(repetitions=QUICK_IMPORTS if quick else IMPORTS)
    console.print(importing.table_of(results))
    _write(json, None, results)


@app.command()
def cli(*, quick: Quick = False, json: Json = None) -> None:
    """What twelve commands take, beside an interpreter that does nothing."""
    console = _console(None)
    results = commanding.measure(rounds=QUICK_COMMAND_ROUNDS if quick else COMMAND_ROUNDS)
    console.print(commanding.table_of(results))
    _write(json, None, results)


@app.command()
def shapes(*, quick: Quick = False, place: Place = None, json: Json = None) -> None:
    """Quiet producers beside flooding ones; 200 that take turns; a thousand that say nothing."""
    console = _console(place)
    events = QUICK_FLOOD_EVENTS if quick else FLOOD_EVENTS
    flooded = [
        shaping.flooded(quiet=quiet, flooding=flooding, events=events, parent=place)
        for quiet, flooding in SHAPES
    ]
    console.print(shaping.quiet_table_of(flooded))
    turns = shaping.turns(
        peers=TURN_PEERS, seconds=QUICK_TURN_SECONDS if quick else TURN_SECONDS, parent=place
    )
    console.print(shaping.turns_table_of(turns))
    idle = shaping.idle(
        connections=QUICK_IDLE_CONNECTIONS if quick else IDLE_CONNECTIONS,
        events=events // 4,
        parent=place,
    )
    console.print(shaping.idle_table_of(idle))
    _write(json, place, {"flooded": flooded, "turns": turns, "idle": idle})


@app.command()
def readers(*, quick: Quick = False, place: Place = None, json: Json = None) -> None:
    """What heavy readers cost a producer that waits for its acks: 200,000 receipts to read."""
    console = _console(place)
    receipts, events = (READ_RECEIPTS // 10, 200) if quick else (READ_RECEIPTS, 2_000)
    with console.status("building and measuring"):
        results = reading.measure(receipts=receipts, events=events, parent=place)
    console.print(reading.table_of(results))
    _write(json, place, results)


@app.command()
def growth(
    *,
    events: Annotated[int | None, typer.Option(help="Events in all.")] = None,
    quick: Quick = False,
    place: Place = None,
    json: Json = None,
) -> None:
    """Events a second, million by million, up to ten: a quarter of an hour and 12 GiB of disk."""
    console = _console(place)

    def report(segment: growing.Segment) -> None:
        console.print(
            f"{segment.rate:,.0f}/s, ratio {segment.ratio:.2f}", style="dim", highlight=False
        )

    results = growing.measure(
        events=events or (QUICK_GROWTH_EVENTS if quick else GROWTH_EVENTS),
        segments=GROWTH_SEGMENTS,
        parent=place,
        report=report,
    )
    console.print(growing.table_of(results))
    _write(json, place, results)


@app.command()
def targets(
    *,
    receipts: Annotated[int, typer.Option(min=1, help="Receipts in the database.")] = RECEIPTS,
    database: Annotated[
        Path | None,
        typer.Option(help="Build it here, or use what an earlier run left here (it grows a bit)."),
    ] = None,
    quick: Quick = False,
    place: Place = None,
    json: Json = None,
) -> None:
    """The contract's targets on a database of a million receipts: some minutes to build it."""
    console = _console(database.parent if database else place)
    with tempfile.TemporaryDirectory(prefix="ggend-", dir=place) as name:
        file = (database or Path(name) / "tier2.db").absolute()
        if not file.exists():
            build = console.status(f"building {receipts:,} receipts")
            with build:
                contract.build(
                    file, receipts=receipts, report=lambda done: build.update(f"{done:,} receipts")
                )
        results = contract.measure(file, place=Path(name), divisor=5 if quick else 1)
        console.print(contract.describe(file), highlight=False, soft_wrap=True)
    console.print(contract.table_of(results))
    _write(json, place, results)


def _console(place: Path | None) -> Console:
    # Piped into a file, a table is 80 columns wide, which is too few for ours.
    console = Console(width=None if sys.stdout.isatty() else 110)
    console.print(machine.describe(_directory(place)), highlight=False, soft_wrap=True)
    return console


def _write(path: Path | None, place: Path | None, results: object) -> None:
    if path is not None:
        facts = {"machine": machine.describe(_directory(place)), "results": results}
        path.write_bytes(msgspec.json.format(msgspec.json.encode(facts)) + b"\n")


def _directory(place: Path | None) -> Path:
    return place or Path(tempfile.gettempdir())


if __name__ == "__main__":
    app()
