"""Filled: a database of any size, with the rows that ggend would have written, built fast.

Plain `executemany` into the schema that ggend makes, indexes kept as the rows come, so that the
B-trees look as they do after a long life and not as after a VACUUM. Per execution 5 stages and
4 audits; 1 session per 100 executions, 1 collision per 20; 2 % of the stages and receipts are over
their warning limit, and have their breaches and violations. 8 agents. The executions lie evenly
in the 30 days that end at a fixed moment. Nothing goes over a socket: this measures no writing.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, TypeAlias

from msgspec import Struct

from ggend.hooks.rollups import rollup_hooks
from ggend.slo.objectives import EXECUTION_DURATION, STAGE_DURATIONS, Threshold
from ggend_schema.timestamps import format_ms

__all__ = ["AGENTS", "DAYS", "END_MS", "fill", "known_execution"]

_SCHEMA = Path(__file__).parents[2] / "schema" / "schema.sql"

#: Where the executions end: 2026-07-01T00:00:00Z. Fixed, so that every build is the same.
END_MS = 1_782_864_000_000

#: Days that the executions are spread over.
DAYS = 30

#: Audit entries of one execution, between the 2 and the 6 that are seen.
AUDITS = 4

#: Executions a session, and executions a collision, as in `mix`.
SESSION_EXECUTIONS = 100
COLLISION_EXECUTIONS = 20

#: Executions in one transaction: some MiB of rows.
_BLOCK = 10_000

#: Page cache while filling, in KiB. The indexes over random ids are written all over: with less
#: than they need, each row would read pages from the disk.
_CACHE_KIB = 6 * 1024 * 1024

AGENTS = [f"agent-{number}" for number in range(1, 9)]
_OPERATIONS = ("validation", "generation", "normalization", "extraction", "emission")
_AUDITED = ("load_ontology", "query", "render_template", "write_file")
_ENVIRONMENTS = ("dev", "dev", "staging", "production")
_TEXT = "".join(random.Random(0).choices("abcdefghijklmnopqrstuvwxyz _/.-", k=1024))

Row: TypeAlias = tuple[Any, ...]


class _Block(Struct):
    """Rows of one transaction, by table."""

    workflow_sessions: list[Row]
    receipts: list[Row]
    pipeline_metrics: list[Row]
    collision_detection: list[Row]
    audit_log: list[Row]
    slo_violations: list[Row]
    slo_breaches: list[Row]


def fill(path: Path, *, receipts: int, report: Callable[[int], object]) -> None:
    """Make the database. `report` is told how many executions are in."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(_SCHEMA.read_text(encoding="utf-8"))
        for pragma in ("synchronous = OFF", f"cache_size = -{_CACHE_KIB}", "foreign_keys = OFF"):
            connection.execute(f"PRAGMA {pragma}")
        done = 0
        for block in _blocks(receipts):
            connection.execute("BEGIN")
            for table in _Block.__struct_fields__:
                connection.executemany(_INSERTS[table], getattr(block, table))
            connection.execute("COMMIT")
            done += len(block.receipts)
            report(done)
        connection.executemany(_MEMORY, [(agent, '{"seen":1}') for agent in AGENTS])
        connection.executescript(_LOOKED_AT)
        for hook in rollup_hooks():
            while hook.turn(connection):
                pass
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def known_execution(number: int) -> str:
    """Return the id of the execution with this number, counted from 0."""
    return random.Random(f"execution-{number}").randbytes(32).hex()


def _blocks(receipts: int) -> Iterator[_Block]:
    rng = random.Random(1)
    texts = [_json(rng) for _ in range(1_000)]
    step = DAYS * 86_400_000 / receipts
    for start in range(0, receipts, _BLOCK):
        block = _Block([], [], [], [], [], [], [])
        for number in range(start, min(start + _BLOCK, receipts)):
            _execution(block, number, int(END_MS - (receipts - number) * step), rng, texts)
        yield block


