"""Demo: a simulated swarm against a fresh daemon, and what it left behind. Run by `./dev demo`.

Eight agent processes, in two teams, emit through `ggend_client` for some twenty seconds: five
stages an execution and the receipt last, so that parking is the normal case; failures, collisions
(some before their session has begun), audit entries, memory saves, receipts sent twice, and now
and then an event that is not valid. Then the views are shown, and every event is accounted for.

An agent sleeps by waiting for the end of its standard input. However the demo ends, that closes
the pipe, and no agent outlives it. The directory with the database is kept.
"""

from __future__ import annotations

import math
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import msgspec

from ggend_client import (
    Audit,
    Client,
    ClientError,
    Collision,
    MemorySaved,
    ReceiptEmitted,
    SessionEnded,
    SessionStarted,
    StageCompleted,
)
from support.daemon_process import Daemon

if TYPE_CHECKING:
    from rich.console import Console

    from ggend.queries.result import Result

AGENTS = 8
TEAMS = ("north", "south")

#: Reported milliseconds for one that is really slept, so that much happens in little time.
HURRY = 10

#: The reference times (ms) of ggen's five stages.
REFERENCE_MS: dict[Literal["normalize", "extract", "emit", "canonicalize", "receipt"], int] = {
    "normalize": 400,
    "extract": 500,
    "emit": 600,
    "canonicalize": 300,
    "receipt": 200,
}

#: How often something happens in an execution.
FAILURE, COLLISION, MEMORY_SAVE, SENT_TWICE, INVALID = 0.07, 0.06, 0.15, 0.02, 0.01

#: How often a memory save arrives again when there is a later one.
LATE = 0.1

#: Seconds that an agent may take to have its last events acked.
FLUSH_SECONDS = 10.0


class Report(msgspec.Struct, frozen=True):
    """What one agent says when its work is done, as a line of JSON."""

    agent: str
    emitted: int
    acked: int
    dropped: int
    memory_saves: int


class Stopped(Exception):
    """The demo closed this agent's standard input."""


class Agent:
    """One agent of the swarm, in a process of its own."""

    def __init__(self, number: int, client: Client, seconds: float) -> None:
        self.name = f"agent-{number + 1}"
        self._team = TEAMS[number * len(TEAMS) // AGENTS]
        self._mates = [
            f"agent-{other + 1}"
            for other in range(AGENTS)
            if other != number and other * len(TEAMS) // AGENTS == TEAMS.index(self._team)
        ]
        self._leads = number % (AGENTS // len(TEAMS)) == 0
        self._client = client
        self._random = Random()
        self._half_time = time.monotonic() + seconds / 2
        self._end = self._half_time + seconds / 2
        self._executions = 0
        self._memory_saves = 0
        self._saved: MemorySaved | None = None

    def work(self) -> Report:
        """Work through two sessions, then wait for the acks."""
        for number, until in ((1, self._half_time), (2, self._end)):
            session_id = f"{self._team}-{number}"
            self._sleep_ms(3000)  # the others begin before the session does, or after it has ended
            if self._leads:
                self._client.emit(
                    SessionStarted(
                        session_id=session_id,
                        agent_count=len(self._mates) + 1,
                        context={"team": self._team, "hurry": HURRY},
                    )
                )
            while time.monotonic() < until:
                self._execute(session_id)
            if self._leads:
                is_last = session_id == f"{TEAMS[-1]}-2"
                self._client.emit(
                    SessionEnded(
                        session_id=session_id, status="cancelled" if is_last else "completed"
                    )
                )
        self._client.flush(FLUSH_SECONDS)
        counts = self._client.stats()
        return Report(
            agent=self.name,
            emitted=counts.accepted,
            acked=counts.acked + counts.rejected,
            dropped=counts.dropped.total,
            memory_saves=self._memory_saves,
        )

    def _execute(self, session_id: str) -> None:
        chance = self._random.random
        self._executions += 1
        execution_id = f"{self.name}/{self._executions:03d}"
        self._audit("execution", "started", execution_id, session_id)
        if chance() < COLLISION:
            self._collide(session_id)
        duration_ms, error = self._run_stages(execution_id, session_id)
        receipt = ReceiptEmitted(
            execution_id=execution_id,
            agent_id=self.name,
            operation=self._random.choice(("generation", "validation", "extraction")),
            status="passed" if error is None else "failed",
            duration_ms=duration_ms,
            manifest_hash=f"{self._random.getrandbits(256):064x}",
            files_generated=0 if error else self._random.randint(1, 12),
            receipt={"templates": ["api", "docs"], "triples": self._random.randint(500, 5000)},
            error_message=error,
            environment="demo",
            session_id=session_id,
        )
        self._client.emit(receipt)
        if chance() < SENT_TWICE:
            self._client.emit(receipt)
        if chance() < MEMORY_SAVE:
            self._save_memory()
        if chance() < INVALID:
            self._audit("", "completed", execution_id, session_id)
        self._audit("execution", "failed" if error else "completed", execution_id, session_id)

    def _run_stages(self, execution_id: str, session_id: str) -> tuple[int, str | None]:
        """Run the stages up to the first that fails; return the milliseconds and the error."""
        total_ms = 0
        for stage, reference_ms in REFERENCE_MS.items():
            spread = self._random.lognormvariate(math.log(0.8), 0.25)
            slow = 1.5 + self._random.expovariate(1 / 1.5) if self._random.random() < 0.03 else 1
            duration_ms = round(reference_ms * spread * slow)
            self._sleep_ms(duration_ms)
            total_ms += duration_ms
            has_failed = self._random.random() < FAILURE / len(REFERENCE_MS)
            error = f"{stage}: the ontology has no such class" if has_failed else None
            self._client.emit(
                StageCompleted(
                    execution_id=execution_id,
                    stage=stage,
                    duration_ms=duration_ms,
                    status="failed" if has_failed else "passed",
                    input_size_bytes=self._random.randint(1_000, 90_000),
                    error_message=error,
                )
            )
            self._audit(stage, "failed" if has_failed else "completed", execution_id, session_id)
            if error is not None:
                return total_ms, error
        return total_ms, None

    def _audit(
        self,
        operation: str,
        status: Literal["started", "completed", "failed"],
        execution_id: str,
        session_id: str,
    ) -> None:
        self._client.emit(
            Audit(
                agent_id=self.name,
                operation=operation,
                status=status,
                context={"try": 1, "load": round(self._random.random(), 3)},
                execution_id=execution_id,
                session_id=session_id,
            )
        )

    def _collide(self, session_id: str) -> None:
        self._client.emit(
            Collision(
                session_id=session_id,
                agent_id_1=self.name,
                agent_id_2=self._random.choice(self._mates),
                collision_type=self._random.choice(("file_conflict", "semantic_overlap")),
                description="both want to write src/lib.rs",
                severity=self._random.choice(("info", "info", "warning", "critical")),
                resolution="the later one waits",
            )
        )

    def _save_memory(self) -> None:
        earlier = self._saved
        self._saved = MemorySaved(
            agent_id=self.name,
            memory={"executions": self._executions},
            timestamp=datetime.now(UTC).isoformat(),
        )
        self._client.emit(self._saved)
        self._memory_saves += 1
        if earlier is not None and self._random.random() < LATE:
            self._client.emit(earlier)
            self._memory_saves += 1

    def _sleep_ms(self, duration_ms: float) -> None:
        if select.select([sys.stdin], [], [], duration_ms / HURRY / 1000)[0]:
            raise Stopped


def work(number: int, socket: Path, seconds: float) -> None:
    """Be an agent: work, report, and say goodbye when the demo has seen the accounts."""
    client = Client(socket, service=f"agent-{number + 1}", spool_dir=socket.parent / "spool")
    try:
        report = Agent(number, client, seconds).work()
        sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")
        sys.stdout.flush()
        sys.stdin.read()
    except Stopped:
        pass
    finally:
        client.close()


class Swarm:
    """The agent processes. Leaving it closes their standard input, which ends them."""

    def __init__(self, socket: Path, seconds: float) -> None:
        self._arguments = [os.fspath(socket), str(seconds)]
        self._agents: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Swarm:
        for number in range(AGENTS):
            self._agents.append(
                subprocess.Popen(
                    [sys.executable, __file__, "agent", str(number), *self._arguments],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    process_group=0,  # Ctrl-C is for the demo, which then ends them in order
                )
            )
        return self

    def __exit__(self, *_: object) -> None:
        for agent in self._agents:
            assert agent.stdin is not None
            agent.stdin.close()
        for agent in self._agents:
            try:
                agent.wait(5)
            except subprocess.TimeoutExpired:
                agent.kill()
                agent.wait()
            assert agent.stdout is not None
            agent.stdout.close()

    def reports(self) -> list[Report]:
        """Wait until every agent has done its work."""
        reports = []
        for agent in self._agents:
            assert agent.stdout is not None
            line = agent.stdout.readline()
            if not line:
                raise DemoFailed("an agent ended before it had reported")
            reports.append(msgspec.json.decode(line, type=Report))
        return reports


class DemoFailed(Exception):
    """Something is not as promised."""


def demo(seconds: float = 20.0) -> None:
    """Run a simulated swarm against a fresh daemon and show what it did."""
    from rich.console import Console

    console = Console(highlight=False)
    place = Path(tempfile.mkdtemp(prefix="ggend-demo-"))
    daemon = Daemon(place)
    _end_on_signals()
    try:
        with ExitStack() as cleanup:
            cleanup.push(daemon)  # before it starts: an interrupted start leaves nothing behind
            _run(daemon, seconds, console)
            _stop(daemon)
    except KeyboardInterrupt:
        console.print(f"\nInterrupted. What was acknowledged is in {daemon.database}")
        sys.exit(130)
    except (ClientError, DemoFailed, AssertionError) as error:
        console.print(f"\nThe demo failed: {error}", style="bold red", markup=False)
        console.print(f"The daemon's log is {daemon.log}")
        sys.exit(1)
    console.print("\nggend stopped at SIGTERM. Look around in what it left:")
    for command in (
        f".venv/bin/ggend query recent --database {daemon.database}",
        f".venv/bin/ggend query violations --database {daemon.database}",
        f".venv/bin/ggend slo explain 1 --database {daemon.database}",
        f"sqlite3 {daemon.database} 'SELECT * FROM agent_memory'",
        f"./dev serve --database {daemon.database} --socket {daemon.socket}",
    ):
        console.print("  " + command, style="cyan", soft_wrap=True)


def _end_on_signals() -> None:
    """Let SIGTERM and SIGHUP end the demo as Ctrl-C does, and nothing interrupt the cleanup."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in numbers:
        signal.signal(number, interrupt)


def _run(daemon: Daemon, seconds: float, console: Console) -> None:
    daemon.start()
    console.print(f"ggend listens on {daemon.socket}")
    console.print(f"and writes to    {daemon.database}")
    console.print(
        f"{AGENTS} agents work for {seconds:g} s, {HURRY} times as fast as they report.\n",
        style="dim",
    )
    with Swarm(daemon.socket, seconds) as swarm:
        _watch(daemon, seconds, console)
        reports = swarm.reports()
        daemon.wait_for_hooks()
        status = daemon.status()
        console.print(
            f"{status['commits']:,} commits, half of them within {status['commit_ms_median']} ms; "
            f"at most {status['batch_events_max']} events in one."
        )
        _show_stored(daemon.database, console)
        _check_accounts(daemon.database, reports, console)


def _stop(daemon: Daemon) -> None:
    status = daemon.stop()
    if status != 0:
        raise DemoFailed(f"ggend ended with status {status}")


def _watch(daemon: Daemon, seconds: float, console: Console) -> None:
    """Show the daemon's own counts while the swarm works."""
    from rich.progress import BarColumn, Progress, TextColumn

    began = time.monotonic()
    lines_at = 0.0
    progress = Progress(
        BarColumn(bar_width=16),
        TextColumn("{task.description}"),
        console=console,
        disable=not console.is_terminal,
    )
    with progress:
        bar = progress.add_task("", total=seconds)
        while (elapsed := time.monotonic() - began) < seconds:
            counts = _counts(daemon.status())
            progress.update(bar, completed=elapsed, description=counts)
            if not console.is_terminal and elapsed >= lines_at:
                lines_at += 2
                console.print(f"{elapsed:4.0f} s  {counts}")
            time.sleep(0.1)
        progress.update(bar, completed=seconds, description="the last executions end")
        time.sleep(1)
        progress.update(bar, description=_counts(daemon.status()))


def _counts(status: dict[str, Any]) -> str:
    acked = sum(
        status[outcome] for outcome in ("stored", "duplicate", "superseded", "parked", "rejected")
    )
    executions = status["hook_seen_rows"].get("slo:receipts", 0)
    return f"{acked:,} events acked · {status['parked']:,} parked · {executions:,} executions"


#: Heading, what it shows, SQL: the views and tables, in columns narrow enough for 80 characters.
STORED = (
    (
        "Recent executions",
        "the newest 10 of the view recent_executions",
        """
        SELECT execution_id AS execution, operation, status, substr(timestamp, 12, 8) AS began,
            duration_ms AS ms, files_generated AS files, audit_entries AS audits,
            slo_violations AS slo
        FROM recent_executions
        LIMIT 10""",
    ),
    (
        "Agents",
        "the view agent_performance_summary",
        """
        SELECT agent_id AS agent, total_executions AS executions,
            successful_executions AS passed, failed_executions AS failed,
            avg_duration_ms AS avg_ms, min_duration_ms AS min_ms, max_duration_ms AS max_ms,
            total_files_generated AS files
        FROM agent_performance_summary""",
    ),
    (
        "Stages",
        "the view pipeline_stage_performance",
        """
        SELECT stage, executions, avg_duration_ms AS avg_ms, min_duration_ms AS min_ms,
            max_duration_ms AS max_ms, passed, failed
        FROM pipeline_stage_performance""",
    ),
    (
        "Sessions",
        "counted from their receipts, also those after the end",
        """
        SELECT session_id AS session, status, substr(start_time, 12, 8) AS began,
            substr(end_time, 12, 8) AS ended, agent_count AS agents, total_duration_ms AS total_ms,
            successful_operations AS passed, failed_operations AS failed
        FROM workflow_sessions
        ORDER BY id""",
    ),
    (
        "Collisions",
        "the newest 10",
        """
        SELECT substr(timestamp, 12, 8) AS at, severity, collision_type AS type,
            session_id AS session, agent_id_1 AS agent, agent_id_2 AS met
        FROM collision_detection
        ORDER BY id DESC
        LIMIT 10""",
    ),
    (
        "Violations",
        "the newest 10 objectives that were missed",
        """
        SELECT substr(timestamp, 12, 8) AS at, severity,
            replace(metric, '.duration_ms', '') AS metric,
            CAST(actual_value AS INT) AS ms, CAST(target_value AS INT) AS "limit",
            execution_id AS execution
        FROM slo_violations
        ORDER BY id DESC
        LIMIT 10""",
    ),
    (
        "Rejected",
        "in quarantine with their bytes; their neighbours were stored",
        """
        SELECT code, message, COUNT(*) AS events
        FROM rejected_events
        GROUP BY code, message""",
    ),
)

#: One row for each producer; promise 3 is that the first number is the sum of the others.
ACCOUNTS = """
    SELECT client, last_sequence AS numbered, stored, duplicate, superseded, parked, rejected, lost
    FROM producers
    ORDER BY client"""

#: What events leave behind, apart from memory saves, of which only the last one of an agent stays.
ROWS = """
    SELECT (SELECT COUNT(*) FROM receipts) + (SELECT COUNT(*) FROM pipeline_metrics)
         + (SELECT COUNT(*) FROM audit_log) + (SELECT COUNT(*) FROM collision_detection)
         + (SELECT COUNT(*) FROM workflow_sessions) + (SELECT COUNT(*) FROM session_ends),
           (SELECT coalesce(SUM(events), 0) FROM parked_events),
           (SELECT COUNT(*) FROM rejected_events)"""


def _query(database: Path, sql: str) -> Result:
    from ggend.queries.run import open_readonly, run

    with closing(open_readonly(database)) as connection:
        return run(connection, sql, limit=1_000)


def _show_stored(database: Path, console: Console) -> None:
    from ggend.cli.render.output import show

    for heading, what, sql in STORED:
        _title(console, heading, what)
        show(_query(database, sql))


def _title(console: Console, heading: str, what: str) -> None:
    console.print(f"\n[bold]{heading}[/]  [dim]{what}[/]")


def _check_accounts(database: Path, reports: list[Report], console: Console) -> None:
    """Show the accounts, and hold them against the tables and against what the agents say."""
    from ggend.cli.render.output import show

    accounts = _query(database, ACCOUNTS)
    counts: list[list[int]] = [[int(str(count)) for count in row[1:]] for row in accounts.rows]
    total = [sum(column) for column in zip(*counts, strict=True)]
    _title(console, "Accounts", "one for each producer, before it says goodbye")
    show(msgspec.structs.replace(accounts, rows=[*accounts.rows, ("total", *total)]))

    numbered, stored, _, superseded, parked, rejected, _ = total
    ((rows, parked_rows, rejected_rows),) = _query(database, ROWS).rows
    saves = sum(report.memory_saves for report in reports)
    inserted = stored + superseded - saves
    emitted = sum(report.emitted for report in reports)
    console.print()
    _promise(
        console,
        all(row[0] == sum(row[1:]) for row in [*counts, total]),
        f"Promise 3 adds up, in each of the {len(counts)} accounts and in all:",
        "numbered = stored + duplicate + superseded + parked + rejected + lost",
        f"{numbered:,} = " + " + ".join(f"{count:,}" for count in total[1:]),
    )
    _promise(
        console,
        (rows, parked_rows, rejected_rows) == (inserted, parked, rejected),
        f"The tables hold what is counted: {inserted:,} rows, {parked:,} parked events, "
        f"{rejected:,} rejected.",
        f"({saves:,} memory saves are apart: of these the latest one stays.)",
    )
    _promise(
        console,
        emitted == sum(report.acked for report in reports) == numbered
        and not any(report.dropped for report in reports),
        f"The agents agree: they emitted {emitted:,} events, and each was acknowledged.",
    )


def _promise(console: Console, is_kept: bool, sentence: str, *details: str) -> None:
    if not is_kept:
        raise DemoFailed(" ".join(("this is not so:", sentence, *details)))
    console.print(f"[green]✓[/] {sentence}")
    for detail in details:
        console.print(f"  {detail}", style="dim")


def main() -> None:
    """Be an agent, or run the demo."""
    match sys.argv[1:]:
        case ["agent", number, socket, seconds]:
            work(int(number), Path(socket), float(seconds))
        case _:
            import typer

            typer.run(demo)


if __name__ == "__main__":
    main()