def _execution(block: _Block, number: int, at: int, rng: random.Random, texts: list[str]) -> None:
    execution_id, agent = known_execution(number), rng.choice(AGENTS)
    session = f"session-{number // SESSION_EXECUTIONS:012}"
    moment = format_ms(at)
    failed = rng.random() < 0.05
    lasted = _duration(EXECUTION_DURATION, rng)
    arrived = format_ms(at + lasted)[:19].replace("T", " ")
    if number % SESSION_EXECUTIONS == 0:
        block.workflow_sessions.append(
            (session, moment, format_ms(at + 60_000), "completed", 8, 60_000, 95, 5, arrived)
        )
    hashes = rng.randbytes(64).hex()
    block.receipts.append(
        (
            execution_id, agent, rng.choice(_OPERATIONS), "failed" if failed else "passed", moment,
            arrived, hashes[:64], hashes[64:], rng.randrange(40), rng.randrange(10), lasted,
            rng.choice(texts), "SHACL validation failed: sh:minCount" if failed else None,
            rng.choice(_ENVIRONMENTS), session,
        )
    )  # fmt: skip
    _judge(block, EXECUTION_DURATION, lasted, execution_id, moment, arrived)
    for stage, objective in STAGE_DURATIONS.items():
        took = _duration(objective, rng)
        block.pipeline_metrics.append(
            (execution_id, stage, took, rng.randrange(100_000), rng.randrange(100_000), "passed",
             moment, arrived)
        )  # fmt: skip
        _judge(block, objective, took, execution_id, moment, arrived)
    for audited in _AUDITED:
        block.audit_log.append(
            (moment, agent, audited, "completed", rng.randrange(500), rng.choice(texts), arrived,
             execution_id, session)
        )  # fmt: skip
    if number % COLLISION_EXECUTIONS == COLLISION_EXECUTIONS // 2:
        one, other = rng.sample(AGENTS, 2)
        block.collision_detection.append(
            (session, one, other, "file_conflict", "both write src/generated/module.rs", "warning",
             moment, arrived)
        )  # fmt: skip


def _judge(
    block: _Block, objective: Threshold, took: int, execution_id: str, moment: str, arrived: str
) -> None:
    breach = objective.judge(took)
    if breach is None:
        return
    row = (breach.metric, execution_id, breach.target, breach.actual, breach.severity,
           breach.description, moment, arrived)  # fmt: skip
    block.slo_violations.append(row)
    block.slo_breaches.append((*row, execution_id))


def _duration(objective: Threshold, rng: random.Random) -> int:
    if rng.random() < 0.02:
        return int(objective.first * rng.uniform(1.01, 4))
    return int(objective.first * rng.uniform(0.05, 0.95))


def _json(rng: random.Random) -> str:
    start, size = rng.randrange(512), rng.randrange(20, 280)
    return f'{{"n":{rng.randrange(1000, 10_000)},"note":"{_TEXT[start : start + size]}"}}'


def _insert(table: str, columns: str) -> str:
    marks = ", ".join("?" * (columns.count(",") + 1))
    return f"INSERT INTO {table} ({columns}) VALUES ({marks})"


_INSERTS = {
    table: _insert(table, columns)
    for table, columns in {
        "workflow_sessions": "session_id, start_time, end_time, status, agent_count, "
        "total_duration_ms, successful_operations, failed_operations, created_at",
        "receipts": "execution_id, agent_id, operation, status, timestamp, created_at, "
        "manifest_hash, ontology_hash, files_generated, files_modified, duration_ms, receipt_json, "
        "error_message, environment, session_id",
        "pipeline_metrics": "execution_id, stage, duration_ms, input_size_bytes, "
        "output_size_bytes, status, timestamp, created_at",
        "collision_detection": "session_id, agent_id_1, agent_id_2, collision_type, description, "
        "severity, timestamp, created_at",
        "audit_log": "timestamp, agent_id, operation, status, duration_ms, context_json, "
        "created_at, execution_id, session_id",
        "slo_violations": "metric, execution_id, target_value, actual_value, severity, "
        "description, timestamp, created_at",
        "slo_breaches": "metric, subject, target_value, actual_value, severity, description, "
        "timestamp, created_at, execution_id",
    }.items()
}
_MEMORY = "INSERT INTO agent_memory (agent_id, memory_json) VALUES (?, ?)"
#: The hooks have seen all of it: a daemon that starts on this file has nothing to catch up with.
_LOOKED_AT = """
    INSERT OR REPLACE INTO hook_watermarks (hook, source, row_id)
    SELECT 'slo', 'receipts', max(id) FROM receipts
    UNION ALL
    SELECT 'slo', 'pipeline_metrics', max(id) FROM pipeline_metrics;"""
